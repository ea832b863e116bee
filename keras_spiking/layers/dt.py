"""The length of a time step: a number of seconds, or a variable that may change."""

import sys
from typing import Any

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking.config import default

_MEANING = "a positive, finite number of seconds or a keras.Variable"


def is_variable(value: Any) -> bool:
    """True for a `keras.Variable`, and for a `tf.Variable` where TensorFlow is the backend."""
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

    def __init__(self, owner: str, dt: Any):
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
                # What `keras.Variable(dt, autocast=False)` does: read in half precision, it would
                # give other spikes in a layer called by itself than in one within a model.
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
        """What JAX must track to see `dt` change."""
        return [self.value] if isinstance(self.value, keras.Variable) else []

    def as_float(self) -> float:
        """The present value, for a config."""
        return float(ops.convert_to_numpy(self.value) if is_variable(self.value) else self.value)

    def in_optimizer(self) -> Any:
        """The present value, for a constraint on a weight.

        Of a variable on JAX, the value at first: an optimizer sees the weights alone there.
        """
        if self.varies and keras.backend.backend() == "jax":
            return self._first
        return self.seconds("float32")

    def seconds(self, dtype: str, scale: float = 1.0) -> Any:
        """`dt * scale`: a number, or, of a variable, a tensor through which no gradient flows."""
        if is_variable(self.value):
            return ops.stop_gradient(ops.cast(self.value, dtype)) * scale
        return self.value * scale
