"""What each class of layers counts: connections, neurons, and whether it runs on spiking devices.

A connection is a weight through which one element of the input reaches one unit of the output: what
a processor multiplies and adds, and what a spike passes through. What only moves, pools, adds or
scales elements has none: on a device it is part of the connections before or after it.
Padding counts as input, as on a device that stores it: so a unit at the border of a convolution
has as many connections as one in the middle.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import keras
from keras import layers

from keras_spiking._graph import is_graph
from keras_spiking._types import Shape
from keras_spiking.energy.spikes import REARRANGING
from keras_spiking.energy.uses import LayerUse, Uses, use_of_tensors
from keras_spiking.layers import (
    KerasSpikingLayer,
    LastStep,
    RepeatOverTime,
    TemporalAvgPool,
    TimeBatched,
)

Stats = dict[str, Any]
Rule = Callable[[LayerUse], Stats]

NOTHING: Stats = {"connections": 0, "neurons": 0, "spiking": True}

RULES: dict[type, Rule] = {}


def register_layer(layer_class: Any) -> Callable[[Rule], Rule]:
    """Makes the function that it decorates count for a class of layers and its subclasses.

    A class that has a function already, be it the library's own, gets the new one, with a warning.

    The function takes a `keras_spiking.energy.LayerUse`, and returns a dictionary with any of
    `"connections"` (default 0), `"neurons"` (0), both per time step, and `"spiking"` (True),
    whether the layer runs on a spiking device as it is.

    Args:
        layer_class: The class of layers.

    Returns:
        The decorator.

    Raises:
        TypeError: If `layer_class` is no class of layers.

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
        TypeError: If `layer` is no layer.
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
    """The use of a layer that a Keras node is, the first one for None."""
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
    return next((RULES[each] for each in type(layer).__mro__ if each in RULES), None)


def total(several: Iterable[Stats]) -> Stats:
    """The sum of what layers, or uses of one, count."""
    several = list(several)
    return {
        "connections": sum(stats["connections"] for stats in several),
        "neurons": sum(stats["neurons"] for stats in several),
        "spiking": all(stats["spiking"] for stats in several),
    }


def elements(shape: Shape, use: LayerUse) -> int:
    """The number of elements in a sample, or in a time step of it: a leading None axis is time."""
    sizes = shape[1:]
    if sizes[:1] == (None,):
        sizes = sizes[1:]
    if None in sizes:
        raise ValueError(
            f"ModelEnergy: layer {use.name!r} has a shape that is not defined, {shape}, so its "
            "connections and neurons cannot be counted. Give the model's input all of its sizes "
            "but that of the batch, and that of time if it is the first of the others."
        )
    return math.prod(size for size in sizes if size is not None)


def _weighted(use: LayerUse, connections: int) -> Stats:
    """A layer of connections, with an activation that may be none."""
    linear = use.layer.activation in (None, keras.activations.linear)
    neurons = 0 if linear else elements(use.output_shape, use)
    return {"connections": connections, "neurons": neurons, "spiking": linear}


def _channels(use: LayerUse) -> int:
    """Channels of the input of a convolution."""
    axis = 1 if use.layer.data_format == "channels_first" else -1
    channels = use.input_shape[axis]
    assert channels is not None, "a convolution is built for its channels"
    return channels


# All of them linear: what they do is part of the connections before or after them.
_LINEAR = (
    *REARRANGING,
    LastStep,
    RepeatOverTime,
    TemporalAvgPool,
    layers.AdaptiveAveragePooling1D,
    layers.AdaptiveAveragePooling2D,
    layers.AdaptiveAveragePooling3D,
    layers.Add,
    layers.Average,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.BatchNormalization,
    layers.CenterCrop,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.Masking,
    layers.Normalization,
    layers.Rescaling,
    layers.Resizing,
    layers.Subtract,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    # Images as they are, but in training.
    *(getattr(layers, name) for name in dir(layers) if name.startswith("Random")),
)

