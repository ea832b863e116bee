"""The loops that Numba compiles (`cpu.py`), as functions of JAX's tensors."""

import functools
import math
import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_spiking._types import Tensor
from keras_spiking.kernels import cpu, setting
from keras_spiking.kernels.contract import Filter, FilterGradients, from_row, to_row

# By measurement: for shorter sequences, XLA's loop takes less time than a call.
_ELEMENTS_WORTH_A_CALL = 2**18


def can_run() -> bool:
    """Whether these loops run at all, as things are now.

    They do not on an accelerator, nor in programs for several devices, over which XLA cannot
    divide a call.
    """
    if not setting.numba_is_chosen() or jax.default_backend() != "cpu" or jax.device_count() != 1:
        return False
    # It imports Numba.
    from keras_spiking.kernels import jax_ffi

    return jax_ffi.is_supported()


def is_chosen(sequence: Tensor, *others: Any) -> bool:
    """Whether these loops run on a sequence, with others (states, weights, seconds) of its type.

    Where they cannot, or are slower, XLA compiles a loop of its own:
    - in what is exported, which is to run without this package: there a size may be unknown, and
      Keras has TensorFlow trace a model of fixed sizes too. Nothing tells of `jax.export`, which
      refuses such calls by itself;
    - for short sequences, unless Numba is asked for by `set_kernels("numba")`.
    """
    if not all(isinstance(size, int) for size in sequence.shape):
        return False
    elements, dtype = math.prod(sequence.shape), sequence.dtype
    if elements < (1 if setting.name == "numba" else _ELEMENTS_WORTH_A_CALL):
        return False
    if not cpu.takes(dtype) or jnp.result_type(sequence, *jax.tree.leaves(others)) != dtype:
        return False
    return can_run() and not _is_in_tensorflow()


def _is_in_tensorflow() -> bool:
    """Whether TensorFlow is tracing a function."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and bool(tensorflow.inside_function())


def _call(function: Any, results: Any, *operands: Any, **options: Any) -> Any:
    from keras_spiking.kernels import jax_ffi

    operands = tuple(map(lax.stop_gradient, operands))
    return jax_ffi.call(function, results, *operands, **options)


def _like(tensor: Tensor, dtype: Any = None) -> Any:
    return jax.ShapeDtypeStruct(tensor.shape, dtype or tensor.dtype)


def _scales(dt: Tensor, height: Tensor, like: Any) -> Any:
    return jnp.stack([jnp.asarray(scale, like.dtype) for scale in (dt, height)])


@functools.partial(jax.jit, static_argnums=(4, 5))
def fire(
    rates: Tensor, voltage: Tensor, dt: Tensor, height: Tensor, time_axis: int, rectify: bool
) -> tuple[Tensor, Tensor]:
    """Spikes of `height`, and the voltages at the end. Not differentiable."""
    results = _like(rates), _like(voltage, rates.dtype)
    operands = rates, voltage, _scales(dt, height, rates)
    return _call(_fire, results, *operands, time_axis=time_axis, rectify=rectify)


def _fire(operands: Any, results: Any, **options: Any) -> None:
    rates, voltage, (dt, height) = operands
    cpu.fire(rates, voltage, dt, height, *results, threads=cpu.cores(), **options)


@functools.partial(jax.jit, static_argnums=2)
def integrate(increments: Tensor, voltage: Tensor, time_axis: int) -> tuple[Tensor, Tensor]:
    """The counts of spikes, and the voltages after every step. Not differentiable."""
    results = _like(increments), _like(increments), _like(voltage, increments.dtype)
    counts, voltages, _ = _call(_integrate, results, increments, voltage, time_axis=time_axis)
    return counts, voltages


def _integrate(operands: Any, results: Any, **options: Any) -> None:
    counts, voltages, final = results
    increments, voltage = operands
    scales = 1.0, 1.0
    cpu.fire(
        increments,
        voltage,
        *scales,
        counts,
        final,
        voltages=voltages,
        threads=cpu.cores(),
        **options,
    )


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def accumulate(
    rates: Tensor, state: Any, scales: Any, time_axis: int, rectify: bool, negative_spikes: bool
) -> tuple[Any, Any, Any]:
    """Spikes, final state, and the steps that the gradient passes, None for all."""
    active = (_like(rates, jnp.dtype("bool")),) if rectify else ()
    final = (_like(part, rates.dtype) for part in state[:3])
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
def accumulate_gradient(upstream: Tensor, active: Tensor, time_axis: int) -> Any:
    """The gradient in the rates, where they rectify."""
    results = (_like(upstream),)
    return _call(_accumulate_gradient, results, upstream, active, time_axis=time_axis)[0]


def _accumulate_gradient(operands: Any, results: Any, **options: Any) -> None:
    cpu.accumulate_gradient(*operands, *results, threads=cpu.cores(), **options)


@functools.partial(jax.jit, static_argnums=3)
def linear_filter(
    filter_: Filter, inputs: Tensor, initial: tuple[Tensor, ...], time_axis: int
) -> tuple[Tensor, ...]:
    """One or two levels of filters."""
    results = tuple(_like(inputs) for _ in initial)
    row = to_row(filter_, inputs, initial)
    return tuple(_call(_linear_filter, results, *row, time_axis=time_axis))


def _linear_filter(operands: Any, results: Any, **options: Any) -> None:
    cpu.linear_filter(*from_row(operands), results, threads=cpu.cores(), **options)


@functools.partial(jax.jit, static_argnums=5)
def linear_filter_gradients(
    filter_: Filter,
    inputs: Tensor,
    initial: tuple[Tensor, ...],
    levels: tuple[Tensor, ...],
    upstream: tuple[Tensor, ...],
    time_axis: int,
) -> FilterGradients:
    """Gradients in everything but the levels."""
    row = to_row(filter_, inputs, initial)
    results = tuple(map(_like, row))
    found = _call(_gradients, results, *row, *levels, *upstream, time_axis=time_axis)
    return from_row(found)


def _gradients(operands: Any, results: Any, **options: Any) -> None:
    arguments = from_row(operands[: len(results)])
    order = len(arguments.initial)
    levels, upstream = operands[-2 * order : -order], operands[-order:]
    grad_inputs = from_row(results).inputs
    found = cpu.linear_filter_gradients(
        *arguments, levels, upstream, grad_inputs, threads=cpu.cores(), **options
    )
    for result, gradient in zip(results, to_row(*found), strict=True):
        if result is not gradient:
            result[...] = gradient
