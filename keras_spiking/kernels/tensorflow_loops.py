"""What compiled loops over time need on TensorFlow: steps, shapes, and lengths of zero."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_spiking._types import Tensor
from keras_spiking.kernels import tensors


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function, jit_compile=True, autograph=False)


def of_known_batch(sequence: Tensor, state: Tensor, time_axis: int) -> Tensor:
    """The sequence, with the sizes of the state where TensorFlow knows only these.

    The sum of a state of size 1 and a step of unknown size has an unknown one, and a loop may not
    forget a shape.
    """
    batch_axis = 1 - time_axis
    if sequence.shape[batch_axis] is None and state.shape[0] is not None:
        sequence = tensors.of_batch(sequence, batch_axis, state.shape[0])
    if None in sequence.shape[2:]:
        sequence = of_shape(tf.identity(sequence), [None, None, *state.shape[1:]])
    return sequence


def of_shape(tensor: Tensor, shape: Tensor) -> Tensor:
    """The tensor with a shape that TensorFlow forgot, as it does in a compiled function.

    Not `tf.ensure_shape`, which TFLite does not have.
    """
    tensor.set_shape(shape)
    return tensor


def padded(tensor: Tensor) -> Tensor:
    """Pads an axis of length 0 with a zero, because a loop over nothing does not compile.

    XLA knows every length, and leaves out a padding of nothing.
    """
    if tensor.shape.is_fully_defined() and tensor.shape.num_elements():
        return tensor
    missing = tf.cast(tf.equal(tf.shape(tensor), 0), "int32")
    padded = tf.pad(tensor, tf.stack([tf.zeros_like(missing), missing], axis=1))
    padded.set_shape([1 if length == 0 else length for length in tensor.shape])
    return padded


def cut(tensor: Tensor, shape: Tensor) -> Tensor:
    """Takes the padding off again."""
    return tf.slice(tensor, tf.zeros_like(shape), shape)


def at(sequence: Tensor, time: Tensor, time_axis: int) -> Tensor:
    return sequence[time] if time_axis == 0 else sequence[:, time]


def put(sequence: Tensor, values: Tensor, time: Tensor) -> Tensor:
    """One step of a time-first sequence, replaced: XLA does it in place."""
    return tf.tensor_scatter_nd_update(sequence, [[time]], values[None])


def time_first(sequence: Tensor, time_axis: int) -> Tensor:
    """Swaps batch and time if time is not the first axis; a second call swaps them back."""
    if time_axis == 0:
        return sequence
    return tf.transpose(sequence, [1, 0, *range(2, len(sequence.shape))])
