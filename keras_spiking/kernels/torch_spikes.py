"""Spikes on PyTorch; see `torch.py`."""

from collections.abc import Sequence
from typing import Any

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels import setting, torch_numba, torch_plain
from keras_spiking.kernels.constants import DIGITS

# Elements in a step. By measurement, one sum over time is faster if there are fewer.
_ELEMENTS_WORTH_A_CALL = 2**11


def uniform(shape: Sequence[int], seed: Any, dtype: str) -> Tensor:
    import keras

    unit = 2.0 ** DIGITS[dtype]
    state = None if isinstance(seed, int) else seed.state.value
    if state is None or state.device.type == "meta" or torch.compiler.is_compiling():
        drawn = keras.random.uniform(shape, dtype=dtype, seed=seed)
    else:
        # The same numbers in a third of the time. The rest of a layer may take less than that.
        first, second = state.tolist()
        state = state.detach().clone()
        state[1] += 1
        seed.state.assign(state)
        generator = torch.Generator(state.device).manual_seed(first + second & 0xFFFFFFFF)
        dtype = getattr(torch, dtype)
        drawn = torch.rand(shape, generator=generator, dtype=dtype, device=state.device)
    # Down to the grid of voltages, so that none is rounded up to 1.
    return drawn.mul_(unit).floor_().mul_(1.0 / unit)


def integrate_and_fire(
    increments: Tensor, voltage: Tensor, time_axis: int = 1
) -> tuple[Tensor, Tensor]:
    if torch.compiler.is_compiling():
        return _compiled_integrate_and_fire(increments.detach(), voltage.detach(), time_axis)
    if torch_plain.transforms_are_active():
        return torch_plain.integrate_and_fire(increments.detach(), voltage.detach(), time_axis)
    with torch.no_grad():
        return _integrate_and_fire(increments, voltage, time_axis)


def integrate(increments: Tensor, voltage: Tensor, time_axis: int = 1) -> tuple[Tensor, Tensor]:
    increments, voltage = increments.detach(), voltage.detach()
    compiling = torch.compiler.is_compiling()
    runs = not compiling and torch_numba.runs_on(increments)
    return (torch_numba if runs else torch_plain).integrate(increments, voltage, time_axis)


def spike(
    rates: Tensor,
    voltage: Tensor,
    dt: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    return spike_by_channel(rates, voltage, dt, 1.0 / dt, time_axis, rectify)


def spike_by_channel(
    rates: Tensor,
    voltage: Tensor,
    seconds: Tensor,
    heights: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    if not _must_be_plain():
        return _Spike.apply(rates, voltage, seconds, heights, time_axis, rectify)
    rates = torch.relu(rates) if rectify else rates
    counts, final = integrate_and_fire(rates.to(voltage.dtype) * seconds, voltage, time_axis)
    return straight_through(rates, to_dtype(counts * heights, rates.dtype)), final


def _must_be_plain() -> bool:
    """Whether PyTorch would refuse a function with its own gradient, or export it without."""
    return torch.compiler.is_compiling() or torch_plain.transforms_are_active()


class _Spike(torch_plain.ReverseOnly):
    # Not `setup_context`: with it, each call takes a third longer.
    @staticmethod
    def forward(
        ctx: Any,
        rates: Tensor,
        voltage: Tensor,
        dt: Tensor,
        height: Tensor,
        time_axis: int,
        rectify: bool,
    ) -> tuple[Tensor, Tensor]:
        if rectify:
            ctx.save_for_backward(rates)
        wide = rates.to(voltage.dtype)
        spikes, final = _integrate_and_fire(wide, voltage, time_axis, dt, height, rectify)
        ctx.mark_non_differentiable(final)
        ctx.set_materialize_grads(False)
        return to_dtype(spikes, rates.dtype), final

    @staticmethod
    def backward(ctx: Any, upstream: Any, _: Any) -> tuple[Any, ...]:
        # Read once: a checkpoint lets each saved tensor be unpacked only once.
        saved = ctx.saved_tensors
        if saved:
            (rates,) = saved
            upstream = torch.ops.aten.threshold_backward(upstream, rates, 0)
        return upstream, None, None, None, None, None


def to_dtype(tensor: Tensor, dtype: Any) -> Tensor:
    """The tensor in a type. What float16 cannot hold becomes its largest number."""
    if dtype == torch.float16 and tensor.dtype != dtype:
        largest = torch.finfo(dtype).max
        tensor = tensor.clamp(-largest, largest)
    return tensor.to(dtype)


def _integrate_and_fire(
    increments: Tensor,
    voltage: Tensor,
    time_axis: int,
    dt: Tensor = 1.0,
    height: Tensor = 1.0,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    """Spikes of `height` for increments in units of `dt`, and the final voltage."""
    if torch_numba.runs_on(increments):
        return torch_numba.fire(increments, voltage, dt, height, rectify, time_axis)
    increments = (torch.relu(increments) if rectify else increments) * dt
    many = increments.numel() >= _ELEMENTS_WORTH_A_CALL * max(increments.shape[time_axis], 1)
    by_step = many and increments.device.type == "cpu" and setting.name != "portable"
    run = torch_plain.integrate_step_by_step if by_step else torch_plain.integrate_and_fire
    counts, final = run(increments, voltage, time_axis)
    return counts * height, final


class _StraightThrough(torch_plain.ReverseOnly):
    @staticmethod
    def forward(ctx: Any, rates: Tensor, spikes: Tensor) -> Tensor:
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream, None


def straight_through(rates: Tensor, spikes: Tensor) -> Tensor:
    if _must_be_plain():
        return torch_plain.straight_through(rates, spikes)
    return _StraightThrough.apply(rates, spikes)


@torch.library.custom_op("keras_spiking::integrate_and_fire", mutates_args=())
def _compiled_integrate_and_fire(
    increments: torch.Tensor, voltage: torch.Tensor, time_axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    counts, final = _integrate_and_fire(increments, voltage, time_axis)
    # Copies of their own, with the strides that the fake kernel promises.
    return counts.contiguous(), final.clone(memory_format=torch.contiguous_format)


@_compiled_integrate_and_fire.register_fake
def _(increments: Tensor, voltage: Tensor, time_axis: int) -> tuple[Tensor, Tensor]:
    shape = list(increments.shape)
    del shape[time_axis]
    return increments.new_empty(increments.shape), increments.new_empty(shape)
