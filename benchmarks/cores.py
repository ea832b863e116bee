"""Times the kernels alone beside a copy of memory, and training passes on one core beside two."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.layers import DT, LAYERS, LIMIT, arrays, make_steps
from benchmarks.steps import BOTH, WAYS
from benchmarks.timing import Spread, alternate, first_calls, ratios

COPY = "copy"
SHAPES = ((32, 1000, 128), (64, 500, 256))
QUICK_SHAPES = ((32, 100, 128),)
ROUNDS = {True: 1, False: 3}  # quick or not
SECONDS = 3  # in each process


def measure(backend: str, quick: bool) -> dict[str, Any]:
    """Times kernels for `copy`, and layers for two cores against one."""
    shapes = QUICK_SHAPES if quick else SHAPES
    kernels = []
    for shape in shapes:
        print(f"  kernels alone, {shape}", flush=True)
        functions = {COPY: arrays(shape)[0].copy, **_kernels(backend, shape)}
        first_calls(functions)
        times = alternate(functions, seconds=1 if quick else 3)
        kernels += [
            {
                "shape": shape,
                "name": name,
                "ms": Spread.of([1e3 * each for each in times[name]]),
                "over_copy": ratios(times, name, COPY),
            }
            for name in functions
        ]
    return {"kernels": kernels, "cores": _one_against_two(backend, shapes[-1], ROUNDS[quick])}


def _kernels(backend: str, shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """The kernels of the three layers, on tensors that are there already."""
    import keras

    from keras_spiking import kernels

    tensor = keras.ops.convert_to_tensor
    rates = tensor(arrays(shape)[0])
    state = tensor(np.full((shape[0], *shape[2:]), 0.5, "float32"))
    decay, coupling, gain = (
        tensor(np.full((1, *shape[2:]), value, "float32")) for value in (-0.1, 0.09, 0.1)
    )
    lowpass, alpha = (kernels.Filter(decay, coupling, (gain,) * order) for order in (1, 2))
    functions = (
        lambda x, v: kernels.spike(x, v, DT, rectify=True),
        lambda x, v: kernels.linear_filter(lowpass, x, (v,)),
        lambda x, v: kernels.linear_filter(alpha, x, (v, v)),
    )
    return {
        name: _compiled(backend, function, rates, state)
        for name, function in zip(LAYERS, functions, strict=True)
    }


def _compiled(backend: str, function: Callable[..., Any], *tensors: Any) -> Callable[[], Any]:
    if backend == "tensorflow":
        import tensorflow as tf

        function = tf.function(function)
        return lambda: function(*tensors)
    if backend == "jax":
        import jax

        function = jax.jit(function)
        return lambda: jax.block_until_ready(function(*tensors))
    return lambda: function(*tensors)


def _one_against_two(backend: str, shape: tuple[int, ...], rounds: int) -> dict[str, Any] | None:
    """How many times as fast two cores are as one, in processes that take turns."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return None
    milliseconds: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for count in milliseconds:
            print(f"  {count} of the cores", flush=True)
            milliseconds[count].append(_in_process(backend, shape, count))
    return {
        name: Spread.of(
            [one[name] / two[name] for one, two in zip(*milliseconds.values(), strict=True)]
        )
        for name in (LIMIT, *LAYERS)
    }


def _in_process(backend: str, shape: tuple[int, ...], cores: int) -> dict[str, float]:
    """Milliseconds of training passes in a process that may use a few cores alone."""
    program = (
        f"import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}]); "
        f"from benchmarks import cores; cores.run({backend!r}, {shape!r}, {SECONDS!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def run(backend: str, shape: tuple[int, ...], seconds: float) -> None:
    """Times the layers, and prints their milliseconds."""
    from benchmarks.__main__ import choose_kernels

    choose_kernels(backend)
    steps = make_steps(backend, WAYS[backend][0], BOTH, shape)
    first_calls(steps)
    times = alternate(steps, seconds)
    print(json.dumps({name: 1e3 * statistics.median(each) for name, each in times.items()}))
