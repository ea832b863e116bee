"""The kernels on JAX: on a CPU, one compiled loop over time that touches each element once.

Numba compiles it (`jax_numba.py`), or XLA, as below.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_spiking.kernels import LARGEST, jax_numba, native_is_chosen, portable, setting

uniform = portable.uniform
filter_end = portable.filter_end
alpha_gain = portable.alpha_gain
expm1 = jax.custom_jvp(jnp.expm1)
expm1.defjvps(lambda tangent, _, x: tangent * jnp.exp(x))


def runs_on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def loops_are_chosen(sequence: Any, time_axis: int) -> bool:
    """On a CPU. An accelerator waits for every step of a loop, so it sums by doubling.

    A loop over no steps does not compile.
    """
    if not sequence.shape[time_axis]:
        return False
    return native_is_chosen(faster=runs_on_cpu())


def integrate_and_fire(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    if jax_numba.is_chosen(increments, voltage):
        return jax_numba.fire(increments, voltage, 1.0, 1.0, time_axis, False)
    if not loops_are_chosen(increments, time_axis):
        return portable.integrate_and_fire(increments, voltage, time_axis)
    return _fire(increments, voltage, time_axis)


@functools.partial(jax.jit, static_argnums=2)
def _fire(increments: Any, voltage: Any, time_axis: int) -> tuple[Any, Any]:
    def step(time: Any, carry: Any) -> Any:
        counts, voltage = carry
        count, voltage = count_spikes(at(increments, time, time_axis), voltage)
        return put(counts, count, time, time_axis), voltage

    start = jnp.zeros_like(increments), portable.to_grid(voltage)
    return lax.fori_loop(0, increments.shape[time_axis], step, start)


def count_spikes(increment: Any, voltage: Any) -> tuple[Any, Any]:
    """The spikes of one step, and the voltage after it."""
    digits = 52 if increment.dtype == jnp.float64 else 23
    most = LARGEST[digits] * 2.0**-digits
    rounded = jnp.round(increment * 2.0**digits) * 2.0**-digits
    whole = jnp.floor(rounded)
    # Limits what has overflowed: to limit what may overflow takes twice as long.
    within = jnp.abs(increment) < most
    # Exact: neither term reaches 1, and both are on the grid.
    raised = voltage + jnp.where(within, rounded - whole, 0.0)
    whole = jnp.where(within, whole, portable.saturate(increment, most))
    carry = jnp.floor(raised)
    return whole + carry, raised - carry


def linear_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int = 1
) -> tuple[Any, ...]:
    each = (log_decay, coupling, gains, inputs, initial, time_axis)
    if setting.name == "portable":  # in plain operations, which JAX transforms in every way
        return portable.linear_filter(*each)
    try:
        return _linear_filter(*each)
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(
            "keras_spiking: JAX's forward mode (jvp, jacfwd, hessian) takes filters only in plain "
            'operations. Call keras_spiking.config.set_kernels("portable") before it, or use '
            f"jax.vjp, jax.jacrev and jax.jacrev(jax.jacrev(...)). JAX said: {error}"
        ) from error


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _linear_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> tuple[Any, ...]:
    run = portable.linear_filter
    if jax_numba.is_chosen(inputs, log_decay, coupling, *gains, *initial):
        run = jax_numba.linear_filter
    elif loops_are_chosen(inputs, time_axis):
        run = _filter
    return run(log_decay, coupling, gains, inputs, initial, time_axis)


def _forward(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> Any:
    levels = _linear_filter(log_decay, coupling, gains, inputs, initial, time_axis)
    return levels, (log_decay, coupling, gains, inputs, initial, levels)


def _backward(time_axis: int, kept: Any, upstream: Any) -> Any:
    log_decay, coupling, gains, inputs, initial, levels = kept
    run = portable.linear_filter_gradients
    if jax_numba.is_chosen(inputs, log_decay, coupling, *gains, *initial):
        run = _numba_gradients
    elif loops_are_chosen(inputs, time_axis):
        run = _filter_gradients
    return run(log_decay, coupling, gains, inputs, initial, levels, upstream, time_axis)


_linear_filter.defvjp(_forward, _backward)


@functools.partial(jax.jit, static_argnums=5)
def _filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> tuple[Any, ...]:
    leak = -jnp.expm1(log_decay)

    def step(time: Any, carry: Any) -> Any:
        sequences, levels, lost = carry
        now = at(inputs, time, time_axis)
        levels, lost = portable.filter_step(leak, coupling, gains, now, levels, lost)
        sequences = [
            put(sequence, level, time, time_axis)
            for sequence, level in zip(sequences, levels, strict=True)
        ]
        return sequences, levels, lost

    initial = list(initial)
    start = [jnp.zeros_like(inputs) for _ in initial], initial, _zeros(initial)
    sequences, _, _ = lax.fori_loop(0, inputs.shape[time_axis], step, start)
    return tuple(sequences)


@functools.partial(jax.jit, static_argnums=7)
def _filter_gradients(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    levels: Any,
    upstream: Any,
    time_axis: int,
) -> Any:
    leak = -jnp.expm1(log_decay)
    length, order = inputs.shape[time_axis], len(gains)

    def step(index: Any, carry: Any) -> Any:
        for_inputs, adjoints, lost, for_decay, for_coupling, for_gains = carry
        time = length - 1 - index
        now = at(inputs, time, time_axis)
        before = [
            jnp.where(time == 0, start, at(level, jnp.maximum(time - 1, 0), time_axis))
            for start, level in zip(initial, levels, strict=True)
        ]
        adjoints, lost = portable.adjoint_step(
            leak, coupling, [at(each, time, time_axis) for each in upstream], adjoints, lost
        )
        drive = sum(gain * adjoint for gain, adjoint in zip(gains, adjoints, strict=True))
        for_inputs = put(for_inputs, drive, time, time_axis)
        for_decay = for_decay + sum(a * b for a, b in zip(adjoints, before, strict=True))
        if order == 2:
            for_coupling = for_coupling + adjoints[1] * before[0]
        for_gains = [total + a * now for total, a in zip(for_gains, adjoints, strict=True)]
        return for_inputs, adjoints, lost, for_decay, for_coupling, for_gains

    zeros = _zeros(initial)
    start = jnp.zeros_like(inputs), zeros, zeros, zeros[0], zeros[0], zeros
    for_inputs, adjoints, _, for_decay, for_coupling, for_gains = lax.fori_loop(
        0, length, step, start
    )

    def over_batch(total: Any) -> Any:
        return jnp.sum(total, axis=0, keepdims=True)

    decay = jnp.exp(log_decay)
    for_initial = [decay * adjoint for adjoint in adjoints]
    if order == 2:
        for_initial[0] += coupling * adjoints[1]
    return (
        decay * over_batch(for_decay),
        over_batch(for_coupling),
        tuple(map(over_batch, for_gains)),
        for_inputs,
        tuple(for_initial),
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(7,))
def _numba_gradients(*each: Any) -> Any:
    return jax_numba.linear_filter_gradients(*each)


@_numba_gradients.defjvp
def _(time_axis: int, primals: Any, tangents: Any) -> Any:
    """XLA's loop has derivatives."""
    run = functools.partial(_filter_gradients, time_axis=time_axis)
    return _numba_gradients(*primals, time_axis), jax.jvp(run, primals, tangents)[1]


