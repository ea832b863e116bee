"""Training gives the losses and weights of a float64 NumPy loop: the same on all backends."""

import keras
import numpy as np
import pytest

import keras_spiking
from keras_spiking.callbacks import DtScheduler
from tests import numpy_training
from tests.compiled import BACKEND

MODES = {
    "tensorflow": {"graph": {"jit_compile": False}, "jit": {"jit_compile": True}},
    "jax": {"jit": {}},
    "torch": {"eager": {}},
}[BACKEND]
STEPS, VOLTAGE, LEARNING_RATE = 25, 0.25, 0.02
BATCH, TIME, INPUTS, UNITS = 3, 8, 3, 4


def schedule(step):
    return 0.2 * 0.97**step


def data_and_weights(rng):
    inputs = rng.normal(scale=6, size=(BATCH, TIME, INPUTS)).astype("float32")
    targets = rng.normal(size=(BATCH, 1)).astype("float32")
    weights = [
        rng.normal(size=(INPUTS, UNITS)),
        rng.uniform(1, 2, size=UNITS),
        rng.normal(size=(1, UNITS)),
        rng.uniform(0.1, 0.4, size=(1, UNITS)),
        rng.normal(size=UNITS),
        rng.uniform(0.1, 0.4, size=UNITS),
        rng.normal(scale=0.3, size=(UNITS, 1)),
        np.zeros(1),
    ]
    return inputs, targets, [weight.astype("float32") for weight in weights]


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_losses_and_weights_are_those_of_a_numpy_loop(mode):
    inputs, targets, weights = data_and_weights(np.random.default_rng(17))
    dt = keras.Variable(1.0, trainable=False)
    model = keras.Sequential(
        [
            keras.Input((TIME, INPUTS)),
            keras.layers.Dense(UNITS),
            keras_spiking.SpikingActivation("relu", dt=dt, initial_voltage=VOLTAGE),
            keras_spiking.Lowpass(0.1, dt=dt),
            keras_spiking.Alpha(0.1, dt=dt, return_sequences=False),
            keras.layers.Dense(1),
        ]
    )
    model.set_weights(weights)
    model.compile(keras.optimizers.SGD(LEARNING_RATE), "mse", **mode)
    history = model.fit(
        inputs, targets, epochs=STEPS, callbacks=[DtScheduler(dt, schedule)], verbose=0
    )

    losses, trained, margin = numpy_training.train(
        weights, inputs, targets, map(schedule, range(STEPS)), VOLTAGE, LEARNING_RATE
    )
    # Else one spike, a step early or late by rounding, would send training another way.
    assert margin > 1e-4
    assert losses[-1] < losses[0] / 2
    np.testing.assert_allclose(history.history["loss"], losses, rtol=1e-4)
    for weight, before, expected in zip(model.get_weights(), weights, trained, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)
        assert np.abs(expected - before).max() > 1e-3
