"""Runs a spiking model as a service would: one time step a call, for as long as signals come.

The model keeps its voltages and levels from call to call. The example calls it in three ways: as it
stands, compiled by its backend, and compiled with many steps a call. It prints the microseconds per
step of each way. All three give the same outputs as the whole signal at once. With --backend
modules, the same model consists of PyTorch modules, without Keras.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import command_line
import numpy as np

if TYPE_CHECKING:
    import keras

BACKENDS = ("tensorflow", "jax", "torch", "modules")
DT = 0.001  # seconds
TAU = 0.05  # seconds
STEPS, QUICK_STEPS = 10_000, 500
CHUNK = 100
NUM_INPUTS = 16

# Takes inputs (1, steps, NUM_INPUTS) and gives outputs as arrays, going on from its last call.
Stream = Callable[[np.ndarray], np.ndarray]


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="of Keras, or modules for PyTorch without it (default: KERAS_BACKEND if set, else "
        "tensorflow)",
    )
    parser.add_argument(
        "--steps",
        type=command_line.whole_number(CHUNK, 10_000_000),
        metavar="N",
        help=f"time steps to run in each way (default: {STEPS:,}; {QUICK_STEPS} with --quick)",
    )
    parser.add_argument(
        "--units",
        type=command_line.whole_number(1, 100_000),
        default=128,
        metavar="N",
        help="neurons (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="a few steps, for a look")
    return parser


def make_signal(steps: int) -> np.ndarray:
    """Slow waves with noise, `(1, steps, NUM_INPUTS)`, in 8 bits, as from a sensor."""
    rng = np.random.default_rng(0)
    seconds = np.arange(steps)[:, None] * DT
    waves = np.sin(2 * np.pi * seconds * np.linspace(0.5, 5, NUM_INPUTS))
    signal = waves + 0.3 * rng.normal(size=waves.shape)
    return (np.rint(100 * signal).clip(-127, 127) / 128)[None].astype("float32")


def make_weights(units: int) -> np.ndarray:
    """Weights `(NUM_INPUTS, units)` for rates of some 100 Hz.

    They are whole numbers, so sums of their products with 8 bits are exact in float32. So the rates
    and the spikes do not depend on the order of the sums in a matrix product.
    """
    return np.rint(np.random.default_rng(1).normal(scale=30, size=(NUM_INPUTS, units)))


def keras_model(units: int, stateful: bool = True) -> keras.Model:
    """A model that keeps its state from call to call; any number of steps may come at once."""
    import keras

    import keras_spiking

    model = keras.Sequential(
        [
            keras.Input(batch_shape=(1, None, NUM_INPUTS)),
            keras.layers.Dense(units, use_bias=False),
            keras_spiking.SpikingActivation("relu", dt=DT, seed=0, stateful=stateful),
            keras_spiking.Lowpass(TAU, dt=DT, stateful=stateful),
        ]
    )
    model.layers[0].set_weights([make_weights(units)])
    return model


def as_it_stands(model: keras.Model) -> Stream:
    """Calls the model without compiling it."""
    import keras

    def stream(inputs: np.ndarray) -> np.ndarray:
        return keras.ops.convert_to_numpy(model(inputs, training=False))

    return without_gradients(stream)


def compiled(model: keras.Model) -> Stream:
    """The model as a function that its backend compiles, once for each number of steps."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        run = tf.function(lambda inputs: model(inputs, training=False), jit_compile=True)
        return lambda inputs: run(tf.constant(inputs)).numpy()
    if backend == "jax":
        import jax

        run = jax.jit(lambda *arguments: model.stateless_call(*arguments, training=False))
        weights = [variable.value for variable in model.trainable_variables]
        # JAX keeps no variables: each call returns the state, and the next call takes it.
        state = [variable.value for variable in model.non_trainable_variables]

        def stream(inputs: np.ndarray) -> np.ndarray:
            nonlocal state
            outputs, state = run(weights, state, inputs)
            return np.asarray(outputs)

        return stream
    return as_it_stands(model)  # Keras does not compile on PyTorch


