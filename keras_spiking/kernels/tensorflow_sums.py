"""Spikes of neurons that remember their sums, on TensorFlow: one compiled loop over time."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_spiking._types import Tensor
from keras_spiking.kernels import grid, running, tensorflow_numba
from keras_spiking.kernels.tensorflow_choice import kernels_for
from keras_spiking.kernels.tensorflow_loops import (
    at,
    compiled,
    cut,
    of_known_batch,
    of_shape,
    padded,
    put,
    time_first,
)


def accumulate_and_fire(
    rates: Tensor,
    state: Tensor,
    dt: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Tensor, Tensor]:
    kind = kernels_for(rates, time_axis)
    if kind == "portable":
        return running.accumulate_and_fire(rates, state, dt, time_axis, rectify, negative_spikes)
    # TensorFlow may know some sizes from one tensor of the state, and others from another.
    shape = functools.reduce(tf.TensorShape.merge_with, [part.shape for part in state])
    state = [of_shape(tf.identity(part), shape) for part in state]
    rates = of_known_batch(rates, state[0], time_axis)
    pair = tensorflow_numba.accumulate if kind == "numba" else _accumulate
    forward, backward = pair(time_axis, rectify, negative_spikes)
    scales = [tf.convert_to_tensor(scale, rates.dtype) for scale in (dt, 1.0 / dt)]

    @tf.custom_gradient
    def run(rates: Tensor, *others: Tensor) -> Tensor:
        # Unwatched, as in `linear_filter`.
        spikes, final, active = forward(*map(tf.stop_gradient, (rates, *others)))

        def gradients(upstream: Tensor, *_: Tensor) -> Tensor:
            return backward(upstream, active) if rectify else upstream, *[None] * len(others)

        return (spikes, *final), gradients

    spikes, *final = run(rates, *state, *scales)
    return of_shape(spikes, rates.shape), tuple(final)


@functools.cache
def _accumulate(
    time_axis: int, rectify: bool, negative_spikes: bool
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The spikes, final state, and steps that the gradient passes; and the gradient of rates."""

    def fire(
        rates: Tensor,
        floor: Tensor,
        voltage: Tensor,
        emitted: Tensor,
        origin: Tensor,
        dt: Tensor,
        height: Tensor,
    ) -> Tensor:
        shapes = [tf.shape(rates), tf.shape(floor)]
        rates, floor, voltage, emitted, origin = map(
            padded, (rates, floor, voltage, emitted, origin)
        )

        def step(time: Tensor, spikes: Tensor, active: Tensor, *final: Tensor) -> Tensor:
            increment, now = at(rates, time, time_axis) * dt, (*final, origin)
            fired, passes, final = running.accumulate_step(
                tf, increment, height, now, rectify, negative_spikes
            )
            if rectify:
                active = put(active, passes, time)
            return time + 1, put(spikes, fired, time), active, *final

        empty = time_first(tf.zeros_like(rates), time_axis)
        active = tf.zeros_like(empty, "bool") if rectify else False
        start = 0, empty, active, floor, grid.to_grid(voltage), emitted
        length = tf.shape(rates)[time_axis]
        _, spikes, active, *final = tf.while_loop(lambda time, *_: time < length, step, start)
        final = [cut(part, shapes[1]) for part in final]
        return cut(time_first(spikes, time_axis), shapes[0]), final, active

    def gradient(upstream: Tensor, active: Tensor) -> Tensor:
        """A rate is in its sum and all later ones; spikes are a sum less the one before."""
        shape = tf.shape(upstream)
        upstream = padded(upstream)

        def step(time: Tensor, gradients: Tensor, total: Tensor, later: Tensor) -> Tensor:
            now = at(upstream, time, time_axis)
            total = total + tf.where(active[time], now - later, tf.zeros_like(now))
            return time - 1, put(gradients, total, time), total, now

        empty = time_first(tf.zeros_like(upstream), time_axis)
        active = of_shape(tf.identity(active), empty.shape)
        zero = tf.zeros_like(empty[0])
        start = tf.shape(empty)[0] - 1, empty, zero, zero
        _, gradients, *_ = tf.while_loop(lambda time, *_: time >= 0, step, start)
        return cut(time_first(gradients, time_axis), shape)

    return compiled(fire), compiled(gradient)
