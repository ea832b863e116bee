"""The kernels that the modules run.

While `torch.jit.trace` records, they are plain operations, which any length of time fits and any
program loads, with the same results and gradients.
"""

from collections.abc import Sequence

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels import torch as kernels
from keras_spiking.kernels import torch_onnx, torch_plain, torch_sums
from keras_spiking.kernels.contract import Filter


def spike(
    rates: Tensor, voltage: Tensor, dt: float, rectify: bool = False
) -> tuple[Tensor, Tensor]:
    """As `keras_spiking.kernels.spike`."""
    chosen = torch_onnx if torch.jit.is_tracing() else kernels
    return chosen.spike(rates, voltage, dt, rectify=rectify)


def integrate(increments: Tensor, voltage: Tensor) -> tuple[Tensor, Tensor]:
    """As `keras_spiking.kernels.integrate`."""
    return kernels.integrate(increments, voltage)


def accumulate_and_fire(
    rates: Tensor,
    state: Sequence[Tensor],
    dt: float,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """As `keras_spiking.kernels.accumulate_and_fire`."""
    chosen = torch_plain if torch.jit.is_tracing() else torch_sums
    return chosen.accumulate_and_fire(rates, state, dt, 1, rectify, negative_spikes)


def straight_through(rates: Tensor, values: Tensor) -> Tensor:
    """As `keras_spiking.kernels.straight_through`."""
    chosen = torch_onnx if torch.jit.is_tracing() else kernels
    return chosen.straight_through(rates, values)


def linear_filter(filter_: Filter, inputs: Tensor, initial: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """As `keras_spiking.kernels.linear_filter`."""
    chosen = torch_onnx if torch.jit.is_tracing() else kernels
    return chosen.linear_filter(filter_, inputs, initial)


def filter_end(filter_: Filter, inputs: Tensor, initial: Sequence[Tensor]) -> tuple[Tensor]:
    """The last level's last step alone, in a tuple."""
    if torch.jit.is_tracing():
        return (linear_filter(filter_, inputs, initial)[-1][:, -1:],)
    return (kernels.filter_end(filter_, inputs, initial),)
