"""The layers that the tests of the contract run over, one of them made by a user."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking.layers import KerasSpikingCell, KerasSpikingLayer


@keras.saving.register_keras_serializable("tests")
class CountingCell(KerasSpikingCell):
    """Counts steps in its state, and scales inputs by a weight and that count."""

    def __init__(self, size, **kwargs):
        super().__init__(size, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call_training(self, inputs, states):
        return inputs, states

    def call_inference(self, inputs, states):
        (count,) = states
        count = count + 1.0
        return inputs * ops.cast(self.scale * count, inputs.dtype), [count]


@keras.saving.register_keras_serializable("tests")
class Counting(KerasSpikingLayer):
    """A layer without a kernel: steps its cell."""

    def build_cell(self, input_shape):
        return CountingCell(input_shape[2:], dt=self.dt, dtype=self.dtype_policy)


MAKERS = {
    "spiking": lambda **kwargs: keras_spiking.SpikingActivation(
        "leaky_relu", **{"dt": 0.3, "seed": 1, **kwargs}
    ),
    "spiking by input": lambda **kwargs: keras_spiking.SpikingActivation(
        "leaky_relu",
        **{
            "dt": 0.3,
            "initial_voltage": 0.5,
            "integrate": "input",
            "negative_spikes": False,
            **kwargs,
        },
    ),
    "lowpass": lambda **kwargs: keras_spiking.Lowpass(
        0.1, **{"dt": 0.03, "level_initializer": 0.5, **kwargs}
    ),
    "alpha": lambda **kwargs: keras_spiking.Alpha(
        0.1, **{"dt": 0.03, "level_initializer": 0.5, **kwargs}
    ),
    "custom": lambda **kwargs: Counting(**{"dt": 0.01, **kwargs}),
}

SPIKING = (MAKERS["spiking"], MAKERS["spiking by input"])

every_layer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def run(layer, inputs, **kwargs):
    """Calls a layer, and returns NumPy arrays."""
    return keras.tree.map_structure(ops.convert_to_numpy, layer(inputs, **kwargs))


def assert_same(actual, expected, exact=False):
    """Asserts equal structure and values: spikes bit for bit, filters to 1e-6 relative."""
    keras.tree.assert_same_structure(actual, expected)
    pairs = zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True)
    for one, other in pairs:
        if exact:
            np.testing.assert_array_equal(one, other)
        else:
            scale = np.abs(other).max(initial=1e-30)
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6 * scale)
