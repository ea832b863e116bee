"""The length of a time step: a number of seconds, or a variable that may change."""

import sys
from typing import Any, TypeAlias, TypeGuard

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking._types import Tensor
from keras_spiking.config import default

# None for `keras_spiking.default.dt`. On TensorFlow, the variable may also be a `tf.Variable`.
DtLike: TypeAlias = float | keras.Variable | None

_MEANING = "a positive, finite number of seconds or a keras.Variable"


def is_variable(value: Any) -> TypeGuard[keras.Variable]:
    """Whether this is a `keras.Variable`, or, where TensorFlow is the backend, a `tf.Variable`."""
    if keras.backend.backend() == "tensorflow":
        return isinstance(value, (keras.Variable, sys.modules["tensorflow"].Variable))
    return isinstance(value, keras.Variable)


class TimeStep:
    """Holds `dt` out of sight of Keras's attribute tracking.

    Keras trains and saves every variable that is an attribute of a layer. `dt` is neither
    trained nor saved, so layers hold it in this object and name it in `variables` themselves.

    Args:
        owner: Name of the layer's class, for errors.
        dt: Number of seconds, scalar variable, or None for `keras_spiking.default.dt`.
    """

    def __init__(self, owner: str, dt: DtLike):
        if dt is None:
            dt = default.dt
        if is_variable(dt):
            if tuple(dt.shape) != ():
                raise ValueError(
                    f"{owner}: `dt` must be {_MEANING} of shape (); "
                    f"received a variable of shape {tuple(dt.shape)}."
                )
            if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(dt.dtype)):
                raise TypeError(
                    f"{owner}: `dt` must be {_MEANING} of a float type; received a variable of "
                    f"dtype {keras.backend.standardize_dtype(dt.dtype)}, which would round it."
                )
            self._first = float(ops.convert_to_numpy(dt))
            _checks.positive_number(owner, "dt", self._first, _MEANING)
            if isinstance(dt, keras.Variable):
                dt.trainable = False
                # A layer that is called outside of a model would read `dt` in half precision, and
                # give other spikes than in a model. There is no public name for what
                # `keras.Variable(dt, autocast=False)` sets.
                dt._autocast = False
        else:
            dt = _checks.positive_number(owner, "dt", dt, _MEANING)
        self.value = dt

    @property
    def varies(self) -> bool:
        """Whether `dt` is a variable."""
        return is_variable(self.value)

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables that JAX must track to see `dt` change."""
        return [self.value] if isinstance(self.value, keras.Variable) else []

    def as_float(self) -> float:
        """The present value, for a config."""
        return float(ops.convert_to_numpy(self.value) if is_variable(self.value) else self.value)

    def in_optimizer(self) -> float | Tensor:
        """The present value, for a constraint on a weight.

        On JAX, where an optimizer sees nothing but weights, it is the first value of a variable.
        """
        if self.varies and keras.backend.backend() == "jax":
            return self._first
        return self.seconds("float32")

    def seconds(self, dtype: str, scale: float = 1.0) -> float | Tensor:
        """`dt * scale`: a number, or a tensor without gradient if `dt` is a variable."""
        if is_variable(self.value):
            return ops.stop_gradient(ops.cast(self.value, dtype)) * scale
        return self.value * scale
