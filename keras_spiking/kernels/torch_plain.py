"""The kernels on PyTorch as plain operations, which `torch.func` transforms in every way.

The functions with gradients of their own, which run otherwise, would need a `setup_context` for
that, and it makes every call a third slower. The tracer for ONNX needs plain operations, too. Where
Numba is not installed, these are the kernels on CPUs.
"""

from collections.abc import Sequence
from typing import Any

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels import recurrences
from keras_spiking.kernels.constants import BITS, DIGITS, INTEGERS, MOST_IN_STEP, MOST_SPIKES
from keras_spiking.kernels.contract import Filter

# Steps in a block of time: so few that rounding errors stay small.
_STEPS = 32
# Numbers in a span of time that fits a CPU's cache, by measurement.
_CACHED = 2**18

# Only a private function tells. Where there is none, PyTorch raises an error of its own.
transforms_are_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


class ReverseOnly(torch.autograd.Function):
    """A function whose gradients come from `backward` alone."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(
            "keras_spiking: torch.autograd.forward_ad has no derivatives of spikes and filters. "
            "Use torch.func.jvp or torch.func.jacfwd instead."
        )


def integrate_and_fire(
    increments: Tensor, voltage: Tensor, time_axis: int = 1
) -> tuple[Tensor, Tensor]:
    counts, voltages = integrate(increments, voltage, time_axis)
    return counts, _last(voltages, to_grid(voltage), time_axis)


def _last(sequence: Tensor, start: Tensor, time_axis: int) -> Tensor:
    """The last step of a sequence that goes on from `start`; `start`, if it has no step."""
    # A length may be unknown while PyTorch traces.
    if not torch.jit.is_tracing() and not sequence.shape[time_axis]:
        return start
    return sequence.select(time_axis, -1)


def integrate(increments: Tensor, voltage: Tensor, time_axis: int = 1) -> tuple[Tensor, Tensor]:
    """As `portable.integrate`."""
    dtype = _name(increments)
    unit, bits, integer = 2.0 ** DIGITS[dtype], BITS[dtype], getattr(torch, INTEGERS[dtype])
    whole, fraction = _split(increments)
    added, start = ((part * unit).to(integer) for part in (fraction, to_grid(voltage)))
    total = torch.cumsum(added, time_axis, dtype=integer) + start.unsqueeze(time_axis)
    # This moves the lowest digits to the top, and all others out of the integer.
    top = (total * 2 ** (bits - DIGITS[dtype])).to(increments.dtype) * 2.0**-bits
    voltages = torch.where(top < 0.0, top + 1.0, top)
    return whole + (voltages < fraction).to(whole.dtype), voltages


def integrate_step_by_step(
    increments: Tensor, voltage: Tensor, time_axis: int = 1
) -> tuple[Tensor, Tensor]:
    """`integrate_and_fire` on a CPU, without derivatives, in spans of time that fit its cache."""
    steps = max(_CACHED * increments.shape[time_axis] // increments.numel(), 1)
    now, counts = to_grid(voltage), torch.empty_like(increments)
    spans = (sequence.split(steps, time_axis) for sequence in (increments, counts))
    for span, counted in zip(*spans, strict=True):
        low, high = torch.aminmax(span)
        # Mostly there are no whole spikes to split off.
        whole, raised = (0.0, _round(span)) if low >= 0.0 and high < 1.0 else _split(span)
        for step in raised.unbind(time_axis):
            # Exact: both terms are on the grid and below 1.
            now = step.add_(now).frac()
        torch.floor(raised, out=counted).add_(whole)
    return counts, now


def _name(tensor: Tensor) -> str:
    """The name of the type of floats that a tensor is computed in."""
    return "float64" if tensor.dtype == torch.float64 else "float32"


def _split(increments: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds to the grid: whole spikes, and a fraction in [0, 1), which is 0 for NaN."""
    most = MOST_IN_STEP[_name(increments)]
    rounded = _round(torch.clamp(increments, -most, most))
    whole = torch.floor(rounded)
    return whole, torch.nan_to_num(rounded - whole, 0.0)


def _round(increments: Tensor) -> Tensor:
    """Rounds to the grid."""
    unit = 2.0 ** DIGITS[_name(increments)]
    return torch.round(increments * unit) * (1.0 / unit)


def to_grid(voltage: Tensor) -> Tensor:
    """The fractional part of a voltage, rounded to the grid, in [0, 1)."""
    unit = 2.0 ** DIGITS[_name(voltage)]
    fraction = torch.round((voltage - torch.floor(voltage)) * unit)
    # NaN is not below.
    return torch.where(fraction < unit, fraction, unit - 1) * (1.0 / unit)


def straight_through(rates: Tensor, spikes: Tensor) -> Tensor:
    return spikes + (rates - rates.detach()).nan_to_num(0.0)


def accumulate_and_fire(
    rates: Tensor,
    state: Tensor,
    dt: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Tensor, Tensor]:
    state = tuple(part.detach() for part in state)
    options = time_axis, rectify, negative_spikes
    spikes, ends, active = accumulate(rates.detach(), state, dt, 1.0 / dt, *options)
    changes = rates
    if rectify:
        sums = active * torch.cumsum(rates, time_axis)
        changes = differences(sums, torch.zeros_like(state[0]), time_axis)
    return straight_through(changes, spikes), tuple(ends)


