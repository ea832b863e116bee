"""One step of spikes on TensorFlow, for loops over time and for a sequence of one step."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_spiking.kernels import LARGEST, portable


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function, jit_compile=True, autograph=False)


def count_spikes(increment: Any, voltage: Any) -> tuple[Any, Any]:
    """The spikes of one step, and the voltage after it."""
    digits = 52 if increment.dtype == tf.float64 else 23
    most = LARGEST[digits] * 2.0**-digits
    rounded = tf.round(increment * 2.0**digits) * 2.0**-digits
    whole = tf.floor(rounded)
    # Limits what has overflowed: to limit what may overflow takes twice as long.
    within = tf.abs(increment) < most
    # Exact: neither term reaches 1, and both are on the grid.
    raised = voltage + tf.where(within, rounded - whole, 0.0)
    whole = tf.where(within, whole, portable.saturate(increment, most))
    carry = tf.floor(raised)
    return whole + carry, raised - carry


def fire_once(tensors: Any, time_axis: int, rectify: bool) -> tuple[Any, Any]:
    """As `tensorflow_numba.fire`, for one step in a graph: in one pass, without a loop.

    By two functions: TensorFlow leaves out the one for a final voltage that nobody uses.
    """
    rates, *others = tensors
    step = tf.squeeze(rates, time_axis), *others
    spikes, final = (_once(rectify, of_spikes)(*step) for of_spikes in (True, False))
    return tf.expand_dims(spikes, time_axis), final


@functools.cache
def _once(rectify: bool, of_spikes: bool) -> Callable[..., Any]:
    def once(rates: Any, voltage: Any, dt: Any, height: Any) -> Any:
        rates = tf.nn.relu(rates) if rectify else rates
        count, final = count_spikes(rates * dt, portable.to_grid(voltage))
        return count * height if of_spikes else final

    return compiled(once)


@functools.cache
def pass_once(rectify: bool) -> Callable[..., Any]:
    """The gradient of rates, of which each channel has its own scales."""

    def passed(upstream: Any, rates: Any, dt: Any, height: Any) -> Any:
        scaled = upstream * height * dt
        return tf.where(rates > 0, scaled, tf.zeros_like(scaled)) if rectify else scaled

    return compiled(passed)
