"""The arithmetic of the kernels on CPUs: loops over flat arrays, which Numba compiles.

No framework is in here. What is called lets go of the interpreter's lock, and works on one part of
the samples and units; `cpu.py` runs the parts side by side. In a sequence, the number of a sample,
step and unit lies at `sample * of_sample + step * of_step + unit`; in a state, at
`sample * units + unit`.

Two things make vector code of the loops over units. Indices are unsigned, for Numba would ask of
signed ones whether they are negative. And what is carried from step to step stands in `scratch`, of
which the compiler knows that nothing else writes there.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Units in `scratch`, which stay in a processor's first cache.
BLOCK = 256
# How many steps ahead a loop that goes back in time has memory fetched, and how many at once.
_AHEAD, _LINE = np.uint64(8), np.uint64(16)
# As in `running.py`.
MOST_SPIKES = 2.0**24


def _compiled(function: Any) -> Any:
    function = numba.njit(function, nogil=True, error_model="numpy")
    try:
        function.enable_caching()
    except RuntimeError:  # There is no folder that Numba may write to.
        return function
    return function


@intrinsic
def scratch(context: Any, like: Any) -> Any:
    """A row of `BLOCK` numbers of an array's type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with builder.goto_entry_block():
            size = context.get_constant(types.intp, BLOCK)
            return builder.alloca(context.get_value_type(like.dtype), size=size)

    return types.CPointer(like.dtype)(like), generate


