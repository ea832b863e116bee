"""How time, compilation, graph and memory grow with the number of time steps."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.layers import LAYERS, LIMIT, arrays, limit, make_layers, make_steps
from benchmarks.steps import BOTH, WAYS, make_step
from benchmarks.timing import Spread, alternate, first_calls

LENGTHS = (10, 30, 100, 300, 1000, 3000, 10_000)
QUICK_LENGTHS = (10, 100, 1000)
BATCH, UNITS = 32, 128
MEMORY_SHAPE = (32, 1000, 2048)  # so large that compiled programs weigh little beside it
QUICK_MEMORY_SHAPE = (32, 1000, 256)


def measure(backend: str, quick: bool) -> dict[str, Any]:
    """Times forward + backward from few steps to many, and counts operations and bytes."""
    lengths = QUICK_LENGTHS if quick else LENGTHS
    way = WAYS[backend][0]
    rows = []
    for length in lengths:
        shape = (BATCH, length, UNITS)
        print(f"  {shape}", flush=True)
        steps = make_steps(backend, way, BOTH, shape)
        compiling = first_calls(steps)
        times = alternate(steps, seconds=0.5 if quick else 1)
        rows += [
            {
                "name": name,
                "length": length,
                "ms": 1e3 * Spread.of(times[name]).median,
                "first_s": compiling[name],
                "operations": _operations(backend, name, shape),
            }
            for name in steps
        ]
    shape = QUICK_MEMORY_SHAPE if quick else MEMORY_SHAPE
    peaks = {name: _peak_of_process(backend, name, shape) for name in (LIMIT, *LAYERS)}
    size = 4 * int(np.prod(shape))
    memory = {name: (peaks[name] - peaks[LIMIT]) / size for name in LAYERS}
    return {"way": way, "batch": BATCH, "units": UNITS, "rows": rows, "tensors": memory}


def _operations(backend: str, name: str, shape: tuple[int, ...]) -> int | None:
    """Operations in the graph of the forward pass, functions within it included."""
    layer = limit if name == LIMIT else make_layers(shape)[name]
    if backend == "tensorflow":
        import tensorflow as tf

        graph = tf.function(layer).get_concrete_function(tf.TensorSpec(shape)).graph.as_graph_def()
        return len(graph.node) + sum(len(each.node_def) for each in graph.library.function)
    if backend == "jax":
        import jax

        call = layer if name == LIMIT else _stateless(layer)
        return str(jax.make_jaxpr(call)(np.zeros(shape, "float32"))).count(" = ")
    return None  # eager torch has no graph


def _stateless(layer: Any) -> Any:
    variables = [
        [each.value for each in group]
        for group in (layer.trainable_variables, layer.non_trainable_variables)
    ]
    return lambda x: layer.stateless_call(*variables, x)[0]


def _peak_of_process(backend: str, name: str, shape: tuple[int, ...]) -> int:
    """Bytes that a process of its own had at most, while it ran training steps."""
    program = f"from benchmarks import growth; growth.run_steps({backend!r}, {name!r}, {shape!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1])


def run_steps(backend: str, name: str, shape: tuple[int, ...]) -> None:
    """Runs a few training steps of a model with and without the layer, and prints the peak.

    The model scales its inputs by a trained factor, and passes them through the layer, if any.
    """
    import keras

    layers = [] if name == LIMIT else [make_layers(shape)[name]]
    model = keras.Sequential([keras.Input(batch_shape=shape), keras.layers.Rescaling(1.0), *layers])
    inputs, upstream = arrays(shape)
    step = make_step(backend, WAYS[backend][0], BOTH, model, inputs, upstream)
    for _ in range(3):
        step()
    print(_peak())


def _peak() -> int:
    """Bytes that this process had at most (on Linux, where `getrusage` tells its parent's too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
