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

import math
from typing import Any

import keras
from keras import ops

from keras_spiking import kernels
from keras_spiking.kernels import LARGEST, setting

# The voltage's binary digits, and the integers that hold them: as many as the float's own.
_GRIDS = {"float32": (23, "int32"), "float64": (52, "int64")}
_LARGEST_IN_FLOAT16 = 65504.0
# 1 - (1 + x) exp(-x) as a power series, to double precision for x < 0.5: powers and factors.
_SERIES = tuple(
    zip(*((n, (-1) ** n * (n - 1) / math.factorial(n)) for n in range(2, 17)), strict=True)
)


def integrate_and_fire(
    increments: Any, voltage: Any, time_axis: int = 1, cumsum: Any = ops.cumsum
) -> tuple[Any, Any]:
    counts, voltages = integrate(increments, voltage, time_axis, cumsum)
    return counts, last_step(voltages, to_grid(voltage), time_axis)


def integrate(
    increments: Any, voltage: Any, time_axis: int = 1, cumsum: Any = ops.cumsum
) -> tuple[Any, Any]:
    # On torch, `ops.cumsum` sums in 32 bits: hence the argument.
    dtype = keras.backend.standardize_dtype(increments.dtype)
    digits, integer = _GRIDS[dtype]
    whole, fraction = split(increments)
    added = ops.cast(fraction * 2.0**digits, integer)
    start = ops.cast(to_grid(voltage) * 2.0**digits, integer)

    total = cumsum(added, axis=time_axis) + ops.expand_dims(start, time_axis)
    voltages = low_digits(total, digits, integer)
    counts = whole + ops.cast(voltages < added, dtype)
    return counts, ops.cast(voltages, dtype) * 2.0**-digits


def low_digits(total: Any, digits: int, integer: str) -> Any:
    """The lowest binary digits of an integer, as a positive number."""
    if setting.name != "portable":
        return ops.bitwise_and(total, ops.convert_to_tensor(2**digits - 1, dtype=integer))
    # As models are exported: tf2onnx knows no bitwise operation, and its remainder has the sign of
    # what is divided. TensorFlow has no remainder of integers on a GPU, so it is not for all.
    unit = ops.convert_to_tensor(2**digits, dtype=integer)
    rest = ops.mod(total, unit)
    return ops.where(rest < 0, rest + unit, rest)


def split(increments: Any) -> tuple[Any, Any]:
    """Rounds increments to the grid: whole spikes, and a fraction in [0, 1), both exact.

    Not a number stays that as a count, and leaves the voltage as it was.
    """
    dtype = keras.backend.standardize_dtype(increments.dtype)
    digits, _ = _GRIDS[dtype]
    largest = ops.convert_to_tensor(LARGEST[digits], dtype=dtype)
    rounded = ops.round(saturate(increments * 2.0**digits, largest)) * 2.0**-digits
    whole = floor(rounded)
    return whole, ops.where(ops.isfinite(increments), rounded - whole, 0.0)


def saturate(tensor: Any, largest: Any) -> Any:
    """Values of at most that size.

    Not `ops.clip`: XLA on a CPU takes what is no number for a number there.
    """
    return ops.where(ops.abs(tensor) > largest, ops.sign(tensor) * largest, tensor)


def to_grid(voltage: Any) -> Any:
    """The fractional part of a voltage, rounded to the grid, in [0, 1)."""
    digits, _ = _GRIDS[keras.backend.standardize_dtype(voltage.dtype)]
    rounded = ops.round((voltage - floor(voltage)) * 2.0**digits) * 2.0**-digits
    return ops.where(rounded < 1.0, rounded, 1.0 - 2.0**-digits)


def filter_step(
    leak: Any, coupling: Any, gains: Any, step: Any, levels: Any, lost: Any
) -> tuple[list[Any], list[Any]]:
    """One step of `linear_filter`, for a compiled loop: the levels, and what rounding took."""
    pairs = []
    for index, (gain, level, small) in enumerate(zip(gains, levels, lost, strict=True)):
        drive = gain * step if index == 0 else gain * step + coupling * levels[index - 1]
        pairs.append(add_leaking(leak, drive, level, small))
    return [level for level, _ in pairs], [small for _, small in pairs]


def adjoint_step(
    leak: Any, coupling: Any, upstream: Any, adjoints: Any, lost: Any
) -> tuple[list[Any], list[Any]]:
    """One step of the adjoint of `linear_filter`, going back in time."""
    pairs = []
    for index, drive in enumerate(upstream):
        if index + 1 < len(upstream):
            drive = drive + coupling * adjoints[index + 1]
        pairs.append(add_leaking(leak, drive, adjoints[index], lost[index]))
    return [level for level, _ in pairs], [small for _, small in pairs]


def add_leaking(leak: Any, drive: Any, level: Any, lost: Any) -> tuple[Any, Any]:
    """One step of a recurrence of decay `1 - leak`: the level, and what rounding took from it.

    What was lost is added in the next step (Kahan, doi:10.1145/363707.363723): without that, a
    slow filter stops short of its input.
    """
    change = drive - leak * level + lost
    new = level + change
    return new, change - (new - level)


