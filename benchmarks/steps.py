"""One forward pass, or one forward and backward pass, the ways that each backend runs it."""

from collections.abc import Callable
from typing import Any

import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")
FORWARD, BOTH = "forward", "forward + backward"

# The ways of each backend, first the one in which `fit` runs on a CPU.
WAYS = {
    "tensorflow": ("plain graph", "XLA", "eager"),
    "jax": ("jit", "eager"),
    "torch": ("eager",),
}


def make_step(
    backend: str,
    way: str,
    passes: str,
    layer: Any,
    inputs: np.ndarray,
    upstream: np.ndarray,
    inputs_train: bool = True,
) -> Callable[[], list[Any]]:
    """Returns a function that runs a layer and gives the outputs, then gradients if asked for.

    Args:
        backend: The backend in use.
        way: One of its `WAYS`.
        passes: `FORWARD` or `BOTH`.
        layer: A built Keras layer, or a function of one tensor.
        inputs: What goes in.
        upstream: The gradient of the outputs.
        inputs_train: Whether the inputs have a gradient too, after those of the weights.
    """
    make = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend]
    return make(way, passes == BOTH, layer, inputs, upstream, inputs_train)


def _tensorflow(
    way: str, backward: bool, layer: Any, inputs: Any, upstream: Any, inputs_train: bool
) -> Callable[[], list[Any]]:
    import tensorflow as tf

    x, g = tf.constant(inputs), tf.constant(upstream)
    weights = [weight.value for weight in getattr(layer, "trainable_weights", [])]

    def step(x: Any, g: Any) -> Any:
        if not backward:
            return [layer(x)]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x)
        sources = [*weights, x] if inputs_train else weights
        return [outputs, *tape.gradient(outputs, sources, output_gradients=g)]

    if way != "eager":
        step = tf.function(step, jit_compile=way == "XLA")
    return lambda: step(x, g)  # a CPU has finished when TensorFlow returns


def _jax(
    way: str, backward: bool, layer: Any, inputs: Any, upstream: Any, inputs_train: bool
) -> Callable[[], list[Any]]:
    import jax

    x, g = jax.numpy.asarray(inputs), jax.numpy.asarray(upstream)
    weights = [each.value for each in getattr(layer, "trainable_variables", [])]
    others = [each.value for each in getattr(layer, "non_trainable_variables", [])]

    def forward(weights: Any, others: Any, x: Any) -> Any:
        if hasattr(layer, "stateless_call"):
            return layer.stateless_call(weights, others, x)
        return layer(x), others

    def step(weights: Any, others: Any, x: Any, g: Any) -> Any:
        if not backward:
            return [forward(weights, others, x)[0]]
        if not inputs_train:
            outputs, pull, _ = jax.vjp(lambda w: forward(w, others, x), weights, has_aux=True)
        else:
            outputs, pull, _ = jax.vjp(lambda w, x: forward(w, others, x), weights, x, has_aux=True)
        return [outputs, *jax.tree.leaves(pull(g))]

    if way == "jit":
        step = jax.jit(step)
    return lambda: jax.block_until_ready(step(weights, others, x, g))


def _torch(
    way: str, backward: bool, layer: Any, inputs: Any, upstream: Any, inputs_train: bool
) -> Callable[[], list[Any]]:
    import torch

    x, g = torch.tensor(inputs, requires_grad=inputs_train), torch.tensor(upstream)
    weights = [weight.value for weight in getattr(layer, "trainable_weights", [])]

    def step() -> list[Any]:
        if not backward:
            with torch.no_grad():
                return [layer(x)]
        outputs = layer(x)
        sources = [*weights, x] if inputs_train else weights
        return [outputs, *torch.autograd.grad(outputs, sources, g)]

    return step
