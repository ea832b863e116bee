"""Filters on PyTorch: whole-tensor operations on spans of time; see `torch.py`."""

import itertools
import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from keras_spiking.kernels import native_is_chosen
from keras_spiking.kernels.torch_spans import Span, cut


def linear_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int = 1
) -> tuple[Any, ...]:
    if torch.compiler.is_compiling():
        each = (log_decay, coupling, list(gains), inputs, list(initial))
        return tuple(_compiled_filter(*each, time_axis))
    return _LinearFilter.apply(time_axis, log_decay, coupling, inputs, *gains, *initial)


class _LinearFilter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, time_axis: int, log_decay: Any, coupling: Any, inputs: Any, *rest: Any
    ) -> tuple[Any, ...]:
        order = len(rest) // 2
        levels = _filter(log_decay, coupling, rest[:order], inputs, rest[order:], time_axis)
        ctx.save_for_backward(log_decay, coupling, inputs, *rest, *levels)
        ctx.time_axis = time_axis
        return levels

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        log_decay, coupling, inputs, *rest = ctx.saved_tensors
        order = len(rest) // 3
        gains, initial, levels = rest[:order], rest[order : 2 * order], rest[2 * order :]
        for_log_decay, for_coupling, for_gains, for_inputs, for_initial = _filter_gradients(
            log_decay, coupling, gains, inputs, initial, levels, upstream, ctx.time_axis
        )
        return (None, for_log_decay, for_coupling, for_inputs, *for_gains, *for_initial)


def _filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> tuple[Any, ...]:
    if not native_is_chosen(faster=True):
        from keras_spiking.kernels import portable  # imports Keras

        return portable.linear_filter(log_decay, coupling, gains, inputs, initial, time_axis)
    spans = cut(inputs, time_axis)
    recurrences = [_Recurrence(log_decay, start, spans, time_axis) for start in initial]
    levels = [torch.empty_like(inputs, memory_format=torch.contiguous_format) for _ in gains]
    for span in spans:
        before, edge = None, None
        for gain, recurrence, sequence in zip(gains, recurrences, levels, strict=True):
            level = span.of(sequence, time_axis)
            torch.mul(span.of(inputs, time_axis), gain.unsqueeze(time_axis), out=level)
            if before is not None:
                _add_shifted(level, coupling, before, edge, time_axis)
            edge = recurrence.edge
            recurrence.run(level, span)
            before = level
    return tuple(levels)


def _filter_gradients(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    levels: Any,
    upstream: Any,
    time_axis: int,
) -> tuple[Any, Any, Any, Any, Any]:
    """Gradients in all but the levels, with the adjoints of one span in memory at a time."""
    if not native_is_chosen(faster=True):
        from keras_spiking.kernels import portable  # imports Keras

        each = (log_decay, coupling, gains, inputs, initial, levels, upstream)
        return portable.linear_filter_gradients(*each, time_axis)
    spans = cut(inputs, time_axis)
    zeros = [torch.zeros_like(start) for start in initial]
    recurrences = [_Recurrence(log_decay, zero, spans, time_axis, reverse=True) for zero in zeros]
    for_inputs = torch.empty_like(inputs, memory_format=torch.contiguous_format)
    for_log_decay, for_coupling = torch.zeros_like(initial[0]), torch.zeros_like(initial[0])
    for_gains = [torch.zeros_like(start) for start in initial]
    # The same memory for all spans. What the inputs get holds the first level's adjoint until then.
    longest = spans[0].of(for_inputs, time_axis) if spans else for_inputs
    products, *buffers = [torch.empty_like(longest) for _ in gains]
    for span in reversed(spans):
        now, gradient = (span.of(each, time_axis) for each in (inputs, for_inputs))
        product, *held = (span.held_in(each, time_axis) for each in (products, *buffers))
        adjoints = [gradient, *held]
        later, edge = None, None
        for index in reversed(range(len(gains))):
            adjoint = adjoints[index].copy_(span.of(upstream[index], time_axis))
            if later is not None:
                _add_shifted(adjoint, coupling, later, edge, time_axis, reverse=True)
            edge = recurrences[index].edge
            recurrences[index].run(adjoint, span)
            for_gains[index] += torch.mul(adjoint, now, out=product).sum(time_axis)
            start = initial[index]
            if span.start:
                start = levels[index].select(time_axis, span.start - 1)
            level = span.of(levels[index], time_axis)
            _add_total_before(for_log_decay, adjoint, level, start, time_axis, product)
            if later is not None:
                _add_total_before(for_coupling, later, level, start, time_axis, product)
            later = adjoint
        gradient.mul_(gains[0].unsqueeze(time_axis))
        for adjoint, gain in zip(held, gains[1:], strict=True):
            gradient.addcmul_(adjoint, gain.unsqueeze(time_axis))

    decay = torch.exp(log_decay)
    for_initial = [decay * recurrence.edge for recurrence in recurrences]
    if len(gains) == 2:
        for_initial[0] += coupling * recurrences[1].edge
    return (
        decay * for_log_decay.sum(0, keepdim=True),
        for_coupling.sum(0, keepdim=True),
        [total.sum(0, keepdim=True) for total in for_gains],
        for_inputs,
        for_initial,
    )


