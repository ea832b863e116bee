"""Spikes on PyTorch: whole-tensor operations on spans of time; see `torch.py`."""

import math
from typing import Any, NamedTuple

import torch

from keras_spiking.kernels import LARGEST, native_is_chosen, torch_plain
from keras_spiking.kernels.torch_spans import Span, cut, on_cpu

# By measurement: with fewer in a step, or side by side, a sum along the axis of time is faster.
_ELEMENTS_WORTH_A_CALL, _ELEMENTS_WORTH_A_ROW = 2**13, 16


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


def spike(
    rates: Any, voltage: Any, dt: Any, time_axis: int = 1, rectify: bool = False
) -> tuple[Any, Any]:
    """As the contract says, in fewer passes; the bits are the same, for the grid is one of 2^-n."""
    if not _must_be_plain():
        return _Spike.apply(rates, voltage, dt, time_axis, rectify)
    rates = torch.relu(rates) if rectify else rates
    counts, final = integrate_and_fire(rates.to(voltage.dtype) * dt, voltage, time_axis)
    return straight_through(rates, to_dtype(counts * (1.0 / dt), rates.dtype)), final


def _must_be_plain() -> bool:
    """Whether a function with a gradient of its own would be refused, or when exporting lose it."""
    return torch.compiler.is_compiling() or torch_plain.transforms_are_active()


class _Spike(torch_plain.ReverseOnly):
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
        # Once: hooks of saved tensors, as of a checkpoint, may unpack each of them only once.
        saved = ctx.saved_tensors
        if saved:
            (rates,) = saved
            upstream = torch.ops.aten.threshold_backward(upstream, rates, 0)
        return upstream, None, None, None, None


def to_dtype(tensor: Any, dtype: Any) -> Any:
    """The tensor in a type; what float16 cannot hold becomes the largest number that it can."""
    if dtype == torch.float16 and tensor.dtype != dtype:
        largest = torch.finfo(dtype).max
        tensor = tensor.clamp(-largest, largest)
    return tensor.to(dtype)


def _integrate_and_fire(
    increments: Any, voltage: Any, time_axis: int, dt: Any = None, rectify: bool = False
) -> tuple[Any, Any]:
    dt = 1.0 if dt is None else dt
    if not native_is_chosen(faster=True):
        from keras_spiking.kernels import portable  # imports Keras

        increments = (torch.relu(increments) if rectify else increments) * dt
        counts, final = portable.integrate_and_fire(increments, voltage, time_axis, torch.cumsum)
        return counts * (1.0 / dt), final
    grid = _GRIDS[increments.dtype]
    unit = 2.0**grid.digits
    start = ((voltage - voltage.floor()) * unit).round_().nan_to_num_(unit)
    start = start.clamp_(max=unit - 1).to(grid.integer).mul_(abs(grid.factor))
    outputs = torch.empty_like(increments, memory_format=torch.contiguous_format)
    height = torch.as_tensor(1.0 / dt, dtype=outputs.dtype, device=outputs.device)
    spans = cut(increments, time_axis)
    # The same memory for all spans: new memory takes the system longer to give than sums take.
    longest = spans[0].of(outputs, time_axis) if spans else outputs
    memory = torch.empty_like(longest, memory_format=torch.contiguous_format)
    for span in spans:
        floats = span.held_in(memory, time_axis)
        torch.mul(span.of(increments, time_axis), dt * unit, out=floats)
        whole = _split_off_whole(floats, grid, rectify)
        sums = floats.add_(grid.offset).view(grid.integer)  # rounds to the grid, too
        _add_up(sums, start, grid.factor, span, time_axis)
        spikes = span.of(outputs, time_axis)
        if whole is None:
            _fire(sums, height, grid, time_axis, spikes)
        else:
            _fire(sums, torch.ones_like(height), grid, time_axis, spikes)
            spikes.add_(whole).mul_(height)
        start = sums.select(time_axis, -1) & torch.iinfo(grid.integer).max  # without the sign
    return outputs, start.to(outputs.dtype).mul_(1.0 / unit / abs(grid.factor))


