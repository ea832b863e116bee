"""The loops that Numba compiles (`cpu.py`), as functions of JAX's tensors."""

import functools
import math
import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_spiking.kernels import cpu, numba_is_chosen, setting

# By measurement: in shorter sequences, what XLA compiles is done before a call is.
_ELEMENTS_WORTH_A_CALL = 2**18


def is_chosen(sequence: Any, *others: Any) -> bool:
    """Whether these loops run on a sequence, with others (states, weights, seconds) of its type.

    Where they cannot, or are the slower ones, XLA compiles a loop of its own:
    - on an accelerator;
    - in programs for several devices, over which XLA cannot divide a call;
    - in what is exported, which is to run without this package: there a size may be unknown, and
      Keras has TensorFlow trace a model of fixed sizes too. Of `jax.export`, nothing tells: it
      refuses such calls by itself;
    - for short sequences, unless they are asked for (`set_kernels("numba")`).
    """
    if not numba_is_chosen() or jax.default_backend() != "cpu" or jax.device_count() != 1:
        return False
    if not all(isinstance(size, int) for size in sequence.shape):
        return False
    is_asked_for = setting.name == "numba"
    elements = math.prod(sequence.shape)
    if elements < (1 if is_asked_for else _ELEMENTS_WORTH_A_CALL) or _is_in_tensorflow():
        return False
    dtype = sequence.dtype
    if not cpu.takes(dtype) or jnp.result_type(sequence, *others) != dtype:
        return False
    # It imports Numba.
    from keras_spiking.kernels import jax_ffi

    return jax_ffi.is_supported()


def _is_in_tensorflow() -> bool:
    """Whether TensorFlow is tracing a function."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and bool(tensorflow.inside_function())


def _call(function: Any, results: Any, *operands: Any, **options: Any) -> Any:
    from keras_spiking.kernels import jax_ffi

    operands = tuple(map(lax.stop_gradient, operands))
    return jax_ffi.call(function, results, *operands, **options)


def _like(tensor: Any, dtype: Any = None) -> Any:
    return jax.ShapeDtypeStruct(tensor.shape, dtype or tensor.dtype)


def _scales(dt: Any, height: Any, like: Any) -> Any:
    return jnp.stack([jnp.asarray(each, like.dtype) for each in (dt, height)])


@functools.partial(jax.jit, static_argnums=(4, 5))
def fire(
    rates: Any, voltage: Any, dt: Any, height: Any, time_axis: int, rectify: bool
) -> tuple[Any, Any]:
    """Spikes of `height`, and the voltages at the end. Not differentiable."""
    results = _like(rates), _like(voltage, rates.dtype)
    operands = rates, voltage, _scales(dt, height, rates)
    return _call(_fire, results, *operands, time_axis=time_axis, rectify=rectify)


def _fire(operands: Any, results: Any, **options: Any) -> None:
    rates, voltage, (dt, height) = operands
    cpu.fire(rates, voltage, dt, height, *results, threads=cpu.cores(), **options)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def accumulate(
    rates: Any, state: Any, scales: Any, time_axis: int, rectify: bool, negative_spikes: bool
) -> tuple[Any, Any, Any]:
    """Spikes, final state, and the steps that the gradient passes, None for all."""
    active = (_like(rates, jnp.dtype("bool")),) if rectify else ()
    final = (_like(each, rates.dtype) for each in state[:3])
    results = _like(rates), *final, *active
    dt, height = scales
    operands = rates, *state, _scales(dt, height, rates)
    options = {"time_axis": time_axis, "rectify": rectify, "negative_spikes": negative_spikes}
    spikes, floor, voltage, emitted, *active = _call(_accumulate, results, *operands, **options)
    return spikes, (floor, voltage, emitted), active[0] if rectify else None


def _accumulate(operands: Any, results: Any, **options: Any) -> None:
    rates, *state, (dt, height) = operands
    spikes, floor, voltage, emitted, *active = results
    active = active[0] if active else spikes[:0].astype("uint8")
    final, threads = (floor, voltage, emitted), cpu.cores()
    cpu.accumulate(rates, state, dt, height, spikes, active, final, threads=threads, **options)


@functools.partial(jax.jit, static_argnums=2)
def accumulate_gradient(upstream: Any, active: Any, time_axis: int) -> Any:
    """The gradient in the rates, where they rectify."""
    results = (_like(upstream),)
    return _call(_accumulate_gradient, results, upstream, active, time_axis=time_axis)[0]


def _accumulate_gradient(operands: Any, results: Any, **options: Any) -> None:
    cpu.accumulate_gradient(*operands, *results, threads=cpu.cores(), **options)


@functools.partial(jax.jit, static_argnums=5)
def linear_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> tuple[Any, ...]:
    """One or two levels of filters."""
    results = tuple(_like(inputs) for _ in gains)
    operands = log_decay, coupling, *gains, inputs, *initial
    return tuple(_call(_linear_filter, results, *operands, time_axis=time_axis))


def _linear_filter(operands: Any, results: Any, **options: Any) -> None:
    log_decay, coupling, *rest = operands
    order = len(results)
    gains, inputs, initial = rest[:order], rest[order], rest[order + 1 :]
    each = log_decay, coupling, gains, inputs, initial, results
    cpu.linear_filter(*each, threads=cpu.cores(), **options)


@functools.partial(jax.jit, static_argnums=7)
def linear_filter_gradients(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    levels: Any,
    upstream: Any,
    time_axis: int,
) -> Any:
    """Gradients in everything, in this order."""
    arguments = log_decay, coupling, tuple(gains), inputs, tuple(initial)
    operands, structure = jax.tree.flatten(arguments)
    results = tuple(map(_like, operands))
    found = _call(_gradients, results, *operands, *levels, *upstream, time_axis=time_axis)
    return jax.tree.unflatten(structure, found)


def _gradients(operands: Any, results: Any, **options: Any) -> None:
    order = (len(results) - 3) // 2
    log_decay, coupling, *rest = operands
    gains, inputs = rest[:order], rest[order]
    starts = range(order + 1, 4 * order + 1, order)
    initial, levels, upstream = (rest[start : start + order] for start in starts)
    for_decay, for_coupling, *for_rest = results
    for_gains, for_inputs, for_initial = for_rest[:order], for_rest[order], for_rest[order + 1 :]
    found = cpu.linear_filter_gradients(
        *(log_decay, coupling, gains, inputs, initial, levels, upstream, for_inputs),
        threads=cpu.cores(),
        **options,
    )
    decay, of_coupling, of_gains, of_initial = found
    small = for_decay, for_coupling, *for_gains, *for_initial
    for result, gradient in zip(small, (decay, of_coupling, *of_gains, *of_initial), strict=True):
        result[...] = gradient
