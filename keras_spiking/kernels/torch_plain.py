"""The kernels on PyTorch as plain operations, which `torch.func` transforms in every way.

It would refuse the functions with gradients of their own that run otherwise, or ask of each of
them what makes every call slower by a third. The tracer for ONNX needs plain operations, too.
"""

from typing import Any

import torch

from keras_spiking.kernels import LARGEST

# As in `running.py`, which imports Keras.
MOST_SPIKES = 2.0**24

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
    digits, integer = _grid(increments)
    unit, largest = 2.0**digits, LARGEST[digits]
    start = (to_grid(voltage) * unit).to(integer)
    rounded = torch.round(torch.clamp(increments * unit, -largest, largest))
    whole = torch.floor(rounded * (1.0 / unit))
    finite = torch.isfinite(increments)
    added = torch.where(finite, rounded - whole * unit, torch.zeros_like(rounded)).to(integer)
    total = torch.cumsum(added, time_axis, dtype=integer) + start.unsqueeze(time_axis)
    voltages = torch.bitwise_and(total, torch.full_like(total, 2**digits - 1))
    counts = whole + (voltages < added).to(whole.dtype)
    return counts, voltages.to(whole.dtype) * (1.0 / unit)


def _grid(tensor: Any) -> tuple[int, Any]:
    """The voltage's binary digits, and the integers that hold them."""
    return (52, torch.int64) if tensor.dtype == torch.float64 else (23, torch.int32)


def to_grid(voltage: Any) -> Any:
    """The fractional part of a voltage, rounded to the grid, in [0, 1)."""
    unit = 2.0 ** _grid(voltage)[0]
    fraction = torch.round((voltage - torch.floor(voltage)) * unit)
    return torch.clamp(fraction, max=unit - 1) * (1.0 / unit)


def straight_through(rates: Any, spikes: Any) -> Any:
    return spikes + (rates - rates.detach()).nan_to_num(0.0)


def accumulate_and_fire(
    rates: Any,
    state: Any,
    dt: Any,
    time_axis: int = 1,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Any, Any]:
    floor, voltage, emitted, origin = (each.detach() for each in state)
    counts, voltages = integrate(rates.detach() * dt, voltage, time_axis)
    floors = sum_of_counts(counts, floor, time_axis)
    due, changes = floors, rates
    if rectify:
        due = torch.clamp(floors, min=0.0)
        active = floors + voltages > origin.unsqueeze(time_axis)
        sums = active * torch.cumsum(rates, time_axis)
        changes = differences(sums, torch.zeros_like(floor), time_axis)
    if not negative_spikes:
        due = running_max(due, emitted, time_axis)
    spikes = differences(due, emitted, time_axis) * (1.0 / dt)
    spikes = torch.where(torch.isnan(counts), torch.nan, spikes)
    ends = tuple(each.select(time_axis, -1) for each in (floors, voltages, due))
    return straight_through(changes, spikes), ends


def sum_of_counts(counts: Any, start: Any, time_axis: int = 1) -> Any:
    """`start` plus each step and all before it, in whole numbers, which stop at `MOST_SPIKES`.

    What is undefined adds nothing.
    """
    added = bounded(torch.nan_to_num(counts, 0.0)).to(torch.int64)
    total = torch.cumsum(added, time_axis) + start.to(torch.int64).unsqueeze(time_axis)
    return bounded(total.to(start.dtype))


def bounded(counts: Any) -> Any:
    """Numbers of spikes, of at most `MOST_SPIKES`."""
    return torch.clamp(counts, -MOST_SPIKES, MOST_SPIKES)


def running_max(sequence: Any, start: Any, time_axis: int = 1) -> Any:
    """The largest of `start`, each step, and all before it."""
    return torch.cummax(torch.maximum(sequence, start.unsqueeze(time_axis)), time_axis).values


def differences(sequence: Any, start: Any, time_axis: int = 1) -> Any:
    """Each step less the one before it, which is `start` before the first."""
    return torch.diff(sequence, dim=time_axis, prepend=start.unsqueeze(time_axis))


def gradient_of_sums(upstream: Any, active: Any, time_axis: int = 1) -> Any:
    """Each step counts in all later sums; each sum in its step, and negative in the next."""
    after = torch.zeros_like(upstream.narrow(time_axis, 0, 1))
    changes = torch.diff(upstream, dim=time_axis, append=after) * active
    return -torch.cumsum(changes.flip(time_axis), time_axis).flip(time_axis)


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
