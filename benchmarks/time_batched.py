"""Times `TimeBatched` beside `keras.layers.TimeDistributed`: Conv2D(32, 3), forward and backward.

Each runs compiled as `fit` does it on a CPU: as a plain TensorFlow graph, jitted by JAX, or
eagerly on torch. `limit` is the wrapped layer alone, on inputs that have no time axis and as many
samples as there were samples times steps: no wrapper can be faster. All alternate in one process,
and a ratio is that of two neighbouring runs.

    python benchmarks/time_batched.py --backend jax
"""

import argparse
import importlib
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")
SHAPE = (32, 10, 28, 28, 1)
TARGET = 3.0


def step_tensorflow(layer: Any, inputs: np.ndarray, upstream: np.ndarray) -> Callable[[], Any]:
    """A step of `layer` as a plain graph, traced for an unknown batch size.

    Time is known: with unknown time, `TimeDistributed` of Keras 3.15 takes the batch size for the
    number of steps, and fails.
    """
    import tensorflow as tf

    x, g = tf.constant(inputs), tf.constant(upstream)
    weights = [weight.value for weight in layer.trainable_weights]
    signature = [tf.TensorSpec([None, *each.shape[1:]]) for each in (x, g)]

    @tf.function(input_signature=signature)
    def step(x: Any, g: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = layer(x)
        return outputs, tape.gradient(outputs, weights, output_gradients=g)

    return lambda: [each.numpy() for each in step(x, g)[1]]


def step_jax(layer: Any, inputs: np.ndarray, upstream: np.ndarray) -> Callable[[], Any]:
    """A jitted step of `layer`."""
    import jax

    x, g = jax.numpy.asarray(inputs), jax.numpy.asarray(upstream)
    weights = [weight.value for weight in layer.trainable_variables]

    @jax.jit
    def step(weights: Any, x: Any, g: Any) -> Any:
        outputs, pull = jax.vjp(lambda w: layer.stateless_call(w, [], x)[0], weights)
        return outputs, pull(g)

    return lambda: [np.asarray(each) for each in jax.block_until_ready(step(weights, x, g))[1][0]]


def step_torch(layer: Any, inputs: np.ndarray, upstream: np.ndarray) -> Callable[[], Any]:
    """An eager step of `layer`."""
    import torch

    x, g = torch.tensor(inputs), torch.tensor(upstream)
    weights = [weight.value for weight in layer.trainable_weights]
    return lambda: [each.numpy() for each in torch.autograd.grad(layer(x), weights, g)]


STEPS = {"tensorflow": step_tensorflow, "jax": step_jax, "torch": step_torch}


def measure(backend: str, repeats: int) -> None:
    """Prints the times of all and their ratios."""
    import keras

    import keras_spiking

    inputs = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    folded = inputs.reshape(-1, *SHAPE[2:])
    cases = {
        "TimeDistributed": (keras.layers.TimeDistributed(keras.layers.Conv2D(32, 3)), inputs),
        "TimeBatched": (keras_spiking.TimeBatched(keras.layers.Conv2D(32, 3)), inputs),
        "limit": (keras.layers.Conv2D(32, 3), folded),
    }
    steps = {}
    for name, (layer, x) in cases.items():
        layer.build(x.shape)
        layer.set_weights(cases["TimeDistributed"][0].get_weights())
        upstream = np.random.default_rng(1).normal(size=layer.compute_output_shape(x.shape))
        steps[name] = STEPS[backend](layer, x, upstream.astype("float32"))

    first = {}
    gradients = {}
    for name, step in steps.items():
        start = time.perf_counter()
        gradients[name] = step()
        first[name] = time.perf_counter() - start
    for name in steps:
        for one, other in zip(gradients[name], gradients["limit"], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat >= 3:  # the first are for warming up
                seconds[name].append(time.perf_counter() - start)
    version = importlib.import_module(backend).__version__
    print(
        f"{backend} {version}, Keras {keras.__version__}, {os.cpu_count()} cores; Conv2D(32, 3) "
        f"on {SHAPE}, forward + backward, {repeats} runs of each"
    )
    for name, times in seconds.items():
        print(f"  {name:29} {spread(times, 1e3)} ms; first call {1e3 * first[name]:.0f} ms")
    for name, other in (("TimeDistributed", "TimeBatched"), ("TimeBatched", "limit")):
        ratios = [a / b for a, b in zip(seconds[name], seconds[other], strict=True)]
        target = f", target {TARGET:g}" if name == "TimeDistributed" else ""
        print(f"  {name + ' / ' + other:29} {spread(ratios)}{target}")


def spread(values: list[float], scale: float = 1.0) -> str:
    """Median and quartiles."""
    low, middle, high = (scale * each for each in statistics.quantiles(values, n=4))
    return f"{middle:6.2f} (quartiles {low:.2f} to {high:.2f})"


def main() -> None:
    """Runs it for the backend of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=BACKENDS, default=os.environ.get("KERAS_BACKEND"))
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    backend = arguments.backend or "tensorflow"
    os.environ["KERAS_BACKEND"] = backend  # Keras reads it when first imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    measure(backend, arguments.repeats)


if __name__ == "__main__":
    main()
