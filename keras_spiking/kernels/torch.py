"""The kernels on PyTorch: whole-tensor operations, in blocks of time where they must follow.

Nothing is compiled here, so each operation costs its launch and its memory: few of them, in place.
This module does not import Keras.
"""

import itertools
import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def seeded_uniform(shape: Any, seed: int, dtype: str) -> Any:
    from keras_spiking.kernels import portable

    return portable.seeded_uniform(shape, seed, dtype)


@torch.no_grad()
def integrate_and_fire(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    double = increments.dtype == torch.float64
    digits, integer = (52, torch.int64) if double else (23, torch.int32)
    unit = 2.0**digits
    rounded = (increments * unit).round_()
    counts = (rounded / unit).floor_()
    # Not a number only where the increment is not finite: that leaves the voltage as it was.
    added = rounded.sub_(counts, alpha=unit).nan_to_num_(0.0).to(integer)
    start = ((voltage - voltage.floor()) * unit).round_().clamp_(max=unit - 1).to(integer)

    # The sum may wrap around: its low digits, the voltage, are right all the same.
    voltages = torch.cumsum(added, time_axis, dtype=integer).add_(start.unsqueeze(time_axis))
    voltages = voltages.bitwise_and_(2**digits - 1)
    # A step's fraction has carried into a spike if the voltage fell below what was added.
    counts += voltages < added
    return counts, voltages.select(time_axis, -1).to(counts.dtype) / unit


def linear_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int = 1
) -> tuple[Any, ...]:
    if torch.compiler.is_compiling():
        each = (log_decay, coupling, list(gains), inputs, list(initial))
        return tuple(_compiled_filter(*each, time_axis))
    return _LinearFilter.apply(time_axis, log_decay, coupling, inputs, *gains, *initial)


def _filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> list[Any]:
    levels: list[Any] = []
    for gain, start in zip(gains, initial, strict=True):
        drive = inputs * gain.unsqueeze(time_axis)
        if levels:
            _add_shifted(drive, coupling, levels[-1], initial[len(levels) - 1], time_axis)
        levels.append(_recur(log_decay, drive, start, time_axis))
    return levels


def _filter_gradients(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    levels: Any,
    upstream: Any,
    axis: int,
) -> list[Any]:
    """The gradients of `log_decay`, `coupling`, `inputs`, each gain and each initial level."""
    order = len(gains)
    decay = torch.exp(log_decay)
    for_log_decay, for_coupling = torch.zeros_like(decay), torch.zeros_like(decay)
    for_inputs = None
    for_gains: list[Any] = [None] * order
    for_initial: list[Any] = [None] * order
    later: Any = None
    for index in reversed(range(order)):
        drive, end = upstream[index].clone(), torch.zeros_like(initial[index])
        if later is not None:
            _add_shifted(drive, coupling, later, end, axis, reverse=True)
        adjoint = _recur(log_decay, drive, end, axis, reverse=True)
        for_gains[index] = _total(adjoint, inputs, axis)
        for_log_decay += decay * _total_before(adjoint, levels[index], initial[index], axis)
        for_initial[index] = decay * adjoint.select(axis, 0)
        if later is not None:
            for_coupling = _total_before(later, levels[index], initial[index], axis)
            for_initial[index] += coupling * later.select(axis, 0)
        gain = gains[index].unsqueeze(axis)
        if for_inputs is None:
            for_inputs = adjoint * gain
        else:
            for_inputs.addcmul_(adjoint, gain)
        later = adjoint
    return [for_log_decay, for_coupling, for_inputs, *for_gains, *for_initial]


