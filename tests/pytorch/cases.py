"""The modules that the tests of what all have in common run over."""

import pytest
import torch

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation, TemporalAvgPool

UNITS = 3

# Of a batch of two; with a given voltage, so that each call gives the same.
VOLTAGE = torch.tensor([[0.1, 0.5, 0.9], [0.0, 0.3, 0.7]])


def spiking(activation=torch.nn.PReLU, **options):
    """A function that makes neurons of these options."""
    options = {"dt": 0.013, "initial_state": VOLTAGE, **options}
    return lambda **kwargs: SpikingActivation(activation(), **{**options, **kwargs})


SPIKING = {
    "spiking": spiking(),
    "mean": spiking(integrate="input"),
    "relu of mean": spiking(torch.nn.ReLU, integrate="input"),
    "no negative": spiking(negative_spikes=False),
}
MAKERS = {
    **SPIKING,
    "lowpass": lambda **kwargs: Lowpass(0.1, UNITS, **{"dt": 0.03, **kwargs}),
    "alpha": lambda **kwargs: Alpha(0.1, UNITS, **{"dt": 0.03, **kwargs}),
    "pool": lambda **kwargs: TemporalAvgPool(**kwargs),
}

every_module = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def inputs_of(steps=10, batch=2, **kwargs):
    """Random inputs of many spikes per step, of either sign."""
    return 100 * torch.randn(batch, steps, UNITS, **kwargs)


def any_length(inputs):
    """These inputs, whose length PyTorch's compiler is not to take for a constant.

    With `dynamic=True`, no axis is one, and plain operations take several times as long to compile.
    """
    torch._dynamo.maybe_mark_dynamic(inputs, 1)
    return inputs


def weighted_sum(outputs):
    weights = torch.linspace(-1, 1, outputs.numel()).reshape(outputs.shape).to(outputs)
    return (outputs * weights).sum()


def gradients(module, inputs, function=None):
    """The outputs, and the gradients of their weighted sum in inputs and parameters."""
    inputs = inputs.detach().requires_grad_()
    outputs = (module if function is None else function)(inputs)
    leaves = [inputs, *(each for each in module.parameters() if each.requires_grad)]
    return outputs.detach(), torch.autograd.grad(weighted_sum(outputs), leaves)
