"""Classes of layers that users tell `convert` about."""

from typing import Any

import keras

from keras_spiking import _checks

_OWNER = "conversion.register"

# Whether each class is an activation.
_registered: dict[type, bool] = {}


def register(layer_class: Any = None, *, activation: bool = False) -> Any:
    """Tells `convert` about a class of layers of your own.

    The layer must be a function of its sample, at least in inference: its output for one sample
    must not depend on other samples in the batch, nor on earlier calls. A copy of it, made by
    `get_config` and `from_config`, then works at each time step. An activation spikes if another
    layer follows.

    Each subclass of a registered class must be registered too.

    Args:
        layer_class: Subclass of `keras.layers.Layer`. Default: `register` returns a decorator.
        activation: Whether the layer is an activation: each element of its output depends on one
            element of its input, and becomes the firing rate of a neuron.

    Returns:
        The class, or the decorator.

    Raises:
        TypeError: If `layer_class` is not a class of layers, or `activation` is not True or False.

    Example:

    >>> import keras, keras_spiking
    >>> @keras_spiking.conversion.register
    ... class Halved(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return inputs / 2
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((4,)),
    ...         keras.layers.Dense(8, activation="relu"),
    ...         Halved(),
    ...         keras.layers.Dense(3),
    ...     ]
    ... )
    >>> keras_spiking.convert(model, num_steps=10, dt=0.1).output_shape
    (None, 3)
    """
    activation = _checks.boolean(_OWNER, "activation", activation)

    def add(layer_class: Any) -> Any:
        if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
            raise TypeError(
                f"{_OWNER}: `layer_class` must be a subclass of keras.layers.Layer; received "
                f"{layer_class!r}."
            )
        _registered[layer_class] = activation
        return layer_class

    return add if layer_class is None else add(layer_class)


def is_registered(layer: object) -> bool:
    """Whether the class of a layer is registered."""
    return type(layer) in _registered


def is_activation(layer: object) -> bool:
    """Whether the class of a layer is registered as an activation."""
    return _registered.get(type(layer), False)
