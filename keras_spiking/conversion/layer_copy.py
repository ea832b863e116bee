"""Makes a copy of a layer."""

import inspect
from typing import Any

import keras

from keras_spiking.conversion import rules
from keras_spiking.conversion.operations import Function


def copy_of(layer: keras.Layer | Function, name: str, max_pooling: str) -> keras.Layer:
    """A new layer with the same settings, but without the activation and the weights.

    Args:
        layer: A layer, or a `Function`.
        name: Name of the new layer.
        max_pooling: `"keep"`, or `"average"` for average pooling in place of max pooling.
    """
    if isinstance(layer, Function):
        return layer.as_model(name)
    if type(layer) is keras.layers.Lambda:
        return _copy_of_lambda(layer, name)
    functions = _functions(layer)
    config = {**_without(layer, functions).get_config(), "name": name}
    if type(layer) in rules.CONNECTIONS and rules.activation_of(layer) is not None:
        # The activity regularizer moves to the layer that applies the activation.
        config.update(activation="linear", activity_regularizer=None)
        functions = {key: value for key, value in functions.items() if "activ" not in key}
    layer_class = type(layer)
    if max_pooling == "average":
        layer_class = rules.AVERAGE_POOLING.get(layer_class, layer_class)
    copy = layer_class.from_config(config)
    for argument, function in functions.items():
        setattr(copy, argument, function)
    return copy


def _copy_of_lambda(layer: keras.layers.Lambda, name: str) -> keras.layers.Lambda:
    # It shares the functions, because Keras does not make functions from a config. Keras has no
    # public name for the `output_shape` that a Lambda was given.
    return keras.layers.Lambda(
        layer.function,
        output_shape=vars(layer).get("_output_shape"),
        mask=layer.mask,
        arguments=layer.arguments,
        dtype=layer.dtype_policy,
        name=name,
    )


def _functions(layer: keras.Layer) -> dict[str, Any]:
    """The functions that a layer of Keras was given, by the names of its arguments.

    A copy shares them, because not every function has a config.
    """
    if not rules.is_known(layer):
        return {}
    arguments = {*inspect.signature(type(layer).__init__).parameters, "activity_regularizer"}
    return {
        name: value
        for name, value in vars(layer).items()
        if name in arguments and callable(value) and not hasattr(value, "get_config")
    }


def _without(layer: keras.Layer, functions: dict[str, Any]) -> keras.Layer:
    """A layer that has all attributes but those functions. It is good for its config only."""
    if not functions:
        return layer
    bare = object.__new__(type(layer))
    vars(bare).update(vars(layer))
    vars(bare).update(dict.fromkeys(functions))
    if "activation" in functions:
        bare.activation = keras.activations.linear
    return bare
