"""The kernels of `keras_spiking/kernels/torch.py` in Triton: a column of units each, all of time.

A program holds the state of a block of units in registers and goes through time once. So every
element is read once and written once, whatever the number of steps. The arithmetic is that of
`keras_spiking/kernels/portable.py`; float64 is not for these kernels.
"""

import functools
import math
from typing import Any

import torch
import triton
import triton.language as tl

from keras_spiking.kernels.contract import Filter, FilterGradients
from keras_spiking.kernels.filter_steps import AdjointSums, finish

DIGITS = tl.constexpr(23)
UNIT = tl.constexpr(2.0**23)
FRACTION = tl.constexpr(2**23 - 1)  # the lowest digits
LARGEST = tl.constexpr(2.0**127)
LARGEST_IN_FLOAT16 = tl.constexpr(65504.0)
BLOCK = 128
# Else a compiler may leave products unrounded that are the operands of sums: other bits.
OPTIONS = {"BLOCK": BLOCK, "enable_fp_fusion": False}


@triton.jit
def _round(x):  # type: ignore[no-untyped-def]
    """To the nearest whole number, and from halfway to the even one."""
    below = tl.floor(x)
    rest = x - below
    odd = below - 2.0 * tl.floor(below * 0.5)
    return below + tl.where((rest > 0.5) | ((rest == 0.5) & (odd == 1.0)), 1.0, 0.0)


