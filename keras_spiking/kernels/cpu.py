"""The kernels on CPUs, on every core, as functions of NumPy arrays: what all frameworks call.

Numba compiles their loops (`numba_tools.py`). It is optional: `keras-spiking[fast]`. Each function
fills the arrays for its results, which are contiguous, and computes what `contract.py` says. Batch
and time may be the first axes in either order, as `time_axis` says.
"""

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_spiking._types import Array
from keras_spiking.kernels.contract import Filter, FilterGradients
from keras_spiking.kernels.filter_steps import AdjointSums, finish
from keras_spiking.kernels.parallel import cores, run

__all__ = ["cores"]


@functools.cache
def is_available() -> bool:
    """Whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None


def takes(dtype: Any) -> bool:
    """Whether there are loops for numbers of this type."""
    return dtype in ("float32", "float64")


@functools.cache
def _loops(name: str) -> Any:
    """The module with the loops for `"spikes"` or `"filters"`, which imports Numba."""
    return importlib.import_module(f"keras_spiking.kernels.loops_{name}")


def _state(array: Array, like: Array, time_axis: int) -> Array:
    """A state for each sample of a sequence, in its type."""
    return _of_shape(array, (like.shape[1 - time_axis], *like.shape[2:]), like.dtype)


def _per_unit(array: Any, like: Array) -> Array:
    return _of_shape(array, (1, *like.shape[2:]), like.dtype)


def _of_shape(array: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    # What NumPy broadcasts is for reading alone: for such arrays, Numba would compile once more.
    array = np.asarray(array, dtype)
    same = array.shape == shape
    return np.ascontiguousarray(array) if same else np.broadcast_to(array, shape).copy()


def fire(
    rates: Array,
    voltage: Array,
    dt: Any,
    height: Any,
    spikes: Array,
    final: Array,
    *,
    voltages: Array | None = None,
    rectify: bool = False,
    time_axis: int = 1,
    threads: int = 1,
) -> None:
    """Spikes of `height` by `rates * dt`, and the voltages at the end, or after every step.

    Both may differ between units, as (..., units) arrays.
    """
    rates = np.ascontiguousarray(rates)
    voltages = np.empty(0, rates.dtype) if voltages is None else voltages
    start = _state(voltage, rates, time_axis)
    scales = _per_unit(dt, rates), _per_unit(height, rates)
    arguments = rates, start, *scales, bool(rectify), spikes, voltages, final
    run(_loops("spikes").fire, rates, time_axis, threads, *arguments)


def accumulate(
    rates: Array,
    state: Sequence[Array],
    dt: float,
    height: float,
    spikes: Array,
    active: Array,
    final: Sequence[Array],
    *,
    rectify: bool = False,
    negative_spikes: bool = True,
    time_axis: int = 1,
    threads: int = 1,
) -> None:
    """Spikes of neurons that remember their sums; `active`, of bytes, is filled if they rectify."""
    rates = np.ascontiguousarray(rates)
    number = rates.dtype.type
    states = [_state(part, rates, time_axis) for part in state]
    scales = number(dt), number(height)
    choices = bool(rectify), bool(negative_spikes)
    arguments = rates, *states, *scales, *choices, spikes, active, *final
    run(_loops("spikes").accumulate, rates, time_axis, threads, *arguments)


def accumulate_gradient(
    upstream: Array, active: Array, gradients: Array, *, time_axis: int = 1, threads: int = 1
) -> None:
    """The gradient of `accumulate` in the rates, where it rectifies."""
    upstream, active = map(np.ascontiguousarray, (upstream, active))
    loop = _loops("spikes").accumulate_gradient
    run(loop, upstream, time_axis, threads, upstream, active, gradients)


def linear_filter(
    filter_: Filter,
    inputs: Array,
    initial: Sequence[Array],
    levels: Sequence[Array],
    *,
    time_axis: int = 1,
    threads: int = 1,
) -> None:
    """One or two levels of filters."""
    inputs = np.ascontiguousarray(inputs)
    starts = [_state(level, inputs, time_axis) for level in initial]
    loops = _loops("filters")
    loop = loops.filter_one if len(levels) == 1 else loops.filter_two
    arguments = inputs, *_parameters(filter_, inputs), *starts, *levels
    run(loop, inputs, time_axis, threads, *arguments)


def linear_filter_gradients(
    filter_: Filter,
    inputs: Array,
    initial: Sequence[Array],
    levels: Sequence[Array],
    upstream: Sequence[Array],
    grad_inputs: Array,
    *,
    time_axis: int = 1,
    threads: int = 1,
) -> FilterGradients:
    """Fills the gradient in the inputs, and returns it with all others."""
    inputs = np.ascontiguousarray(inputs)
    starts = [_state(level, inputs, time_axis) for level in initial]
    sequences = [np.ascontiguousarray(sequence) for sequence in (*levels, *upstream)]
    log_decay, coupling, *rest = (np.zeros_like(starts[0]) for _ in range(2 + 2 * len(levels)))
    gains, adjoints = rest[: len(levels)], rest[len(levels) :]
    # One level has no coupling.
    loop, totals = _loops("filters").adjoint_one, (log_decay, *gains)
    if len(levels) == 2:
        loop, totals = _loops("filters").adjoint_two, (log_decay, coupling, *gains)
    arguments = inputs, *_parameters(filter_, inputs), *starts, *sequences, grad_inputs
    run(loop, inputs, time_axis, threads, *arguments, *totals, *adjoints)
    sums = AdjointSums(adjoints, [], log_decay, coupling, gains)
    decay = np.exp(filter_.log_decay)
    return finish(
        filter_, decay, sums, grad_inputs, functools.partial(np.sum, axis=0, keepdims=True)
    )


def _parameters(filter_: Filter, inputs: Array) -> list[Array]:
    """The leak, the coupling of two levels, and the gains, each of every unit."""
    log_decay, coupling, gains = filter_
    leak = -np.expm1(log_decay)
    parameters = (leak, *gains) if len(gains) == 1 else (leak, coupling, *gains)
    return [_per_unit(parameter, inputs) for parameter in parameters]
