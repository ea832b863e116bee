"""Neurons that remember their sum: the backend's own kernel against the portable one."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_spiking import config, kernels
from tests.compiled import MODES, QUICK, gradients, run

DTYPES = ["float32"] if keras.backend.backend() == "jax" else ["float32", "float64"]


@pytest.fixture
def portable():
    """Runs a function with the portable kernels."""

    def with_portable(function, *arguments):
        config.set_kernels("portable")
        try:
            return function(*arguments, mode=QUICK)
        finally:
            config.set_kernels("auto")

    return with_portable


def arguments(rng, shape, dtype, time_axis):
    rates = rng.normal(0.1, 2, size=shape).astype(dtype)
    per_step = np.delete(shape, time_axis)
    floor, emitted = np.rint(rng.normal(scale=3, size=(2, *per_step))).astype(dtype)
    voltage, origin = (np.rint(rng.uniform(size=(2, *per_step)) * 2**20) / 2**21).astype(dtype)
    return rates, floor, voltage, emitted, origin


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("negative_spikes", [True, False])
@pytest.mark.parametrize("rectify", [True, False])
def test_spikes_and_states_are_the_same_bits(rectify, negative_spikes, dtype, mode, portable, rng):
    def fire(rates, *state):
        return kernels.accumulate_and_fire(rates, state, 0.37, time_axis, rectify, negative_spikes)

    for shape, time_axis in (((3, 15, 5), 1), ((15, 3, 2, 2), 0), ((2, 1, 3), 1)):
        given = arguments(rng, shape, dtype, time_axis)
        found = keras.tree.flatten(run(fire, *given, mode=mode))
        expected = keras.tree.flatten(portable(run, lambda *each: fire(*each), *given))
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", [mode for mode in MODES if "unknown" not in mode])
@pytest.mark.parametrize("rectify", [True, False])
def test_gradients_are_the_same(rectify, mode, portable, rng):
    weights = rng.normal(size=(3, 15, 5)).astype("float32")
    rates, *state = arguments(rng, weights.shape, "float32", 1)
    # Summed from here on, as a gradient of the whole sum is.
    state[0], state[2], state[1] = 0 * state[0], 0 * state[2], state[3]

    def loss(rates):
        spikes, _ = kernels.accumulate_and_fire(
            rates, tuple(map(ops.convert_to_tensor, state)), 0.37, rectify=rectify
        )
        return ops.sum(spikes * ops.convert_to_tensor(weights))

    (found,) = gradients(loss, rates, mode=mode)
    (expected,) = portable(gradients, lambda rates: loss(rates), rates)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
