"""Filters on TensorFlow, and their gradients of every order; see `tensorflow.py`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_spiking._types import Tensor
from keras_spiking.kernels import portable, recurrences, tensorflow_numba
from keras_spiking.kernels.contract import Filter, FilterGradients, from_row, to_row
from keras_spiking.kernels.filter_steps import AdjointSums, adjoint_step, filter_step, finish
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


def filter_of_kind(
    kind: str, filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int
) -> tuple[Tensor, ...]:
    """Filters by kernels of a kind: `"numba"`, `"native"` or `"portable"`."""
    forward, backward = _pair(kind, time_axis)
    inputs = of_known_batch(inputs, initial[0], time_axis)

    def unwatched(tensors: Any) -> Any:
        # Otherwise an eager tape looks for gradients within the compiled function.
        return tf.nest.map_structure(tf.stop_gradient, tensors)

    @tf.custom_gradient
    def run(*row: Tensor) -> Any:
        arguments = from_row(unwatched(row))
        levels = forward(*arguments)

        @tf.custom_gradient
        def gradients(*row_and_upstream: Tensor) -> Any:
            upstream = unwatched(row_and_upstream[len(row) :])
            of_gradients = functools.partial(
                _second(kind, len(levels), time_axis), row_and_upstream
            )
            return to_row(*backward(*arguments, levels, upstream)), of_gradients

        return levels, lambda *upstream: gradients(*row, *upstream)

    levels = run(*to_row(filter_, inputs, initial))
    return tuple(of_shape(level, inputs.shape) for level in levels)


@functools.cache
def _second(kind: str, order: int, time_axis: int) -> Callable[..., Any]:
    """Gradients of the filter's gradients in its arguments and in what these are multiplied by.

    They are made of filters, which have gradients in turn. They are a graph, because graphs need no
    tape, and there is no tape within `tf.autodiff.ForwardAccumulator`.
    """

    def backwards(log_decay: Tensor, drive: Tensor, initial: Tensor, time_axis: int) -> Tensor:
        one_level = Filter(log_decay, tf.zeros_like(log_decay), (tf.ones_like(log_decay),))
        drive = tf.reverse(drive, [time_axis])
        (levels,) = filter_of_kind(kind, one_level, drive, (initial,), time_axis)
        return tf.reverse(levels, [time_axis])

    def second(row_and_upstream: Sequence[Tensor], *upstream: Tensor) -> Any:
        arguments = from_row(row_and_upstream[:-order])
        levels = filter_of_kind(kind, *arguments, time_axis)
        sequences = levels, row_and_upstream[-order:]
        first = recurrences.filter_gradients(
            keras.ops, backwards, *arguments, *sequences, time_axis
        )
        zero = tf.UnconnectedGradients.ZERO
        return tf.gradients(to_row(*first), row_and_upstream, upstream, unconnected_gradients=zero)

    return tf.function(second, autograph=False)


@functools.cache
def _pair(kind: str, time_axis: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The filter and its gradients."""
    if kind == "numba":
        return tensorflow_numba.linear_filter(time_axis)
    pair = portable.linear_filter, portable.linear_filter_gradients
    if kind == "native":
        pair = compiled(_filter_loop), compiled(_gradient_loop)
    forward, backward = (functools.partial(function, time_axis=time_axis) for function in pair)
    return forward, backward


def _filter_loop(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int
) -> tuple[Tensor, ...]:
    leak = -tf.math.expm1(filter_.log_decay)
    shape = tf.shape(inputs)
    inputs, initial = tf.nest.map_structure(padded, (inputs, list(initial)))

    def step(time: Tensor, sequences: Any, levels: Any, compensations: Any) -> Any:
        now = at(inputs, time, time_axis)
        levels, compensations = filter_step(filter_, leak, now, levels, compensations)
        filled = [
            put(sequence, level, time) for sequence, level in zip(sequences, levels, strict=True)
        ]
        return time + 1, filled, levels, compensations

    empty = [time_first(tf.zeros_like(inputs), time_axis) for _ in initial]
    start = 0, empty, initial, [tf.zeros_like(level) for level in initial]
    length = tf.shape(inputs)[time_axis]
    _, sequences, _, _ = tf.while_loop(lambda time, *_: time < length, step, start)
    return tuple(cut(time_first(sequence, time_axis), shape) for sequence in sequences)


def _gradient_loop(
    filter_: Filter,
    inputs: Tensor,
    initial: Sequence[Tensor],
    levels: Sequence[Tensor],
    upstream: Sequence[Tensor],
    time_axis: int,
) -> FilterGradients:
    leak = -tf.math.expm1(filter_.log_decay)
    shapes = [tf.shape(inputs), tf.shape(initial[0])]
    inputs, initial, levels, upstream = tf.nest.map_structure(
        padded, (inputs, list(initial), list(levels), list(upstream))
    )

    def step(time: Tensor, grad_inputs: Tensor, sums: AdjointSums) -> Any:
        before = [
            tf.where(time == 0, start, at(level, tf.maximum(time - 1, 0), time_axis))
            for start, level in zip(initial, levels, strict=True)
        ]
        now, *of_levels = (at(sequence, time, time_axis) for sequence in (inputs, *upstream))
        gradient, sums = adjoint_step(filter_, leak, now, before, of_levels, sums)
        return time - 1, put(grad_inputs, gradient, time), sums

    zeros = AdjointSums.zeros(tf.zeros_like(initial[0]), len(initial))
    empty = time_first(tf.zeros_like(inputs), time_axis)
    start = tf.shape(inputs)[time_axis] - 1, empty, zeros
    _, grad_inputs, sums = tf.while_loop(lambda time, *_: time >= 0, step, start)
    grad_inputs = cut(time_first(grad_inputs, time_axis), shapes[0])
    over_batch = functools.partial(tf.reduce_sum, axis=0, keepdims=True)
    found = finish(filter_, tf.exp(filter_.log_decay), sums, grad_inputs, over_batch)
    return found._replace(initial=tuple(cut(gradient, shapes[1]) for gradient in found.initial))
