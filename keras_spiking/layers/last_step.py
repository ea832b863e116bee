"""The last time step alone."""

from typing import Any

import keras

from keras_spiking._types import Shape, Tensor
from keras_spiking.layers.shapes import check_rank


@keras.saving.register_keras_serializable("keras_spiking")
class LastStep(keras.layers.Layer):
    """Keeps the last time step only.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, with at least one feature axis.

    Input shape:
        `(batch, time, ...)`.

    Output shape:
        `(batch, ...)`.

    Raises:
        ValueError: If inputs have no time axis.

    Example:

    >>> import numpy as np
    >>> np.asarray(keras_spiking.LastStep()(np.array([[[1.0], [2.0], [6.0]]]))).tolist()
    [[6.0]]
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)

    def build(self, input_shape: Shape) -> None:
        """Checks the shape of the inputs; there are no weights."""
        check_rank(type(self).__name__, tuple(input_shape))

    def call(self, inputs: Tensor) -> Tensor:
        return inputs[:, -1]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        check_rank(type(self).__name__, tuple(input_shape))
        return (input_shape[0], *input_shape[2:])