@intrinsic
def _prefetch(context: Any, array: Any, index: Any) -> Any:
    """Tells the processor that an element will be needed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.PointerType(ir.IntType(8)))
        number = ir.IntType(32)
        to_read, into_second_cache, data_not_code = number(0), number(2), number(1)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, to_read, into_second_cache, data_not_code])
        return context.get_dummy_value()

    return types.void(array, index), generate


@_compiled
def _fetch(array: Any, at: Any, count: Any, of_step: Any, step: Any) -> None:
    """Has the step before some steps fetched: processors foresee only ways forward in memory."""
    if step >= _AHEAD:
        for unit in range(np.uint64(0), count, _LINE):
            _prefetch(array, at - _AHEAD * of_step + unit)


@_compiled
def _unsigned(part: Any, shape: Any) -> Any:
    first_sample, end_sample, first_unit, end_unit = part
    steps, units, of_sample, of_step = shape
    return (
        np.uint64(first_sample),
        np.uint64(end_sample),
        np.uint64(first_unit),
        np.uint64(end_unit),
        np.uint64(steps),
        np.uint64(units),
        np.uint64(of_sample),
        np.uint64(of_step),
        np.uint64(BLOCK),
    )


@_compiled
def _spike_in_grid(like: Any) -> Any:
    """A spike in units of the grid of voltages."""
    number = like.dtype.type
    return number(2.0**52) if like.itemsize == 8 else number(2.0**23)


@_compiled
def _most(like: Any) -> Any:
    """The most spikes in a step."""
    number = like.dtype.type
    return number(2.0**971) if like.itemsize == 8 else number(2.0**104)


@_compiled
def _to_grid(voltage: Any, spike: Any, grid: Any) -> Any:
    """The fractional part of a voltage, rounded to the grid, in [0, 1)."""
    rounded = np.rint((voltage - np.floor(voltage)) * spike)
    last = spike - spike * grid
    return (rounded if rounded < last else last) * grid


@_compiled
def _count(increment: Any, voltage: Any, spike: Any, grid: Any, most: Any) -> Any:
    """The spikes of one step, and the voltage after it."""
    rounded = np.rint(increment * spike) * grid
    whole = np.floor(rounded)
    fraction = rounded - whole
    # Not itself where it is no number: there the voltage stays.
    raised = voltage + fraction if fraction == fraction else voltage
    # Not `min` and `max`, for what is no number must stay so.
    whole = most if whole > most else whole
    whole = -most if whole < -most else whole
    carry = np.floor(raised)
    return whole + carry, raised - carry


@_compiled
def fire(
    part: Any,
    shape: Any,
    rates: Any,
    voltage: Any,
    seconds: Any,
    heights: Any,
    rectify: bool,
    spikes: Any,
    voltages: Any,
    final: Any,
) -> None:
    """Spikes; and the voltages of each step, if there is room for them.

    What rates are multiplied by, and spikes, is one number for each unit.
    """
    first_sample, end, first, last, steps, units, of_sample, of_step, block = _unsigned(part, shape)
    spike, most = _spike_in_grid(rates), _most(rates)
    grid, zero = rates.dtype.type(1) / spike, rates.dtype.type(0)
    keep = voltages.size > 0
    now, dt, height = scratch(rates), scratch(rates), scratch(rates)
    for left in range(first, last, block):
        count = min(block, last - left)
        for unit in range(count):
            dt[unit], height[unit] = seconds[left + unit], heights[left + unit]
        for sample in range(first_sample, end):
            state = sample * units + left
            for unit in range(count):
                now[unit] = _to_grid(voltage[state + unit], spike, grid)
            for step in range(steps):
                at = sample * of_sample + step * of_step + left
                if rectify:
                    for unit in range(count):
                        rate = rates[at + unit]
                        rate = zero if rate < zero else rate
                        number, now[unit] = _count(rate * dt[unit], now[unit], spike, grid, most)
                        spikes[at + unit] = number * height[unit]
                else:
                    for unit in range(count):
                        number, now[unit] = _count(
                            rates[at + unit] * dt[unit], now[unit], spike, grid, most
                        )
                        spikes[at + unit] = number * height[unit]
                if keep:
                    for unit in range(count):
                        voltages[at + unit] = now[unit]
            for unit in range(count):
                final[state + unit] = now[unit]


@_compiled
def accumulate(
    part: Any,
    shape: Any,
    rates: Any,
    floor: Any,
    voltage: Any,
    emitted: Any,
    origin: Any,
    dt: Any,
    height: Any,
    rectify: bool,
    negative_spikes: bool,
    spikes: Any,
    active: Any,
    final_floor: Any,
    final_voltage: Any,
    final_emitted: Any,
) -> None:
    """Spikes of neurons that remember their sums, and the steps that the gradient passes."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = _unsigned(part, shape)
    spike, most = _spike_in_grid(rates), _most(rates)
    grid = rates.dtype.type(1) / spike
    limit, zero = rates.dtype.type(MOST_SPIKES), rates.dtype.type(0)
    summed, now, out, from_ = scratch(rates), scratch(rates), scratch(rates), scratch(rates)
    for sample in range(first_sample, end):
        for left in range(first, last, block):
            count = min(block, last - left)
            state = sample * units + left
            for unit in range(count):
                summed[unit] = floor[state + unit]
                now[unit] = _to_grid(voltage[state + unit], spike, grid)
                out[unit] = emitted[state + unit]
                from_[unit] = origin[state + unit]
            for step in range(steps):
                at = sample * of_sample + step * of_step + left
                for unit in range(count):
                    number, now[unit] = _count(rates[at + unit] * dt, now[unit], spike, grid, most)
                    added = number if number == number else zero
                    added = min(max(added, -limit), limit)
                    total = min(max(summed[unit] + added, -limit), limit)
                    summed[unit] = total
                    due = max(total, zero) if rectify else total
                    due = due if negative_spikes else max(due, out[unit])
                    # Adds what is no number, and else nothing.
                    spikes[at + unit] = (due - out[unit]) * height + (number - number)
                    out[unit] = due
                if rectify:
                    for unit in range(count):
                        active[at + unit] = summed[unit] + now[unit] > from_[unit]
            for unit in range(count):
                final_floor[state + unit] = summed[unit]
                final_voltage[state + unit] = now[unit]
                final_emitted[state + unit] = out[unit]


@_compiled
def accumulate_gradient(part: Any, shape: Any, upstream: Any, active: Any, gradients: Any) -> None:
    """Each step counts in all later sums; each sum in its step, and negative in the next."""
    first_sample, end, first, last, steps, _, of_sample, of_step, block = _unsigned(part, shape)
    zero = upstream.dtype.type(0)
    total, later, passes = scratch(upstream), scratch(upstream), scratch(upstream)
    for sample in range(first_sample, end):
        for left in range(first, last, block):
            count = min(block, last - left)
            for unit in range(count):
                total[unit] = zero
                later[unit] = zero
            for back in range(steps):
                step = steps - back - np.uint64(1)
                at = sample * of_sample + step * of_step + left
                for array in (upstream, gradients):
                    _fetch(array, at, count, of_step, step)
                _fetch(active, at, count, of_step, step)
                # By themselves: numbers of two sizes in one loop are no vector code.
                for unit in range(count):
                    passes[unit] = upstream.dtype.type(active[at + unit])
                for unit in range(count):
                    now = upstream[at + unit]
                    change = now - later[unit]
                    total[unit] += change if passes[unit] > zero else zero
                    later[unit] = now
                    gradients[at + unit] = total[unit]


