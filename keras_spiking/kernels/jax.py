"""The kernels on JAX: the portable sums, with gradients that need no sum through them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from keras_spiking.kernels import portable

integrate_and_fire = portable.integrate_and_fire
seeded_uniform = portable.seeded_uniform


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def linear_recurrence(
    log_decay: Any, drive: Any, initial: Any, reverse: bool = False, time_axis: int = 1
) -> Any:
    return portable.linear_recurrence(log_decay, drive, initial, reverse, time_axis)


def _recurrence_forward(
    log_decay: Any, drive: Any, initial: Any, reverse: bool, time_axis: int
) -> Any:
    sequence = linear_recurrence(log_decay, drive, initial, reverse, time_axis)
    return sequence, (log_decay, sequence, initial)


def _recurrence_backward(reverse: bool, time_axis: int, kept: Any, upstream: Any) -> Any:
    log_decay, sequence, initial = kept
    return portable.linear_recurrence_gradients(
        log_decay, sequence, initial, upstream, reverse, time_axis, linear_recurrence
    )


linear_recurrence.defvjp(_recurrence_forward, _recurrence_backward)


@jax.custom_vjp
def straight_through(rates: Any, spikes: Any) -> Any:
    return spikes


straight_through.defvjp(
    lambda rates, spikes: (spikes, None),
    lambda _, upstream: (upstream, jnp.zeros_like(upstream)),
)
