r"""The kernels in `keras.ops` alone: parallel over time, on every backend; the reference.

**Spikes** are a prefix sum. With increments :math:`r_t` and initial voltage :math:`v_0`,

.. math:: n_t = \lfloor v_0 + \sum_{s \le t} r_s \rfloor - \lfloor v_0 + \sum_{s < t} r_s \rfloor

Each increment is rounded once to a grid of 2^-23 and split into a whole number of spikes and a
fraction. The fractions are summed as integers, and integer addition gives the same bits in any
order. The sum may wrap at 2^32: its low 23 bits, the voltage, are right all the same. A step's
fraction has carried into a spike exactly if the voltage is now below that fraction.

**Filters** are a recurrence, summed by doubling: after pass k every step holds the weighted sum
of its last 2^k drives, so that log2(T) passes suffice.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_spiking._types import Tensor
from keras_spiking.kernels import grid, recurrences, tensors
from keras_spiking.kernels.constants import BITS, DIGITS, INTEGERS
from keras_spiking.kernels.contract import Filter, FilterGradients


def integrate_and_fire(
    increments: Tensor, voltage: Tensor, time_axis: int = 1
) -> tuple[Tensor, Tensor]:
    counts, voltages = integrate(increments, voltage, time_axis)
    return counts, tensors.last_step(voltages, grid.to_grid(voltage), time_axis)


def integrate(increments: Tensor, voltage: Tensor, time_axis: int = 1) -> tuple[Tensor, Tensor]:
    dtype = keras.backend.standardize_dtype(increments.dtype)
    unit = grid.unit_of(increments)
    whole, fraction = grid.split(increments)
    added, start = (
        ops.cast(part * unit, INTEGERS[dtype]) for part in (fraction, grid.to_grid(voltage))
    )
    total = ops.cumsum(added, axis=time_axis) + ops.expand_dims(start, time_axis)
    voltages = low_digits(total, dtype)
    return whole + ops.cast(voltages < fraction, dtype), voltages


def low_digits(total: Tensor, dtype: str) -> Tensor:
    """The voltages whose sums, in steps of the grid, are in integers that may have wrapped.

    A product moves the lowest digits to the top, and all others out of the integer. Not a bitwise
    operation, which tf2onnx does not know; nor a remainder, which TensorFlow lacks on a GPU.
    """
    digits, bits = DIGITS[dtype], BITS[dtype]
    top = ops.cast(total * 2 ** (bits - digits), dtype) * 2.0**-bits
    return ops.where(top < 0.0, top + 1.0, top)


def linear_filter(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> tuple[Tensor, ...]:
    return recurrences.linear_filter(ops, linear_recurrence, filter_, inputs, initial, time_axis)


def linear_filter_gradients(
    filter_: Filter,
    inputs: Tensor,
    initial: Sequence[Tensor],
    levels: Sequence[Tensor],
    upstream: Sequence[Tensor],
    time_axis: int = 1,
) -> FilterGradients:
    sequences = inputs, initial, levels, upstream
    return recurrences.filter_gradients(ops, _backwards, filter_, *sequences, time_axis)


def filter_ends(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> tuple[Tensor, ...]:
    """The last step alone of `linear_filter`'s levels, as sequences of one step: weighted sums.

    An input n steps before the end weighs `gains[0] * a**n` in the first level; in the second
    `gains[1] * a**n`, and through the first one `coupling * gains[0] * n * a**(n-1)`.
    """

    def decays(n: Tensor) -> Tensor:
        return ops.exp(n * filter_.log_decay)

    def coupled_decays(n: Tensor) -> Tensor:
        return n * decays(ops.where(n > 0, n - 1.0, 0.0))

    def summed(weights: Tensor) -> Tensor:
        return ops.sum(inputs * ops.expand_dims(weights, 1 - time_axis), axis=time_axis)

    steps = ops.shape(inputs)[time_axis]
    since = ops.cast(ops.arange(steps - 1, -1, -1, dtype="int32"), inputs.dtype)
    since = ops.reshape(since, (-1, *[1] * (len(filter_.log_decay.shape) - 1)))
    steps = ops.cast(steps, inputs.dtype)
    by_steps, at_start = decays(since), decays(steps)
    weights = [gain * by_steps for gain in filter_.gains]
    starts = [at_start * start for start in initial]
    if len(filter_.gains) == 2:
        weights[1] += filter_.coupling * filter_.gains[0] * coupled_decays(since)
        starts[1] += filter_.coupling * coupled_decays(steps) * initial[0]
    ends = [start + summed(weight) for start, weight in zip(starts, weights, strict=True)]
    return tuple(ops.expand_dims(end, time_axis) for end in ends)


def filter_end(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> Tensor:
    return filter_ends(filter_, inputs, initial, time_axis)[-1]


def linear_recurrence(
    log_decay: Tensor, drive: Tensor, initial: Tensor, time_axis: int = 1
) -> Tensor:
    """`h_t = exp(log_decay) * h_{t-1} + drive_t`, from `initial`."""
    sequence = ops.concatenate([ops.expand_dims(initial, time_axis), drive], axis=time_axis)
    log_decay = ops.expand_dims(log_decay, time_axis)
    length = ops.shape(sequence)[time_axis]
    double = _double_known if isinstance(length, int) else _double_unknown
    return tensors.step_slice(double(log_decay, sequence, length, time_axis), time_axis, 1, None)


def _backwards(log_decay: Tensor, drive: Tensor, initial: Tensor, time_axis: int) -> Tensor:
    drive = ops.flip(drive, time_axis)
    return ops.flip(linear_recurrence(log_decay, drive, initial, time_axis), time_axis)


def _double_known(log_decay: Tensor, sequence: Tensor, length: int, time_axis: int) -> Tensor:
    step = 1
    while step < length:
        edge = tensors.step_slice(sequence, time_axis, None, step)
        early = tensors.step_slice(sequence, time_axis, None, -step)
        late = tensors.step_slice(sequence, time_axis, step, None)
        late = late + ops.exp(float(step) * log_decay) * early
        sequence = ops.concatenate([edge, late], axis=time_axis)
        step *= 2
    return sequence


def _double_unknown(log_decay: Tensor, sequence: Tensor, length: Tensor, time_axis: int) -> Tensor:
    """The same for a length that only the running program knows."""
    times = ops.arange(length, dtype="int32")
    along_time = [-1] + [1] * (len(sequence.shape) - 1 - time_axis)

    def add_earlier(step: Tensor, sequence: Tensor) -> tuple[Tensor, Tensor]:
        # Not `ops.roll`, which TFLite does not have. Not slices, whose sizes XLA does not know.
        earlier = ops.take(sequence, ops.maximum(times - step, 0), axis=time_axis)
        decay = ops.exp(ops.cast(step, sequence.dtype) * log_decay)
        inside = ops.reshape(times >= step, along_time)
        return step * 2, sequence + ops.where(inside, decay * earlier, 0.0)

    _, sequence = ops.while_loop(
        lambda step, _: step < length, add_earlier, (ops.ones_like(length), sequence)
    )
    return sequence


def straight_through(rates: Tensor, spikes: Tensor) -> Tensor:
    return ops.stop_gradient(spikes) + (rates - ops.stop_gradient(rates))


def spike(
    rates: Tensor, voltage: Tensor, dt: Tensor, time_axis: int = 1, rectify: bool = False
) -> tuple[Tensor, Tensor]:
    kernels = integrate_and_fire, straight_through
    return spike_by(*kernels, rates, voltage, dt, time_axis, rectify)


def spike_by(
    integrate_and_fire: Callable[..., tuple[Tensor, Tensor]],
    straight_through: Callable[[Tensor, Tensor], Tensor],
    rates: Tensor,
    voltage: Tensor,
    dt: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    """`spike`, made of two other kernels of a backend."""
    rates = ops.relu(rates) if rectify else rates
    # Times `1 / dt`, not divided by `dt`: a compiler may make a product of a division, and change
    # the bits.
    increments = ops.cast(ops.stop_gradient(rates), voltage.dtype) * dt
    counts, final = integrate_and_fire(increments, ops.stop_gradient(voltage), time_axis)
    return straight_through(rates, tensors.cast(counts * (1.0 / dt), rates.dtype)), final


def spike_by_channel(
    rates: Tensor,
    voltage: Tensor,
    seconds: Tensor,
    heights: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    return scaled(spike, rates, voltage, seconds, heights, time_axis, rectify)


def scaled(
    spike: Callable[..., tuple[Tensor, Tensor]],
    rates: Tensor,
    voltage: Tensor,
    seconds: Tensor,
    heights: Tensor,
    time_axis: int,
    rectify: bool,
) -> tuple[Tensor, Tensor]:
    """`spike_by_channel`, made of another kernel of a backend."""
    # `seconds` is one factor. A compiler may join two products, and change the bits.
    increments = ops.cast(rates, voltage.dtype) * seconds
    spikes, final = spike(increments, voltage, 1.0, time_axis, rectify)
    return tensors.cast(spikes * heights, rates.dtype), final


def expm1(x: Tensor) -> Tensor:
    power = ops.exp(x)
    return ops.expm1(ops.stop_gradient(x)) + (power - ops.stop_gradient(power))


def alpha_gain(ratio: Tensor) -> Tensor:
    return recurrences.alpha_gain(ops, expm1, ratio)


def uniform(shape: Sequence[int], seed: Any, dtype: str) -> Tensor:
    return grid.round_down(keras.random.uniform(shape, dtype=dtype, seed=seed))
