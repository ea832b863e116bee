"""The kernels on TensorFlow: on a CPU, one loop over time, compiled also within a graph.

By Numba where `tensorflow_choice.py` says so, and else by XLA.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_spiking._types import Tensor
from keras_spiking.kernels import grid, portable, recurrences, tensorflow_numba, tensors
from keras_spiking.kernels.contract import Filter
from keras_spiking.kernels.tensorflow_choice import kernels_for, loops_are_chosen, runs_on_cpu
from keras_spiking.kernels.tensorflow_filters import filter_of_kind
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
from keras_spiking.kernels.tensorflow_step import fire_once, pass_once

__all__ = ["loops_are_chosen", "runs_on_cpu"]

# Exporters to TFLite and ONNX have no random numbers. Their error shows this name.
_ADVICE = "random_voltage__give_initial_voltage_to_export"

filter_end = portable.filter_end
expm1 = tf.math.expm1


def alpha_gain(ratio: Tensor) -> Tensor:
    return recurrences.alpha_gain(keras.ops, expm1, ratio)


def integrate_and_fire(
    increments: Tensor, voltage: Tensor, time_axis: int = 1
) -> tuple[Tensor, Tensor]:
    kind = kernels_for(increments, time_axis)
    if kind == "portable":
        return portable.integrate_and_fire(increments, voltage, time_axis)
    increments = of_known_batch(increments, voltage, time_axis)
    fire = _fire_and_scale(increments, time_axis, kind)
    if fire is None:
        counts, final = _fire(time_axis)(increments, voltage)
    else:
        one = tf.ones((), increments.dtype)
        counts, final = fire([increments, voltage, one, one], time_axis, rectify=False)
    return of_shape(counts, increments.shape), of_shape(final, voltage.shape)


def _fire_and_scale(rates: Tensor, time_axis: int, kind: str) -> Callable[..., Any] | None:
    """The function that turns rates into spikes in hertz in one pass, if there is one."""
    if kind != "portable" and rates.shape[time_axis] == 1 and not tf.executing_eagerly():
        return fire_once
    return tensorflow_numba.fire if kind == "numba" else None


def integrate(increments: Tensor, voltage: Tensor, time_axis: int = 1) -> tuple[Tensor, Tensor]:
    if kernels_for(increments, time_axis) != "numba":
        return portable.integrate(increments, voltage, time_axis)
    increments = of_known_batch(increments, voltage, time_axis)
    return tensorflow_numba.integrate(increments, voltage, time_axis)


@functools.cache
def _fire(time_axis: int) -> Callable[..., Any]:
    def fire(increments: Tensor, voltage: Tensor) -> tuple[Tensor, Tensor]:
        shapes = [tf.shape(increments), tf.shape(voltage)]
        increments, voltage = map(padded, (increments, voltage))

        def step(time: Tensor, counts: Tensor, voltage: Tensor) -> Tensor:
            count, voltage = grid.count_spikes(tf, at(increments, time, time_axis), voltage)
            return time + 1, put(counts, count, time), voltage

        start = 0, time_first(tf.zeros_like(increments), time_axis), grid.to_grid(voltage)
        length = tf.shape(increments)[time_axis]
        _, counts, final = tf.while_loop(lambda time, *_: time < length, step, start)
        return cut(time_first(counts, time_axis), shapes[0]), cut(final, shapes[1])

    return compiled(fire)


def linear_filter(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> tuple[Tensor, ...]:
    kind = kernels_for(inputs, time_axis)
    return filter_of_kind(kind, filter_, inputs, initial, time_axis)


@tf.custom_gradient
def straight_through(rates: Tensor, spikes: Tensor) -> Tensor:
    return tf.identity(spikes), lambda upstream: (upstream, None)


def spike(
    rates: Tensor, voltage: Tensor, dt: Tensor, time_axis: int = 1, rectify: bool = False
) -> tuple[Tensor, Tensor]:
    fire = _fire_and_scale(rates, time_axis, kernels_for(rates, time_axis))
    if rates.dtype != voltage.dtype or fire is None:
        kernels = integrate_and_fire, straight_through
        return portable.spike_by(*kernels, rates, voltage, dt, time_axis, rectify)
    rates = of_known_batch(rates, voltage, time_axis)
    scales = [tf.convert_to_tensor(scale, rates.dtype) for scale in (dt, 1.0 / dt)]

    @tf.custom_gradient
    def run(rates: Tensor, *others: Tensor) -> Tensor:
        unwatched = [tf.stop_gradient(tensor) for tensor in (rates, *others)]

        def gradients(upstream: Tensor, _: Tensor) -> Tensor:
            if rectify:
                upstream = tf.raw_ops.ReluGrad(gradients=upstream, features=rates)
            return upstream, *[None] * len(others)

        return fire(unwatched, time_axis, rectify), gradients

    spikes, final = run(rates, voltage, *scales)
    return of_shape(spikes, rates.shape), of_shape(final, voltage.shape)


def spike_by_channel(
    rates: Tensor,
    voltage: Tensor,
    seconds: Tensor,
    heights: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    fire = _fire_and_scale(rates, time_axis, kernels_for(rates, time_axis))
    if fire is not fire_once:
        return portable.scaled(spike, rates, voltage, seconds, heights, time_axis, rectify)
    given = rates.dtype
    rates = of_known_batch(tf.cast(rates, voltage.dtype), voltage, time_axis)

    @tf.custom_gradient
    def run(rates: Tensor, *others: Tensor) -> Tensor:
        unwatched = [tf.stop_gradient(tensor) for tensor in (rates, *others)]

        def gradients(upstream: Tensor, _: Tensor) -> Tensor:
            passed = pass_once(rectify)(upstream, rates, seconds, heights)
            return passed, *[None] * len(others)

        return fire_once(unwatched, time_axis, rectify), gradients

    spikes, final = run(rates, voltage, seconds, heights)
    spikes = tensors.cast(of_shape(spikes, rates.shape), given)
    return spikes, of_shape(final, voltage.shape)


def uniform(shape: Sequence[int], seed: Any, dtype: str) -> Tensor:
    # Keras lets XLA choose the generator, which gives other numbers than eager TensorFlow for the
    # same seed, and is slow on a CPU: a millisecond for (32, 128), and this one a hundredth of it.
    with tf.name_scope(_ADVICE):
        pair = [seed, 0] if isinstance(seed, int) else tf.cast(seed.next(), "int32")
        drawn = tf.random.stateless_uniform(shape, seed=pair, dtype=dtype, alg="philox")
    return grid.round_down(drawn)
