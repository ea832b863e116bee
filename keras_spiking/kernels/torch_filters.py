"""Filters on PyTorch, and their derivatives of every order; see `torch.py`."""

import math
from typing import Any

import torch

from keras_spiking.kernels import native_is_chosen, torch_numba, torch_plain


def linear_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int = 1
) -> tuple[Any, ...]:
    each = (log_decay, coupling, gains, inputs, initial, time_axis)
    if torch_plain.transforms_are_active():
        return torch_plain.linear_filter(*each)
    if torch.compiler.is_compiling():
        lists = (log_decay, coupling, list(gains), inputs, list(initial))
        return tuple(_compiled_filter(*lists, time_axis))
    return _LinearFilter.apply(time_axis, log_decay, coupling, inputs, *gains, *initial)


def run_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> tuple[Any, ...]:
    """The numbers of `linear_filter`, not differentiable."""
    each = (log_decay, coupling, gains, inputs, initial, time_axis)
    if torch_numba.runs_on(inputs):
        return torch_numba.linear_filter(*each)
    if native_is_chosen(faster=True):
        return torch_plain.linear_filter(*each)
    from keras_spiking.kernels import portable  # imports Keras

    return portable.linear_filter(*each)


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
    """Gradients in all but the levels."""
    each = (log_decay, coupling, gains, inputs, initial, levels, upstream, time_axis)
    if torch_numba.runs_on(inputs):
        return torch_numba.filter_gradients(*each)
    if native_is_chosen(faster=True):
        return _plain_gradients(*each)
    from keras_spiking.kernels import portable  # imports Keras

    return portable.linear_filter_gradients(*each)


class _LinearFilter(torch_plain.ReverseOnly):
    @staticmethod
    def forward(
        ctx: Any, time_axis: int, log_decay: Any, coupling: Any, inputs: Any, *rest: Any
    ) -> tuple[Any, ...]:
        order = len(rest) // 2
        levels = run_filter(log_decay, coupling, rest[:order], inputs, rest[order:], time_axis)
        ctx.save_for_backward(log_decay, coupling, inputs, *rest, *levels)
        ctx.time_axis = time_axis
        return levels

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        log_decay, coupling, inputs, *rest = ctx.saved_tensors
        order = len(rest) // 3
        gains, initial, levels = rest[:order], rest[order : 2 * order], rest[2 * order :]
        each = (log_decay, coupling, gains, inputs, initial, levels, upstream, ctx.time_axis)
        # By `create_graph` these gradients have gradients, too; or `is_grads_batched` maps them.
        plain = torch.is_grad_enabled() or torch_plain.transforms_are_active()
        gradients = _plain_gradients(*each) if plain else filter_gradients(*each)
        for_log_decay, for_coupling, for_gains, for_inputs, for_initial = gradients
        return (None, for_log_decay, for_coupling, for_inputs, *for_gains, *for_initial)


def _plain_gradients(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    levels: Any,
    upstream: Any,
    time_axis: int,
) -> tuple[Any, Any, Any, Any, Any]:
    """`filter_gradients` in plain, differentiable operations.

    The adjoint of a filter is a filter of one level, going back in time.
    """
    decay = torch.exp(log_decay)
    one, uncoupled = torch.ones_like(log_decay), torch.zeros_like(log_decay)
    zeros = torch.zeros_like(initial[0])
    length = inputs.shape[time_axis]

    def over_time(tensor: Any) -> Any:
        return tensor.unsqueeze(time_axis)

    def total(product: Any) -> Any:
        return product.sum(time_axis).sum(0, keepdim=True)

    for_log_decay, for_coupling, for_inputs = uncoupled, uncoupled, torch.zeros_like(inputs)
    for_gains, for_initial = [], []
    later = later_first = None
    for gain, start, level, drive in zip(
        *map(reversed, (gains, initial, levels, upstream)), strict=True
    ):
        if later is not None:
            after = torch.cat([later, over_time(zeros)], time_axis).narrow(time_axis, 1, length)
            drive = drive + over_time(coupling) * after
        backwards = drive.flip(time_axis)
        (adjoint,) = linear_filter(log_decay, uncoupled, (one,), backwards, (zeros,), time_axis)
        adjoint = adjoint.flip(time_axis)
        before = torch.cat([over_time(start), level], time_axis).narrow(time_axis, 0, length)
        first = adjoint.narrow(time_axis, 0, min(length, 1)).sum(time_axis)
        for_log_decay = for_log_decay + decay * total(adjoint * before)
        for_gains.append(total(adjoint * inputs))
        for_inputs = for_inputs + over_time(gain) * adjoint
        for_initial.append(decay * first)
        if later is not None:
            for_coupling = total(later * before)
            for_initial[-1] = for_initial[-1] + coupling * later_first
        later, later_first = adjoint, first
    return for_log_decay, for_coupling, for_gains[::-1], for_inputs, for_initial[::-1]


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
    each = (len(gains), time_axis, log_decay, coupling, *first_and_last)
    if torch_plain.transforms_are_active():
        return _filter_end(*each)[0]
    return _FilterEnd.apply(*each)


