"""Resets the state of whole models, and puts it back."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from keras_spiking.layers.sublayers import layers_within


def reset_states(model: keras.layers.Layer) -> None:
    """Returns every stateful layer of a model to its initial state.

    Reaches nested models, wrapped layers and layers that are attributes of other layers, and
    Keras's own stateful layers too. Works during `fit`, JAX included.

    Args:
        model: A Keras model or layer; during `fit`, the model that is being trained.

    Raises:
        TypeError: If `model` is neither.
        ValueError: If, on JAX, `model` is only a part of the model that is being trained.

    Example:

    >>> import keras, keras_spiking
    >>> spikes = keras_spiking.SpikingActivation("relu", stateful=True)
    >>> model = keras.Sequential([keras.Input((10, 4), batch_size=2), spikes])
    >>> keras_spiking.reset_states(model)
    """
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            "reset_states: `model` must be a Keras model or layer; "
            f"received {model!r} of type {type(model).__name__}."
        )
    synchronize(model)
    if any(map(_held_by_trainer, model.variables)):
        raise ValueError(
            f"reset_states: `model` must be the model that is being trained; received "
            f"{model.name!r}, a part of it, whose state JAX holds until the epoch ends."
        )
    for layer in layers_within(model):
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()


def synchronize(model: keras.layers.Layer) -> None:
    """Brings variables up to date while a model trains, so that they can be read and assigned.

    Only the JAX trainer needs it: during an epoch, it keeps the values to itself.
    """
    if keras.backend.backend() == "jax" and isinstance(model, keras.Model):
        model.jax_state_sync()


@contextlib.contextmanager
def unchanged(model: keras.layers.Layer) -> Iterator[None]:
    """Puts states, seeds and whatever else does not train back, after a model has run within."""
    before = [
        (variable, np.copy(ops.convert_to_numpy(variable)))
        for variable in model.variables
        if not variable.trainable
    ]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _held_by_trainer(variable: keras.Variable) -> bool:
    """Whether the JAX trainer keeps the value to itself during an epoch."""
    # The public `value` does not tell: it gives a placeholder, or raises an unrelated error.
    return vars(variable).get("_value", variable) is None and keras.backend.backend() == "jax"