def floor(x: Any) -> Any:
    """`ops.floor`, which on torch makes float64 float32."""
    rounded = ops.round(x)
    return rounded - ops.cast(rounded > x, x.dtype)


def linear_filter(
    log_decay: Any,
    coupling: Any,
    gains: tuple[Any, ...],
    inputs: Any,
    initial: tuple[Any, ...],
    time_axis: int = 1,
) -> tuple[Any, ...]:
    levels: list[Any] = []
    for gain, start in zip(gains, initial, strict=True):
        drive = ops.expand_dims(gain, time_axis) * inputs
        if levels:
            before = shift(levels[-1], initial[len(levels) - 1], time_axis)
            drive = drive + ops.expand_dims(coupling, time_axis) * before
        levels.append(linear_recurrence(log_decay, drive, start, time_axis=time_axis))
    return tuple(levels)


def filter_ends(
    log_decay: Any,
    coupling: Any,
    gains: tuple[Any, ...],
    inputs: Any,
    initial: tuple[Any, ...],
    time_axis: int = 1,
) -> tuple[Any, ...]:
    """The last step alone of `linear_filter`'s levels, as sequences of one step: weighted sums.

    An input n steps before the end weighs `gains[0] * a**n` in the first level; in the second
    `gains[1] * a**n`, and through the first one `coupling * gains[0] * n * a**(n-1)`.
    """

    def weight(n: Any) -> Any:
        return ops.exp(n * log_decay)

    def coupled_weight(n: Any) -> Any:
        return n * weight(ops.where(n > 0, n - 1.0, 0.0))

    def summed(weights: Any) -> Any:
        return ops.sum(inputs * ops.expand_dims(weights, 1 - time_axis), axis=time_axis)

    steps = ops.shape(inputs)[time_axis]
    since = ops.cast(ops.arange(steps - 1, -1, -1, dtype="int32"), inputs.dtype)
    since = ops.reshape(since, (-1, *[1] * (len(log_decay.shape) - 1)))
    steps = ops.cast(steps, inputs.dtype)
    by_steps, at_start = weight(since), weight(steps)
    weights = [gain * by_steps for gain in gains]
    starts = [at_start * start for start in initial]
    if len(gains) == 2:
        weights[1] += coupling * gains[0] * coupled_weight(since)
        starts[1] += coupling * coupled_weight(steps) * initial[0]
    ends = [start + summed(each) for start, each in zip(starts, weights, strict=True)]
    return tuple(ops.expand_dims(end, time_axis) for end in ends)


def filter_end(*arguments: Any) -> Any:
    return filter_ends(*arguments)[-1]


def linear_filter_gradients(
    log_decay: Any,
    coupling: Any,
    gains: tuple[Any, ...],
    inputs: Any,
    initial: tuple[Any, ...],
    levels: tuple[Any, ...],
    upstream: tuple[Any, ...],
    time_axis: int = 1,
    recurrence: Any = None,
) -> tuple[Any, Any, tuple[Any, ...], Any, tuple[Any, ...]]:
    """Gradients in all but the levels: a filter's adjoint is the filter run backwards.

    The adjoint of the last level comes first, and couples into the one before. `recurrence` is
    what runs each of them, by default `linear_recurrence`.
    """
    recurrence = recurrence or linear_recurrence

    def over_time(tensor: Any) -> Any:
        return ops.expand_dims(tensor, time_axis)

    def total(product: Any) -> Any:
        return ops.sum(ops.sum(product, axis=time_axis), axis=0, keepdims=True)

    decay = ops.exp(log_decay)
    order = len(gains)
    for_log_decay = for_coupling = ops.zeros_like(log_decay)
    for_inputs = ops.zeros_like(inputs)
    for_gains: list[Any] = [None] * order
    for_initial: list[Any] = [None] * order
    later = later_first = None
    for index in reversed(range(order)):
        start = initial[index]
        drive, last = upstream[index], ops.zeros_like(start)
        if later is not None:
            # What the level feeds into the next one, a step later.
            drive = drive + over_time(coupling) * shift(later, last, time_axis, reverse=True)
        adjoint = recurrence(log_decay, drive, last, reverse=True, time_axis=time_axis)
        before = shift(levels[index], start, time_axis)
        # A sum, which is zero where there is no step.
        first = ops.sum(step_slice(adjoint, time_axis, None, 1), axis=time_axis)
        for_log_decay = for_log_decay + decay * total(adjoint * before)
        for_gains[index] = total(adjoint * inputs)
        for_inputs = for_inputs + over_time(gains[index]) * adjoint
        for_initial[index] = decay * first
        if later is not None:
            for_coupling = total(later * before)
            for_initial[index] += coupling * later_first
        later, later_first = adjoint, first
    return for_log_decay, for_coupling, tuple(for_gains), for_inputs, tuple(for_initial)


def shift(sequence: Any, edge: Any, time_axis: int, reverse: bool = False) -> Any:
    """Each step's predecessor (in reverse its successor), beginning with `edge`."""
    edge = ops.expand_dims(edge, time_axis)
    if reverse:
        parts = [step_slice(sequence, time_axis, 1, None), edge]
    else:
        parts = [edge, step_slice(sequence, time_axis, None, -1)]
    return ops.concatenate(parts, axis=time_axis)