def _filter_end(
    order: int,
    time_axis: int,
    log_decay: Any,
    coupling: Any,
    first_gain: Any,
    gain: Any,
    inputs: Any,
    first: Any,
    last: Any,
) -> tuple[Any, tuple[Any, ...]]:
    """A weighted sum of the inputs, and the weights, which `portable.filter_ends` explains.

    What is there at the start is one step more, before the first.
    """
    steps = torch.arange(inputs.shape[time_axis], -1, -1, dtype=inputs.dtype, device=inputs.device)
    since = steps.view(-1, *[1] * (log_decay.dim() - 1))
    weights = torch.exp(since * log_decay)
    at_start, by_steps = weights[:1], weights[1:] * gain
    end = at_start * last
    coupled = None
    if order == 2:
        coupled = since * torch.exp((since - 1).clamp(min=0) * log_decay)
        end = torch.addcmul(end, first, coupling * coupled[:1])
        by_steps = by_steps + coupling * first_gain * coupled[1:]
    end = end + (inputs * by_steps.unsqueeze(1 - time_axis)).sum(time_axis)
    return end.unsqueeze(time_axis), (since, weights, coupled, by_steps)


class _FilterEnd(torch_plain.ReverseOnly):
    @staticmethod
    def forward(ctx: Any, order: int, time_axis: int, *tensors: Any) -> Any:
        end, weights = _filter_end(order, time_axis, *tensors)
        ctx.order, ctx.time_axis = order, time_axis
        ctx.save_for_backward(*tensors, *weights)
        return end

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        tensors, weights = saved[:7], saved[7:]
        if torch.is_grad_enabled():  # by `create_graph`: the weights have gradients, too
            _, weights = _filter_end(ctx.order, ctx.time_axis, *tensors)
        _, coupling, first_gain, gain, inputs, first, last = tensors
        since, weights, coupled, by_steps = weights
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
            each = (each * (since - 1).clamp(min=0)).sum(0, keepdim=True)
            for_log_decay = for_log_decay + coupling * each
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
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if recorded or torch_plain.transforms_are_active():
        return _alpha_gain(ratio)
    return _AlphaGain.apply(ratio)


def _alpha_gain(ratio: Any) -> Any:
    # By its power series where the difference cancels.
    small = torch.where(ratio < 0.5, ratio, 0.0)
    series = torch.zeros_like(ratio)
    for power in range(16 if ratio.dtype == torch.float64 else 10, 1, -1):
        series = series * small + (-1) ** power * (power - 1) / math.factorial(power)
    direct = -expm1(-ratio) - ratio * torch.exp(-ratio)
    return torch.where(ratio < 0.5, series * small * small, direct)


class _AlphaGain(torch_plain.ReverseOnly):
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
    levels = run_filter(log_decay, coupling, gains, inputs, initial, time_axis)
    return [level.contiguous() for level in levels]


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
    for_log_decay, for_coupling, for_gains, for_inputs, for_initial = filter_gradients(
        *each, time_axis
    )
    gradients = for_log_decay, for_coupling, for_inputs, *for_gains, *for_initial
    return [gradient.contiguous() for gradient in gradients]


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
    each = (log_decay, coupling, gains, inputs, initial, levels, upstream, ctx.time_axis)
    for_log_decay, for_coupling, for_inputs, *others = _compiled_filter_gradients(*each)
    return for_log_decay, for_coupling, others[:order], for_inputs, others[order:], None


_compiled_filter.register_autograd(_backward, setup_context=_save_for_gradients)
