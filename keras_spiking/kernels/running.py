"""Sums, maxima and differences over time, made of the other kernels and `keras.ops`."""

from typing import Any

from keras import ops

from keras_spiking import kernels
from keras_spiking.kernels import portable

# Whole numbers up to this one are exact in float32. Sums and counts of spikes stop there.
MOST_SPIKES = 2.0**24


def running_sum(sequence: Any, start: Any, time_axis: int = 1) -> Any:
    """`start` plus each step and all before it; exact for whole numbers below 2^24.

    A filter that forgets nothing. `start` is (batch, ...). Differentiable in both.
    """
    # The logarithm of its decay. Not a part of `start`, in which there may be no sample.
    kept = ops.zeros((1, *ops.shape(start)[1:]), start.dtype)
    gains = (ops.ones_like(kept),)
    (sums,) = kernels.linear_filter(kept, kept, gains, sequence, (start,), time_axis)
    return sums


def sum_of_counts(counts: Any, start: Any, time_axis: int = 1) -> Any:
    """The same for whole numbers, which stop at `MOST_SPIKES`. What is undefined adds nothing."""
    counts = bounded(ops.where(ops.isnan(counts), 0.0, counts))
    return bounded(running_sum(counts, start, time_axis))


def bounded(counts: Any) -> Any:
    """Numbers of spikes, of at most `MOST_SPIKES`."""
    return portable.saturate(counts, MOST_SPIKES)


def running_max(sequence: Any, start: Any, time_axis: int = 1) -> Any:
    """The largest of `start`, each step, and all before it."""
    sequence = _larger(sequence, ops.expand_dims(start, time_axis))
    length = ops.shape(sequence)[time_axis]
    times = ops.arange(length, dtype="int32")

    def with_earlier(step: Any, sequence: Any) -> tuple[Any, Any]:
        # After pass k every step holds the largest of its last 2^k. The first step is before all.
        earlier = ops.take(sequence, ops.maximum(times - step, 0), axis=time_axis)
        return step * 2, _larger(sequence, earlier)

    if isinstance(length, int):
        step = 1
        while step < length:
            step, sequence = with_earlier(step, sequence)
        return sequence
    first = ops.ones_like(length), sequence
    return ops.while_loop(lambda step, _: step < length, with_earlier, first)[1]


def _larger(left: Any, right: Any) -> Any:
    # Not `ops.maximum`, which on torch makes float64 float32.
    return ops.where(left > right, left, right)


def differences(sequence: Any, start: Any, time_axis: int = 1) -> Any:
    """Each step less the one before it, which is `start` before the first."""
    return sequence - portable.shift(sequence, start, time_axis)


def accumulate_and_fire(
    rates: Any,
    state: tuple[Any, Any, Any, Any],
    dt: Any,
    time_axis: int = 1,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Any, tuple[Any, Any, Any]]:
    floor, voltage, emitted, origin = map(ops.stop_gradient, state)
    increments = ops.stop_gradient(rates) * dt
    counts, voltages = kernels.integrate(increments, voltage, time_axis)
    floors = sum_of_counts(counts, floor, time_axis)
    due, changes = floors, rates
    if rectify:
        due = ops.where(floors > 0.0, floors, 0.0)
        is_active = floors + voltages > ops.expand_dims(origin, time_axis)
        active = ops.cast(is_active, rates.dtype)
        sums = active * running_sum(rates, ops.zeros_like(floor), time_axis)
        changes = differences(sums, ops.zeros_like(floor), time_axis)
    if not negative_spikes:
        due = running_max(due, emitted, time_axis)
    spikes = differences(due, emitted, time_axis) * (1.0 / dt)
    spikes = ops.where(ops.isnan(counts), float("nan"), spikes)
    ends = (
        portable.last_step(sequence, start, time_axis)
        for sequence, start in ((floors, floor), (voltages, voltage), (due, emitted))
    )
    return kernels.straight_through(changes, spikes), tuple(ends)


def spike_by_channel(
    rates: Any,
    voltage: Any,
    seconds: Any,
    heights: Any,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Any, Any]:
    # Not with `dt` times a scale: a compiler may join two products, and change the bits.
    increments = ops.cast(rates, voltage.dtype) * seconds
    spikes, final = kernels.spike(increments, voltage, 1.0, time_axis, rectify)
    return portable.cast(spikes * heights, rates.dtype), final
