"""Spikes on PyTorch: whole-tensor operations on spans of time; see `torch.py`."""

import math
from typing import Any

import torch

from keras_spiking.kernels import LARGEST, native_is_chosen
from keras_spiking.kernels.torch_spans import cut

# Of a span, by measurement.
_ELEMENTS = 2**19


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
    return _integrate_and_fire(increments, voltage, time_axis)


def spike(
    rates: Any, voltage: Any, dt: Any, time_axis: int = 1, rectify: bool = False
) -> tuple[Any, Any]:
    """As the contract says, in fewer passes; the bits are the same, for the grid is one of 2^-n."""
    if not torch.compiler.is_compiling():
        return _Spike.apply(rates, voltage, dt, time_axis, rectify)
    rates = torch.relu(rates) if rectify else rates
    counts, final = integrate_and_fire(rates.to(voltage.dtype) * dt, voltage, time_axis)
    return straight_through(rates, to_dtype(counts * (1.0 / dt), rates.dtype)), final


class _Spike(torch.autograd.Function):
    # Not `setup_context`: with it, each call takes a third longer.
    @staticmethod
    def forward(
        ctx: Any, rates: Any, voltage: Any, dt: Any, time_axis: int, rectify: bool
    ) -> tuple[Any, Any]:
        if rectify:
            ctx.save_for_backward(rates)
        each = (rates.to(voltage.dtype), voltage, time_axis, dt, rectify)
        spikes, final = _integrate_and_fire(*each)
        ctx.mark_non_differentiable(final)
        ctx.set_materialize_grads(False)
        return to_dtype(spikes, rates.dtype), final

    @staticmethod
    def backward(ctx: Any, upstream: Any, _: Any) -> tuple[Any, ...]:
        if ctx.saved_tensors:
            (rates,) = ctx.saved_tensors
            upstream = torch.ops.aten.threshold_backward(upstream, rates, 0)
        return upstream, None, None, None, None


def to_dtype(tensor: Any, dtype: Any) -> Any:
    """The tensor in a type; what float16 cannot hold becomes the largest number that it can."""
    if dtype == torch.float16 and tensor.dtype != dtype:
        largest = torch.finfo(dtype).max
        tensor = tensor.clamp(-largest, largest)
    return tensor.to(dtype)


@torch.no_grad()
def _integrate_and_fire(
    increments: Any, voltage: Any, time_axis: int, dt: Any = None, rectify: bool = False
) -> tuple[Any, Any]:
    if not native_is_chosen(faster=True):
        from keras_spiking.kernels import portable  # imports Keras

        dt = 1.0 if dt is None else dt
        increments = (torch.relu(increments) if rectify else increments) * dt
        counts, final = portable.integrate_and_fire(increments, voltage, time_axis, torch.cumsum)
        return counts * (1.0 / dt), final
    double = increments.dtype == torch.float64
    digits, integer = (52, torch.int64) if double else (23, torch.int32)
    unit, largest, width = 2.0**digits, LARGEST[digits], 64 if double else 32
    start = ((voltage - voltage.floor()) * unit).round_().nan_to_num_(unit)
    start = start.clamp_(max=unit - 1).to(integer)
    to_grid, from_grid = (unit, 1.0 / unit) if dt is None else (dt * unit, 1.0 / dt / unit)
    outputs = torch.empty_like(increments, memory_format=torch.contiguous_format)
    spans = cut(increments, time_axis, _ELEMENTS)
    # The same memory for all spans: new memory takes the system longer to give than sums take.
    longest = spans[0].of(outputs, time_axis) if spans else outputs
    buffers = [_scratch(longest, integer, time_axis) for _ in range(2)]
    for span in spans:
        added, voltages = (span._replace(start=0).of(each, time_axis) for each in buffers)
        floats = span.of(outputs, time_axis)
        torch.mul(span.of(increments, time_axis), to_grid, out=floats)
        floats.clamp_(0.0 if rectify else -largest, largest).round_()
        whole = None  # spikes that are counted apart, where the integers would not hold them
        if not _fit(floats, 2.0 ** (width - 1) - unit, rectify):
            whole = torch.mul(floats, 1.0 / unit).floor_()
            # Not a number only where the increment is not: that leaves the voltage as it was.
            floats.sub_(whole, alpha=unit).nan_to_num_(0.0)
        added.copy_(floats)
        added.select(time_axis, 0).add_(start)
        # The sum may wrap around: its low digits, the voltage, are right all the same.
        torch.cumsum(added, time_axis, dtype=integer, out=voltages).bitwise_and_(2**digits - 1)
        start = voltages.select(time_axis, -1).clone()
        # What a step has added, less what the voltage has risen, is its spikes.
        rest = added.shape[time_axis] - 1
        added.narrow(time_axis, 1, rest).add_(voltages.narrow(time_axis, 0, rest))
        floats.copy_(added.sub_(voltages))
        if whole is None:
            floats.mul_(from_grid)
        else:
            floats.mul_(1.0 / unit).add_(whole)
            if dt is not None:
                floats.mul_(1.0 / dt)
    return outputs, start.to(outputs.dtype) / unit


def _scratch(like: Any, dtype: Any, time_axis: int) -> Any:
    """Memory in which a sum over time is fast.

    A processor's first cache has a few places only for addresses that are a multiple of 4096 apart.
    Steps of 1024 units are: they would push each other out, and a sum takes ten times as long.
    """
    shape, length = like.shape, like.shape[time_axis]
    units = math.prod(shape[time_axis + 1 :])
    step = units * dtype.itemsize
    places = 4096 // math.gcd(step, 4096) if step else length
    if like.device.type != "cpu" or 2 * length <= 8 * places:
        return torch.empty_like(like, dtype=dtype, memory_format=torch.contiguous_format)
    padded = units + 64 // dtype.itemsize
    whole = torch.empty((*shape[: time_axis + 1], padded), dtype=dtype)
    return whole.narrow(-1, 0, units).view(shape)


def _fit(numbers: Any, limit: float, positive: bool) -> bool:
    """Whether all lie between `-limit` and `limit`; not where finding out would wait for a GPU."""
    if numbers.device.type != "cpu" or not numbers.numel():
        return False
    if positive:
        return numbers.amax().item() < limit
    low, high = torch.aminmax(numbers)
    return -limit < low.item() and high.item() < limit


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


@torch.library.custom_op("keras_spiking::integrate_and_fire", mutates_args=())
def _compiled_integrate_and_fire(
    increments: torch.Tensor, voltage: torch.Tensor, time_axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return _integrate_and_fire(increments, voltage, time_axis)


@_compiled_integrate_and_fire.register_fake
def _(increments: Any, voltage: Any, time_axis: int) -> tuple[Any, Any]:
    shape = list(increments.shape)
    del shape[time_axis]
    return increments.new_empty(increments.shape), increments.new_empty(shape)
