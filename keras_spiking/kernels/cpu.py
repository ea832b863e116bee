"""The kernels on CPUs, on every core, as functions of NumPy arrays: what all frameworks call.

Numba compiles them (`loops.py`); it is optional, `keras-spiking[fast]`. Each function fills the
arrays for its results, which are contiguous, and goes by the contract in `kernels/__init__.py`.
Batch and time may be the first axes in either order, as `time_axis` says.
"""

import concurrent.futures
import functools
import importlib
import importlib.util
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from keras_spiking.kernels.contract import Filter, FilterGradients
from keras_spiking.kernels.filter_steps import AdjointSums, finish

# By measurement: below, to hand a part to another thread takes longer than to do it.
_ELEMENTS_WORTH_A_THREAD = 2**16
# Of numbers that are next to one another, those of one cache line stay together.
_LINE = 16
_SECONDS_TO_TELL = 1.0


@functools.cache
def is_available() -> bool:
    """Whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None


def takes(dtype: Any) -> bool:
    """Whether there are loops for numbers of this type."""
    return dtype in ("float32", "float64")


@functools.cache
def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Layout(NamedTuple):
    """Where the numbers of a sequence lie; see `loops.py`."""

    samples: int
    steps: int
    units: int
    of_sample: int
    of_step: int

    @classmethod
    def of(cls, shape: tuple[int, ...], time_axis: int) -> "_Layout":
        samples, steps = shape[1 - time_axis], shape[time_axis]
        units = math.prod(shape[2:])
        if time_axis == 1:
            return cls(samples, steps, units, steps * units, units)
        return cls(samples, steps, units, units, samples * units)

    def parts(self, threads: int) -> list[tuple[int, int, int, int]]:
        """First and last sample and unit of what each thread is to do."""
        elements = self.samples * self.steps * self.units
        most = max(min(threads, elements // _ELEMENTS_WORTH_A_THREAD), 1)
        even = self.samples % most == 0 or self.samples >= 8 * most
        if even or self.units < most * _LINE:
            return [(*ends, 0, self.units) for ends in _cut(self.samples, most)]
        return [(0, self.samples, *ends) for ends in _cut(self.units, most, _LINE)]


def _cut(length: int, parts: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    ends = [round(length * part / parts / multiple) * multiple for part in range(parts)]
    return zip(ends, [*ends[1:], length], strict=True)


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(cores(), thread_name_prefix="keras_spiking")


if hasattr(os, "register_at_fork"):
    # A forked process has none of the threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)


@functools.cache
def _loops() -> ModuleType:
    return importlib.import_module("keras_spiking.kernels.loops")


_compiled: set[tuple[str, Any]] = set()


def _run(name: str, like: Any, time_axis: int, threads: int, *arguments: Any) -> None:
    """Runs a loop on all parts of sequences that are like this one."""
    layout = _Layout.of(like.shape, time_axis)
    loop = getattr(_loops(), name)
    arguments = layout[1:], *map(_flat, arguments)
    if (name, like.dtype) not in _compiled:
        _compile(name, loop, arguments)
        _compiled.add((name, like.dtype))
    first, *others = layout.parts(threads)
    futures = [_begin(loop, part, arguments) for part in others]
    try:
        loop(first, *arguments)
    finally:
        _finish(futures)


def _begin(loop: Any, part: Any, arguments: Any) -> "concurrent.futures.Future[None]":
    """Runs a loop in another thread; in this one if the interpreter is about to end."""
    try:
        return _pool().submit(loop, part, *arguments)
    except RuntimeError:  # It starts no more work by then.
        loop(part, *arguments)
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        done.set_result(None)
        return done


def _finish(futures: Any) -> None:
    """Waits for threads. An interrupt waits too: whoever called may free memory they write to."""
    interrupt = None
    while not all(future.done() for future in futures):
        try:
            concurrent.futures.wait(futures)
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
    for future in futures:
        future.result()


def _compile(name: str, loop: Any, arguments: Any) -> None:
    """Has Numba compile a loop, or load it, by a part with nothing to do."""
    start, loaded = time.monotonic(), loop.stats.cache_hits.total()
    loop((0, 0, 0, 0), *arguments)
    seconds = time.monotonic() - start
    if seconds > _SECONDS_TO_TELL and loop.stats.cache_hits.total() == loaded:
        logging.getLogger("keras_spiking").warning(
            "keras_spiking: Numba took %.1f s to compile the loop `%s`, which it keeps on disk.",
            seconds,
            name,
        )


def _flat(argument: Any) -> Any:
    return argument.reshape(-1) if isinstance(argument, np.ndarray) and argument.ndim else argument


def _state(array: Any, like: Any, time_axis: int) -> Any:
    """A state for each sample of a sequence, in its type."""
    return _of_shape(array, (like.shape[1 - time_axis], *like.shape[2:]), like.dtype)


def _per_unit(array: Any, like: Any) -> Any:
    return _of_shape(array, (1, *like.shape[2:]), like.dtype)


def _of_shape(array: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    # What NumPy broadcasts is for reading alone: for such arrays, Numba would compile once more.
    array = np.asarray(array, dtype)
    same = array.shape == shape
    return np.ascontiguousarray(array) if same else np.broadcast_to(array, shape).copy()


def fire(
    rates: Any,
    voltage: Any,
    dt: Any,
    height: Any,
    spikes: Any,
    final: Any,
    *,
    voltages: Any = None,
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
    results = spikes, voltages, final
    _run("fire", rates, time_axis, threads, rates, start, *scales, bool(rectify), *results)


def accumulate(
    rates: Any,
    state: Any,
    dt: Any,
    height: Any,
    spikes: Any,
    active: Any,
    final: Any,
    *,
    rectify: bool = False,
    negative_spikes: bool = True,
    time_axis: int = 1,
    threads: int = 1,
) -> None:
    """Spikes of neurons that remember their sums; `active`, of bytes, is filled if they rectify."""
    rates = np.ascontiguousarray(rates)
    number = rates.dtype.type
    states = [_state(each, rates, time_axis) for each in state]
    scales = number(dt), number(height)
    choices = bool(rectify), bool(negative_spikes)
    results = spikes, active, *final
    _run("accumulate", rates, time_axis, threads, rates, *states, *scales, *choices, *results)


def accumulate_gradient(
    upstream: Any, active: Any, gradients: Any, *, time_axis: int = 1, threads: int = 1
) -> None:
    """The gradient of `accumulate` in the rates, where it rectifies."""
    upstream, active = map(np.ascontiguousarray, (upstream, active))
    _run("accumulate_gradient", upstream, time_axis, threads, upstream, active, gradients)


def linear_filter(
    filter_: Filter,
    inputs: Any,
    initial: Sequence[Any],
    levels: Sequence[Any],
    *,
    time_axis: int = 1,
    threads: int = 1,
) -> None:
    """One or two levels of filters."""
    inputs = np.ascontiguousarray(inputs)
    starts = [_state(level, inputs, time_axis) for level in initial]
    name = "filter_one" if len(levels) == 1 else "filter_two"
    arguments = inputs, *_parameters(filter_, inputs), *starts, *levels
    _run(name, inputs, time_axis, threads, *arguments)


def linear_filter_gradients(
    filter_: Filter,
    inputs: Any,
    initial: Sequence[Any],
    levels: Sequence[Any],
    upstream: Sequence[Any],
    grad_inputs: Any,
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
    name, totals = "adjoint_one", (log_decay, *gains)
    if len(levels) == 2:
        name, totals = "adjoint_two", (log_decay, coupling, *gains)
    arguments = inputs, *_parameters(filter_, inputs), *starts, *sequences, grad_inputs
    _run(name, inputs, time_axis, threads, *arguments, *totals, *adjoints)
    sums = AdjointSums(adjoints, [], log_decay, coupling, gains)
    decay = np.exp(filter_.log_decay)
    return finish(
        filter_, decay, sums, grad_inputs, functools.partial(np.sum, axis=0, keepdims=True)
    )


def _parameters(filter_: Filter, inputs: Any) -> list[Any]:
    """The leak, the coupling of two levels, and the gains, each of every unit."""
    log_decay, coupling, gains = filter_
    leak = -np.expm1(log_decay)
    parameters = (leak, *gains) if len(gains) == 1 else (leak, coupling, *gains)
    return [_per_unit(parameter, inputs) for parameter in parameters]
