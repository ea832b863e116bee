"""The neurons that the tests of integration and of what is done with it run over."""

import numpy as np
import pytest
import torch

from keras_spiking.pytorch import SpikingActivation

ACTIVATIONS = {
    "relu": (torch.relu, lambda x: np.maximum(x, 0)),
    "linear": (torch.nn.Identity(), lambda x: x),
    "leaky": (torch.nn.LeakyReLU(0.25), lambda x: np.where(x > 0, x, 0.25 * x)),
    "tanh": (torch.tanh, np.tanh),
}
EXACT = ("relu", "linear")
OPTIONS = {
    "input": {"integrate": "input"},
    "input, no negative": {"integrate": "input", "negative_spikes": False},
    "no negative": {"integrate": "activation", "negative_spikes": False},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def on_grid(rng, shape, scale=1.0):
    """Values that every sum of products with a power of two represents exactly."""
    return torch.tensor((np.rint(rng.normal(size=shape) * scale * 2**12) / 2**12).astype("float32"))


def neuron(activation="relu", batch=2, units=5, **options):
    return SpikingActivation(
        ACTIVATIONS[activation][0] if isinstance(activation, str) else activation,
        **{
            "dt": 0.25,
            "integrate": "input",
            "initial_state": torch.full((batch, units), 0.5),
            **options,
        },
    )


def assert_same_state(one, other):
    assert len(one) == len(other)
    for each, another in zip(one, other, strict=True):
        assert each.equal(another)
