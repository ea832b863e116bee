"""The last step of a filtered sequence on PyTorch: a weighted sum of the inputs; see `torch.py`."""

from collections.abc import Sequence
from typing import Any

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels import torch_plain
from keras_spiking.kernels.contract import Filter
from keras_spiking.kernels.torch_filters import linear_filter


def filter_end(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> Tensor:
    if torch.compiler.is_compiling():
        return linear_filter(filter_, inputs, initial, time_axis)[-1].narrow(time_axis, -1, 1)
    log_decay, coupling, gains = filter_
    tensors = log_decay, coupling, gains[0], gains[-1], inputs, initial[0], initial[-1]
    if torch.jit.is_tracing() or torch_plain.transforms_are_active():
        return _weighted_sum(len(gains), time_axis, *tensors)[0]
    return _FilterEnd.apply(len(gains), time_axis, *tensors)


def _weighted_sum(
    order: int,
    time_axis: int,
    log_decay: Tensor,
    coupling: Tensor,
    first_gain: Tensor,
    gain: Tensor,
    inputs: Tensor,
    first: Tensor,
    last: Tensor,
) -> tuple[Tensor, tuple[Any, ...]]:
    """The weighted sum, and the weights, which `portable.filter_ends` explains.

    The level at the start counts as one more input, before the first one.
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
    def forward(ctx: Any, order: int, time_axis: int, *tensors: Tensor) -> Tensor:
        end, weights = _weighted_sum(order, time_axis, *tensors)
        ctx.order, ctx.time_axis = order, time_axis
        ctx.save_for_backward(*tensors, *weights)
        return end

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        tensors, weights = saved[:7], saved[7:]
        if torch.is_grad_enabled():  # with `create_graph`, the weights need gradients
            _, weights = _weighted_sum(ctx.order, ctx.time_axis, *tensors)
        _, coupling, first_gain, gain, inputs, first, last = tensors
        since, weights, coupled, by_steps = weights
        # The gradients in the weights, summed over samples.
        by_input = (upstream * inputs).sum(1 - ctx.time_axis)
        upstream = upstream.squeeze(ctx.time_axis)
        by_last = (upstream * last).sum(0, keepdim=True)
        by_weight = torch.cat([by_last, by_input * gain]) * weights
        grad_log_decay = (by_weight * since).sum(0, keepdim=True)
        grad_gain = (by_input * weights[1:]).sum(0, keepdim=True)
        grad_last = upstream * weights[:1]
        grad_coupling = grad_first_gain = grad_first = None
        if ctx.order == 2:
            by_first = (upstream * first).sum(0, keepdim=True)
            by_weight = torch.cat([by_first, by_input * first_gain]) * coupled
            grad_coupling = by_weight.sum(0, keepdim=True)
            by_decay = (by_weight * (since - 1).clamp(min=0)).sum(0, keepdim=True)
            grad_log_decay = grad_log_decay + coupling * by_decay
            grad_first_gain = coupling * (by_input * coupled[1:]).sum(0, keepdim=True)
            grad_first = upstream * (coupling * coupled[:1])
        grad_inputs = (upstream.unsqueeze(ctx.time_axis)) * by_steps.unsqueeze(1 - ctx.time_axis)
        gradients = grad_log_decay, grad_coupling, grad_first_gain, grad_gain, grad_inputs
        return None, None, *gradients, grad_first, grad_last
