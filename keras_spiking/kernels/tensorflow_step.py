"""One step of spikes on TensorFlow, for a sequence of one step."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_spiking._types import Tensor
from keras_spiking.kernels import grid
from keras_spiking.kernels.tensorflow_loops import compiled


def fire_once(tensors: Tensor, time_axis: int, rectify: bool) -> tuple[Tensor, Tensor]:
    """As `tensorflow_numba.fire`, for one step in a graph: in one pass, without a loop.

    Two functions do it, so that TensorFlow can leave out a final voltage that nobody uses.
    """
    rates, *others = tensors
    step = tf.squeeze(rates, time_axis), *others
    spikes, final = (_once(rectify, of_spikes)(*step) for of_spikes in (True, False))
    return tf.expand_dims(spikes, time_axis), final


@functools.cache
def _once(rectify: bool, of_spikes: bool) -> Callable[..., Any]:
    def once(rates: Tensor, voltage: Tensor, dt: Tensor, height: Tensor) -> Tensor:
        rates = tf.nn.relu(rates) if rectify else rates
        count, final = grid.count_spikes(tf, rates * dt, grid.to_grid(voltage))
        return count * height if of_spikes else final

    return compiled(once)


@functools.cache
def pass_once(rectify: bool) -> Callable[..., Any]:
    """The gradient in the rates, where each channel has scales of its own."""

    def passed(upstream: Tensor, rates: Tensor, dt: Tensor, height: Tensor) -> Tensor:
        scaled = upstream * height * dt
        return tf.where(rates > 0, scaled, tf.zeros_like(scaled)) if rectify else scaled

    return compiled(passed)