def torch_modules(units: int, stateful: bool = True) -> Any:
    """The same model of PyTorch modules."""
    import torch

    from keras_spiking.pytorch import Lowpass, SpikingActivation

    dense = torch.nn.Linear(NUM_INPUTS, units, bias=False)
    dense.weight.data = torch.from_numpy(make_weights(units).T.astype("float32").copy())
    voltage = torch.rand(1, units, generator=torch.Generator().manual_seed(0))
    return torch.nn.Sequential(
        dense,
        SpikingActivation(torch.relu, dt=DT, initial_state=voltage, stateful=stateful),
        Lowpass(TAU, units, dt=DT, stateful=stateful),
    ).eval()


def without_gradients(stream: Stream) -> Stream:
    """Keeps PyTorch, where it is in use, from recording what a gradient would need."""
    torch = sys.modules.get("torch")
    return stream if torch is None else torch.no_grad()(stream)


def run_modules(module: Any) -> Stream:
    """Calls PyTorch modules on arrays."""
    import torch

    return without_gradients(lambda inputs: module(torch.from_numpy(inputs)).numpy())


def feed(stream: Stream, signal: np.ndarray, chunk: int, name: str) -> tuple[np.ndarray, float]:
    """Feeds a signal in chunks; returns the outputs, and the median microseconds of a step."""
    outputs, times = [], []
    reported = start = time.perf_counter()
    for first in range(0, signal.shape[1], chunk):
        inputs = signal[:, first : first + chunk]
        began = time.perf_counter()
        outputs.append(stream(inputs))
        times.append((time.perf_counter() - began) / inputs.shape[1])
        if time.perf_counter() - reported > 2:
            reported = time.perf_counter()
            done = (first + chunk) / signal.shape[1]
            print(f"  {name}: {done:.0%} after {reported - start:.0f} s", flush=True)
    return np.concatenate(outputs, axis=1), 1e6 * statistics.median(times)


def ways(backend: str, units: int) -> dict[str, tuple[Stream, int]]:
    """The ways to call the model: the function, and the number of steps in a call."""
    if backend == "modules":
        return {
            "one step a call": (run_modules(torch_modules(units)), 1),
            f"{CHUNK} steps a call": (run_modules(torch_modules(units)), CHUNK),
        }
    return {
        "one step a call, as it stands": (as_it_stands(keras_model(units)), 1),
        "one step a call, compiled": (compiled(keras_model(units)), 1),
        f"{CHUNK} steps a call, compiled": (compiled(keras_model(units)), CHUNK),
    }


def whole(backend: str, units: int, signal: np.ndarray) -> np.ndarray:
    """The outputs for the whole signal at once."""
    if backend == "modules":
        return run_modules(torch_modules(units, stateful=False))(signal)
    return compiled(keras_model(units, stateful=False))(signal)


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    arguments = make_parser().parse_args(argv)
    backend = arguments.backend or os.environ.get("KERAS_BACKEND", "tensorflow")
    os.environ["KERAS_BACKEND"] = "torch" if backend == "modules" else backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    steps = arguments.steps or (QUICK_STEPS if arguments.quick else STEPS)
    steps -= steps % CHUNK
    print(f"{backend}: {NUM_INPUTS} inputs, {arguments.units} neurons, {steps:,} steps", flush=True)

    if backend in ("torch", "modules"):
        import torch

        torch.set_num_threads(1)  # a step is too small a task to share
    signal = make_signal(steps)
    expected = whole(backend, arguments.units, signal)
    print(f"\n{'':32}{'µs a step':>12}{'steps a second':>17}{'largest difference':>21}")
    for name, (stream, chunk) in ways(backend, arguments.units).items():
        outputs, microseconds = feed(stream, signal, chunk, name)
        difference = np.abs(outputs - expected).max() / np.abs(expected).max()
        print(f"{name:32}{microseconds:12.1f}{1e6 / microseconds:17,.0f}{difference:21.1e}")
        if difference > 1e-5:
            sys.exit(f"{name}: the outputs are not those of the whole signal at once")
    print("\nA step is 1 ms: what takes less than 1,000 µs keeps up with the world.")


if __name__ == "__main__":
    main()