def linear_recurrence(
    log_decay: Any, drive: Any, initial: Any, reverse: bool = False, time_axis: int = 1
) -> Any:
    """`h_t = exp(log_decay) * h_{t-1} + drive_t`, in reverse `h_{t+1}`, from `initial`."""
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
    times = ops.arange(length, dtype="int32")
    along_time = [-1] + [1] * (len(sequence.shape) - 1 - time_axis)

    def add_earlier(step: Any, sequence: Any) -> tuple[Any, Any]:
        if reverse:
            source, inside = ops.minimum(times + step, length - 1), times < length - step
        else:
            source, inside = ops.maximum(times - step, 0), times >= step
        # Not `ops.roll`, which TFLite does not have; nor slices, whose sizes XLA does not know.
        moved = ops.take(sequence, source, axis=time_axis)
        decay = ops.exp(ops.cast(step, sequence.dtype) * log_decay)
        inside = ops.reshape(inside, along_time)
        return step * 2, sequence + ops.where(inside, decay * moved, 0.0)

    _, sequence = ops.while_loop(
        lambda step, _: step < length, add_earlier, (ops.ones_like(length), sequence)
    )
    return sequence


def straight_through(rates: Any, spikes: Any) -> Any:
    return ops.stop_gradient(spikes) + (rates - ops.stop_gradient(rates))


def spike(
    rates: Any,
    voltage: Any,
    dt: Any,
    time_axis: int = 1,
    rectify: bool = False,
    integrate_and_fire: Any = integrate_and_fire,
    straight_through: Any = straight_through,
) -> tuple[Any, Any]:
    rates = ops.relu(rates) if rectify else rates
    # Times `1 / dt`, never divided by `dt`: a compiler may replace a division by a product, and
    # would then change the bits.
    increments = ops.cast(ops.stop_gradient(rates), voltage.dtype) * dt
    counts, final = integrate_and_fire(increments, ops.stop_gradient(voltage), time_axis)
    return straight_through(rates, cast(counts * (1.0 / dt), rates.dtype)), final


def cast(tensor: Any, dtype: Any) -> Any:
    """`ops.cast`; but what float16 cannot hold becomes the largest number that it can.

    One spike in a step of 10 microseconds is 100,000 Hz: float16 has no such number.
    """
    received, dtype = map(keras.backend.standardize_dtype, (tensor.dtype, dtype))
    if received == dtype:
        return tensor
    if dtype == "float16":
        if not keras.backend.is_float_dtype(received):
            tensor = ops.cast(tensor, "float32")
        tensor = saturate(tensor, _LARGEST_IN_FLOAT16)
    return ops.cast(tensor, dtype)


def expm1(x: Any) -> Any:
    power = ops.exp(x)
    return ops.expm1(ops.stop_gradient(x)) + (power - ops.stop_gradient(power))


def alpha_gain(ratio: Any) -> Any:
    small = ops.where(ratio < 0.5, ratio, 0.0)
    powers, factors = (ops.convert_to_tensor(each, ratio.dtype) for each in _SERIES)
    series = ops.sum(factors * ops.expand_dims(small, -1) ** powers, axis=-1)
    # By way of the backend's kernel: not every backend's own `expm1` is exact.
    direct = -kernels.expm1(-ratio) - ratio * ops.exp(-ratio)
    return ops.where(ratio < 0.5, series, direct)


def uniform(shape: Any, seed: Any, dtype: str, draw: Any = keras.random.uniform) -> Any:
    # Down to the grid of voltages, so that none is rounded up to 1.
    digits, _ = _GRIDS[dtype]
    return floor(draw(shape, dtype=dtype, seed=seed) * 2.0**digits) * 2.0**-digits


def of_batch(sequence: Any, batch_axis: int, size: int) -> Any:
    """The sequence, for a graph that does not know the size of its batch.

    A batch of another size is an error when the graph runs. Not an assertion, nor
    `tf.ensure_shape`: TFLite has neither.
    """
    shape = list(ops.shape(sequence))
    shape[batch_axis] = size
    return ops.reshape(sequence, shape)


def step_slice(sequence: Any, time_axis: int, start: int | None, stop: int | None) -> Any:
    """Steps `start` to `stop` of a sequence."""
    return sequence[(slice(None),) * time_axis + (slice(start, stop),)]


def last_step(sequence: Any, start: Any, time_axis: int) -> Any:
    """The last step of a sequence that goes on from `start`; that, if there is no step."""
    if not sequence.shape[time_axis]:  # or unknown
        end = step_slice(sequence, time_axis, -1, None)
        sequence = ops.concatenate([ops.expand_dims(start, time_axis), end], axis=time_axis)
    return one_step(sequence, time_axis, -1)


def one_step(sequence: Any, time_axis: int, step: int) -> Any:
    """One step of a sequence, without its time axis."""
    return sequence[(slice(None),) * time_axis + (step,)]
