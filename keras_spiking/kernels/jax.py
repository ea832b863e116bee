"""The kernels on JAX: on a CPU, one compiled loop over time that touches each element once.

Numba compiles it (`jax_numba.py`), or XLA, as below.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_spiking._types import Tensor
from keras_spiking.kernels import grid, jax_numba, portable, recurrences, setting, tensors
from keras_spiking.kernels.contract import Filter, FilterGradients
from keras_spiking.kernels.filter_steps import AdjointSums, adjoint_step, filter_step, finish

uniform = portable.uniform
filter_end = portable.filter_end
expm1 = jax.custom_jvp(jnp.expm1)
expm1.defjvps(lambda tangent, _, x: tangent * jnp.exp(x))


def alpha_gain(ratio: Tensor) -> Tensor:
    return recurrences.alpha_gain(jnp, expm1, ratio)


def runs_on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def loops_are_chosen(sequence: Tensor, time_axis: int) -> bool:
    """On a CPU. An accelerator waits for every step of a loop, so it sums by doubling.

    A loop over no steps does not compile.
    """
    if not sequence.shape[time_axis]:
        return False
    return setting.native_is_chosen(faster=runs_on_cpu())


def integrate_and_fire(
    increments: Tensor, voltage: Tensor, time_axis: int = 1
) -> tuple[Tensor, Tensor]:
    if jax_numba.is_chosen(increments, voltage):
        return jax_numba.fire(increments, voltage, 1.0, 1.0, time_axis, False)
    if not loops_are_chosen(increments, time_axis):
        return portable.integrate_and_fire(increments, voltage, time_axis)
    return _fire(increments, voltage, time_axis)


@functools.partial(jax.jit, static_argnums=2)
def _fire(increments: Tensor, voltage: Tensor, time_axis: int) -> tuple[Tensor, Tensor]:
    def step(time: Tensor, carry: Any) -> Any:
        counts, voltage = carry
        count, voltage = grid.count_spikes(jnp, at(increments, time, time_axis), voltage)
        return put(counts, count, time, time_axis), voltage

    start = jnp.zeros_like(increments), grid.to_grid(voltage)
    return lax.fori_loop(0, increments.shape[time_axis], step, start)


def integrate(increments: Tensor, voltage: Tensor, time_axis: int = 1) -> tuple[Tensor, Tensor]:
    if jax_numba.is_chosen(increments, voltage):
        return jax_numba.integrate(increments, voltage, time_axis)
    return portable.integrate(increments, voltage, time_axis)


def linear_filter(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> tuple[Tensor, ...]:
    initial = tuple(initial)
    if setting.name == "portable":  # in plain operations, which JAX transforms in every way
        return portable.linear_filter(filter_, inputs, initial, time_axis)
    try:
        return _linear_filter(filter_, inputs, initial, time_axis)
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(
            "keras_spiking: JAX's forward mode (jvp, jacfwd, hessian) takes filters only in plain "
            'operations. Call keras_spiking.config.set_kernels("portable") before it, or use '
            f"jax.vjp, jax.jacrev and jax.jacrev(jax.jacrev(...)). JAX said: {error}"
        ) from error


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _linear_filter(
    filter_: Filter, inputs: Tensor, initial: tuple[Tensor, ...], time_axis: int
) -> tuple[Tensor, ...]:
    run: Any = portable.linear_filter
    if jax_numba.is_chosen(inputs, filter_, initial):
        run = jax_numba.linear_filter
    elif loops_are_chosen(inputs, time_axis):
        run = _filter_loop
    return run(filter_, inputs, initial, time_axis)


def _forward(
    filter_: Filter, inputs: Tensor, initial: tuple[Tensor, ...], time_axis: int
) -> tuple[tuple[Tensor, ...], Any]:
    levels = _linear_filter(filter_, inputs, initial, time_axis)
    return levels, (filter_, inputs, initial, levels)


def _backward(time_axis: int, kept: Any, upstream: tuple[Tensor, ...]) -> tuple[Any, ...]:
    filter_, inputs, initial, levels = kept
    run: Any = portable.linear_filter_gradients
    if jax_numba.is_chosen(inputs, filter_, initial):
        run = _numba_gradients
    elif loops_are_chosen(inputs, time_axis):
        run = _gradient_loop
    return tuple(run(filter_, inputs, initial, levels, upstream, time_axis))


_linear_filter.defvjp(_forward, _backward)


@functools.partial(jax.jit, static_argnums=3)
def _filter_loop(
    filter_: Filter, inputs: Tensor, initial: tuple[Tensor, ...], time_axis: int
) -> tuple[Tensor, ...]:
    leak = -jnp.expm1(filter_.log_decay)

    def step(time: Tensor, carry: Any) -> Any:
        sequences, levels, compensations = carry
        now = at(inputs, time, time_axis)
        levels, compensations = filter_step(filter_, leak, now, levels, compensations)
        sequences = [
            put(sequence, level, time, time_axis)
            for sequence, level in zip(sequences, levels, strict=True)
        ]
        return sequences, levels, compensations

    empty = [jnp.zeros_like(inputs) for _ in initial]
    start = empty, list(initial), [jnp.zeros_like(level) for level in initial]
    sequences, _, _ = lax.fori_loop(0, inputs.shape[time_axis], step, start)
    return tuple(sequences)


@functools.partial(jax.jit, static_argnums=5)
def _gradient_loop(
    filter_: Filter,
    inputs: Tensor,
    initial: tuple[Tensor, ...],
    levels: tuple[Tensor, ...],
    upstream: tuple[Tensor, ...],
    time_axis: int,
) -> FilterGradients:
    leak = -jnp.expm1(filter_.log_decay)
    length = inputs.shape[time_axis]

    def step(index: Tensor, carry: Any) -> Any:
        grad_inputs, sums = carry
        time = length - 1 - index
        before = [
            jnp.where(time == 0, start, at(level, jnp.maximum(time - 1, 0), time_axis))
            for start, level in zip(initial, levels, strict=True)
        ]
        now, *of_levels = (at(sequence, time, time_axis) for sequence in (inputs, *upstream))
        gradient, sums = adjoint_step(filter_, leak, now, before, of_levels, sums)
        return put(grad_inputs, gradient, time, time_axis), sums

    zeros = AdjointSums.zeros(jnp.zeros_like(initial[0]), len(initial))
    start = jnp.zeros_like(inputs), zeros
    grad_inputs, sums = lax.fori_loop(0, length, step, start)

    def over_batch(total: Tensor) -> Tensor:
        return jnp.sum(total, axis=0, keepdims=True)

    return finish(filter_, jnp.exp(filter_.log_decay), sums, grad_inputs, over_batch)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5,))
def _numba_gradients(*arguments: Any) -> FilterGradients:
    return jax_numba.linear_filter_gradients(*arguments)


@_numba_gradients.defjvp
def _(time_axis: int, primals: Any, tangents: Any) -> Any:
    """XLA's loop has derivatives."""
    run = functools.partial(_gradient_loop, time_axis=time_axis)
    return _numba_gradients(*primals, time_axis), jax.jvp(run, primals, tangents)[1]


