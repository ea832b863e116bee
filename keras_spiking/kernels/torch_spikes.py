"""Spikes on PyTorch; see `torch.py`."""

from typing import Any

import torch

from keras_spiking.kernels import native_is_chosen, torch_numba, torch_plain

# In a step, by measurement: with fewer, one sum over time is faster.
_ELEMENTS_WORTH_A_CALL = 2**11


def uniform(shape: Any, seed: Any, dtype: str) -> Any:
    import keras

    unit = 2.0**52 if dtype == "float64" else 2.0**23
    state = None if isinstance(seed, int) else seed.state.value
    if state is None or state.device.type == "meta" or torch.compiler.is_compiling():
        drawn = keras.random.uniform(shape, dtype=dtype, seed=seed)
    else:
        # The same numbers in a third of the time, which is that of many a layer.
        first, second = state.tolist()
        state = state.detach().clone()
        state[1] += 1
        seed.state.assign(state)
        generator = torch.Generator(state.device).manual_seed(first + second & 0xFFFFFFFF)
        dtype = getattr(torch, dtype)
        drawn = torch.rand(shape, generator=generator, dtype=dtype, device=state.device)
    # Down to the grid of voltages, so that none is rounded up to 1.
    return drawn.mul_(unit).floor_().mul_(1.0 / unit)


def integrate_and_fire(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    if torch.compiler.is_compiling():
        return _compiled_integrate_and_fire(increments.detach(), voltage.detach(), time_axis)
    if torch_plain.transforms_are_active():
        return torch_plain.integrate_and_fire(increments.detach(), voltage.detach(), time_axis)
    with torch.no_grad():
        return _integrate_and_fire(increments, voltage, time_axis)


def integrate(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    increments, voltage = increments.detach(), voltage.detach()
    compiling = torch.compiler.is_compiling()
    runs = not compiling and torch_numba.runs_on(increments)
    return (torch_numba if runs else torch_plain).integrate(increments, voltage, time_axis)


def spike(
    rates: Any,
    voltage: Any,
    dt: Any,
    time_axis: int = 1,
    rectify: bool = False,
    height: Any = None,
) -> tuple[Any, Any]:
    """As the contract says, in fewer passes; `dt` and the spikes' `height` may be by channel."""
    height = 1.0 / dt if height is None else height
    if not _must_be_plain():
        return _Spike.apply(rates, voltage, dt, height, time_axis, rectify)
    rates = torch.relu(rates) if rectify else rates
    counts, final = integrate_and_fire(rates.to(voltage.dtype) * dt, voltage, time_axis)
    return straight_through(rates, to_dtype(counts * height, rates.dtype)), final


def _must_be_plain() -> bool:
    """Whether a function with a gradient of its own would be refused, or when exporting lose it."""
    return torch.compiler.is_compiling() or torch_plain.transforms_are_active()


class _Spike(torch_plain.ReverseOnly):
    # Not `setup_context`: with it, each call takes a third longer.
    @staticmethod
    def forward(
        ctx: Any, rates: Any, voltage: Any, dt: Any, height: Any, time_axis: int, rectify: bool
    ) -> tuple[Any, Any]:
        if rectify:
            ctx.save_for_backward(rates)
        each = (rates.to(voltage.dtype), voltage, time_axis, dt, height, rectify)
        spikes, final = _integrate_and_fire(*each)
        ctx.mark_non_differentiable(final)
        ctx.set_materialize_grads(False)
        return to_dtype(spikes, rates.dtype), final

    @staticmethod
    def backward(ctx: Any, upstream: Any, _: Any) -> tuple[Any, ...]:
        # Once: hooks of saved tensors, as of a checkpoint, may unpack each of them only once.
        saved = ctx.saved_tensors
        if saved:
            (rates,) = saved
            upstream = torch.ops.aten.threshold_backward(upstream, rates, 0)
        return upstream, None, None, None, None, None


def to_dtype(tensor: Any, dtype: Any) -> Any:
    """The tensor in a type; what float16 cannot hold becomes the largest number that it can."""
    if dtype == torch.float16 and tensor.dtype != dtype:
        largest = torch.finfo(dtype).max
        tensor = tensor.clamp(-largest, largest)
    return tensor.to(dtype)


def _integrate_and_fire(
    increments: Any,
    voltage: Any,
    time_axis: int,
    dt: Any = 1.0,
    height: Any = 1.0,
    rectify: bool = False,
) -> tuple[Any, Any]:
    """Spikes of `height` by increments that are times `dt`."""
    if torch_numba.runs_on(increments):
        return torch_numba.fire(increments, voltage, dt, height, rectify, time_axis)
    increments = (torch.relu(increments) if rectify else increments) * dt
    if native_is_chosen(faster=True):
        many = increments.numel() >= _ELEMENTS_WORTH_A_CALL * max(increments.shape[time_axis], 1)
        by_step = increments.device.type == "cpu" and many
        run = torch_plain.integrate_step_by_step if by_step else torch_plain.integrate_and_fire
        counts, final = run(increments, voltage, time_axis)
    else:
        from keras_spiking.kernels import portable  # imports Keras

        counts, final = portable.integrate_and_fire(increments, voltage, time_axis, torch.cumsum)
    return counts * height, final


class _StraightThrough(torch_plain.ReverseOnly):
    @staticmethod
    def forward(ctx: Any, rates: Any, spikes: Any) -> Any:
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        return upstream, None


def straight_through(rates: Any, spikes: Any) -> Any:
    if _must_be_plain():
        return torch_plain.straight_through(rates, spikes)
    return _StraightThrough.apply(rates, spikes)


@torch.library.custom_op("keras_spiking::integrate_and_fire", mutates_args=())
def _compiled_integrate_and_fire(
    increments: torch.Tensor, voltage: torch.Tensor, time_axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    counts, final = _integrate_and_fire(increments, voltage, time_axis)
    # Not parts of others, and in the order that is foretold.
    return counts.contiguous(), final.clone(memory_format=torch.contiguous_format)


@_compiled_integrate_and_fire.register_fake
def _(increments: Any, voltage: Any, time_axis: int) -> tuple[Any, Any]:
    shape = list(increments.shape)
    del shape[time_axis]
    return increments.new_empty(increments.shape), increments.new_empty(shape)
