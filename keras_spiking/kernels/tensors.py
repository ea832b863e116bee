"""Tensors in `keras.ops`: their types, and the steps of sequences."""

from typing import Any

import keras
from keras import ops

from keras_spiking._types import Tensor
from keras_spiking.kernels import recurrences

_LARGEST_IN_FLOAT16 = 65504.0


def cast(tensor: Tensor, dtype: Any) -> Tensor:
    """`ops.cast`; but what float16 cannot hold becomes the largest number that it can.

    One spike in a step of 10 microseconds is 100,000 Hz: float16 has no such number.
    """
    received, dtype = map(keras.backend.standardize_dtype, (tensor.dtype, dtype))
    if received == dtype:
        return tensor
    if dtype == "float16":
        if not keras.backend.is_float_dtype(received):
            tensor = ops.cast(tensor, "float32")
        tensor = saturate(tensor, _LARGEST_IN_FLOAT16)
    return ops.cast(tensor, dtype)


def saturate(tensor: Tensor, largest: Tensor) -> Tensor:
    """Values of at most that size, and NaN as it is.

    Not `ops.clip`: XLA on a CPU makes a number of NaN there.
    """
    return ops.where(ops.abs(tensor) > largest, ops.sign(tensor) * largest, tensor)


def floor(x: Tensor) -> Tensor:
    """`ops.floor`, which on torch turns float64 into float32."""
    rounded = ops.round(x)
    return rounded - ops.cast(rounded > x, x.dtype)


def of_batch(sequence: Tensor, batch_axis: int, size: int) -> Tensor:
    """The sequence, for a graph that does not know the size of its batch.

    A batch of another size is an error when the graph runs. Not an assertion, nor
    `tf.ensure_shape`: TFLite has neither.
    """
    shape = list(ops.shape(sequence))
    shape[batch_axis] = size
    return ops.reshape(sequence, shape)


def step_slice(sequence: Tensor, time_axis: int, start: int | None, stop: int | None) -> Tensor:
    """Steps `start` to `stop` of a sequence."""
    return sequence[(slice(None),) * time_axis + (slice(start, stop),)]


def one_step(sequence: Tensor, time_axis: int, step: int) -> Tensor:
    """One step of a sequence, without its time axis."""
    return sequence[(slice(None),) * time_axis + (step,)]


def last_step(sequence: Tensor, start: Tensor, time_axis: int) -> Tensor:
    """The last step of a sequence that goes on from `start`; `start`, if it has no step."""
    if not sequence.shape[time_axis]:  # or it is unknown
        end = step_slice(sequence, time_axis, -1, None)
        sequence = ops.concatenate([ops.expand_dims(start, time_axis), end], axis=time_axis)
    return one_step(sequence, time_axis, -1)


def shift(sequence: Tensor, first: Tensor, time_axis: int) -> Tensor:
    """The step before each step; `first` before the first one."""
    return recurrences.shift(ops, sequence, first, time_axis)