def accumulate(
    rates: Tensor,
    state: Tensor,
    dt: Tensor,
    height: Tensor,
    time_axis: int,
    rectify: bool,
    negative_spikes: bool,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Spikes, the final state, and the steps that the gradient passes, empty if it passes all."""
    floor, voltage, emitted, origin = state
    counts, voltages = integrate(rates * dt, voltage, time_axis)
    due = floors = sum_of_counts(counts, floor, time_axis)
    active = torch.empty(0, dtype=torch.bool, device=rates.device)
    if rectify:
        due = torch.clamp(floors, min=0.0)
        active = floors + voltages > origin.unsqueeze(time_axis)
    if not negative_spikes:
        due = running_max(due, emitted, time_axis)
    spikes = differences(due, emitted, time_axis) * height
    spikes = torch.where(torch.isnan(counts), torch.nan, spikes)
    pairs = (floors, floor), (voltages, to_grid(voltage)), (due, emitted)
    # Copies: parts of the sequences would keep all of them in memory.
    return spikes, [_last(*pair, time_axis).clone() for pair in pairs], active


def sum_of_counts(counts: Tensor, start: Tensor, time_axis: int = 1) -> Tensor:
    """`start` plus all steps up to this one, in whole numbers of at most `MOST_SPIKES`.

    NaN adds nothing.
    """
    added = bounded(torch.nan_to_num(counts, 0.0)).to(torch.int64)
    total = torch.cumsum(added, time_axis) + start.to(torch.int64).unsqueeze(time_axis)
    return bounded(total.to(start.dtype))


def bounded(counts: Tensor) -> Tensor:
    """Numbers of spikes, of at most `MOST_SPIKES`."""
    return torch.clamp(counts, -MOST_SPIKES, MOST_SPIKES)


def running_max(sequence: Tensor, start: Tensor, time_axis: int = 1) -> Tensor:
    """The largest of `start` and all steps up to this one."""
    return torch.cummax(torch.maximum(sequence, start.unsqueeze(time_axis)), time_axis).values


def differences(sequence: Tensor, start: Tensor, time_axis: int = 1) -> Tensor:
    """Each step minus the step before it; `start` is the step before the first."""
    return torch.diff(sequence, dim=time_axis, prepend=start.unsqueeze(time_axis))


def gradient_of_sums(upstream: Tensor, active: Tensor, time_axis: int = 1) -> Tensor:
    """A rate is in its sum and all later ones; spikes are a sum less the one before."""
    after = torch.zeros_like(upstream.narrow(time_axis, 0, 1))
    changes = torch.diff(upstream, dim=time_axis, append=after) * active
    return -torch.cumsum(changes.flip(time_axis), time_axis).flip(time_axis)


def recurrence(log_decay: Tensor, drive: Tensor, start: Tensor, time_axis: int) -> Tensor:
    """`h_t = exp(log_decay) * h_{t-1} + drive_t`, from `start`.

    Time is cut into blocks. Each starts from zero, and all of them step on together. Then the level
    at the end of one block is added to all steps of the next one, as far as it has decayed there.
    """
    length = drive.shape[time_axis]
    if not length:
        return drive
    within = time_axis + 1
    # Blocks without padding, if they are not too short, save a copy.
    sizes = range(_STEPS, _STEPS // 2, -1)
    size = next((size for size in sizes if length % size == 0), min(_STEPS, length))
    blocks = -(-length // size)
    missing = blocks * size - length
    if missing:
        padding = (*[0, 0] * (drive.dim() - within), 0, missing)
        drive = torch.nn.functional.pad(drive, padding)
    log_decay = log_decay.unsqueeze(time_axis)
    decay = torch.exp(log_decay)
    level, *steps = drive.unflatten(time_axis, (blocks, size)).unbind(within)
    levels = [level]
    for step in steps:
        levels.append(torch.addcmul(step, levels[-1], decay))
    ends = levels[-1].narrow(time_axis, 0, blocks - 1)
    edges = torch.cat([start.unsqueeze(time_axis), ends], time_axis)
    edges = _doubled(size * log_decay, edges, time_axis).unsqueeze(within)
    since = torch.arange(1, size + 1, dtype=drive.dtype, device=drive.device)
    since = since.view(-1, *[1] * (drive.dim() - within))
    decays = torch.exp(since * log_decay.unsqueeze(within))
    levels_over_time = torch.addcmul(torch.stack(levels, within), edges, decays)
    return levels_over_time.flatten(time_axis, within).narrow(time_axis, 0, length)


def _doubled(log_decay: Tensor, sequence: Tensor, time_axis: int) -> Tensor:
    """The same from zero, by doubling: after pass k, a step holds its last 2^k drives."""
    length = sequence.shape[time_axis]
    for step in (2**n for n in range((length - 1).bit_length())):
        edge = sequence.narrow(time_axis, 0, step)
        early = sequence.narrow(time_axis, 0, length - step)
        late = sequence.narrow(time_axis, step, length - step)
        late = late + torch.exp(step * log_decay) * early
        sequence = torch.cat([edge, late], time_axis)
    return sequence


def linear_filter(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> tuple[Tensor, ...]:
    return recurrences.linear_filter(torch, recurrence, filter_, inputs, initial, time_axis)
