"""What is kept for the backward pass may be computed anew, moved away, and read but once."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation

START = torch.full((2, 3), 0.25)
MODULES = {
    "relu": lambda: SpikingActivation(torch.relu, dt=0.5, initial_state=START),
    "tanh": lambda: SpikingActivation(torch.tanh, dt=0.5, initial_state=START),
    **{
        f"{name} of mean": lambda activation=activation: SpikingActivation(
            activation, dt=0.5, initial_state=START, integrate="input"
        )
        for name, activation in (("relu", torch.relu), ("tanh", torch.tanh))
    },
    "lowpass": lambda: Lowpass(0.01, 3),
    "alpha": lambda: Alpha(0.01, 3),
    "lowpass's end": lambda: Lowpass(0.01, 3, return_sequences=False),
    "alpha's end": lambda: Alpha(0.01, 3, return_sequences=False),
}


def recomputed(module, inputs):
    return checkpoint(module, inputs, use_reentrant=False)


def recomputed_reentrantly(module, inputs):
    return checkpoint(module, inputs, use_reentrant=True)


def moved_away(module, inputs):
    with torch.autograd.graph.save_on_cpu():
        return module(inputs)


def read_once(module, inputs):
    kept = {}

    def pack(tensor):
        kept[len(kept)] = tensor.clone()
        return len(kept) - 1

    with torch.autograd.graph.saved_tensors_hooks(pack, kept.pop):
        return module(inputs)


def gradients(module, call):
    inputs = torch.linspace(-3, 3, 2 * 20 * 3).reshape(2, 20, 3).requires_grad_()
    module.zero_grad()
    call(module, inputs).square().sum().backward()
    return [inputs.grad, *(each.grad for each in module.parameters())]


@pytest.mark.parametrize("call", [recomputed, recomputed_reentrantly, moved_away, read_once])
@pytest.mark.parametrize("name", MODULES)
def test_gradients_are_the_same(name, call):
    module = MODULES[name]()
    expected = gradients(module, lambda module, inputs: module(inputs))
    for actual, each in zip(gradients(module, call), expected, strict=True):
        torch.testing.assert_close(actual, each, rtol=0, atol=0)
