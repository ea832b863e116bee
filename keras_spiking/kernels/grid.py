"""The grid that voltages lie on, in `keras.ops`."""

from typing import Any

import keras
from keras import ops

from keras_spiking._types import Tensor
from keras_spiking.kernels.constants import DIGITS, MOST_IN_STEP
from keras_spiking.kernels.tensors import floor, saturate


def unit_of(tensor: Tensor) -> float:
    """A voltage of 1 in steps of the grid."""
    return 2.0 ** DIGITS[keras.backend.standardize_dtype(tensor.dtype)]


def split(increments: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds increments to the grid: whole spikes, and a fraction in [0, 1), both exact.

    NaN stays NaN as a count, and leaves the voltage as it was.
    """
    dtype = keras.backend.standardize_dtype(increments.dtype)
    unit = unit_of(increments)
    largest = ops.convert_to_tensor(MOST_IN_STEP[dtype] * unit, dtype=dtype)
    rounded = ops.round(saturate(increments * unit, largest)) * (1.0 / unit)
    whole = floor(rounded)
    return whole, ops.where(ops.isfinite(increments), rounded - whole, 0.0)


def to_grid(voltage: Tensor) -> Tensor:
    """The fractional part of a voltage, rounded to the grid, in [0, 1)."""
    unit = unit_of(voltage)
    rounded = ops.round((voltage - floor(voltage)) * unit) * (1.0 / unit)
    return ops.where(rounded < 1.0, rounded, 1.0 - 1.0 / unit)


def round_down(voltage: Tensor) -> Tensor:
    """Voltages in [0, 1) rounded down to the grid, so that none becomes 1."""
    unit = unit_of(voltage)
    return floor(voltage * unit) * (1.0 / unit)


def count_spikes(namespace: Any, increment: Tensor, voltage: Tensor) -> tuple[Tensor, Tensor]:
    """The spikes of one step, and the voltage after it, for a compiled loop.

    `namespace` is `jax.numpy` or `tensorflow`: `ops.floor` makes float64 float32 on JAX.
    """
    unit = unit_of(increment)
    most = MOST_IN_STEP[keras.backend.standardize_dtype(increment.dtype)]
    rounded = namespace.round(increment * unit) * (1.0 / unit)
    whole = namespace.floor(rounded)
    # This limits what has overflowed. To limit what may overflow takes twice as long.
    within = namespace.abs(increment) < most
    # Exact: neither term reaches 1, and both are on the grid.
    raised = voltage + namespace.where(within, rounded - whole, 0.0)
    whole = namespace.where(within, whole, saturate(increment, most))
    carry = namespace.floor(raised)
    return whole + carry, raised - carry
