"""Gradients of slow and of fast time constants, in float32."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests import reference
from tests.compiled import MODES, SETTINGS, gradients

DT = 0.01
TAU = DT / np.array([1e-4, 1e-3, 0.01, 0.1, 0.49, 0.51, 1, 3, 8, 10, 15, 20, 25, 30])
FILTERS = {
    "lowpass": (keras_spiking.Lowpass, keras_spiking.LowpassCell, (1, len(TAU))),
    "alpha": (keras_spiking.Alpha, keras_spiking.AlphaCell, (len(TAU),)),
}

every_filter = pytest.mark.parametrize("name", FILTERS)


def problem(rng, sequences):
    inputs = rng.uniform(1, 2, size=(3, 25, len(TAU))).astype("float32")
    # A slow alpha filter moves so little from a level that its float32 rounds off what it does.
    level = np.where(TAU > DT / 0.01, 0, rng.uniform(-1, 0, size=len(TAU))).astype("float32")
    weights = rng.uniform(size=inputs.shape).astype("float32")
    if not sequences:
        weights[:, :-1] = 0
    return inputs, TAU.astype("float32"), level, weights


def assert_slopes_are_exact(name, call, layer, shape, rng, sequences=True, mode="eager"):
    inputs, tau, level, weights = problem(rng, sequences)
    factors = ops.array(weights if sequences else weights[:, -1])

    def loss(tau):
        pairs = list(zip(layer.weights, [ops.array(level.reshape(shape)), tau], strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            return ops.sum(call(ops.array(inputs)) * factors)

    (got,) = gradients(loss, tau.reshape(shape), mode=mode)
    expected = reference.slopes_in_tau(name, inputs, DT, tau, level, weights)
    np.testing.assert_allclose(np.ravel(got), expected, rtol=1e-5)


@pytest.mark.parametrize("mode", [mode for mode in MODES if "unknown" not in mode])
@pytest.mark.parametrize("kernels", SETTINGS)
@pytest.mark.parametrize("sequences", [True, False], ids=["sequence", "last output"])
@every_filter
def test_a_layer(name, sequences, kernels, mode, rng):
    keras_spiking.config.set_kernels(kernels)
    layer_class, _, shape = FILTERS[name]
    layer = layer_class(0.1, dt=DT, return_sequences=sequences)
    layer.build((None, None, len(TAU)))
    assert_slopes_are_exact(name, layer, layer, shape, rng, sequences, mode)


@pytest.mark.slow
@every_filter
def test_a_cell(name, rng):
    _, cell_class, shape = FILTERS[name]
    cell = cell_class(len(TAU), 0.1, dt=DT)
    cell.build((None, len(TAU)))

    def stepped(inputs):
        states = cell.get_initial_state(batch_size=inputs.shape[0])
        outputs = []
        for step in range(inputs.shape[1]):
            output, states = cell(inputs[:, step], states)
            outputs.append(output)
        return ops.stack(outputs, axis=1)

    assert_slopes_are_exact(name, stepped, cell, shape, rng)
