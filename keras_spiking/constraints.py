"""Constraints on weights."""

from typing import Any

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking._types import Tensor


@keras.saving.register_keras_serializable("keras_spiking")
class Mean(keras.constraints.Constraint):
    """Replaces a weight by its mean along an axis, keeping its shape: one shared value.

    Args:
        axis: Axis, or tuple of axes, along which values are shared.

    Raises:
        TypeError: If `axis` is not an integer or a tuple of integers.
        ValueError: If `axis` names an axis twice, or, when called, one that the weight does not
            have.

    Example:

    A filter whose units share one trainable time constant:

    >>> layer = keras_spiking.Lowpass(0.1, tau_constraint=keras_spiking.constraints.Mean())
    """

    def __init__(self, axis: int | tuple[int, ...] = -1):
        self.axis = _checks.axes(type(self).__name__, axis)

    def __call__(self, w: Tensor) -> Tensor:
        w = ops.convert_to_tensor(w)
        rank = len(w.shape)
        axes = (self.axis,) if isinstance(self.axis, int) else self.axis
        if len({axis % rank for axis in axes if -rank <= axis < rank}) < len(axes):
            raise ValueError(
                f"{type(self).__name__}: `axis` must name axes of the weight, which has {rank}, "
                f"each once; received axis={self.axis} and a weight of shape {tuple(w.shape)}."
            )
        return ops.broadcast_to(ops.mean(w, axis=self.axis, keepdims=True), ops.shape(w))

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}
