"""The kernels on PyTorch as plain operations, which `torch.func` transforms in every way.

It would refuse the functions with gradients of their own that run otherwise, or ask of each of
them what makes every call slower by a third. The tracer for ONNX needs plain operations, too.
"""

from typing import Any

import torch

from keras_spiking.kernels import LARGEST

# As in `running.py`, which imports Keras.
MOST_SPIKES = 2.0**24
# Of a block, so few that rounding does not add up.
_STEPS = 32
# Elements of a span, by measurement.
_CACHED = 2**18

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
    return counts, _last(voltages, to_grid(voltage), time_axis)


def _last(sequence: Any, start: Any, time_axis: int) -> Any:
    """The last step of a sequence that goes on from `start`; that, if there is no step."""
    # What is traced may know no length.
    if not torch.jit.is_tracing() and not sequence.shape[time_axis]:
        return start
    return sequence.select(time_axis, -1)


def integrate(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    digits, integer = _grid(increments)
    unit = 2.0**digits
    start = (to_grid(voltage) * unit).to(integer)
    whole, rest = _split(increments)
    added = rest.to(integer)
    total = torch.cumsum(added, time_axis, dtype=integer) + start.unsqueeze(time_axis)
    voltages = torch.bitwise_and(total, torch.full_like(total, 2**digits - 1))
    counts = whole + (voltages < added).to(whole.dtype)
    return counts, voltages.to(whole.dtype) * (1.0 / unit)


def _split(increments: Any) -> tuple[Any, Any]:
    """Rounded to the grid: whole spikes, and the rest in units of the grid, none if undefined."""
    digits, _ = _grid(increments)
    unit, largest = 2.0**digits, LARGEST[digits]
    rounded = torch.round(torch.clamp(increments * unit, -largest, largest))
    whole = torch.floor(rounded * (1.0 / unit))
    return whole, torch.nan_to_num(rounded - whole * unit, 0.0)


def integrate_step_by_step(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    """`integrate_and_fire` on a CPU, without derivatives, in spans of time that fit its cache."""
    steps = max(_CACHED * increments.shape[time_axis] // increments.numel(), 1)
    grid = 2.0 ** -_grid(increments)[0]
    now = to_grid(voltage)
    parts = []
    for span in increments.split(steps, time_axis):
        counts, rest = _split(span)
        rest.mul_(grid)
        for count, step in zip(counts.unbind(time_axis), rest.unbind(time_axis), strict=True):
            # Exact: neither term reaches 1, and both are on the grid.
            carry = step.add_(now).floor()
            count.add_(carry)
            now = step.sub_(carry)
        parts.append(counts)
    return torch.cat(parts, time_axis), now.clone()


def _grid(tensor: Any) -> tuple[int, Any]:
    """The voltage's binary digits, and the integers that hold them."""
    return (52, torch.int64) if tensor.dtype == torch.float64 else (23, torch.int32)


def to_grid(voltage: Any) -> Any:
    """The fractional part of a voltage, rounded to the grid, in [0, 1)."""
    unit = 2.0 ** _grid(voltage)[0]
    fraction = torch.round((voltage - torch.floor(voltage)) * unit)
    # Not a number is not below.
    return torch.where(fraction < unit, fraction, unit - 1) * (1.0 / unit)


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
    state = tuple(each.detach() for each in state)
    options = time_axis, rectify, negative_spikes
    spikes, ends, active = accumulate(rates.detach(), state, dt, 1.0 / dt, *options)
    changes = rates
    if rectify:
        sums = active * torch.cumsum(rates, time_axis)
        changes = differences(sums, torch.zeros_like(state[0]), time_axis)
    return straight_through(changes, spikes), tuple(ends)


def accumulate(
    rates: Any,
    state: Any,
    dt: Any,
    height: Any,
    time_axis: int,
    rectify: bool,
    negative_spikes: bool,
) -> tuple[Any, list[Any], Any]:
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
    each = (floors, floor), (voltages, to_grid(voltage)), (due, emitted)
    # Copies: parts of the sequences would keep all of them in memory.
    return spikes, [_last(*pair, time_axis).clone() for pair in each], active


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


def recurrence(log_decay: Any, drive: Any, start: Any, time_axis: int) -> Any:
    """`h_t = exp(log_decay) * h_{t-1} + drive_t`, from `start`.

    Within a block, of all blocks at once, step follows step from zero. The level at a block's edge
    is added with its decay.
    """
    length = drive.shape[time_axis]
    if not length:
        return drive
    blocks = -(-length // _STEPS)
    size = -(-length // blocks)
    within = time_axis + 1
    padding = (*[0, 0] * (drive.dim() - within), 0, blocks * size - length)
    padded = torch.nn.functional.pad(drive, padding)
    log_decay = log_decay.unsqueeze(time_axis)
    decay = torch.exp(log_decay)
    level, *steps = padded.unflatten(time_axis, (blocks, size)).unbind(within)
    levels = [level]
    for step in steps:
        levels.append(torch.addcmul(step, levels[-1], decay))
    ends = levels[-1].narrow(time_axis, 0, blocks - 1)
    edges = torch.cat([start.unsqueeze(time_axis), ends], time_axis)
    edges = _doubled(size * log_decay, edges, time_axis).unsqueeze(within)
    since = torch.arange(1, size + 1, dtype=drive.dtype, device=drive.device)
    since = since.view(-1, *[1] * (drive.dim() - within))
    decays = torch.exp(since * log_decay.unsqueeze(within))
    from_zero, carried = (
        each.flatten(time_axis, within).narrow(time_axis, 0, length)
        for each in (torch.stack(levels, within), edges * decays)
    )
    return from_zero + carried


def _doubled(log_decay: Any, sequence: Any, time_axis: int) -> Any:
    """The same from zero: after pass k every step holds the sum of its last 2^k drives."""
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
    for gain, start in zip(gains, initial, strict=True):
        drive = inputs * gain.unsqueeze(time_axis)
        if levels:
            before = torch.cat([initial[0].unsqueeze(time_axis), levels[0]], time_axis)
            before = before.narrow(time_axis, 0, inputs.shape[time_axis])
            drive = drive + coupling.unsqueeze(time_axis) * before
        levels.append(recurrence(log_decay, drive, start, time_axis))
    return tuple(levels)
