"""What each class of layers counts: connections, neurons, and whether it runs on spiking devices.

A connection is a weight through which one element of the input reaches one unit of the output: what
a processor multiplies and adds, and what a spike passes through. What only moves, pools, adds or
scales elements has none: on a device it is part of the connections before or after it.
Padding counts as input, as on a device that stores it: so a unit at the border of a convolution
has as many connections as one in the middle.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from keras_spiking._types import Shape
from keras_spiking.energy.spikes import REARRANGING
from keras_spiking.energy.uses import LayerUse
from keras_spiking.layers import KerasSpikingLayer, LastStep, RepeatOverTime, TemporalAvgPool

Stats = dict[str, Any]
Rule = Callable[[LayerUse], Stats]

# The library's own rules, by class of layers.
BUILT_IN: dict[type, Rule] = {}


def _counts(*classes: type) -> Callable[[Rule], Rule]:
    """Makes the function that it decorates count for these classes of layers."""

    def register(rule: Rule) -> Rule:
        BUILT_IN.update(dict.fromkeys(classes, rule))
        return rule

    return register


def elements(shape: Shape, use: LayerUse) -> int:
    """The number of elements of a sample. Axis 1 does not count where it is None: it is time."""
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
    """Counts a layer of connections; it has neurons if its activation is not linear."""
    linear = use.layer.activation in (None, keras.activations.linear)
    neurons = 0 if linear else elements(use.output_shape, use)
    return {"connections": connections, "neurons": neurons, "spiking": linear}


def _channels(use: LayerUse) -> int:
    """Channels of the input of a convolution."""
    axis = 1 if use.layer.data_format == "channels_first" else -1
    channels = use.input_shape[axis]
    assert channels is not None, "a convolution is built for its channels"
    return channels


# What these do is part of the connections before or after them.
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
    # In inference, these return images as they are.
    *(getattr(layers, name) for name in dir(layers) if name.startswith("Random")),
)

# These have no connections either, but adding up spikes cannot do what they do.
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


@_counts(*_LINEAR)
def _linear(use: LayerUse) -> Stats:
    return {}


@_counts(*_NOT_LINEAR)
def _not_linear(use: LayerUse) -> Stats:
    return {"spiking": False}


@_counts(layers.Dense)
def _dense(use: LayerUse) -> Stats:
    inputs = use.input_shape[-1]
    assert inputs is not None, "Dense is built for its last axis"
    return _weighted(use, inputs * elements(use.output_shape, use))


@_counts(layers.EinsumDense)
def _einsum_dense(use: LayerUse) -> Stats:
    """Each output sums over the axes of the input that it does not have."""
    terms, outputs = use.layer.equation.replace(" ", "").split("->")
    inputs = terms.split(",")[0]
    start, _, end = inputs.partition("...")
    sizes = dict(zip(start, use.input_shape, strict=False))
    sizes.update(zip(reversed(end), reversed(use.input_shape), strict=False))
    summed = [sizes[axis] for axis in inputs.replace(".", "") if axis not in outputs]
    return _weighted(use, elements((None, *summed), use) * elements(use.output_shape, use))


@_counts(layers.Dot)
def _dot(use: LayerUse) -> Stats:
    """Like a layer of connections whose weights are the second input."""
    axes = use.layer.axes
    summed = use.input_shape[axes if isinstance(axes, int) else axes[0]]
    outputs = elements(use.output_shape, use)
    return {"connections": elements((None, summed), use) * outputs, "spiking": False}


@_counts(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def _convolution(use: LayerUse) -> Stats:
    window = math.prod(use.layer.kernel_size) * (_channels(use) // use.layer.groups)
    return _weighted(use, window * elements(use.output_shape, use))


@_counts(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def _depthwise(use: LayerUse) -> Stats:
    window = math.prod(use.layer.kernel_size)
    return _weighted(use, window * elements(use.output_shape, use))


@_counts(layers.SeparableConv1D, layers.SeparableConv2D)
def _separable(use: LayerUse) -> Stats:
    """First a window of each channel, then all of their results at each position."""
    results = _channels(use) * use.layer.depth_multiplier
    outputs = elements(use.output_shape, use)
    positions = outputs // use.layer.filters
    first = math.prod(use.layer.kernel_size) * positions * results
    return _weighted(use, first + results * outputs)


@_counts(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def _transposed(use: LayerUse) -> Stats:
    """Each element of the input goes to a window of each filter, also where a border crops it."""
    window = math.prod(use.layer.kernel_size) * use.layer.filters
    return _weighted(use, window * elements(use.input_shape, use))


@_counts(layers.Activation)
def _activation(use: LayerUse) -> Stats:
    return _weighted(use, 0)


@_counts(layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU, layers.Softmax)
def _activation_layer(use: LayerUse) -> Stats:
    return {"neurons": elements(use.output_shape, use), "spiking": False}


@_counts(KerasSpikingLayer)
def _over_time(use: LayerUse) -> Stats:
    """Each unit has a state that is updated at each step. A filter's costs as much as a neuron's.

    Axis 1 is time in these layers, whether its length is fixed or not.
    """
    return {"neurons": elements((None, *use.input_shape[2:]), use)}