# No connections either, but adding up spikes cannot do what they do.
_NOT_LINEAR = (
    layers.AdaptiveMaxPooling1D,
    layers.AdaptiveMaxPooling2D,
    layers.AdaptiveMaxPooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.Maximum,
    layers.Minimum,
    layers.Multiply,
    layers.RMSNormalization,
    layers.UnitNormalization,
)

RULES.update(dict.fromkeys(_LINEAR, lambda use: {}))
RULES.update(dict.fromkeys(_NOT_LINEAR, lambda use: {"spiking": False}))


@register_layer(layers.Dense)
def _dense(use: LayerUse) -> Stats:
    inputs = use.input_shape[-1]
    assert inputs is not None, "Dense is built for its last axis"
    return _weighted(use, inputs * elements(use.output_shape, use))


@register_layer(layers.EinsumDense)
def _einsum_dense(use: LayerUse) -> Stats:
    """Each output sums over the axes of the input that it has not."""
    terms, outputs = use.layer.equation.replace(" ", "").split("->")
    inputs = terms.split(",")[0]
    start, _, end = inputs.partition("...")
    sizes = dict(zip(start, use.input_shape, strict=False))
    sizes.update(zip(reversed(end), reversed(use.input_shape), strict=False))
    summed = [sizes[axis] for axis in inputs.replace(".", "") if axis not in outputs]
    return _weighted(use, elements((None, *summed), use) * elements(use.output_shape, use))


@register_layer(layers.Dot)
def _dot(use: LayerUse) -> Stats:
    """As a layer of connections whose weights are the other input."""
    axes = use.layer.axes
    summed = use.input_shape[axes if isinstance(axes, int) else axes[0]]
    outputs = elements(use.output_shape, use)
    return {"connections": elements((None, summed), use) * outputs, "spiking": False}


@register_layer(layers.Conv1D)
@register_layer(layers.Conv2D)
@register_layer(layers.Conv3D)
def _convolution(use: LayerUse) -> Stats:
    window = math.prod(use.layer.kernel_size) * (_channels(use) // use.layer.groups)
    return _weighted(use, window * elements(use.output_shape, use))


@register_layer(layers.DepthwiseConv1D)
@register_layer(layers.DepthwiseConv2D)
def _depthwise(use: LayerUse) -> Stats:
    window = math.prod(use.layer.kernel_size)
    return _weighted(use, window * elements(use.output_shape, use))


@register_layer(layers.SeparableConv1D)
@register_layer(layers.SeparableConv2D)
def _separable(use: LayerUse) -> Stats:
    """Both stages: a window of each channel, then all of their results at each position."""
    results = _channels(use) * use.layer.depth_multiplier
    outputs = elements(use.output_shape, use)
    positions = outputs // use.layer.filters
    first = math.prod(use.layer.kernel_size) * positions * results
    return _weighted(use, first + results * outputs)


@register_layer(layers.Conv1DTranspose)
@register_layer(layers.Conv2DTranspose)
@register_layer(layers.Conv3DTranspose)
def _transposed(use: LayerUse) -> Stats:
    """Each element of the input goes to a window of each filter, cropped at a border or not."""
    window = math.prod(use.layer.kernel_size) * use.layer.filters
    return _weighted(use, window * elements(use.input_shape, use))


@register_layer(layers.Activation)
def _activation(use: LayerUse) -> Stats:
    return _weighted(use, 0)


@register_layer(layers.ReLU)
@register_layer(layers.LeakyReLU)
@register_layer(layers.PReLU)
@register_layer(layers.ELU)
@register_layer(layers.Softmax)
def _activation_layer(use: LayerUse) -> Stats:
    return {"neurons": elements(use.output_shape, use), "spiking": False}


@register_layer(KerasSpikingLayer)
def _over_time(use: LayerUse) -> Stats:
    """A state for each unit, updated at each step: a neuron's, or a filter's, which costs as much.

    These layers know which axis is time, whether its length is fixed or not.
    """
    return {"neurons": elements((None, *use.input_shape[2:]), use)}


@register_layer(layers.SpectralNormalization)
def _normalized_weights(use: LayerUse) -> Stats:
    """In inference, the layer that it wraps."""
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