@triton.jit
def _fire_kernel(  # type: ignore[no-untyped-def]
    rates,
    voltage,
    spikes,
    final,
    num_steps,
    num_units,
    dt,
    per_second,
    RECTIFY: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    units = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = units < num_units
    column = tl.program_id(0).to(tl.int64) * num_units + units
    at_step = tl.program_id(0).to(tl.int64) * num_steps * num_units + units
    level = tl.load(voltage + column, inside, 0)
    for _ in range(num_steps):
        rate = tl.load(rates + at_step, inside, 0.0).to(tl.float32)
        if RECTIFY:
            rate = tl.where(rate <= 0.0, 0.0, rate)  # Not a number stays that.
        on_grid = rate * (dt * UNIT)
        on_grid = tl.where(on_grid > LARGEST, LARGEST, on_grid)
        on_grid = _round(tl.where(on_grid < -LARGEST, -LARGEST, on_grid))
        whole = tl.floor(on_grid * (1.0 / UNIT))
        fraction = on_grid - whole * UNIT
        level += tl.where(fraction == fraction, fraction, 0.0).to(tl.int32)
        count = (whole + (level >> DIGITS).to(tl.float32)) * per_second
        level = level & FRACTION
        if spikes.dtype.element_ty == tl.float16:
            count = tl.where(count > LARGEST_IN_FLOAT16, LARGEST_IN_FLOAT16, count)
            count = tl.where(count < -LARGEST_IN_FLOAT16, -LARGEST_IN_FLOAT16, count)
        tl.store(spikes + at_step, count.to(spikes.dtype.element_ty), inside)
        at_step += num_units
    tl.store(final + column, level.to(tl.float32) * (1.0 / UNIT), inside)


@triton.jit
def _add_leaking(leak, drive, level, lost):  # type: ignore[no-untyped-def]
    """One step of a recurrence, with what rounding took from the one before (Kahan's sum)."""
    change = drive - leak * level + lost
    new = level + change
    return new, change - (new - level)


@triton.jit
def _filter_kernel(  # type: ignore[no-untyped-def]
    inputs,
    leak,
    coupling,
    first_gain,
    second_gain,
    first_start,
    second_start,
    first_levels,
    second_levels,
    num_steps,
    num_units,
    period,
    ORDER: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    units = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = units < num_units
    weight = units % period
    column = tl.program_id(0).to(tl.int64) * num_units + units
    at_step = tl.program_id(0).to(tl.int64) * num_steps * num_units + units
    leaks = tl.load(leak + weight, inside, 0.0)
    couplings = tl.load(coupling + weight, inside, 0.0)
    gain = tl.load(first_gain + weight, inside, 0.0)
    level = tl.load(first_start + column, inside, 0.0)
    lost = tl.zeros_like(level)
    gain2, level2, lost2 = gain, level, lost
    if ORDER == 2:
        gain2 = tl.load(second_gain + weight, inside, 0.0)
        level2 = tl.load(second_start + column, inside, 0.0)
    for _ in range(num_steps):
        now = tl.load(inputs + at_step, inside, 0.0).to(tl.float32)
        if ORDER == 2:
            drive = gain2 * now + couplings * level
            level2, lost2 = _add_leaking(leaks, drive, level2, lost2)
            tl.store(second_levels + at_step, level2, inside)
        level, lost = _add_leaking(leaks, gain * now, level, lost)
        tl.store(first_levels + at_step, level, inside)
        at_step += num_units


@triton.jit
def _adjoint_kernel(  # type: ignore[no-untyped-def]
    inputs,
    leak,
    coupling,
    first_gain,
    second_gain,
    first_start,
    second_start,
    first_levels,
    second_levels,
    first_upstream,
    second_upstream,
    for_inputs,
    sums,
    num_steps,
    num_units,
    period,
    ORDER: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    units = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = units < num_units
    weight = units % period
    column = tl.program_id(0).to(tl.int64) * num_units + units
    at_start = tl.program_id(0).to(tl.int64) * num_steps * num_units + units
    at_step = at_start + num_steps * num_units
    leaks = tl.load(leak + weight, inside, 0.0)
    couplings = tl.load(coupling + weight, inside, 0.0)
    gain = tl.load(first_gain + weight, inside, 0.0)
    zero = tl.zeros_like(gain)
    adjoint, lost, adjoint2, lost2, gain2 = zero, zero, zero, zero, zero
    for_log_decay, for_coupling, for_gain, for_gain2 = zero, zero, zero, zero
    start = tl.load(first_start + column, inside, 0.0)
    start2 = zero
    if ORDER == 2:
        gain2 = tl.load(second_gain + weight, inside, 0.0)
        start2 = tl.load(second_start + column, inside, 0.0)
    for _ in range(num_steps):
        at_step -= num_units
        earlier = inside & (at_step > at_start)
        now = tl.load(inputs + at_step, inside, 0.0).to(tl.float32)
        before = tl.load(first_levels + at_step - num_units, earlier, 0.0)
        before = tl.where(earlier, before, start)
        drive = tl.load(first_upstream + at_step, inside, 0.0).to(tl.float32)
        if ORDER == 2:
            drive += couplings * adjoint2  # What this level gave to the next one, a step later.
            upstream2 = tl.load(second_upstream + at_step, inside, 0.0).to(tl.float32)
            adjoint2, lost2 = _add_leaking(leaks, upstream2, adjoint2, lost2)
            before2 = tl.load(second_levels + at_step - num_units, earlier, 0.0)
            before2 = tl.where(earlier, before2, start2)
            for_log_decay += adjoint2 * before2
            for_coupling += adjoint2 * before
            for_gain2 += adjoint2 * now
        adjoint, lost = _add_leaking(leaks, drive, adjoint, lost)
        for_log_decay += adjoint * before
        for_gain += adjoint * now
        gradient = gain * adjoint
        if ORDER == 2:
            gradient += gain2 * adjoint2
        tl.store(for_inputs + at_step, gradient.to(for_inputs.dtype.element_ty), inside)
    size = tl.num_programs(0).to(tl.int64) * num_units
    tl.store(sums + column, for_log_decay, inside)
    tl.store(sums + size + column, for_coupling, inside)
    tl.store(sums + 2 * size + column, for_gain, inside)
    tl.store(sums + 3 * size + column, for_gain2, inside)
    tl.store(sums + 4 * size + column, adjoint, inside)
    tl.store(sums + 5 * size + column, adjoint2, inside)


def integrate_and_fire(
    rates: Any, voltage: Any, time_axis: int, dt: float = 1.0, rectify: bool = False
) -> tuple[Any, Any]:
    """Spikes in hertz of the rates' type, and the final voltage in float32."""
    rates = rates.contiguous()
    grid, sizes = _grid(rates, time_axis)
    start = torch.round((voltage - torch.floor(voltage)) * UNIT.value).nan_to_num(UNIT.value)
    start = start.clamp(max=UNIT.value - 1).to(torch.int32).contiguous()
    spikes = torch.empty_like(rates)
    final = torch.empty(voltage.shape, dtype=torch.float32, device=rates.device)
    _fire_kernel[grid](
        rates, start, spikes, final, *sizes, dt, 1.0 / dt, RECTIFY=rectify, **OPTIONS
    )
    return spikes, final


def linear_filter(filter_: Filter, inputs: Any, initial: Any, time_axis: int) -> tuple[Any, ...]:
    """The levels, in float32."""
    inputs = inputs.contiguous()
    grid, sizes = _grid(inputs, time_axis)
    leak = -torch.expm1(filter_.log_decay).contiguous()
    levels = [torch.empty_like(inputs, dtype=torch.float32) for _ in initial]
    _filter_kernel[grid](
        inputs,
        leak,
        filter_.coupling.contiguous(),
        *_pair(filter_.gains),
        *_pair(initial),
        *_pair(levels),
        *sizes,
        leak.numel(),
        ORDER=len(levels),
        **OPTIONS,
    )
    return tuple(levels)


def linear_filter_gradients(
    filter_: Filter, inputs: Any, initial: Any, levels: Any, upstream: Any, time_axis: int
) -> FilterGradients:
    """Gradients in all but the levels."""
    inputs = inputs.contiguous()
    grid, sizes = _grid(inputs, time_axis)
    order = len(levels)
    grad_inputs = torch.empty_like(inputs)
    leak = -torch.expm1(filter_.log_decay).contiguous()
    sums = torch.empty(6, *initial[0].shape, dtype=torch.float32, device=inputs.device)
    _adjoint_kernel[grid](
        inputs,
        leak,
        filter_.coupling.contiguous(),
        *_pair(filter_.gains),
        *_pair(initial),
        *_pair(levels),
        *_pair(upstream),
        grad_inputs,
        sums,
        *sizes,
        leak.numel(),
        ORDER=order,
        **OPTIONS,
    )
    log_decay, coupling, *rest = sums
    gains, adjoints = rest[:order], rest[2 : 2 + order]
    return finish(
        filter_,
        torch.exp(filter_.log_decay),
        AdjointSums(adjoints, [], log_decay, coupling, gains),
        grad_inputs,
        functools.partial(torch.sum, dim=0, keepdim=True),
    )


def _grid(sequence: Any, time_axis: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Programs, and the numbers of steps and units; time-major is one sample of more units."""
    samples = math.prod(sequence.shape[:time_axis])
    num_steps, *features = sequence.shape[time_axis:]
    num_units = math.prod(features)
    return (samples, triton.cdiv(num_units, BLOCK)), (num_steps, num_units)


def _pair(tensors: Any) -> list[Any]:
    """Two contiguous tensors: the one twice, where there is but one."""
    first, last = tensors[0].contiguous(), tensors[-1]
    return [first, first if len(tensors) == 1 else last.contiguous()]