def _zeros(states: Any) -> list[Any]:
    return [jnp.zeros_like(state) for state in states]


def at(sequence: Any, time: Any, time_axis: int) -> Any:
    return lax.dynamic_index_in_dim(sequence, time, time_axis, keepdims=False)


def put(sequence: Any, values: Any, time: Any, time_axis: int) -> Any:
    return lax.dynamic_update_index_in_dim(sequence, values, time, time_axis)


@jax.custom_jvp
def straight_through(rates: Any, spikes: Any) -> Any:
    return spikes


@straight_through.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return primals[1], tangents[0]


def spike(
    rates: Any, voltage: Any, dt: Any, time_axis: int = 1, rectify: bool = False
) -> tuple[Any, Any]:
    sequence = jax.ShapeDtypeStruct(rates.shape, voltage.dtype)
    if not jax_numba.is_chosen(sequence, dt):
        kernels = {"integrate_and_fire": integrate_and_fire, "straight_through": straight_through}
        return portable.spike(rates, voltage, dt, time_axis, rectify, **kernels)
    # Here `dt` may be a number of double precision.
    scales = dt, 1.0 / dt
    wide = rates.astype(voltage.dtype)
    spikes, final = jax_numba.fire(wide, voltage, *scales, time_axis, rectify)
    rates = jax.nn.relu(rates) if rectify else rates
    return straight_through(rates, portable.cast(spikes, rates.dtype)), final
