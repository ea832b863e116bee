"""`rate_scale`: more or fewer spikes, each lower or higher, for the same output."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_spiking import SpikingActivation, SpikingActivationCell
from tests import reference
from tests.compiled import gradients
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
