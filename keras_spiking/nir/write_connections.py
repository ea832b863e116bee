"""Writes the layers of Keras that treat each time step by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_spiking._types import Array
from keras_spiking.nir import weights
from keras_spiking.nir.graph import Graph, Shape
from keras_spiking.nir.refusals import UnsupportedError
from keras_spiking.nir.signals import (
    Nodes,
    Pooled,
    Signal,
    Weighted,
    by_channel,
    keras_array,
    plain,
    without_padding,
)
from keras_spiking.nir.weights import Padding

Writer = Callable[[str, Any, Signal, Graph], Signal]


def array(tensor: Any) -> Array:
    """The values of a weight in float64, in which weights are folded."""
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")), "float64")


@dataclass(frozen=True, eq=False)
class _Kernel:
    """Weights `(outputs, inputs / groups, ...)`, a bias, and how they move over positions."""

    weight: Array
    bias: Array
    strides: Shape
    dilation: Shape
    groups: int = 1
    padding: Padding = ()


def dense(name: str, layer: layers.Dense, signal: Signal, graph: Graph) -> Signal:
    """`Affine`; on samples with positions, a convolution that sees one of them."""
    inputs, matrix = without_padding(signal.made(graph), graph), array(layer.kernel)
    bias = array(layer.bias) if layer.use_bias else np.zeros(matrix.shape[1])
    if len(inputs.shape) > 1:
        ones = (1,) * (len(inputs.shape) - 1)
        weight = weights.convolution(matrix.reshape(*ones, *matrix.shape))
        return _convolved(name, _Kernel(weight, bias, ones, ones), inputs, graph)
    weight = matrix.T if inputs.order is None else matrix.T[:, inputs.order]
    bias = bias + weight @ np.broadcast_to(inputs.offset, inputs.shape)
    return Weighted(name, inputs, bias.shape, weight * inputs.scale, bias, graph.affine)


def convolution(name: str, layer: Any, signal: Signal, graph: Graph) -> Signal:
    """`Conv1d` or `Conv2d`, with all padding that comes before it."""
    inputs = signal.made(graph)
    _check_positions(inputs, layer.rank)
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        weight, groups = weights.depthwise(array(layer.kernel)), inputs.shape[0]
    else:
        weight, groups = weights.convolution(array(layer.kernel)), layer.groups
    bias = array(layer.bias) if layer.use_bias else np.zeros(len(weight))
    strides, dilation, taps = layer.strides, layer.dilation_rate, weight.shape[2:]
    padding: Padding = ()
    if layer.padding == "same":
        padding = weights.same_padding(inputs.shape[1:], taps, strides, dilation)
    elif layer.padding == "causal":
        padding = ((dilation[0] * (taps[0] - 1), 0),)
    kernel = _Kernel(weight, bias, strides, dilation, groups, padding)
    return _convolved(name, kernel, inputs, graph)


def _convolved(name: str, kernel: _Kernel, inputs: Nodes, graph: Graph) -> Weighted:
    strides, dialect = kernel.strides, graph.dialect
    if len(strides) == 1 and not dialect.has_conv1d:
        raise UnsupportedError(
            "runs over one axis, and this simulator reads two. Use samples of shape (1, steps, "
            "channels) and layers for two axes, or another target."
        )
    padding = weights.added_padding(inputs.padding, kernel.padding, len(strides))
    if np.any(inputs.offset) and np.any(padding):
        # What is added before the padding is not added to the zeros.
        inputs = plain(inputs.padded(()), graph)
    weight, bias = _folded(kernel, inputs)
    dilation, groups = kernel.dilation, kernel.groups
    if dialect.only_plain:
        weight, groups = weights.without_groups(weight, groups), 1
        weight, dilation = weights.without_dilation(weight, dilation), (1,) * len(strides)
    weight, dilation, pads = weights.with_equal_padding(weight, dilation, padding)
    size = inputs.node_shape[1:]
    shape = weights.output_sizes(size, weight.shape[2:], strides, pads, dilation)

    def make(weight: Array, bias: Array) -> Any:
        return graph.convolution(weight, bias, size, strides, pads, dilation, groups)

    return Weighted(name, inputs.padded(()), (len(weight), *shape), weight, bias, make)


def _folded(kernel: _Kernel, inputs: Nodes) -> tuple[Array, Array]:
    """The weights and the bias, with the scale and the offset of the inputs in them."""
    scale, offset = (by_channel(each, inputs.shape) for each in (inputs.scale, inputs.offset))
    if scale is None or offset is None:
        raise UnsupportedError(
            "has inputs with other scales at each position. Use one in a channel."
        )
    added = weights.scaled_by_input(kernel.weight, kernel.groups, offset)
    bias = kernel.bias + added.reshape(len(added), -1).sum(axis=1)
    return weights.scaled_by_input(kernel.weight, kernel.groups, scale), bias


def normalization(
    name: str, layer: layers.BatchNormalization, signal: Signal, graph: Graph
) -> Signal:
    """No node: the scale and offset go into the weights before or behind."""
    scale = 1 / np.sqrt(array(layer.moving_variance) + layer.epsilon)
    scale = scale * array(layer.gamma) if layer.scale else scale
    offset = -array(layer.moving_mean) * scale
    offset = offset + array(layer.beta) if layer.center else offset
    return _scaled(signal, scale, offset, graph)


def rescaling(name: str, layer: layers.Rescaling, signal: Signal, graph: Graph) -> Signal:
    """No node, as `normalization`."""
    scale, offset = (np.asarray(each, "float64") for each in (layer.scale, layer.offset))
    return _scaled(signal, scale, offset, graph)


def _scaled(signal: Signal, scale: Array, offset: Array, graph: Graph) -> Signal:
    if isinstance(signal, Nodes) and np.any(offset):
        signal = without_padding(signal, graph)
    return signal.times(keras_array(scale, signal), keras_array(offset, signal))


def zero_padding(name: str, layer: Any, signal: Signal, graph: Graph) -> Signal:
    """No node, if a convolution follows: its padding grows."""
    nodes = without_padding(signal.made(graph), graph)
    pads = layer.padding if len(nodes.shape) == 3 else (layer.padding,)
    _check_positions(nodes, len(pads))
    return nodes.padded(tuple(tuple(pair) for pair in pads))


def average_pooling(name: str, layer: Any, signal: Signal, graph: Graph) -> Signal:
    """`AvgPool2d` or `SumPool2d`; over one axis, a convolution."""
    _check_positions(signal, len(layer.pool_size))
    return _averaged(name, signal, layer.pool_size, layer.strides, graph)


def global_pooling(name: str, layer: Any, signal: Signal, graph: Graph) -> Signal:
    """The same over all positions, then `Flatten`."""
    _check_positions(signal, 1 if isinstance(layer, layers.GlobalAveragePooling1D) else 2)
    sizes = signal.shape[1:]
    pooled = _averaged(name, signal, sizes, sizes, graph)
    return pooled if layer.keepdims else flatten(f"{name}_flat", layer, pooled, graph)


def flatten(name: str, layer: Any, signal: Signal, graph: Graph) -> Signal:
    """`Flatten`, in the order of channels first."""
    nodes = without_padding(signal.made(graph), graph)
    if len(nodes.shape) == 1:
        return nodes
    order = None
    if not graph.dialect.flattens_channels_last:
        order = weights.flat_order(nodes.shape)
    shape = (int(np.prod(nodes.shape)),)

    def flat(values: Any) -> Any:
        if np.ndim(values) == 0:
            return values
        full = np.broadcast_to(values, nodes.shape)
        return (np.moveaxis(full, 0, -1) if graph.dialect.flattens_channels_last else full).ravel()

    node = graph.nir.Flatten(
        {"input": np.array(nodes.shape)}, graph.dialect.flatten_from, end_dim=-1
    )
    name = graph.add(name, node, nodes.names, nodes.shape, shape)
    return Nodes((name,), shape, flat(nodes.scale), flat(nodes.offset), order)


def _averaged(name: str, signal: Signal, pool: Shape, strides: Shape, graph: Graph) -> Signal:
    if len(pool) == 1:
        inputs = without_padding(signal.made(graph), graph)
        channels = inputs.shape[0]
        weight, bias = np.full((channels, 1, *pool), 1 / pool[0]), np.zeros(channels)
        return _convolved(name, _Kernel(weight, bias, strides, (1,), channels), inputs, graph)
    shape = weights.output_sizes(signal.shape[1:], pool, strides, (0, 0), (1, 1))
    return Pooled(name, signal, (signal.shape[0], *shape), pool, strides)


def _check_positions(signal: Signal, number: int) -> None:
    """Checks that a sample has the axes that a layer runs over, and none of these is time."""
    if len(signal.shape) != number + 1:
        raise UnsupportedError(
            f"runs over {number} axes besides channels, and samples have {len(signal.shape) - 1}: "
            "it runs over time. Wrap it in keras_spiking.TimeBatched."
        )


def unchanged(name: str, layer: Any, signal: Signal, graph: Graph) -> Signal:
    """No node: the layer does nothing in inference."""
    return signal


WRITERS: dict[type, Writer] = {
    layers.Dense: dense,
    **dict.fromkeys(
        (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D), convolution
    ),
    layers.BatchNormalization: normalization,
    layers.Rescaling: rescaling,
    **dict.fromkeys((layers.ZeroPadding1D, layers.ZeroPadding2D), zero_padding),
    **dict.fromkeys((layers.AveragePooling1D, layers.AveragePooling2D), average_pooling),
    **dict.fromkeys((layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D), global_pooling),
    layers.Flatten: flatten,
    **dict.fromkeys(
        (
            layers.ActivityRegularization,
            layers.AlphaDropout,
            layers.Dropout,
            layers.GaussianDropout,
            layers.GaussianNoise,
            layers.Identity,
            layers.SpatialDropout1D,
            layers.SpatialDropout2D,
        ),
        unchanged,
    ),
}
