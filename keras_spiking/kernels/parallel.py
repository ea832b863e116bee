"""Runs a loop that Numba compiled on every core: on parts of the samples or units, side by side."""

import concurrent.futures
import functools
import logging
import math
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

# By measurement: to hand fewer elements to another thread takes longer than to compute them.
_ELEMENTS_WORTH_A_THREAD = 2**16
# Units that share a cache line go to the same thread.
_LINE = 16
_SECONDS_TO_TELL = 1.0


@functools.cache
def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Layout(NamedTuple):
    """Where the numbers of a sequence lie; see `numba_tools.py`."""

    samples: int
    steps: int
    units: int
    of_sample: int
    of_step: int

    @classmethod
    def of(cls, shape: tuple[int, ...], time_axis: int) -> "Layout":
        samples, steps = shape[1 - time_axis], shape[time_axis]
        units = math.prod(shape[2:])
        if time_axis == 1:
            return cls(samples, steps, units, steps * units, units)
        return cls(samples, steps, units, units, samples * units)

    def parts(self, threads: int) -> list[tuple[int, int, int, int]]:
        """The first and last sample and unit of each thread's part."""
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
    # A forked process does not have the threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)


_compiled: set[tuple[Any, Any]] = set()


def run(loop: Any, like: Any, time_axis: int, threads: int, *arguments: Any) -> None:
    """Runs a loop on all parts of sequences that are like this one."""
    layout = Layout.of(like.shape, time_axis)
    arguments = layout[1:], *map(_flat, arguments)
    if (loop, like.dtype) not in _compiled:
        _compile(loop, arguments)
        _compiled.add((loop, like.dtype))
    first, *others = layout.parts(threads)
    futures = [_begin(loop, part, arguments) for part in others]
    try:
        loop(first, *arguments)
    finally:
        _finish(futures)


def _begin(loop: Any, part: Any, arguments: Any) -> "concurrent.futures.Future[None]":
    """Runs a loop in another thread, or in this one if the interpreter is about to end."""
    try:
        return _pool().submit(loop, part, *arguments)
    except RuntimeError:  # It starts no more work by then.
        loop(part, *arguments)
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        done.set_result(None)
        return done


def _finish(futures: Any) -> None:
    """Waits for the threads, also after an interrupt: the caller may free what they write to."""
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


def _compile(loop: Any, arguments: Any) -> None:
    """Makes Numba compile or load a loop, by an empty part."""
    start, loaded = time.monotonic(), loop.stats.cache_hits.total()
    loop((0, 0, 0, 0), *arguments)
    seconds = time.monotonic() - start
    if seconds > _SECONDS_TO_TELL and loop.stats.cache_hits.total() == loaded:
        logging.getLogger("keras_spiking").warning(
            "keras_spiking: Numba took %.1f s to compile the loop `%s`, which it keeps on disk.",
            seconds,
            loop.__name__,
        )


def _flat(argument: Any) -> Any:
    return argument.reshape(-1) if isinstance(argument, np.ndarray) and argument.ndim else argument
