"""The mean over time."""

from typing import Any

import keras
from keras import ops

from keras_spiking._types import Shape, Tensor
from keras_spiking.kernels import tensors
from keras_spiking.layers.shapes import check_dtype, check_mask, check_rank


@keras.saving.register_keras_serializable("keras_spiking")
class TemporalAvgPool(keras.layers.Layer):
    r"""Averages over time.

    .. math::

        y_b = \frac{\sum_t m_{b, t} x_{b, t}}{\max(1, \sum_t m_{b, t})}

    with input :math:`x` and mask :math:`m`, 1 for steps to use and 0 for others; without a mask
    all steps are used. Where there is no step to use, the result is 0. Half precision is summed
    in float32.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, with at least one feature axis, of any real
            type.
        mask: Tensor of shape `(batch, time)`, True for steps to use. It is not passed on.

    Input shape:
        `(batch, time, ...)`.

    Output shape:
        `(batch, ...)`.

    Raises:
        ValueError: If inputs or mask have a wrong shape.
        TypeError: If inputs are not real numbers.

    Example:

    >>> import numpy as np
    >>> inputs = np.array([[[1.0], [2.0], [6.0]]])
    >>> np.asarray(keras_spiking.TemporalAvgPool()(inputs)).tolist()
    [[3.0]]
    >>> mask = np.array([[True, True, False]])
    >>> np.asarray(keras_spiking.TemporalAvgPool()(inputs, mask=mask)).tolist()
    [[1.5]]
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Checks the shape of the inputs; there are no weights."""
        check_rank(type(self).__name__, tuple(input_shape))

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        self._check_call(inputs, mask)
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        inputs = ops.cast(inputs, dtype)
        if mask is None:
            count = ops.maximum(ops.cast(ops.shape(inputs)[1], dtype), 1)
        else:
            mask = ops.cast(mask, "bool")
            count = ops.sum(ops.cast(mask, dtype), axis=1)
            features = [1] * (len(inputs.shape) - 2)
            count = ops.reshape(ops.maximum(count, 1), (-1, *features))
            mask = ops.reshape(mask, (*ops.shape(inputs)[:2], *features))
            # Not a product: a masked step may hold infinity or NaN.
            inputs = ops.where(mask, inputs, ops.zeros_like(inputs))
        return tensors.cast(ops.sum(inputs, axis=1) / count, self.compute_dtype)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None) -> None:
        return None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        check_rank(type(self).__name__, tuple(input_shape))
        return (input_shape[0], *input_shape[2:])

    def compute_output_spec(self, inputs: Tensor, mask: Tensor | None = None) -> keras.KerasTensor:
        self._check_call(inputs, mask)
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)

    def _check_call(self, inputs: Tensor, mask: Tensor | None) -> None:
        owner = type(self).__name__
        check_rank(owner, tuple(inputs.shape))
        check_dtype(owner, "inputs", inputs.dtype)
        if mask is not None:
            check_mask(self, inputs.shape[0], inputs.shape[1], mask)
