"""Spikes in loops that Numba compiles; see `numba_tools.py`."""

import numpy as np

from keras_spiking._types import Array
from keras_spiking.kernels.constants import DIGITS, MOST_IN_STEP, MOST_SPIKES
from keras_spiking.kernels.numba_tools import compiled, fetch, scratch, unsigned

# For float32 and for float64: Numba knows no dictionaries.
_UNITS = 2.0 ** DIGITS["float32"], 2.0 ** DIGITS["float64"]
_MOST = MOST_IN_STEP["float32"], MOST_IN_STEP["float64"]


@compiled
def _unit(like: Array) -> float:
    """A voltage of 1 in steps of the grid."""
    number = like.dtype.type
    return number(_UNITS[1]) if like.itemsize == 8 else number(_UNITS[0])


@compiled
def _most(like: Array) -> float:
    """The most spikes in a step."""
    number = like.dtype.type
    return number(_MOST[1]) if like.itemsize == 8 else number(_MOST[0])


@compiled
def _to_grid(voltage: float, spike: float, grid: float) -> float:
    """The fractional part of a voltage, rounded to the grid, in [0, 1)."""
    rounded = np.rint((voltage - np.floor(voltage)) * spike)
    last = spike - spike * grid
    return (rounded if rounded < last else last) * grid


@compiled
def _count(
    increment: float, voltage: float, spike: float, grid: float, most: float
) -> tuple[float, float]:
    """The spikes of one step, and the voltage after it."""
    rounded = np.rint(increment * spike) * grid
    whole = np.floor(rounded)
    fraction = rounded - whole
    # NaN is not equal to itself: it leaves the voltage as it was.
    raised = voltage + fraction if fraction == fraction else voltage
    # Not `min` and `max`, because NaN must stay NaN.
    whole = most if whole > most else whole
    whole = -most if whole < -most else whole
    carry = np.floor(raised)
    return whole + carry, raised - carry


@compiled
def fire(
    part: tuple[int, ...],
    shape: tuple[int, ...],
    rates: Array,
    voltage: Array,
    seconds: Array,
    heights: Array,
    rectify: bool,
    spikes: Array,
    voltages: Array,
    final: Array,
) -> None:
    """Spikes; and the voltages of each step, if there is room for them.

    `seconds`, the factor of rates, and `heights`, that of spikes, have a number for each unit.
    """
    first_sample, end, first, last, steps, units, of_sample, of_step, block = unsigned(part, shape)
    spike, most = _unit(rates), _most(rates)
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


@compiled
def accumulate(
    part: tuple[int, ...],
    shape: tuple[int, ...],
    rates: Array,
    floor: Array,
    voltage: Array,
    emitted: Array,
    origin: Array,
    dt: float,
    height: float,
    rectify: bool,
    negative_spikes: bool,
    spikes: Array,
    active: Array,
    final_floor: Array,
    final_voltage: Array,
    final_emitted: Array,
) -> None:
    """Spikes of neurons that remember their sums, and the steps that the gradient passes."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = unsigned(part, shape)
    spike, most = _unit(rates), _most(rates)
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
                    # Adds NaN for NaN, and else nothing.
                    spikes[at + unit] = (due - out[unit]) * height + (number - number)
                    out[unit] = due
                if rectify:
                    for unit in range(count):
                        active[at + unit] = summed[unit] + now[unit] > from_[unit]
            for unit in range(count):
                final_floor[state + unit] = summed[unit]
                final_voltage[state + unit] = now[unit]
                final_emitted[state + unit] = out[unit]


@compiled
def accumulate_gradient(
    part: tuple[int, ...], shape: tuple[int, ...], upstream: Array, active: Array, gradients: Array
) -> None:
    """A rate is in its sum and all later ones; spikes are a sum less the one before."""
    first_sample, end, first, last, steps, _, of_sample, of_step, block = unsigned(part, shape)
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
                    fetch(array, at, count, of_step, step)
                fetch(active, at, count, of_step, step)
                # A loop of its own: numbers of two sizes in one loop do not become vector code.
                for unit in range(count):
                    passes[unit] = upstream.dtype.type(active[at + unit])
                for unit in range(count):
                    now = upstream[at + unit]
                    change = now - later[unit]
                    total[unit] += change if passes[unit] > zero else zero
                    later[unit] = now
                    gradients[at + unit] = total[unit]
