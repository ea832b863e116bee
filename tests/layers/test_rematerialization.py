"""Layers that a backward pass runs again: the gradients, states and random numbers of one run."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests.layers.cases import MAKERS, every_layer

on_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="Keras runs whole models again on torch alone"
)
# One that counts its random numbers, and one with weights.
SOME = "spiking", "alpha"


def fitted(make, scope, batches, **kwargs):
    """Weights and states after some steps of training, with the layer made in a scope."""
    keras.utils.set_random_seed(0)
    with scope:
        layer = make(**kwargs)
    dense = [keras.layers.Dense(units, kernel_initializer="orthogonal") for units in (3, 2)]
    model = keras.Sequential([keras.Input((5, 3), batch_size=2), dense[0], layer, dense[1]])
    # In small steps: where tau comes near zero, rounding would decide.
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(*batches, batch_size=2, shuffle=False, verbose=0)
    return [
        *model.get_weights(),
        *(ops.convert_to_numpy(state) for state in layer.states or []),
    ]


@pytest.fixture
def batches(rng):
    shapes = (6, 5, 3), (6, 5, 2)
    return tuple(rng.normal(size=shape).astype("float32") for shape in shapes)


def assert_trains_alike(make, scope, batches, **kwargs):
    plain = fitted(make, contextlib.nullcontext(), batches, **kwargs)
    again = fitted(make, scope, batches, **kwargs)
    for one, other in zip(again, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=[] if name in SOME else [pytest.mark.slow])
        for name, make in MAKERS.items()
    ],
)
def test_a_stateful_layer_that_runs_again_trains_as_one_that_does_not(make, batches):
    assert_trains_alike(make, keras.RematScope("full"), batches, stateful=True)


def test_a_random_voltage_is_drawn_once_where_a_layer_runs_again(batches):
    assert_trains_alike(MAKERS["spiking"], keras.RematScope("full"), batches, seed=None)


@pytest.mark.parametrize("mode", ["larger_than", "list_of_layers"])
def test_trains_in_other_modes(mode, batches):
    scope = keras.RematScope(mode, output_size_threshold=1, layer_names=["filter"])
    assert_trains_alike(MAKERS["lowpass"], scope, batches, name="filter")


@on_torch
@every_layer
def test_a_stateful_layer_is_refused_where_the_model_around_it_runs_again(make):
    layer = make(stateful=True)
    layer.build((2, 5, 3))
    inputs = ops.ones((2, 5, 3)).requires_grad_()
    outputs = keras.remat(lambda inputs: ops.square(layer(inputs)))(inputs)
    with pytest.raises(RuntimeError, match=r"is stateful, and so gives wrong gradients .* Make"):
        outputs.sum().backward()


@on_torch
def test_a_random_voltage_is_refused_where_the_model_around_it_runs_again():
    inputs = ops.ones((2, 5, 3)).requires_grad_()
    for cell in (False, True):
        layer = keras_spiking.SpikingActivation("softplus")
        if cell:
            layer = keras.layers.RNN(keras_spiking.SpikingActivationCell(3, "softplus"))
        layer.build((2, 5, 3))
        outputs = keras.remat(lambda inputs: ops.square(layer(inputs)))(inputs)  # noqa: B023
        with pytest.raises(RuntimeError, match=r"draws a new initial voltage .* Give it a `seed`"):
            outputs.sum().backward()


@on_torch
def test_a_model_runs_again_where_its_layers_give_the_same_each_time(batches):
    plain = fitted(MAKERS["alpha"], contextlib.nullcontext(), batches)
    keras.utils.set_random_seed(0)
    with keras.RematScope("full"):
        again = fitted(MAKERS["alpha"], contextlib.nullcontext(), batches)
    for one, other in zip(again, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
