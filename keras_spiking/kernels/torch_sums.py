"""Spikes of neurons that remember their sums, on PyTorch; see `torch.py`."""

from collections.abc import Sequence
from typing import Any

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels import torch_numba, torch_plain


def accumulate_and_fire(
    rates: Tensor,
    state: Sequence[Tensor],
    dt: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    scales = [
        torch.as_tensor(scale, dtype=rates.dtype, device=rates.device) for scale in (dt, 1.0 / dt)
    ]
    arguments = rates, [*state, *scales], time_axis, rectify, negative_spikes
    if torch_plain.transforms_are_active():
        return torch_plain.accumulate_and_fire(
            rates, state, dt, time_axis, rectify, negative_spikes
        )
    if torch.compiler.is_compiling():
        spikes, floor, voltage, emitted, _ = _compiled_accumulate(*arguments)
    else:
        spikes, floor, voltage, emitted = _AccumulateAndFire.apply(*arguments)
    return spikes, (floor, voltage, emitted)


class _AccumulateAndFire(torch_plain.ReverseOnly):
    @staticmethod
    def forward(
        ctx: Any,
        rates: Tensor,
        others: list[Tensor],
        time_axis: int,
        rectify: bool,
        negative_spikes: bool,
    ) -> tuple[Any, ...]:
        spikes, *final, active = _accumulate(rates, others, time_axis, rectify, negative_spikes)
        ctx.save_for_backward(active)
        ctx.time_axis, ctx.rectify = time_axis, rectify
        ctx.mark_non_differentiable(*final)
        ctx.set_materialize_grads(False)
        return (spikes, *final)

    @staticmethod
    def backward(ctx: Any, upstream: Any, *_: Any) -> tuple[Any, ...]:
        (active,) = ctx.saved_tensors
        if upstream is not None and ctx.rectify:
            # This gradient may need gradients itself, or be mapped: plain operations can.
            plain = torch.is_grad_enabled() or torch_plain.transforms_are_active()
            run = torch_plain.gradient_of_sums if plain else _gradient
            upstream = run(upstream, active, ctx.time_axis)
        return upstream, None, None, None, None


def _accumulate(
    rates: Tensor, others: list[Tensor], time_axis: int, rectify: bool, negative_spikes: bool
) -> tuple[Any, ...]:
    """Spikes, the final state, and the steps that the gradient passes, empty if it passes all."""
    *state, dt, height = others
    run = torch_numba.accumulate if torch_numba.runs_on(rates) else torch_plain.accumulate
    spikes, final, active = run(rates, state, dt, height, time_axis, rectify, negative_spikes)
    return spikes.contiguous(), *final, active.contiguous()


def _gradient(upstream: Any, active: Tensor, time_axis: int) -> Tensor:
    """A rate is in its sum and all later ones; spikes are a sum less the one before."""
    if not upstream.numel():
        return upstream.clone()
    runs = torch_numba.runs_on(upstream)
    run = torch_numba.gradient_of_sums if runs else torch_plain.gradient_of_sums
    return run(upstream, active, time_axis).contiguous()


@torch.library.custom_op("keras_spiking::accumulate_and_fire", mutates_args=())
def _compiled_accumulate(
    rates: torch.Tensor,
    others: list[torch.Tensor],
    time_axis: int,
    rectify: bool,
    negative_spikes: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    found = _accumulate(rates, others, time_axis, rectify, negative_spikes)
    spikes, floor, voltage, emitted, active = found
    return spikes, floor, voltage, emitted, active


@_compiled_accumulate.register_fake
def _(
    rates: Tensor, others: list[Tensor], time_axis: int, rectify: bool, negative_spikes: bool
) -> tuple[Any, ...]:
    shape = list(rates.shape)
    del shape[time_axis]
    active = rates.new_empty(rates.shape if rectify else (0,), dtype=torch.bool)
    return rates.new_empty(rates.shape), *(rates.new_empty(shape) for _ in range(3)), active


@torch.library.custom_op("keras_spiking::gradient_of_sum", mutates_args=())
def _compiled_gradient(
    upstream: torch.Tensor, active: torch.Tensor, time_axis: int
) -> torch.Tensor:
    return _gradient(upstream, active, time_axis)


@_compiled_gradient.register_fake
def _(upstream: Any, active: Tensor, time_axis: int) -> Tensor:
    return upstream.new_empty(upstream.shape)


def _save_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    _, others, ctx.time_axis, ctx.rectify, _ = inputs
    ctx.of_others = [None] * len(others)
    ctx.save_for_backward(output[-1])


def _backward(ctx: Any, upstream: Any, *_: Any) -> tuple[Any, ...]:
    (active,) = ctx.saved_tensors
    if upstream is not None and ctx.rectify:
        upstream = _compiled_gradient(upstream, active, ctx.time_axis)
    return upstream, ctx.of_others, None, None, None


_compiled_accumulate.register_autograd(_backward, setup_context=_save_for_gradients)