@_compiled
def _add_leaking(leak: Any, drive: Any, level: Any, lost: Any) -> Any:
    """As in `portable.py`: the new level, and what rounding took from it."""
    change = drive - leak * level + lost
    new = level + change
    return new, change - (new - level)


@_compiled
def filter_one(
    part: Any, shape: Any, inputs: Any, leak: Any, gain: Any, initial: Any, levels: Any
) -> None:
    """A filter of one level."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = _unsigned(part, shape)
    leaks, gains, level, lost = scratch(inputs), scratch(inputs), scratch(inputs), scratch(inputs)
    for left in range(first, last, block):
        count = min(block, last - left)
        for unit in range(count):
            leaks[unit], gains[unit] = leak[left + unit], gain[left + unit]
        for sample in range(first_sample, end):
            state = sample * units + left
            for unit in range(count):
                level[unit], lost[unit] = initial[state + unit], 0
            for step in range(steps):
                at = sample * of_sample + step * of_step + left
                for unit in range(count):
                    drive = gains[unit] * inputs[at + unit]
                    level[unit], lost[unit] = _add_leaking(
                        leaks[unit], drive, level[unit], lost[unit]
                    )
                    levels[at + unit] = level[unit]


@_compiled
def filter_two(
    part: Any,
    shape: Any,
    inputs: Any,
    leak: Any,
    coupling: Any,
    first_gain: Any,
    second_gain: Any,
    first_initial: Any,
    second_initial: Any,
    first_levels: Any,
    second_levels: Any,
) -> None:
    """A filter of two levels, the first of which also drives the second."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = _unsigned(part, shape)
    leaks, couplings = scratch(inputs), scratch(inputs)
    gains_1, level_1, lost_1 = scratch(inputs), scratch(inputs), scratch(inputs)
    gains_2, level_2, lost_2 = scratch(inputs), scratch(inputs), scratch(inputs)
    for left in range(first, last, block):
        count = min(block, last - left)
        for unit in range(count):
            leaks[unit], couplings[unit] = leak[left + unit], coupling[left + unit]
            gains_1[unit], gains_2[unit] = first_gain[left + unit], second_gain[left + unit]
        for sample in range(first_sample, end):
            state = sample * units + left
            for unit in range(count):
                level_1[unit], lost_1[unit] = first_initial[state + unit], 0
                level_2[unit], lost_2[unit] = second_initial[state + unit], 0
            for step in range(steps):
                at = sample * of_sample + step * of_step + left
                for unit in range(count):
                    now = inputs[at + unit]
                    drive = gains_2[unit] * now + couplings[unit] * level_1[unit]
                    level_2[unit], lost_2[unit] = _add_leaking(
                        leaks[unit], drive, level_2[unit], lost_2[unit]
                    )
                    level_1[unit], lost_1[unit] = _add_leaking(
                        leaks[unit], gains_1[unit] * now, level_1[unit], lost_1[unit]
                    )
                    first_levels[at + unit] = level_1[unit]
                    second_levels[at + unit] = level_2[unit]


