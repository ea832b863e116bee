"""From one type of numbers to another."""

from typing import Any

import keras
from keras import ops

from keras_spiking.kernels import portable

_LARGEST_IN_FLOAT16 = 65504.0


def cast(tensor: Any, dtype: str) -> Any:
    """`ops.cast`; but what float16 cannot hold becomes the largest number that it can.

    One spike in a step of 10 microseconds is 100,000 Hz: float16 has no such number.
    """
    received = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "float16" and received != dtype:
        if not keras.backend.is_float_dtype(received):
            tensor = ops.cast(tensor, "float32")
        tensor = portable.saturate(tensor, _LARGEST_IN_FLOAT16)
    return ops.cast(tensor, dtype)