class _Grid(NamedTuple):
    """Where voltages are integers: `digits` binary digits for one spike.

    For an integer `n` from 0 to `2**digits`, the bits of the float `offset + n`, times
    `factor`, are an integer whose sign bit is set, with `n` next to it and zeros after. Added to
    the voltage, with its digits there too, it changes the sign, unless the voltage passes a whole
    number: that carries into the sign, and changes it back.
    """

    digits: int
    integer: torch.dtype
    offset: float
    factor: int


_GRIDS = {
    torch.float32: _Grid(23, torch.int32, -(2.0**24), -(2**8)),
    torch.float64: _Grid(52, torch.int64, 2.0**52, 2**11),
}


def _split_off_whole(numbers: Any, grid: _Grid, rectify: bool) -> Any:
    """Leaves of each at most one spike, at least none; returns the rest, None if nothing."""
    if rectify:
        numbers.clamp_(min=0.0)
    unit, largest = 2.0**grid.digits, LARGEST[grid.digits]
    low, high = -math.inf, math.inf
    if on_cpu(numbers) and numbers.numel():  # Finding out would make us wait for a GPU.
        if rectify:
            low, high = 0.0, numbers.amax().item()
        else:
            low, high = (end.item() for end in torch.aminmax(numbers))
    if low >= 0.0 and high <= unit:
        return None
    is_ordinary = -largest <= low and high <= largest
    if not is_ordinary:
        numbers.clamp_(-largest, largest)
    whole = numbers.round_().mul(1.0 / unit).floor_()
    numbers.sub_(whole, alpha=unit)
    if not is_ordinary:  # What is not a number leaves the voltage as it was.
        numbers.nan_to_num_(0.0)
    return whole


def _add_up(numbers: Any, start: Any, factor: int, span: Span, time_axis: int) -> None:
    """Sums over time of `start` and `factor` times the numbers of a span, in place."""
    has_few = (
        numbers.numel() < span.size * _ELEMENTS_WORTH_A_CALL
        or numbers.stride(time_axis) < _ELEMENTS_WORTH_A_ROW
    )
    if has_few or not on_cpu(numbers):
        numbers.mul_(factor).select(time_axis, 0).add_(start)
        numbers.cumsum_(time_axis)
        return
    # As a whole step is a call, its elements are added side by side: a sum along an axis takes them
    # one by one.
    total, *others = span.steps(numbers, time_axis)
    total.mul_(factor).select(time_axis, 0).add_(start)
    for step in others:
        total = torch.add(total, step, alpha=factor, out=step)
    if span.blocks > 1:
        total.cumsum_(time_axis)
        blocks = numbers.unflatten(time_axis, (span.blocks, span.size))
        later = blocks.narrow(time_axis, 1, span.blocks - 1)
        before = total.narrow(time_axis, 0, span.blocks - 1).unsqueeze(time_axis + 1)
        later.narrow(time_axis + 1, 0, span.size - 1).add_(before)


def _fire(sums: Any, height: Any, grid: _Grid, time_axis: int, out: Any) -> None:
    """Writes `height` to the steps that leave the sign of the sum as it was, 0 to the others."""
    changes = out.view(grid.integer)  # in the sign
    changes.select(time_axis, 0).copy_(sums.select(time_axis, 0))  # from a start without one
    if rest := sums.shape[time_axis] - 1:
        before, after = (sums.narrow(time_axis, first, rest) for first in (0, 1))
        torch.bitwise_xor(before, after, out=changes.narrow(time_axis, 1, rest))
    if on_cpu(out):
        # The one operation that takes a value or 0 by a condition in a single fast pass.
        each = height.view(grid.integer)
        torch.ops.aten.threshold_backward.grad_input(each, changes, -1, grad_input=changes)
    else:  # Not every device has it for integers.
        torch.mul(changes >= 0, height, out=out)


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
    return _integrate_and_fire(increments, voltage, time_axis)


@_compiled_integrate_and_fire.register_fake
def _(increments: Any, voltage: Any, time_axis: int) -> tuple[Any, Any]:
    shape = list(increments.shape)
    del shape[time_axis]
    return increments.new_empty(increments.shape), increments.new_empty(shape)
