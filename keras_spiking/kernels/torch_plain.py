"""The kernels on PyTorch as plain operations, which `torch.func` transforms in every way.

It would refuse the functions with gradients of their own that run otherwise, or ask of each of
them what makes every call slower by a third. The tracer for ONNX needs plain operations, too.
"""

from typing import Any

import torch

from keras_spiking.kernels import LARGEST

# Only a private function tells. Without it, a transformation ends in PyTorch's own error.
transforms_are_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


class ReverseOnly(torch.autograd.Function):
    """A function whose gradients come from `backward` alone."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(
            "keras_spiking: torch.autograd.forward_ad has no derivatives of spikes and filters. "
            "Use torch.func.jvp or torch.func.jacfwd instead."
        )


def integrate_and_fire(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    counts, voltages = integrate(increments, voltage, time_axis)
    return counts, voltages.select(time_axis, -1)


def integrate(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    double = increments.dtype == torch.float64
    digits, integer = (52, torch.int64) if double else (23, torch.int32)
    unit, largest = 2.0**digits, LARGEST[digits]
    fraction = torch.round((voltage - torch.floor(voltage)) * unit)
    start = torch.clamp(fraction, max=unit - 1).to(integer)
    rounded = torch.round(torch.clamp(increments * unit, -largest, largest))
    whole = torch.floor(rounded * (1.0 / unit))
    finite = torch.isfinite(increments)
    added = torch.where(finite, rounded - whole * unit, torch.zeros_like(rounded)).to(integer)
    total = torch.cumsum(added, time_axis, dtype=integer) + start.unsqueeze(time_axis)
    voltages = torch.bitwise_and(total, torch.full_like(total, 2**digits - 1))
    counts = whole + (voltages < added).to(whole.dtype)
    return counts, voltages.to(whole.dtype) * (1.0 / unit)


def recurrence(log_decay: Any, sequence: Any, time_axis: int) -> Any:
    """`h_t = exp(log_decay) * h_{t-1} + sequence_t`, from zero."""
    length = sequence.shape[time_axis]
    for step in (2**n for n in range((length - 1).bit_length())):
        edge = sequence.narrow(time_axis, 0, step)
        early = sequence.narrow(time_axis, 0, length - step)
        late = sequence.narrow(time_axis, step, length - step)
        late = late + torch.exp(step * log_decay) * early
        sequence = torch.cat([edge, late], time_axis)
    return sequence


def linear_filter(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    time_axis: int = 1,
    recurrence: Any = recurrence,
) -> tuple[Any, ...]:
    levels: list[Any] = []
    before = None
    for gain, start in zip(gains, initial, strict=True):
        drive = inputs * gain.unsqueeze(time_axis)
        if before is not None:
            drive = drive + coupling.unsqueeze(time_axis) * before
        sequence = torch.cat([start.unsqueeze(time_axis), drive], time_axis)
        sequence = recurrence(log_decay.unsqueeze(time_axis), sequence, time_axis)
        levels.append(sequence.narrow(time_axis, 1, inputs.shape[time_axis]))
        before = sequence.narrow(time_axis, 0, inputs.shape[time_axis])
    return tuple(levels)
