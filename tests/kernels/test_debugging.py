"""Layers under TensorFlow's switches for debugging, which XLA's loops do not survive."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests import reference
from tests.compiled import BACKEND, gradients, run

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's own switches")
every_mode = pytest.mark.parametrize("mode", ["eager", "graph of unknown shape"])
every_kernel = pytest.mark.parametrize("kernels", ["auto", "native"])
UNITS = 3


@pytest.fixture
def checked_numbers():
    """An operation whose results are infinite or undefined raises an error."""
    import tensorflow as tf

    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.fixture
def eager_functions():
    """What is compiled elsewhere runs one operation after the other."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


# Layers, and their outputs in float64.
LEVEL, TAU = np.full((1, UNITS), 0.5), np.full(UNITS, 0.1)
OPTIONS = {"dt": 0.03, "level_initializer": 0.5}
CASES = {
    "spiking": (
        lambda: keras_spiking.SpikingActivation("linear", dt=0.5, initial_voltage=0.25),
        lambda x: reference.integrate_and_fire(x, 0.5, np.full(x[:, 0].shape, 0.25))[0],
    ),
    "lowpass": (
        lambda: keras_spiking.Lowpass(0.1, **OPTIONS),
        lambda x: reference.lowpass(x, 0.03, 0.1, LEVEL)[0],
    ),
    "alpha": (
        lambda: keras_spiking.Alpha(0.1, **OPTIONS),
        lambda x: reference.alpha(x, 0.03, TAU, LEVEL[0])[0],
    ),
    "last step": (
        lambda: keras_spiking.Lowpass(0.1, return_sequences=False, **OPTIONS),
        lambda x: reference.lowpass(x, 0.03, 0.1, LEVEL)[0][:, -1:],
    ),
}


def assert_right(case, mode, rng):
    """Outputs, and the gradient of their sum: of filters, what one more at a step adds to it."""
    make, oracle = CASES[case]
    inputs = (rng.integers(-64, 256, size=(2, 9, UNITS)) / 64).astype("float32")
    layer, outputs = make(), oracle(inputs)
    got = run(layer, inputs, mode=mode)
    np.testing.assert_allclose(got.reshape(outputs.shape), outputs, rtol=1e-5, atol=1e-6)
    gradient = np.ones(inputs.shape)
    if case != "spiking":
        for step in range(inputs.shape[1]):
            more = np.array(inputs, "float64")
            more[:, step] += 1.0
            gradient[:, step] = (oracle(more) - outputs).sum(axis=1)
    (got,) = gradients(lambda x: ops.sum(layer(x)), inputs, mode=mode)
    np.testing.assert_allclose(got, gradient, rtol=1e-5, atol=1e-6)


@every_mode
@every_kernel
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("checked_numbers")
def test_layers_run_while_numbers_are_checked(case, kernels, mode, rng):
    keras_spiking.config.set_kernels(kernels)
    assert_right(case, mode, rng)


@every_kernel
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("eager_functions")
def test_layers_run_while_functions_run_eagerly(case, kernels, rng):
    keras_spiking.config.set_kernels(kernels)
    assert_right(case, "graph", rng)


@pytest.mark.usefixtures("checked_numbers")
def test_a_model_trains_while_numbers_are_checked_and_they_are(rng):
    import tensorflow as tf

    model = keras.Sequential(
        [
            keras.Input((9, UNITS)),
            keras.layers.Dense(4),
            keras_spiking.SpikingActivation("relu", dt=0.5),
            keras_spiking.Lowpass(0.1, dt=0.03, return_sequences=False),
        ]
    )
    model.compile("sgd", "mse")
    inputs, targets = rng.uniform(size=(8, 9, UNITS)), rng.uniform(size=(8, 4))
    losses = model.fit(inputs, targets, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    model.layers[0].kernel.assign(np.full((UNITS, 4), np.inf))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Inf"):
        model.predict(inputs, verbose=0)


def test_loops_are_chosen_again_when_numbers_are_checked_no_more():
    import tensorflow as tf

    from keras_spiking.kernels import tensorflow as kernels

    before = kernels.loops_are_chosen()
    assert before == (not tf.config.list_logical_devices("GPU"))
    tf.debugging.enable_check_numerics()
    try:
        assert not kernels.loops_are_chosen()
    finally:
        tf.debugging.disable_check_numerics()
    assert kernels.loops_are_chosen() == before
