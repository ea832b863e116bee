"""`rate_scale`: more or fewer spikes, each lower or higher, for the same output."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_spiking import SpikingActivation, SpikingActivationCell
from tests import reference
from tests.compiled import MODES, gradients
from tests.compiled import run as run_function
from tests.layers.cases import run


@pytest.mark.parametrize("scale", [0.25, 3.0, 37.5])
def test_rate_scale_multiplies_the_rate_and_divides_the_height(scale, rng):
    rates = rng.normal(scale=10, size=(2, 200, 3)).astype("float32")
    voltage = rng.uniform(size=(2, 3)).astype("float32")
    expected, end = reference.integrate_and_fire(rates * np.float64(scale), 0.02, voltage)
    layer = SpikingActivation("linear", dt=0.02, rate_scale=scale, return_state=True)
    outputs, final = run(layer, rates, initial_state=voltage)
    assert np.mean(np.abs(outputs * scale - expected) > 1e-3) < 0.01
    assert np.abs(np.cumsum(outputs * scale - expected, axis=1)).max() * 0.02 < 1.001
    moved = np.abs(final - end)
    assert np.minimum(moved, 1 - moved).max() < 1e-4

    cell = SpikingActivationCell(3, "linear", dt=0.02, rate_scale=scale)
    state = voltage
    for step in range(20):
        spikes, (state,) = run(cell, rates[:, step], states=[state])
        np.testing.assert_array_equal(spikes, outputs[:, step])


@pytest.mark.parametrize("variable", [False, True], ids=["number", "variable"])
def test_rate_scale_is_a_longer_step_bit_for_bit(variable, rng):
    inputs = rng.normal(size=(2, 40, 3)).astype("float32")
    dt = keras.Variable(0.25) if variable else 0.25
    scaled = SpikingActivation("relu", dt=dt, rate_scale=2.0, seed=0)
    np.testing.assert_array_equal(
        run(scaled, inputs), run(SpikingActivation("relu", dt=0.5, seed=0), inputs)
    )


@pytest.mark.slow
def test_rate_scale_leaves_training_without_spikes_and_gradients_alone(rng):
    inputs = rng.normal(size=(2, 6, 3)).astype("float32")
    layer = SpikingActivation("tanh", rate_scale=50.0, spiking_aware_training=False)
    np.testing.assert_allclose(run(layer, inputs, training=True), np.tanh(inputs), rtol=1e-5)
    spiking = SpikingActivation("tanh", rate_scale=50.0)
    (gradient,) = gradients(lambda x: ops.sum(spiking(x, training=True)), inputs)
    np.testing.assert_allclose(gradient, 1 - np.tanh(inputs) ** 2, rtol=1e-4, atol=1e-6)


def test_rate_scale_is_saved_and_loaded(rng, tmp_path):
    inputs = rng.normal(size=(2, 40, 3)).astype("float32")
    model = keras.Sequential(
        [keras.Input((None, 3)), SpikingActivation("relu", dt=0.1, rate_scale=3.0, seed=0)]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].rate_scale == 3.0
    np.testing.assert_array_equal(
        loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    )


SCALES = [0.5, 3.0, 37.5]
OPTIONS = [
    {"integrate": integrate, "negative_spikes": negative}
    for integrate in ("activation", "input")
    for negative in (True, False)
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)
every_activation = pytest.mark.parametrize("activation", ["relu", "linear", "tanh"])


def by_channel(inputs, activation, **options):
    """Each channel through a layer of its own, with one number for its scale."""
    return np.concatenate(
        [
            run(
                SpikingActivation(activation, rate_scale=scale, **options),
                inputs[..., channel : channel + 1],
            )
            for channel, scale in enumerate(SCALES)
        ],
        axis=-1,
    )


@pytest.mark.slow
@every_activation
@every_option
@pytest.mark.parametrize("variable", [False, True], ids=["number", "variable"])
def test_a_scale_for_each_channel_is_a_layer_for_each(variable, options, activation, rng):
    inputs = rng.normal(size=(2, 40, 2, 3)).astype("float32")
    options = {"dt": 0.1, "initial_voltage": 0.5, **options}
    expected = by_channel(inputs, activation, **options)
    if variable:
        options["dt"] = keras.Variable(0.1)
    layer = SpikingActivation(activation, rate_scale=SCALES, return_state=True, **options)
    outputs, *_ = run(layer, inputs)
    counts = np.round(outputs * SCALES * 0.1)
    np.testing.assert_array_equal(counts, np.round(expected * SCALES * 0.1))
    np.testing.assert_allclose(outputs, counts / np.multiply(SCALES, 0.1), rtol=1e-6)

    # Cut anywhere, step by step, in the other layout, compiled: the same bits.
    first, *states = run(layer, inputs[:, :17])
    second, *_ = run(layer, inputs[:, 17:], initial_state=states)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), outputs)
    options["time_major"] = True
    swapped = run(
        SpikingActivation(activation, rate_scale=SCALES, **options), inputs.swapaxes(0, 1)
    )
    np.testing.assert_array_equal(swapped.swapaxes(0, 1), outputs)
    for mode in MODES:
        compiled = run_function(lambda x: layer(x)[0], inputs, mode=mode)
        np.testing.assert_array_equal(compiled, outputs)
    cell = layer.cell
    states = cell.get_initial_state(batch_size=2)
    for step in range(20):
        spikes, states = cell(ops.array(inputs[:, step]), states)
        np.testing.assert_array_equal(ops.convert_to_numpy(spikes), outputs[:, step])


def test_spikes_of_each_channel_are_those_of_the_loop(rng):
    rates = rng.normal(scale=10, size=(2, 60, 3)).astype("float32")
    voltage = np.full((2, 3), 0.5)
    expected, _ = reference.integrate_and_fire(rates * np.array(SCALES), 0.02, voltage)
    outputs = run(
        SpikingActivation("linear", dt=0.02, rate_scale=SCALES, initial_voltage=0.5), rates
    )
    assert np.mean(np.abs(outputs * SCALES - expected) > 1e-2) < 0.01


@pytest.mark.slow
@every_activation
@every_option
def test_gradients_do_not_depend_on_the_scale_of_a_channel(options, activation, rng):
    inputs = rng.normal(size=(2, 6, 3)).astype("float32")
    mask = ops.array([[1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 0, 1]], "bool")
    weights = ops.array(rng.normal(size=inputs.shape), "float32")
    found = [
        gradients(
            lambda x, scale=scale: ops.sum(
                weights
                * SpikingActivation(
                    activation, dt=0.1, rate_scale=scale, initial_voltage=0.5, **options
                )(x, mask=mask, training=True)
            ),
            inputs,
        )[0]
        for scale in (SCALES, 1.0)
    ]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@every_option
def test_training_without_spikes_has_no_scale(options, rng):
    inputs = rng.normal(size=(2, 6, 3)).astype("float32")
    options = {"initial_voltage": 0.5, "spiking_aware_training": False, **options}
    layers = [SpikingActivation("tanh", rate_scale=scale, **options) for scale in (SCALES, 1.0)]
    outputs = [run(layer, inputs, training=True) for layer in layers]
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["float16", "mixed_bfloat16"])
def test_half_precision_takes_a_scale_for_each_channel(policy, rng):
    inputs = rng.integers(-8, 8, size=(2, 9, 3)).astype("float32")
    for options in OPTIONS:
        options = {"dt": 0.25, "initial_voltage": 0.5, "dtype": policy, **options}
        layer = SpikingActivation("relu", rate_scale=[0.5, 1.0, 2.0], **options)
        outputs = layer(inputs)
        assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
        options["dtype"] = "float32"
        expected = run(SpikingActivation("relu", rate_scale=[0.5, 1.0, 2.0], **options), inputs)
        outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
        np.testing.assert_array_equal(outputs, expected)


def test_scales_are_saved_and_loaded(rng, tmp_path):
    inputs = rng.normal(size=(2, 40, 3)).astype("float32")
    layer = SpikingActivation("relu", dt=0.1, rate_scale=np.array(SCALES, "float32"), seed=0)
    assert layer.get_config()["rate_scale"] == SCALES
    model = keras.Sequential([keras.Input((None, 3)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.layers[0].rate_scale, SCALES)
    np.testing.assert_array_equal(
        loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    )


def test_scales_that_do_not_fit_are_refused():
    words = r"one for each of the 4 channels in the last axis of the inputs; received 3"
    with pytest.raises(ValueError, match=words):
        SpikingActivation("relu", rate_scale=SCALES).build((None, None, 4))
    with pytest.raises(ValueError, match=words):
        SpikingActivationCell(4, "relu", rate_scale=SCALES).build((None, 4))
    for options in OPTIONS:
        layer = SpikingActivation("tanh", rate_scale=SCALES, **options)
        layer.build((None, None, None))
        with pytest.raises(ValueError, match=words):
            layer(np.zeros((2, 3, 4), "float32"))
    for scale in ([], (), np.ones(0)):
        with pytest.raises(ValueError, match="a number, or one number for each channel; received"):
            SpikingActivation("relu", rate_scale=scale)
    for scale in ([1.0, 0.0], [1.0, -2.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="`rate_scale` must be"):
            SpikingActivation("relu", rate_scale=scale)
    for scale in (["1"], [[1.0]], [[1.0], [1.0, 2.0]], np.ones((1, 2)), [True]):
        with pytest.raises(TypeError, match="`rate_scale` must be a number"):
            SpikingActivation("relu", rate_scale=scale)
