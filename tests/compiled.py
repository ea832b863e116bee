"""Runs a function of tensors eagerly, and compiled by the backend, on any of the three."""

import contextlib

import keras
import numpy as np

from keras_spiking.kernels import cpu

BACKEND = keras.backend.backend()

# What `set_kernels` takes here; the last one defines what is correct.
SETTINGS = [*(["numba"] if cpu.is_available() else []), "native", "portable"]

# How each backend runs a function: as it stands, and compiled in the ways that `fit` may.
MODES = {
    "tensorflow": ("eager", "graph", "graph of unknown shape", "xla"),
    "jax": ("eager", "jit"),
    "torch": ("eager",),
}[BACKEND]

# On JAX each eager operation compiles for each shape, which takes longer than all of them at once.
QUICK = "jit" if BACKEND == "jax" else "eager"


def double_precision():
    """Where numbers may be float64, which JAX needs to be told."""
    if BACKEND != "jax":
        return contextlib.nullcontext()
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64()


def run(function, *arrays, mode="eager"):
    """Calls a function of tensors on arrays, and returns arrays."""
    tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
    outputs = compiled(function, tensors, mode)(*tensors)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def compiled(function, tensors, mode):
    """Compiles a function as `mode` says."""
    if mode == "eager":
        return function
    if mode == "jit":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    if mode == "xla":
        return tf.function(function, jit_compile=True)
    signature = None
    if mode == "graph of unknown shape":
        signature = [tf.TensorSpec(each.shape, each.dtype) for each in tensors]
        signature[0] = tf.TensorSpec([None, None, *tensors[0].shape[2:]], tensors[0].dtype)
    return tf.function(function, input_signature=signature)


def gradients(function, *arrays, mode="eager"):
    """Gradients of a scalar function of tensors, as arrays."""
    if BACKEND == "torch":
        import torch

        tensors = [torch.tensor(np.array(array), requires_grad=True) for array in arrays]
        function(*tensors).backward()
        zeros = [np.zeros_like(array) for array in arrays]
        return [
            zero if tensor.grad is None else tensor.grad.numpy()
            for tensor, zero in zip(tensors, zeros, strict=True)
        ]
    if BACKEND == "jax":
        import jax

        return run(jax.grad(function, argnums=tuple(range(len(arrays)))), *arrays, mode=mode)
    import tensorflow as tf

    def of(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            loss = function(*tensors)
        zero = tf.UnconnectedGradients.ZERO
        return tape.gradient(loss, tensors, unconnected_gradients=zero)

    return run(of, *arrays, mode=mode)


def slope(function, tensors):
    """Gradient of a scalar function of tensors in the first one, a tensor to go on from."""
    if BACKEND == "torch":
        import torch

        return torch.autograd.grad(function(*tensors), tensors[0], create_graph=True)[0]
    if BACKEND == "jax":
        import jax

        return jax.grad(function)(*tensors)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors[0])
        value = function(*tensors)
    return tape.gradient(value, tensors[0])


def finite_differences(function, arrays, index, step):
    """Gradient of a scalar function of arrays in one of them, by central differences."""
    gradient = np.zeros_like(arrays[index], dtype="float64")
    for place in np.ndindex(*arrays[index].shape):
        shifted = []
        for sign in (1, -1):
            moved = [np.array(array, "float64") for array in arrays]
            moved[index][place] += sign * step
            shifted.append(float(function(*moved)))
        gradient[place] = (shifted[0] - shifted[1]) / (2 * step)
    return gradient
