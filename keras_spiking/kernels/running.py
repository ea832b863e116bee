"""Sums, maxima and differences over time, made of the other kernels and `keras.ops`."""

from typing import Any

from keras import ops

from keras_spiking import kernels
from keras_spiking._types import Tensor
from keras_spiking.kernels import grid, tensors
from keras_spiking.kernels.constants import MOST_SPIKES
from keras_spiking.kernels.contract import Filter


def running_sum(sequence: Tensor, start: Tensor, time_axis: int = 1) -> Tensor:
    """`start` plus all steps up to this one; exact for whole numbers below 2^24.

    A filter that forgets nothing. `start` is (batch, ...). Differentiable in both.
    """
    # The logarithm of a decay of 1. Not made of `start`, which may have no sample.
    kept = ops.zeros((1, *ops.shape(start)[1:]), start.dtype)
    filter_ = Filter(kept, kept, (ops.ones_like(kept),))
    (sums,) = kernels.linear_filter(filter_, sequence, (start,), time_axis)
    return sums


def sum_of_counts(counts: Tensor, start: Tensor, time_axis: int = 1) -> Tensor:
    """The same for whole numbers, which stop at `MOST_SPIKES`. NaN adds nothing."""
    counts = bounded(ops.where(ops.isnan(counts), 0.0, counts))
    return bounded(running_sum(counts, start, time_axis))


def bounded(counts: Tensor) -> Tensor:
    """Numbers of spikes, of at most `MOST_SPIKES`."""
    return tensors.saturate(counts, MOST_SPIKES)


def running_max(sequence: Tensor, start: Tensor, time_axis: int = 1) -> Tensor:
    """The largest of `start` and all steps up to this one."""
    sequence = _larger(sequence, ops.expand_dims(start, time_axis))
    length = ops.shape(sequence)[time_axis]
    times = ops.arange(length, dtype="int32")

    def with_earlier(step: Tensor, sequence: Tensor) -> tuple[Tensor, Tensor]:
        # After pass k, a step holds the largest of its last 2^k. The first step stands for all
        # steps before it.
        earlier = ops.take(sequence, ops.maximum(times - step, 0), axis=time_axis)
        return step * 2, _larger(sequence, earlier)

    if isinstance(length, int):
        step = 1
        while step < length:
            step, sequence = with_earlier(step, sequence)
        return sequence
    first = ops.ones_like(length), sequence
    return ops.while_loop(lambda step, _: step < length, with_earlier, first)[1]


def _larger(left: Tensor, right: Tensor) -> Tensor:
    # Not `ops.maximum`, which on torch makes float64 float32.
    return ops.where(left > right, left, right)


def differences(sequence: Tensor, start: Tensor, time_axis: int = 1) -> Tensor:
    """Each step minus the step before it; `start` is the step before the first."""
    return sequence - tensors.shift(sequence, start, time_axis)


def accumulate_step(
    namespace: Any,
    increment: Tensor,
    height: Tensor,
    state: Tensor,
    rectify: bool,
    negative_spikes: bool,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """One step of `accumulate_and_fire`, for a compiled loop.

    Args:
        namespace: `jax.numpy` or `tensorflow`.
        increment: `rate * dt`, (batch, ...).
        height: Hertz of a spike.
        state: As `accumulate_and_fire` takes it, with the voltage on its grid.
        rectify: Whether the sum is cut off at zero.
        negative_spikes: Whether spikes may be taken back.

    Returns:
        The spikes, whether the gradient passes (if they rectify), and the new state.
    """
    floor, voltage, emitted, origin = state
    count, voltage = grid.count_spikes(namespace, increment, voltage)
    undefined = ops.isnan(count)
    floor = due = bounded(floor + bounded(ops.where(undefined, 0.0, count)))
    if rectify:
        due = namespace.maximum(floor, 0.0)
    if not negative_spikes:
        due = namespace.maximum(due, emitted)
    spikes = ops.where(undefined, count, (due - emitted) * height)
    return spikes, floor + voltage > origin, (floor, voltage, due)


def accumulate_and_fire(
    rates: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    dt: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
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
        tensors.last_step(sequence, start, time_axis)
        for sequence, start in ((floors, floor), (voltages, voltage), (due, emitted))
    )
    return kernels.straight_through(changes, spikes), tuple(ends)
