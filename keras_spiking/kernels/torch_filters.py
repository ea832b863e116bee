"""Filters on PyTorch, and their derivatives of every order; see `torch.py`."""

from collections.abc import Sequence
from typing import Any

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels import recurrences, torch_numba, torch_plain
from keras_spiking.kernels.contract import Filter, FilterGradients, from_row, to_row


def linear_filter(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> tuple[Tensor, ...]:
    if torch_plain.transforms_are_active():
        return torch_plain.linear_filter(filter_, inputs, initial, time_axis)
    row = to_row(filter_, inputs, initial)
    if torch.compiler.is_compiling():
        return tuple(_compiled_filter(list(row), time_axis))
    return _LinearFilter.apply(time_axis, *row)


class _LinearFilter(torch_plain.ReverseOnly):
    @staticmethod
    def forward(ctx: Any, time_axis: int, *row: Tensor) -> tuple[Tensor, ...]:
        levels = _run(from_row(row), time_axis)
        ctx.save_for_backward(*row, *levels)
        ctx.time_axis, ctx.order = time_axis, len(levels)
        return levels

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        arguments, levels = from_row(saved[: -ctx.order]), saved[-ctx.order :]
        # `create_graph` needs gradients of these gradients, and `is_grads_batched` maps them.
        plain = torch.is_grad_enabled() or torch_plain.transforms_are_active()
        run = _plain_gradients if plain else filter_gradients
        return None, *to_row(*run(arguments, levels, upstream, ctx.time_axis))


def _run(arguments: FilterGradients, time_axis: int) -> tuple[Tensor, ...]:
    """The numbers of `linear_filter`, not differentiable."""
    if torch_numba.runs_on(arguments.inputs):
        return torch_numba.linear_filter(*arguments, time_axis)
    levels = torch_plain.linear_filter(*arguments, time_axis)
    # The same memory, but no views: users could not change those that such a function returns.
    return tuple(level.new_empty(0).set_(level) for level in levels)


def filter_gradients(
    arguments: FilterGradients,
    levels: Sequence[Tensor],
    upstream: Sequence[Tensor],
    time_axis: int,
) -> FilterGradients:
    runs = torch_numba.runs_on(arguments.inputs)
    run = torch_numba.filter_gradients if runs else _plain_gradients
    return run(arguments, levels, upstream, time_axis)


def _plain_gradients(
    arguments: FilterGradients,
    levels: Sequence[Tensor],
    upstream: Sequence[Tensor],
    time_axis: int,
) -> FilterGradients:
    """The gradients by plain operations and filters, which have gradients themselves."""
    sequences = levels, upstream
    return recurrences.filter_gradients(torch, _backwards, *arguments, *sequences, time_axis)


def _backwards(log_decay: Tensor, drive: Tensor, initial: Tensor, time_axis: int) -> Tensor:
    """A recurrence from the last step to the first."""
    one_level = Filter(log_decay, torch.zeros_like(log_decay), (torch.ones_like(log_decay),))
    (levels,) = linear_filter(one_level, drive.flip(time_axis), (initial,), time_axis)
    return levels.flip(time_axis)


@torch.library.custom_op("keras_spiking::linear_filter", mutates_args=())
def _compiled_filter(row: list[torch.Tensor], time_axis: int) -> list[torch.Tensor]:
    return [level.contiguous() for level in _run(from_row(row), time_axis)]


@_compiled_filter.register_fake
def _(row: list[Tensor], time_axis: int) -> list[Tensor]:
    arguments = from_row(row)
    return [arguments.inputs.new_empty(arguments.inputs.shape) for _ in arguments.initial]


@torch.library.custom_op("keras_spiking::linear_filter_gradients", mutates_args=())
def _compiled_gradients(
    row: list[torch.Tensor],
    levels: list[torch.Tensor],
    upstream: list[torch.Tensor],
    time_axis: int,
) -> list[torch.Tensor]:
    found = filter_gradients(from_row(row), levels, upstream, time_axis)
    return [gradient.contiguous() for gradient in to_row(*found)]


@_compiled_gradients.register_fake
def _(
    row: list[Tensor], levels: list[Tensor], upstream: list[Tensor], time_axis: int
) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in row]


def _save_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    row, ctx.time_axis = inputs
    ctx.order = len(output)
    ctx.save_for_backward(*row, *output)


def _backward(ctx: Any, upstream: list[Any]) -> tuple[Any, ...]:
    saved = list(ctx.saved_tensors)
    row, levels = saved[: -ctx.order], saved[-ctx.order :]
    upstream = [
        torch.zeros_like(level) if gradient is None else gradient
        for gradient, level in zip(upstream, levels, strict=True)
    ]
    return _compiled_gradients(row, levels, upstream, ctx.time_axis), None


_compiled_filter.register_autograd(_backward, setup_context=_save_for_gradients)