def at(sequence: Tensor, time: Tensor, time_axis: int) -> Tensor:
    return lax.dynamic_index_in_dim(sequence, time, time_axis, keepdims=False)


def put(sequence: Tensor, values: Tensor, time: Tensor, time_axis: int) -> Tensor:
    return lax.dynamic_update_index_in_dim(sequence, values, time, time_axis)


@jax.custom_jvp
def straight_through(rates: Tensor, spikes: Tensor) -> Tensor:
    return spikes


@straight_through.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return primals[1], tangents[0]


def spike_by_channel(
    rates: Tensor,
    voltage: Tensor,
    seconds: Tensor,
    heights: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    return portable.scaled(spike, rates, voltage, seconds, heights, time_axis, rectify)


def spike(
    rates: Tensor, voltage: Tensor, dt: Tensor, time_axis: int = 1, rectify: bool = False
) -> tuple[Tensor, Tensor]:
    sequence = jax.ShapeDtypeStruct(rates.shape, voltage.dtype)
    if not jax_numba.is_chosen(sequence, dt):
        kernels = integrate_and_fire, straight_through
        return portable.spike_by(*kernels, rates, voltage, dt, time_axis, rectify)
    # Here `dt` may be a number of double precision.
    scales = dt, 1.0 / dt
    wide = rates.astype(voltage.dtype)
    spikes, final = jax_numba.fire(wide, voltage, *scales, time_axis, rectify)
    rates = jax.nn.relu(rates) if rectify else rates
    return straight_through(rates, tensors.cast(spikes, rates.dtype)), final