class _LinearFilter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, time_axis: int, log_decay: Any, coupling: Any, inputs: Any, *rest: Any
    ) -> tuple[Any, ...]:
        order = len(rest) // 2
        levels = _filter(log_decay, coupling, rest[:order], inputs, rest[order:], time_axis)
        ctx.save_for_backward(log_decay, coupling, inputs, *rest, *levels)
        ctx.time_axis = time_axis
        return tuple(levels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        log_decay, coupling, inputs, *rest = ctx.saved_tensors
        order = len(rest) // 3
        gains, initial, levels = rest[:order], rest[order : 2 * order], rest[2 * order :]
        each = (log_decay, coupling, gains, inputs, initial, levels, upstream)
        return (None, *_filter_gradients(*each, ctx.time_axis))


# What `torch.compile` and `torch.export` see: one operation each way, whatever the number of steps,
# instead of the loops below, which would make another program for every length of time.


@torch.library.custom_op("keras_spiking::linear_filter", mutates_args=())
def _compiled_filter(
    log_decay: torch.Tensor,
    coupling: torch.Tensor,
    gains: list[torch.Tensor],
    inputs: torch.Tensor,
    initial: list[torch.Tensor],
    time_axis: int,
) -> list[torch.Tensor]:
    levels = _filter(log_decay, coupling, gains, inputs, initial, time_axis)
    return [level.contiguous() for level in levels]


@torch.library.custom_op("keras_spiking::linear_filter_gradients", mutates_args=())
def _compiled_filter_gradients(
    log_decay: torch.Tensor,
    coupling: torch.Tensor,
    gains: list[torch.Tensor],
    inputs: torch.Tensor,
    initial: list[torch.Tensor],
    levels: list[torch.Tensor],
    upstream: list[torch.Tensor],
    time_axis: int,
) -> list[torch.Tensor]:
    each = (log_decay, coupling, gains, inputs, initial, levels, upstream)
    return [gradient.contiguous() for gradient in _filter_gradients(*each, time_axis)]


@_compiled_filter.register_fake
def _(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> list[Any]:
    return [inputs.new_empty(inputs.shape) for _ in gains]


@_compiled_filter_gradients.register_fake
def _(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    levels: Any,
    upstream: Any,
    time_axis: int,
) -> list[Any]:
    each = (log_decay, coupling, inputs, *gains, *initial)
    return [tensor.new_empty(tensor.shape) for tensor in each]


def _save_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: list[Any]) -> None:
    log_decay, coupling, gains, sequence, initial, ctx.time_axis = inputs
    ctx.order = len(gains)
    ctx.save_for_backward(log_decay, coupling, sequence, *gains, *initial, *output)


def _backward(ctx: Any, upstream: list[Any]) -> tuple[Any, ...]:
    log_decay, coupling, inputs, *rest = ctx.saved_tensors
    order = ctx.order
    gains, initial, levels = rest[:order], rest[order : 2 * order], rest[2 * order :]
    upstream = [
        torch.zeros_like(level) if each is None else each
        for each, level in zip(upstream, levels, strict=True)
    ]
    saved = (log_decay, coupling, gains, inputs, initial, levels)
    for_log_decay, for_coupling, for_inputs, *others = _compiled_filter_gradients(
        *saved, upstream, ctx.time_axis
    )
    return for_log_decay, for_coupling, others[:order], for_inputs, others[order:], None


_compiled_filter.register_autograd(_backward, setup_context=_save_for_gradients)


def _recur(log_decay: Any, drive: Any, initial: Any, time_axis: int, reverse: bool = False) -> Any:
    """`h_t = exp(log_decay) * h_{t-1} + drive_t`, in reverse `h_{t+1}`; may overwrite `drive`.

    Blocks of about sqrt(T) steps, at most 32, are stepped through side by side, each from zero;
    then the level at each block's edge is carried to the next, and added with its decay to the
    steps within.
    """
    length = drive.shape[time_axis]
    size = length if length <= 16 else min(math.isqrt(length - 1) + 1, 32)
    blocks = -(-length // max(size, 1))
    missing = blocks * size - length
    if missing:
        shape = list(drive.shape)
        shape[time_axis] = missing
        padding = drive.new_zeros(shape)
        drive = torch.cat([padding, drive] if reverse else [drive, padding], time_axis)
    level = drive.unflatten(time_axis, (blocks, size)) if length else drive
    within = time_axis + 1
    decay = torch.exp(log_decay).unsqueeze(time_axis)

    order = range(size - 1, -1, -1) if reverse else range(size)
    for before, now in itertools.pairwise(order):
        level.select(within, now).addcmul_(level.select(within, before), decay)

    if length:
        leak = -torch.expm1(size * log_decay)
        edges, lost = [initial], torch.zeros_like(initial)
        block_order = range(blocks - 1, -1, -1) if reverse else range(blocks)
        for block in block_order[:-1]:
            end = level.select(within, order[-1]).select(time_axis, block)
            # Kahan's sum (doi:10.1145/363707.363723): slow filters have many blocks to go.
            change = torch.addcmul(end, edges[-1], leak, value=-1).add_(lost)
            edges.append(edges[-1] + change)
            lost = change.sub_(edges[-1] - edges[-2])
        if reverse:
            edges.reverse()
        steps = torch.arange(1, size + 1, dtype=drive.dtype, device=drive.device)
        steps = (steps.flip(0) if reverse else steps).view(-1, *[1] * (drive.dim() - within))
        decays = torch.exp(steps * log_decay.unsqueeze(time_axis).unsqueeze(within))
        level.addcmul_(torch.stack(edges, time_axis).unsqueeze(within), decays)
        level = level.flatten(time_axis, within)
    return level.narrow(time_axis, missing if reverse else 0, length)


def _add_shifted(
    drive: Any, factor: Any, levels: Any, edge: Any, time_axis: int, reverse: bool = False
) -> None:
    """Adds to each step `factor` times the level one step before (in reverse, after) it."""
    length = drive.shape[time_axis]
    if length == 0:
        return
    to, source, end = (0, 1, length - 1) if reverse else (1, 0, 0)
    drive.narrow(time_axis, to, length - 1).addcmul_(
        levels.narrow(time_axis, source, length - 1), factor.unsqueeze(time_axis)
    )
    drive.select(time_axis, end).addcmul_(edge, factor)


def _total(left: Any, right: Any, time_axis: int) -> Any:
    """The products summed over batch and time: (1, ...)."""
    return (left * right).sum(time_axis).sum(0, keepdim=True)


def _total_before(adjoint: Any, levels: Any, initial: Any, time_axis: int) -> Any:
    """The same with the levels one step before."""
    length = adjoint.shape[time_axis]
    if length == 0:
        return torch.zeros_like(initial[:1])
    later = adjoint.narrow(time_axis, 1, length - 1)
    first = (adjoint.select(time_axis, 0) * initial).sum(0, keepdim=True)
    return first + _total(later, levels.narrow(time_axis, 0, length - 1), time_axis)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rates: Any, spikes: Any) -> Any:
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        return upstream, None


def straight_through(rates: Any, spikes: Any) -> Any:
    if torch.compiler.is_compiling():  # or exporting, which would lose the function's gradient
        return spikes + (rates - rates.detach()).nan_to_num(0.0)
    return _StraightThrough.apply(rates, spikes)
