r"""The kernels in `keras.ops` alone: parallel over time, on every backend; the reference.

**Spikes** are a prefix sum. With increments :math:`r_t` and initial voltage :math:`v_0`,

.. math:: n_t = \lfloor v_0 + \sum_{s \le t} r_s \rfloor - \lfloor v_0 + \sum_{s < t} r_s \rfloor

Each increment is rounded once to a grid of 2^-23 and split into a whole number of spikes and a
fraction. The fractions are summed as integers, and integer addition gives the same bits in any
order. The sum may wrap at 2^32: its low 23 bits, the voltage, are right all the same, and a
step's fractions have carried into a spike exactly if the voltage fell below what was added.

**Filters** are a recurrence, summed by doubling: after pass k every step holds the weighted sum
of its last 2^k drives, so that log2(T) passes suffice.
"""

from typing import Any

import keras
from keras import ops

# The voltage's binary digits, and the integers that hold them: as many as the float's own.
_GRIDS = {"float32": (23, "int32"), "float64": (52, "int64")}


def integrate_and_fire(
    increments: Any, voltage: Any, time_axis: int = 1, cumsum: Any = ops.cumsum
) -> tuple[Any, Any]:
    dtype = keras.backend.standardize_dtype(increments.dtype)
    digits, integer = _GRIDS[dtype]
    whole, fraction = split(increments)
    added = ops.cast(fraction * 2.0**digits, integer)
    start = ops.cast(to_grid(voltage) * 2.0**digits, integer)

    total = cumsum(added, axis=time_axis) + ops.expand_dims(start, time_axis)
    voltages = ops.bitwise_and(total, ops.convert_to_tensor(2**digits - 1, dtype=integer))
    counts = whole + ops.cast(voltages < added, dtype)
    return counts, ops.cast(one_step(voltages, time_axis, -1), dtype) * 2.0**-digits


def split(increments: Any) -> tuple[Any, Any]:
    """Rounds increments to the grid: whole spikes, and a fraction in [0, 1), both exact.

    What is not finite keeps its value as a count, and leaves the voltage as it was.
    """
    digits, _ = _GRIDS[keras.backend.standardize_dtype(increments.dtype)]
    rounded = ops.round(increments * 2.0**digits) * 2.0**-digits
    whole = floor(rounded)
    return whole, ops.where(ops.isfinite(increments), rounded - whole, 0.0)


def to_grid(voltage: Any) -> Any:
    """The fractional part of a voltage, rounded to the grid, in [0, 1)."""
    digits, _ = _GRIDS[keras.backend.standardize_dtype(voltage.dtype)]
    rounded = ops.round((voltage - floor(voltage)) * 2.0**digits) * 2.0**-digits
    return ops.where(rounded < 1.0, rounded, 1.0 - 2.0**-digits)


def floor(x: Any) -> Any:
    """`ops.floor`, which on torch makes float64 float32."""
    rounded = ops.round(x)
    return rounded - ops.cast(rounded > x, x.dtype)


def linear_recurrence(
    log_decay: Any, drive: Any, initial: Any, reverse: bool = False, time_axis: int = 1
) -> Any:
    start = ops.expand_dims(initial, time_axis)
    parts = [drive, start] if reverse else [start, drive]
    sequence = ops.concatenate(parts, axis=time_axis)
    log_decay = ops.expand_dims(log_decay, time_axis)

    length = ops.shape(sequence)[time_axis]
    if isinstance(length, int):
        sequence = _double_known(log_decay, sequence, length, reverse, time_axis)
    else:
        sequence = _double_unknown(log_decay, sequence, length, reverse, time_axis)
    if reverse:
        return step_slice(sequence, time_axis, None, -1)
    return step_slice(sequence, time_axis, 1, None)


def _double_known(log_decay: Any, sequence: Any, length: int, reverse: bool, time_axis: int) -> Any:
    step = 1
    while step < length:
        early = step_slice(sequence, time_axis, None, -step)
        late = step_slice(sequence, time_axis, step, None)
        decay = ops.exp(float(step) * log_decay)
        if reverse:
            edge = step_slice(sequence, time_axis, -step, None)
            parts = [early + decay * late, edge]
        else:
            edge = step_slice(sequence, time_axis, None, step)
            parts = [edge, late + decay * early]
        sequence = ops.concatenate(parts, axis=time_axis)
        step *= 2
    return sequence


def _double_unknown(
    log_decay: Any, sequence: Any, length: Any, reverse: bool, time_axis: int
) -> Any:
    """The same for a length that only the running program knows."""
    times = ops.arange(length)
    times = ops.reshape(times, [-1] + [1] * (len(sequence.shape) - 1 - time_axis))

    def add_earlier(step: Any, sequence: Any) -> tuple[Any, Any]:
        if reverse:
            moved, inside = ops.roll(sequence, -step, axis=time_axis), times < length - step
        else:
            moved, inside = ops.roll(sequence, step, axis=time_axis), times >= step
        decay = ops.exp(ops.cast(step, sequence.dtype) * log_decay)
        return step * 2, sequence + ops.where(inside, decay * moved, 0.0)

    _, sequence = ops.while_loop(
        lambda step, _: step < length, add_earlier, (ops.ones_like(length), sequence)
    )
    return sequence


def linear_recurrence_gradients(
    log_decay: Any,
    sequence: Any,
    initial: Any,
    upstream: Any,
    reverse: bool,
    time_axis: int,
    recurrence: Any = linear_recurrence,
) -> tuple[Any, Any, Any]:
    """Gradients in log_decay, drive and initial: the recurrence is its own adjoint.

    `recurrence` runs the adjoint; a differentiable one makes the gradients differentiable.
    """
    adjoint = recurrence(log_decay, upstream, ops.zeros_like(initial), not reverse, time_axis)
    start = ops.expand_dims(initial, time_axis)
    if reverse:
        parts = [step_slice(sequence, time_axis, 1, None), start]
        first = one_step(adjoint, time_axis, -1)
    else:
        parts = [start, step_slice(sequence, time_axis, None, -1)]
        first = one_step(adjoint, time_axis, 0)
    previous = ops.concatenate(parts, axis=time_axis)
    decay = ops.exp(log_decay)
    through_time = ops.sum(adjoint * previous, axis=time_axis)
    through_batch = ops.sum(through_time, axis=0, keepdims=True)
    return decay * through_batch, adjoint, decay * first


def straight_through(rates: Any, spikes: Any) -> Any:
    return ops.stop_gradient(spikes) + (rates - ops.stop_gradient(rates))


def seeded_uniform(shape: Any, seed: int, dtype: str) -> Any:
    return keras.random.uniform(shape, dtype=dtype, seed=seed)


def step_slice(sequence: Any, time_axis: int, start: int | None, stop: int | None) -> Any:
    """Steps `start` to `stop` of a sequence."""
    return sequence[(slice(None),) * time_axis + (slice(start, stop),)]


def one_step(sequence: Any, time_axis: int, step: int) -> Any:
    """One step of a sequence, without its time axis."""
    return sequence[(slice(None),) * time_axis + (step,)]
