"""The kernels on PyTorch while `torch.jit.trace` runs, which is how Keras exports a model to ONNX.

The modules of `keras_spiking.pytorch` are traced with these too, where there is no Keras.

The exported model may get other lengths of time than the traced one. So spikes are one sum over all
steps, and filters sum by doubling as in `portable.py`, but in as many passes as the greatest length
needs: passes that reach back beyond the first step change nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels import recurrences, torch_plain
from keras_spiking.kernels.contract import Filter
from keras_spiking.kernels.torch import filter_end, runs_on_cpu, to_dtype

__all__ = ["filter_end", "runs_on_cpu"]

integrate = torch_plain.integrate
integrate_and_fire = torch_plain.integrate_and_fire

# Enough for a length below 2**31.
_PASSES = 31


def alpha_gain(ratio: Tensor) -> Tensor:
    return recurrences.alpha_gain(torch, expm1, ratio)


def expm1(x: Tensor) -> Tensor:
    """`exp(x) - 1`, exact near zero; ONNX has no operation for it."""
    return torch.tanh(x / 2) * (torch.exp(x) + 1.0)


def _recurrence(log_decay: Tensor, drive: Tensor, start: Tensor, time_axis: int) -> Tensor:
    """`h_t = exp(log_decay) * h_{t-1} + drive_t`, from `start`."""
    log_decay = log_decay.unsqueeze(time_axis)
    sequence = torch.cat([start.unsqueeze(time_axis), drive], time_axis)
    times = torch.arange(sequence.shape[time_axis], device=sequence.device)
    axes = [-1] + [1] * (sequence.dim() - 1 - time_axis)
    for step in (2**n for n in range(_PASSES)):
        earlier = sequence.index_select(time_axis, torch.clamp(times - step, min=0))
        inside = (times >= step).to(sequence.dtype).reshape(axes)
        sequence = sequence + inside * torch.exp(step * log_decay) * earlier
    return sequence.narrow(time_axis, 1, drive.shape[time_axis])


def linear_filter(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> tuple[Tensor, ...]:
    return recurrences.linear_filter(torch, _recurrence, filter_, inputs, initial, time_axis)


def straight_through(rates: Tensor, spikes: Tensor) -> Tensor:
    if torch.onnx.is_in_onnx_export():  # in which nothing trains
        return spikes
    return torch_plain.straight_through(rates, spikes)


def spike(
    rates: Tensor,
    voltage: Tensor,
    dt: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    return spike_by_channel(rates, voltage, dt, 1.0 / dt, time_axis, rectify)


def spike_by_channel(
    rates: Tensor,
    voltage: Tensor,
    seconds: Tensor,
    heights: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    rates = torch.relu(rates) if rectify else rates
    increments = rates.detach().to(voltage.dtype) * seconds
    counts, final = integrate_and_fire(increments, voltage, time_axis)
    return straight_through(rates, to_dtype(counts * heights, rates.dtype)), final


def uniform(shape: Sequence[int], seed: Any, dtype: str) -> Tensor:
    recorder = "ONNX" if torch.onnx.is_in_onnx_export() else "torch.jit.trace"
    raise NotImplementedError(
        f"SpikingActivation: {recorder} has no random numbers that follow a seed, and so none for "
        'an initial voltage of "random_uniform". Use a copy of the model whose layers have a '
        "number or an array as `initial_voltage`."
    )
