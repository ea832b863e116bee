"""Filters in loops that Numba compiles; see `numba_tools.py`.

`filter_steps.py` has the same steps for one moment in time. Here one and two levels have loops of
their own: few arrays may be written to in a loop that is to become vector code.
"""

import numpy as np

from keras_spiking._types import Array
from keras_spiking.kernels.numba_tools import compiled, fetch, scratch, unsigned


@compiled
def _add_leaking(leak: float, drive: float, level: float, rest: float) -> tuple[float, float]:
    """As in `filter_steps.py`: the new level, and the rest that rounding took from it."""
    change = drive - leak * level + rest
    new = level + change
    return new, change - (new - level)


@compiled
def filter_one(
    part: tuple[int, ...],
    shape: tuple[int, ...],
    inputs: Array,
    leak: Array,
    gain: Array,
    initial: Array,
    levels: Array,
) -> None:
    """A filter of one level."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = unsigned(part, shape)
    leaks, gains, level, rest = (
        scratch(inputs),
        scratch(inputs),
        scratch(inputs),
        scratch(inputs),
    )
    for left in range(first, last, block):
        count = min(block, last - left)
        for unit in range(count):
            leaks[unit], gains[unit] = leak[left + unit], gain[left + unit]
        for sample in range(first_sample, end):
            state = sample * units + left
            for unit in range(count):
                level[unit], rest[unit] = initial[state + unit], 0
            for step in range(steps):
                at = sample * of_sample + step * of_step + left
                for unit in range(count):
                    drive = gains[unit] * inputs[at + unit]
                    level[unit], rest[unit] = _add_leaking(
                        leaks[unit], drive, level[unit], rest[unit]
                    )
                    levels[at + unit] = level[unit]


@compiled
def filter_two(
    part: tuple[int, ...],
    shape: tuple[int, ...],
    inputs: Array,
    leak: Array,
    coupling: Array,
    first_gain: Array,
    second_gain: Array,
    first_initial: Array,
    second_initial: Array,
    first_levels: Array,
    second_levels: Array,
) -> None:
    """A filter of two levels, the first of which also drives the second."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = unsigned(part, shape)
    leaks, couplings = scratch(inputs), scratch(inputs)
    gains_1, level_1, rest_1 = scratch(inputs), scratch(inputs), scratch(inputs)
    gains_2, level_2, rest_2 = scratch(inputs), scratch(inputs), scratch(inputs)
    for left in range(first, last, block):
        count = min(block, last - left)
        for unit in range(count):
            leaks[unit], couplings[unit] = leak[left + unit], coupling[left + unit]
            gains_1[unit], gains_2[unit] = first_gain[left + unit], second_gain[left + unit]
        for sample in range(first_sample, end):
            state = sample * units + left
            for unit in range(count):
                level_1[unit], rest_1[unit] = first_initial[state + unit], 0
                level_2[unit], rest_2[unit] = second_initial[state + unit], 0
            for step in range(steps):
                at = sample * of_sample + step * of_step + left
                for unit in range(count):
                    now = inputs[at + unit]
                    drive = gains_2[unit] * now + couplings[unit] * level_1[unit]
                    level_2[unit], rest_2[unit] = _add_leaking(
                        leaks[unit], drive, level_2[unit], rest_2[unit]
                    )
                    level_1[unit], rest_1[unit] = _add_leaking(
                        leaks[unit], gains_1[unit] * now, level_1[unit], rest_1[unit]
                    )
                    first_levels[at + unit] = level_1[unit]
                    second_levels[at + unit] = level_2[unit]