@_compiled
def adjoint_one(
    part: Any,
    shape: Any,
    inputs: Any,
    leak: Any,
    gain: Any,
    initial: Any,
    levels: Any,
    upstream: Any,
    for_inputs: Any,
    for_decay: Any,
    for_gain: Any,
    adjoints: Any,
) -> None:
    """Gradients of a filter of one level, summed over time, and its adjoint at the first step."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = _unsigned(part, shape)
    leaks, gains, adjoint, lost = scratch(inputs), scratch(inputs), scratch(inputs), scratch(inputs)
    of_decay, of_gain, before = scratch(inputs), scratch(inputs), scratch(inputs)
    for left in range(first, last, block):
        count = min(block, last - left)
        for unit in range(count):
            leaks[unit], gains[unit] = leak[left + unit], gain[left + unit]
        for sample in range(first_sample, end):
            state = sample * units + left
            for unit in range(count):
                adjoint[unit], lost[unit], of_decay[unit], of_gain[unit] = 0, 0, 0, 0
            for back in range(steps):
                step = steps - back - np.uint64(1)
                at = sample * of_sample + step * of_step + left
                for array in (inputs, levels, upstream, for_inputs):
                    _fetch(array, at, count, of_step, step)
                if step > np.uint64(0):
                    for unit in range(count):
                        before[unit] = levels[at - of_step + unit]
                else:
                    for unit in range(count):
                        before[unit] = initial[state + unit]
                for unit in range(count):
                    adjoint[unit], lost[unit] = _add_leaking(
                        leaks[unit], upstream[at + unit], adjoint[unit], lost[unit]
                    )
                    for_inputs[at + unit] = gains[unit] * adjoint[unit]
                    of_decay[unit] += adjoint[unit] * before[unit]
                    of_gain[unit] += adjoint[unit] * inputs[at + unit]
            for unit in range(count):
                for_decay[state + unit], for_gain[state + unit] = of_decay[unit], of_gain[unit]
                adjoints[state + unit] = adjoint[unit]


@_compiled
def adjoint_two(
    part: Any,
    shape: Any,
    inputs: Any,
    leak: Any,
    coupling: Any,
    first_gain: Any,
    second_gain: Any,
    first_initial: Any,
    second_initial: Any,
    first_levels: Any,
    second_levels: Any,
    first_upstream: Any,
    second_upstream: Any,
    for_inputs: Any,
    for_decay: Any,
    for_coupling: Any,
    for_first_gain: Any,
    for_second_gain: Any,
    first_adjoints: Any,
    second_adjoints: Any,
) -> None:
    """The same of a filter of two levels."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = _unsigned(part, shape)
    leaks, couplings = scratch(inputs), scratch(inputs)
    gains_1, adjoint_1, lost_1 = scratch(inputs), scratch(inputs), scratch(inputs)
    gains_2, adjoint_2, lost_2 = scratch(inputs), scratch(inputs), scratch(inputs)
    before_1, before_2 = scratch(inputs), scratch(inputs)
    of_decay, of_coupling = scratch(inputs), scratch(inputs)
    of_gain_1, of_gain_2 = scratch(inputs), scratch(inputs)
    for left in range(first, last, block):
        count = min(block, last - left)
        for unit in range(count):
            leaks[unit], couplings[unit] = leak[left + unit], coupling[left + unit]
            gains_1[unit], gains_2[unit] = first_gain[left + unit], second_gain[left + unit]
        for sample in range(first_sample, end):
            state = sample * units + left
            for unit in range(count):
                adjoint_1[unit], lost_1[unit], adjoint_2[unit], lost_2[unit] = 0, 0, 0, 0
                of_decay[unit], of_coupling[unit] = 0, 0
                of_gain_1[unit], of_gain_2[unit] = 0, 0
            for back in range(steps):
                step = steps - back - np.uint64(1)
                at = sample * of_sample + step * of_step + left
                for array in (inputs, first_levels, second_levels):
                    _fetch(array, at, count, of_step, step)
                for array in (first_upstream, second_upstream, for_inputs):
                    _fetch(array, at, count, of_step, step)
                if step > np.uint64(0):
                    for unit in range(count):
                        before_1[unit] = first_levels[at - of_step + unit]
                        before_2[unit] = second_levels[at - of_step + unit]
                else:
                    for unit in range(count):
                        before_1[unit] = first_initial[state + unit]
                        before_2[unit] = second_initial[state + unit]
                for unit in range(count):
                    now = inputs[at + unit]
                    drive = first_upstream[at + unit] + couplings[unit] * adjoint_2[unit]
                    adjoint_1[unit], lost_1[unit] = _add_leaking(
                        leaks[unit], drive, adjoint_1[unit], lost_1[unit]
                    )
                    adjoint_2[unit], lost_2[unit] = _add_leaking(
                        leaks[unit], second_upstream[at + unit], adjoint_2[unit], lost_2[unit]
                    )
                    for_inputs[at + unit] = (
                        gains_1[unit] * adjoint_1[unit] + gains_2[unit] * adjoint_2[unit]
                    )
                    of_decay[unit] += (
                        adjoint_1[unit] * before_1[unit] + adjoint_2[unit] * before_2[unit]
                    )
                    of_coupling[unit] += adjoint_2[unit] * before_1[unit]
                    of_gain_1[unit] += adjoint_1[unit] * now
                    of_gain_2[unit] += adjoint_2[unit] * now
            for unit in range(count):
                for_decay[state + unit], for_coupling[state + unit] = (
                    of_decay[unit],
                    of_coupling[unit],
                )
                for_first_gain[state + unit] = of_gain_1[unit]
                for_second_gain[state + unit] = of_gain_2[unit]
                first_adjoints[state + unit] = adjoint_1[unit]
                second_adjoints[state + unit] = adjoint_2[unit]
