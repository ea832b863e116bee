"""What a layer counts, by the rule for its class: one of the library or of the user."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import keras
from keras import layers

from keras_spiking._graph import is_graph
from keras_spiking.energy.rules import BUILT_IN, Rule, Stats
from keras_spiking.energy.uses import LayerUse, Uses, use_of_tensors
from keras_spiking.layers import TimeBatched

NOTHING: Stats = {"connections": 0, "neurons": 0, "spiking": True}

# By class of layers: the rules of the library, and those that were registered.
RULES = dict(BUILT_IN)


def register_layer(layer_class: Any) -> Callable[[Rule], Rule]:
    """Makes the function that it decorates count for a class of layers and its subclasses.

    If the class has a function already, perhaps the library's own, the new one replaces it, with a
    warning.

    The function takes a `keras_spiking.energy.LayerUse`, and returns a dictionary with any of
    `"connections"` (default 0), `"neurons"` (0), both per time step, and `"spiking"` (True),
    whether the layer runs on a spiking device as it is.

    Args:
        layer_class: The class of layers.

    Returns:
        The decorator.

    Raises:
        TypeError: If `layer_class` is not a class of layers.

    Example:

    >>> import keras
    >>> class Twice(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return 2 * inputs
    >>> @keras_spiking.energy.register_layer(Twice)
    ... def twice(use):
    ...     return {"connections": use.output_shape[-1]}
    >>> model = keras.Sequential([keras.Input((3,)), Twice()])
    >>> keras_spiking.ModelEnergy(model).layer_stats[model.layers[0]]["connections"]
    3
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, layers.Layer)):
        raise TypeError(
            "register_layer: `layer_class` must be a class of Keras layers; "
            f"received {layer_class!r}. Use it as in @register_layer(MyLayer)."
        )

    def register(rule: Rule) -> Rule:
        if layer_class in RULES:
            warnings.warn(
                f"register_layer: layers of class {layer_class.__name__} had a rule already, "
                f"{_named(RULES[layer_class])}, which {_named(rule)} replaces. To keep it, make a "
                f"subclass of {layer_class.__name__}, and register that.",
                stacklevel=2,
            )
        RULES[layer_class] = rule
        return rule

    return register


def _named(rule: Rule) -> str:
    name = getattr(rule, "__qualname__", repr(rule))
    return f"{getattr(rule, '__module__', '')}.{name}"


def compute_layer_stats(layer: layers.Layer, node: Any = None) -> Stats:
    """What a layer counts in one of its uses, per time step; for a model, the sum over its layers.

    Args:
        layer: A layer that was called on symbolic inputs, as in a Functional or built Sequential
            model; or such a model.
        node: Which of its uses, as a Keras node. Default: the first. Keras has no public name for
            the nodes of a layer: they are the elements of `layer._inbound_nodes`.

    Returns:
        A dictionary with `"connections"`, `"neurons"` and `"spiking"`.

    Raises:
        TypeError: If `layer` is not a layer.
        ValueError: If the layer was never called, or not by `node`, a shape that counts is not
            defined, or the rule for a layer returns something else than it should.
    """
    if not isinstance(layer, layers.Layer):
        raise TypeError(
            f"ModelEnergy: `layer` must be a Keras layer; received {layer!r} "
            f"of type {type(layer).__name__}."
        )
    if is_graph(layer):
        return total(map(stats_of, Uses(layer).found))
    return stats_of(_use_of(layer, node))


def _use_of(layer: layers.Layer, node: Any) -> LayerUse:
    """One use of a layer, as a Keras node or None for the first."""
    if node is not None:
        if getattr(node, "operation", None) is not layer:
            raise ValueError(
                f"ModelEnergy: `node` must be one of the uses of layer {layer.name!r}; received "
                f"{node!r}. Give a node of this layer, or None for its first use."
            )
        return use_of_tensors(layer, node.input_tensors, node.outputs)
    try:
        inputs, outputs = layer.input, layer.output
    except AttributeError as error:
        raise ValueError(
            f"ModelEnergy: layer {layer.name!r} was never called on symbolic inputs, so its shapes "
            "are not known. Use it in a Functional model, or in a Sequential model that is built."
        ) from error
    return use_of_tensors(layer, keras.tree.flatten(inputs), keras.tree.flatten(outputs))


def stats_of(use: LayerUse) -> Stats:
    """Applies the rule for the class of a layer."""
    layer = use.layer
    rule = rule_for(layer)
    if rule is None:
        warnings.warn(
            f"ModelEnergy: layer {use.name!r} counts nothing, as there is no rule for layers of "
            f"class {type(layer).__name__}. Write one, and register it with "
            "keras_spiking.ModelEnergy.register_layer.",
            stacklevel=3,
        )
        return dict(NOTHING)
    stats: Any = rule(use)
    if not isinstance(stats, dict) or not set(stats) <= set(NOTHING):
        raise ValueError(
            f"ModelEnergy: the rule for layers of class {type(layer).__name__} must return a "
            f"dictionary with keys among {', '.join(NOTHING)}; received {stats!r}."
        )
    return {**NOTHING, **stats}


def rule_for(layer: layers.Layer) -> Rule | None:
    """The rule for the nearest of a layer's classes, None if there is none."""
    return next((RULES[kind] for kind in type(layer).__mro__ if kind in RULES), None)


def total(parts: Iterable[Stats]) -> Stats:
    """The sum of what layers count, or the uses of one layer."""
    parts = list(parts)
    return {
        "connections": sum(stats["connections"] for stats in parts),
        "neurons": sum(stats["neurons"] for stats in parts),
        "spiking": all(stats["spiking"] for stats in parts),
    }


@register_layer(layers.SpectralNormalization)
def _normalized_weights(use: LayerUse) -> Stats:
    """In inference, it does what the layer does that it wraps."""
    return stats_of(replace(use, layer=use.layer.layer))


@register_layer(layers.TimeDistributed)
@register_layer(TimeBatched)
def _at_each_step(use: LayerUse) -> Stats:
    inner = use.layer.layer
    if is_graph(inner):
        return total(map(stats_of, Uses(inner).found))
    inputs, outputs = (
        [(shape[0], *shape[2:]) for shape in shapes]
        for shapes in (use.input_shapes, use.output_shapes)
    )
    return stats_of(LayerUse(inner, use.name, inputs, outputs))
