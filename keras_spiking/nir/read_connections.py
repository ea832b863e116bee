"""Makes Keras layers of the nodes that treat each time step by itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_spiking._types import Array
from keras_spiking.nir import weights
from keras_spiking.nir.refusals import UnsupportedError
from keras_spiking.nir.values import Reading, Values, added, in_nir_order, scaled
from keras_spiking.nir.weights import Padding

Reader = Callable[[Reading, str, Any, list[Values]], Values]


def _input(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    channels, *sizes = (int(size) for size in node.input_type["input"])
    return Values(keras.Input((None, *sizes, channels), name=name))


def _output(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    return in_nir_order(added(before, name), f"{name}_order")


def _affine(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    values, weight = added(before, name), np.asarray(node.weight)
    if weight.ndim != 2 or values.shape != weight.shape[1:]:
        raise UnsupportedError(
            f"has a weight of shape {weight.shape}, and inputs of shape {values.shape}. It must be "
            "(outputs, inputs), for inputs with one axis."
        )
    if values.order is not None:
        weight = weight[:, np.argsort(values.order)]
    bias = getattr(node, "bias", None)
    dense = layers.Dense(len(weight), use_bias=bias is not None, name=name)
    outputs = dense(values.tensor)
    dense.set_weights(
        [weight.T] if bias is None else [weight.T, np.broadcast_to(bias, len(weight))]
    )
    return Values(outputs)


def _convolution(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    values, weight = added(before, name), np.asarray(node.weight)
    rank, channels, groups = weight.ndim - 2, values.shape[0], int(node.groups)
    if len(values.shape) != rank + 1 or channels != weight.shape[1] * groups:
        raise UnsupportedError(
            f"has a weight of shape {weight.shape} in {groups} groups, and inputs of shape "
            f"{values.shape}. They must have {weight.shape[1] * groups} channels and {rank} more "
            "axes."
        )
    strides, dilation = (_integers(each, rank) for each in (node.stride, node.dilation))
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(padding, str):
        pads: Padding = tuple((size, size) for size in _integers(padding, rank))
        weight, padding, pads = _keras_padding(values.shape[1:], weight, strides, dilation, pads)
        if padding == "valid" and np.any(pads):
            kind = layers.ZeroPadding1D if rank == 1 else layers.ZeroPadding2D
            values = values.each_step(kind(pads[0] if rank == 1 else pads), f"{name}_padding")
    elif padding == "same" and any(stride > 1 for stride in strides):
        raise UnsupportedError('has padding "same" and strides. Give the padding in numbers.')
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation}
    kernel = np.moveaxis(weight, (0, 1), (-1, -2))
    layer: Any
    if groups == channels > 1:
        kernel = kernel.reshape(*kernel.shape[:rank], channels, -1)
        kind = layers.DepthwiseConv1D if rank == 1 else layers.DepthwiseConv2D
        layer = kind(kernel.shape[:rank], depth_multiplier=kernel.shape[-1], **options)
    else:
        kind = layers.Conv1D if rank == 1 else layers.Conv2D
        layer = kind(len(weight), kernel.shape[:rank], groups=groups, **options)
    outputs = values.each_step(layer, name)
    layer.set_weights([kernel, np.broadcast_to(node.bias, len(weight))])
    return outputs


def _keras_padding(
    sizes: tuple[int, ...],
    weight: Array,
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    pads: Padding,
) -> tuple[Array, str, Padding]:
    """The weights, the `padding` of Keras, and what to pad before it."""

    def is_same(weight: Array, pads: Padding) -> bool:
        return pads == weights.same_padding(sizes, weight.shape[2:], strides, dilation)

    if set(dilation) == {1}:
        cut, cut_pads = weights.without_zeros(weight, pads)
        if is_same(cut, cut_pads) or not is_same(weight, pads):
            weight, pads = cut, cut_pads
    if not np.any(pads):
        return weight, "valid", pads
    return weight, "same" if is_same(weight, pads) else "valid", pads


def _scale(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    return scaled(added(before, name), node.scale, name)


def _flatten(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    values = added(before, name)
    # Some count the axis of the batch, and some do not.
    ends = (-1, len(values.shape) - 1, len(values.shape))
    if int(node.start_dim) not in (0, 1) or int(node.end_dim) not in ends:
        raise UnsupportedError(
            f"flattens axes {node.start_dim} to {node.end_dim} of {len(values.shape)}. Flatten "
            "the whole sample."
        )
    is_keras_order = reading.dialect.flattens_channels_last or values.flattened is not None
    shape = values.flattened if is_keras_order else values.shape
    return Values(values.each_step(layers.Flatten(), name).tensor, shape)


def _pooling(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    values = added(before, name)
    pool, strides, zeros = (
        _integers(each, 2) for each in (node.kernel_size, node.stride, node.padding)
    )
    if any(zeros):
        padding = layers.ZeroPadding2D(tuple((size, size) for size in zeros))
        values = values.each_step(padding, f"{name}_padding")
    if type(node).__name__ == "AvgPool2d":
        return values.each_step(layers.AveragePooling2D(pool, strides), name)
    # Not a product of the average, which may be rounded.
    ones = layers.DepthwiseConv2D(
        pool, strides, use_bias=False, depthwise_initializer="ones", trainable=False
    )
    return values.each_step(ones, name)


def _step(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    values = added(before, name)
    above = ops.greater(values.tensor, values.parameter(node.threshold).astype("float32"))
    return replace(values, tensor=ops.cast(above, values.tensor.dtype))


def _integers(value: Any, rank: int) -> tuple[int, ...]:
    """One integer for each axis."""
    return tuple(int(each) for each in np.broadcast_to(value, rank))


READERS: dict[str, Reader] = {
    "Input": _input,
    "Output": _output,
    "Affine": _affine,
    "Linear": _affine,
    "Conv1d": _convolution,
    "Conv2d": _convolution,
    "Scale": _scale,
    "Flatten": _flatten,
    "SumPool2d": _pooling,
    "AvgPool2d": _pooling,
    "Threshold": _step,
}
