"""The same inputs at every time step."""

from typing import Any

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking._types import Shape, Tensor


@keras.saving.register_keras_serializable("keras_spiking")
class RepeatOverTime(keras.layers.Layer):
    """Shows the same inputs at every time step.

    As `keras.layers.RepeatVector`, for inputs with any number of axes and of any type.

    Args:
        num_steps: Number of time steps, a positive integer.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`.

    Input shape:
        `(batch, ...)`, with any number of axes after the first.

    Output shape:
        `(batch, num_steps, ...)`.

    Raises:
        ValueError: If `num_steps` is not positive.
        TypeError: If `num_steps` is not an integer.

    Example:

    >>> import numpy as np
    >>> np.asarray(keras_spiking.RepeatOverTime(3)(np.ones((2, 28, 28)))).shape
    (2, 3, 28, 28)
    """

    def __init__(self, num_steps: int, **kwargs: Any):
        # Inputs keep their type: they may be indices.
        super().__init__(autocast=False, **kwargs)
        self.num_steps = _checks.positive_integer(type(self).__name__, "num_steps", num_steps)

    def call(self, inputs: Tensor) -> Tensor:
        return ops.repeat(ops.expand_dims(inputs, 1), self.num_steps, axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.num_steps, *input_shape[1:])

    def compute_output_spec(self, inputs: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_steps": self.num_steps}