class _Recurrence:
    """`h_t = exp(log_decay) * h_{t-1} + drive_t`, in reverse `h_{t+1}`, span after span.

    Within a block the recurrence starts from zero. The level at the block's edge is carried to the
    next one, and added with its decay to the steps within.
    """

    def __init__(
        self,
        log_decay: Any,
        initial: Any,
        spans: tuple[Span, ...],
        time_axis: int,
        reverse: bool = False,
    ):
        self.edge = initial
        self._decay = torch.exp(log_decay).unsqueeze(time_axis)
        self._time_axis = time_axis
        self._reverse = reverse
        self._is_one_block = len(spans) == 1 and spans[0].blocks == 1
        if self._is_one_block:
            return
        self._lost = torch.zeros_like(initial)
        self._log_decay = log_decay
        size = spans[0].size if spans else 0
        steps = torch.arange(1, size + 1, dtype=log_decay.dtype, device=log_decay.device)
        steps = steps.flip(0) if reverse else steps
        steps = steps.view(-1, *[1] * (log_decay.dim() - time_axis))
        self._decays = torch.exp(steps * log_decay.unsqueeze(time_axis).unsqueeze(time_axis))

    def run(self, drive: Any, span: Span) -> None:
        """Turns the drive of a span into the levels, in place."""
        axis, within = self._time_axis, self._time_axis + 1
        steps = span.steps(drive, axis)
        steps = steps[::-1] if self._reverse else steps
        if self._is_one_block:  # which can start from the level at its edge
            steps = (self.edge.unsqueeze(axis), *steps)
        for before, now in itertools.pairwise(steps):
            now.addcmul_(before, self._decay)
        if self._is_one_block:
            self.edge = steps[-1].select(axis, 0).clone()
            return

        leak = -torch.expm1(span.size * self._log_decay)
        ends = steps[-1].unbind(axis)
        edges = []
        for end in reversed(ends) if self._reverse else ends:
            edges.append(self.edge)
            # Kahan's sum (doi:10.1145/363707.363723): slow filters have many blocks to go.
            change = torch.addcmul(end, self.edge, leak, value=-1).add_(self._lost)
            self.edge = self.edge + change
            self._lost = change.sub_(self.edge - edges[-1])
        if self._reverse:
            edges.reverse()
        most = self._decays.shape[within]
        first = most - span.size if self._reverse else 0
        decays = self._decays.narrow(within, first, span.size)
        level = drive.unflatten(axis, (span.blocks, span.size))
        level.addcmul_(torch.stack(edges, axis).unsqueeze(within), decays)


def _add_shifted(
    drive: Any, factor: Any, levels: Any, edge: Any, time_axis: int, reverse: bool = False
) -> None:
    """Adds to each step `factor` times the level one step before (in reverse, after) it."""
    length = drive.shape[time_axis]
    to, source, end = (0, 1, length - 1) if reverse else (1, 0, 0)
    drive.narrow(time_axis, to, length - 1).addcmul_(
        levels.narrow(time_axis, source, length - 1), factor.unsqueeze(time_axis)
    )
    drive.select(time_axis, end).addcmul_(edge, factor)


def _add_total_before(
    total: Any, adjoint: Any, levels: Any, start: Any, time_axis: int, product: Any
) -> None:
    """Adds the products of the adjoint and the levels one step before, summed over time."""
    rest = adjoint.shape[time_axis] - 1
    later, earlier = adjoint.narrow(time_axis, 1, rest), levels.narrow(time_axis, 0, rest)
    total += torch.mul(later, earlier, out=product.narrow(time_axis, 0, rest)).sum(time_axis)
    total.addcmul_(adjoint.select(time_axis, 0), start)


def filter_end(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int = 1
) -> Any:
    if not native_is_chosen(faster=True):
        from keras_spiking.kernels import portable  # imports Keras

        return portable.filter_end(log_decay, coupling, gains, inputs, initial, time_axis)
    if torch.compiler.is_compiling():
        levels = linear_filter(log_decay, coupling, gains, inputs, initial, time_axis)
        return levels[-1].narrow(time_axis, -1, 1)
    first_and_last = gains[0], gains[-1], inputs, initial[0], initial[-1]
    return _FilterEnd.apply(len(gains), time_axis, log_decay, coupling, *first_and_last)


