"""The kernels on PyTorch: the portable sums, with gradients that need no sum through them."""

from typing import Any

import torch

from keras_spiking.kernels import portable

seeded_uniform = portable.seeded_uniform


def integrate_and_fire(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    return portable.integrate_and_fire(increments, voltage, time_axis, _cumsum)


def _cumsum(x: Any, axis: int) -> Any:
    # ops.cumsum makes int64 int32 on torch.
    return torch.cumsum(x, axis, dtype=x.dtype)


class _LinearRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, log_decay: Any, drive: Any, initial: Any, reverse: bool, time_axis: int
    ) -> Any:
        sequence = portable.linear_recurrence(log_decay, drive, initial, reverse, time_axis)
        ctx.save_for_backward(log_decay, sequence, initial)
        ctx.options = reverse, time_axis
        return sequence

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        log_decay, sequence, initial = ctx.saved_tensors
        reverse, time_axis = ctx.options
        gradients = portable.linear_recurrence_gradients(
            log_decay, sequence, initial, upstream, reverse, time_axis, linear_recurrence
        )
        return (*gradients, None, None)


def linear_recurrence(
    log_decay: Any, drive: Any, initial: Any, reverse: bool = False, time_axis: int = 1
) -> Any:
    return _LinearRecurrence.apply(log_decay, drive, initial, reverse, time_axis)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rates: Any, spikes: Any) -> Any:
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        return upstream, None


def straight_through(rates: Any, spikes: Any) -> Any:
    return _StraightThrough.apply(rates, spikes)
