"""The numbers of filters and of their gradients on PyTorch, span of time by span; see `torch.py`.

What is here works in place, and is not differentiable: `torch_filters.py` makes it so.
"""

import itertools
from typing import Any

import torch

from keras_spiking.kernels import native_is_chosen
from keras_spiking.kernels.torch_spans import Span, cut


def run_filter(
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


def filter_gradients(
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
