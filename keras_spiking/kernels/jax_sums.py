"""Spikes of neurons that remember their sums, on JAX: one compiled loop over time."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_spiking._types import Tensor
from keras_spiking.kernels import grid, jax_numba, running
from keras_spiking.kernels.jax import at, loops_are_chosen, put


def accumulate_and_fire(
    rates: Tensor,
    state: Any,
    dt: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Any, Any]:
    # Here `dt` may still be a Python float, and its inverse is exact to double precision.
    scales = dt, 1.0 / dt
    if not (jax_numba.is_chosen(rates, dt, *state) or loops_are_chosen(rates, time_axis)):
        return running.accumulate_and_fire(rates, state, dt, time_axis, rectify, negative_spikes)
    return _accumulate(rates, tuple(state), scales, time_axis, rectify, negative_spikes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _accumulate(
    rates: Tensor, state: Any, scales: Any, time_axis: int, rectify: bool, negative_spikes: bool
) -> tuple[Any, Any]:
    return _run(rates, state, scales, time_axis, rectify, negative_spikes)[:2]


def _run(
    rates: Tensor, state: Any, scales: Any, time_axis: int, rectify: bool, negative_spikes: bool
) -> tuple[Any, Any, Any]:
    """Spikes, final state, and the steps that the gradient passes, None for all."""
    is_chosen = jax_numba.is_chosen(rates, *state, *scales)
    run = jax_numba.accumulate if is_chosen else _accumulate_loop
    return run(rates, state, scales, time_axis, rectify, negative_spikes)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _accumulate_loop(
    rates: Tensor, state: Any, scales: Any, time_axis: int, rectify: bool, negative_spikes: bool
) -> tuple[Any, Any, Any]:
    floor, voltage, emitted, origin = state
    dt, height = scales

    def step(time: Tensor, carry: Any) -> Any:
        spikes, active, *final = carry
        increment, now = at(rates, time, time_axis) * dt, (*final, origin)
        fired, passes, final = running.accumulate_step(
            jnp, increment, height, now, rectify, negative_spikes
        )
        if rectify:
            active = put(active, passes, time, time_axis)
        return put(spikes, fired, time, time_axis), active, *final

    active = jnp.zeros(rates.shape, "bool") if rectify else None
    start = jnp.zeros_like(rates), active, floor, grid.to_grid(voltage), emitted
    spikes, active, *final = lax.fori_loop(0, rates.shape[time_axis], step, start)
    return spikes, tuple(final), active


def _accumulate_forward(
    rates: Tensor, state: Any, scales: Any, time_axis: int, rectify: bool, negative_spikes: bool
) -> Any:
    spikes, final, active = _run(rates, state, scales, time_axis, rectify, negative_spikes)
    return (spikes, final), (active, state, scales)


def _accumulate_backward(
    time_axis: int, rectify: bool, negative_spikes: bool, kept: Any, upstream: Tensor
) -> Any:
    active, *others = kept
    for_rates, _ = upstream
    if rectify:
        is_chosen = jax_numba.is_chosen(for_rates)
        run = _numba_gradient if is_chosen else _gradient_of_relu_of_sum
        for_rates = run(for_rates, active, time_axis)
    return for_rates, *jax.tree.map(jnp.zeros_like, others)


_accumulate.defvjp(_accumulate_forward, _accumulate_backward)


@functools.partial(jax.jit, static_argnums=2)
def _gradient_of_relu_of_sum(upstream: Tensor, active: Tensor, time_axis: int) -> Any:
    """A rate is in its sum and all later ones; spikes are a sum less the one before."""
    length = upstream.shape[time_axis]

    def step(index: Any, carry: Any) -> Any:
        gradients, total, later = carry
        time = length - 1 - index
        now = at(upstream, time, time_axis)
        total = total + jnp.where(at(active, time, time_axis), now - later, 0.0)
        return put(gradients, total, time, time_axis), total, now

    zero = jnp.zeros_like(at(upstream, 0, time_axis))
    return lax.fori_loop(0, length, step, (jnp.zeros_like(upstream), zero, zero))[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _numba_gradient(upstream: Tensor, active: Tensor, time_axis: int) -> Any:
    return jax_numba.accumulate_gradient(upstream, active, time_axis)


@_numba_gradient.defjvp
def _(time_axis: int, primals: Any, tangents: Any) -> Any:
    """The gradient is linear in `upstream`, and XLA's loop has derivatives."""
    (_, active), (change, _) = primals, tangents
    slope = _gradient_of_relu_of_sum(change, active, time_axis)
    return _numba_gradient(*primals, time_axis), slope