class _FilterEnd(torch.autograd.Function):
    """A weighted sum of the inputs, whose weights `portable.filter_ends` explains.

    What is there at the start is one step more, before the first.
    """

    @staticmethod
    def forward(
        ctx: Any,
        order: int,
        time_axis: int,
        log_decay: Any,
        coupling: Any,
        first_gain: Any,
        gain: Any,
        inputs: Any,
        first: Any,
        last: Any,
    ) -> Any:
        since = torch.arange(
            inputs.shape[time_axis], -1, -1, dtype=inputs.dtype, device=inputs.device
        )
        since = since.view(-1, *[1] * (log_decay.dim() - 1))
        weights = torch.exp(since * log_decay)
        at_start, by_steps = weights[:1], weights[1:] * gain
        end = at_start * last
        coupled = None
        if order == 2:
            coupled = since * torch.exp((since - 1).clamp_(min=0) * log_decay)
            end.addcmul_(first, coupling * coupled[:1])
            by_steps += coupling * first_gain * coupled[1:]
        end += (inputs * by_steps.unsqueeze(1 - time_axis)).sum(time_axis)
        ctx.order, ctx.time_axis = order, time_axis
        saved = (coupling, first_gain, gain, inputs, first, last, since, weights, coupled, by_steps)
        ctx.save_for_backward(*saved)
        return end.unsqueeze(time_axis)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
        coupling, first_gain, gain, inputs, first, last, *saved = ctx.saved_tensors
        since, weights, coupled, by_steps = saved
        # What each weight is multiplied by, in the sum over samples.
        by_input = (upstream * inputs).sum(1 - ctx.time_axis)
        upstream = upstream.squeeze(ctx.time_axis)
        by_last = (upstream * last).sum(0, keepdim=True)
        each = torch.cat([by_last, by_input * gain]) * weights
        for_log_decay = (each * since).sum(0, keepdim=True)
        for_gain = (by_input * weights[1:]).sum(0, keepdim=True)
        for_last = upstream * weights[:1]
        for_coupling = for_first_gain = for_first = None
        if ctx.order == 2:
            by_first = (upstream * first).sum(0, keepdim=True)
            each = torch.cat([by_first, by_input * first_gain]) * coupled
            for_coupling = each.sum(0, keepdim=True)
            for_log_decay += coupling * (each * (since - 1).clamp_(min=0)).sum(0, keepdim=True)
            for_first_gain = coupling * (by_input * coupled[1:]).sum(0, keepdim=True)
            for_first = upstream * (coupling * coupled[:1])
        for_inputs = (upstream.unsqueeze(ctx.time_axis)) * by_steps.unsqueeze(1 - ctx.time_axis)
        return (
            None,
            None,
            for_log_decay,
            for_coupling,
            for_first_gain,
            for_gain,
            for_inputs,
            for_first,
            for_last,
        )


def expm1(x: Any) -> Any:
    power = torch.exp(x)
    return torch.expm1(x.detach()) + (power - power.detach())


def alpha_gain(ratio: Any) -> Any:
    return _alpha_gain(ratio) if torch.compiler.is_compiling() else _AlphaGain.apply(ratio)


def _alpha_gain(ratio: Any) -> Any:
    # By its power series where the difference cancels.
    small = torch.where(ratio < 0.5, ratio, 0.0)
    series = torch.zeros_like(ratio)
    for power in range(16 if ratio.dtype == torch.float64 else 10, 1, -1):
        series = series * small + (-1) ** power * (power - 1) / math.factorial(power)
    direct = -expm1(-ratio) - ratio * torch.exp(-ratio)
    return torch.where(ratio < 0.5, series * small * small, direct)


class _AlphaGain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ratio: Any) -> Any:
        ctx.save_for_backward(ratio)
        return _alpha_gain(ratio)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        (ratio,) = ctx.saved_tensors
        return upstream * ratio * torch.exp(-ratio)


@torch.library.custom_op("keras_spiking::linear_filter", mutates_args=())
def _compiled_filter(
    log_decay: torch.Tensor,
    coupling: torch.Tensor,
    gains: list[torch.Tensor],
    inputs: torch.Tensor,
    initial: list[torch.Tensor],
    time_axis: int,
) -> list[torch.Tensor]:
    return list(_filter(log_decay, coupling, gains, inputs, initial, time_axis))


@_compiled_filter.register_fake
def _(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> list[Any]:
    return [inputs.new_empty(inputs.shape) for _ in gains]


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
    for_log_decay, for_coupling, for_gains, for_inputs, for_initial = _filter_gradients(
        *each, time_axis
    )
    return [for_log_decay, for_coupling, for_inputs, *for_gains, *for_initial]


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