@compiled
def adjoint_one(
    part: tuple[int, ...],
    shape: tuple[int, ...],
    inputs: Array,
    leak: Array,
    gain: Array,
    initial: Array,
    levels: Array,
    upstream: Array,
    grad_inputs: Array,
    sum_decay: Array,
    sum_gain: Array,
    adjoints: Array,
) -> None:
    """Gradients of a filter of one level, summed over time, and its adjoint at the first step."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = unsigned(part, shape)
    leaks, gains, adjoint, rest = (
        scratch(inputs),
        scratch(inputs),
        scratch(inputs),
        scratch(inputs),
    )
    of_decay, of_gain, before = scratch(inputs), scratch(inputs), scratch(inputs)
    for left in range(first, last, block):
        count = min(block, last - left)
        for unit in range(count):
            leaks[unit], gains[unit] = leak[left + unit], gain[left + unit]
        for sample in range(first_sample, end):
            state = sample * units + left
            for unit in range(count):
                adjoint[unit], rest[unit], of_decay[unit], of_gain[unit] = 0, 0, 0, 0
            for back in range(steps):
                step = steps - back - np.uint64(1)
                at = sample * of_sample + step * of_step + left
                for array in (inputs, levels, upstream, grad_inputs):
                    fetch(array, at, count, of_step, step)
                if step > np.uint64(0):
                    for unit in range(count):
                        before[unit] = levels[at - of_step + unit]
                else:
                    for unit in range(count):
                        before[unit] = initial[state + unit]
                for unit in range(count):
                    adjoint[unit], rest[unit] = _add_leaking(
                        leaks[unit], upstream[at + unit], adjoint[unit], rest[unit]
                    )
                    grad_inputs[at + unit] = gains[unit] * adjoint[unit]
                    of_decay[unit] += adjoint[unit] * before[unit]
                    of_gain[unit] += adjoint[unit] * inputs[at + unit]
            for unit in range(count):
                sum_decay[state + unit], sum_gain[state + unit] = of_decay[unit], of_gain[unit]
                adjoints[state + unit] = adjoint[unit]


@compiled
def adjoint_two(
    part: tuple[int, ...],
    shape: tuple[int, ...],
    inputs: Array,
    leak: Array,
    coupling: Array,
    first_gain: Array,
    second_gain: Array,
    first_initial: Array,
    second_initial: Array,
    first_levels: Array,
    second_levels: Array,
    first_upstream: Array,
    second_upstream: Array,
    grad_inputs: Array,
    sum_decay: Array,
    sum_coupling: Array,
    sum_first_gain: Array,
    sum_second_gain: Array,
    first_adjoints: Array,
    second_adjoints: Array,
) -> None:
    """The same of a filter of two levels."""
    first_sample, end, first, last, steps, units, of_sample, of_step, block = unsigned(part, shape)
    leaks, couplings = scratch(inputs), scratch(inputs)
    gains_1, adjoint_1, rest_1 = scratch(inputs), scratch(inputs), scratch(inputs)
    gains_2, adjoint_2, rest_2 = scratch(inputs), scratch(inputs), scratch(inputs)
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
                adjoint_1[unit], rest_1[unit], adjoint_2[unit], rest_2[unit] = (
                    0,
                    0,
                    0,
                    0,
                )
                of_decay[unit], of_coupling[unit] = 0, 0
                of_gain_1[unit], of_gain_2[unit] = 0, 0
            for back in range(steps):
                step = steps - back - np.uint64(1)
                at = sample * of_sample + step * of_step + left
                for array in (inputs, first_levels, second_levels):
                    fetch(array, at, count, of_step, step)
                for array in (first_upstream, second_upstream, grad_inputs):
                    fetch(array, at, count, of_step, step)
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
                    adjoint_1[unit], rest_1[unit] = _add_leaking(
                        leaks[unit], drive, adjoint_1[unit], rest_1[unit]
                    )
                    adjoint_2[unit], rest_2[unit] = _add_leaking(
                        leaks[unit],
                        second_upstream[at + unit],
                        adjoint_2[unit],
                        rest_2[unit],
                    )
                    grad_inputs[at + unit] = (
                        gains_1[unit] * adjoint_1[unit] + gains_2[unit] * adjoint_2[unit]
                    )
                    of_decay[unit] += (
                        adjoint_1[unit] * before_1[unit] + adjoint_2[unit] * before_2[unit]
                    )
                    of_coupling[unit] += adjoint_2[unit] * before_1[unit]
                    of_gain_1[unit] += adjoint_1[unit] * now
                    of_gain_2[unit] += adjoint_2[unit] * now
            for unit in range(count):
                sum_decay[state + unit], sum_coupling[state + unit] = (
                    of_decay[unit],
                    of_coupling[unit],
                )
                sum_first_gain[state + unit] = of_gain_1[unit]
                sum_second_gain[state + unit] = of_gain_2[unit]
                first_adjoints[state + unit] = adjoint_1[unit]
                second_adjoints[state + unit] = adjoint_2[unit]
