"""Weights of Keras as NIR has them: channels first, with the same padding on both sides."""

import numpy as np

from keras_spiking._types import Array

Padding = tuple[tuple[int, int], ...]


def channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a sample, (..., channels), with its channels first."""
    return (shape[-1], *shape[:-1])


def flat_order(shape: tuple[int, ...]) -> Array | None:
    """Where Keras has each element that NIR flattens from a shape `(channels, ...)`.

    None if both have the same order.
    """
    keras_shape = (*shape[1:], shape[0])
    order = np.moveaxis(np.arange(np.prod(shape)).reshape(keras_shape), -1, 0).ravel()
    return None if (np.diff(order) == 1).all() else order


def convolution(kernel: Array) -> Array:
    """A kernel `(..., inputs, outputs)` as `(outputs, inputs, ...)`."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def depthwise(kernel: Array) -> Array:
    """A kernel `(..., channels, multiplier)` as that of a convolution with a group per channel."""
    return np.moveaxis(kernel, (-2, -1), (0, 1)).reshape(-1, 1, *kernel.shape[:-2])


def scaled_by_input(weight: Array, groups: int, scale: Array) -> Array:
    """Multiplies the weights `(outputs, inputs / groups, ...)` of each input channel."""
    by_group = np.repeat(scale.reshape(groups, -1), len(weight) // groups, axis=0)
    return weight * by_group.reshape(*by_group.shape, *[1] * (weight.ndim - 2))


def without_groups(weight: Array, groups: int) -> Array:
    """The same convolution without groups: weights between different groups are zero."""
    outputs, inputs = (size // groups for size in (len(weight), weight.shape[1] * groups))
    dense = np.zeros((len(weight), inputs * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        dense[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return dense


def without_dilation(weight: Array, dilation: tuple[int, ...]) -> Array:
    """The same convolution with zeros between the weights in place of a dilation."""
    sizes = [(size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilation, strict=True)]
    dense = np.zeros((*weight.shape[:2], *sizes), weight.dtype)
    dense[(slice(None), slice(None), *(slice(None, None, step) for step in dilation))] = weight
    return dense


def same_padding(
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Padding:
    """The zeros before and behind each axis with `padding="same"`, as in Keras."""
    pads = []
    for size, taps, stride, step in zip(sizes, kernel, strides, dilation, strict=True):
        total = max((-(-size // stride) - 1) * stride + (taps - 1) * step + 1 - size, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def added_padding(first: Padding, second: Padding, rank: int) -> Padding:
    """The sum of two paddings of this number of axes; an empty one adds nothing."""
    none = ((0, 0),) * rank
    pairs = zip(first or none, second or none, strict=True)
    return tuple((before + a, behind + b) for (before, behind), (a, b) in pairs)


def output_sizes(
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """The lengths of the axes behind a convolution or pooling, with equal padding."""
    return tuple(
        (size + 2 * pad - (taps - 1) * step - 1) // stride + 1
        for size, taps, stride, pad, step in zip(
            sizes, kernel, strides, padding, dilation, strict=True
        )
    )


def with_equal_padding(
    weight: Array, dilation: tuple[int, ...], padding: Padding
) -> tuple[Array, tuple[int, ...], tuple[int, ...]]:
    """The same convolution, with as many zeros before each axis as behind it.

    The kernel gets zeros where there is more padding than before.

    Returns:
        The weights, the dilation and the padding.
    """
    if any(before != behind for before, behind in padding):
        weight, dilation = without_dilation(weight, dilation), (1,) * len(dilation)
    most = tuple(map(max, padding))
    more = [(size - a, size - b) for size, (a, b) in zip(most, padding, strict=True)]
    return np.pad(weight, [(0, 0), (0, 0), *more]), dilation, most


def without_zeros(weight: Array, padding: Padding) -> tuple[Array, Padding]:
    """Undoes `with_equal_padding`: takes zeros at the ends of a kernel out of the padding."""
    pads = []
    for axis, (before, behind) in enumerate(padding, start=2):
        used = np.flatnonzero(weight.any(axis=tuple({*range(weight.ndim)} - {axis})))
        first, last = (used[0], used[-1]) if len(used) else (0, weight.shape[axis] - 1)
        cut = min(int(first), before), min(int(weight.shape[axis] - 1 - last), behind)
        kept = range(cut[0], weight.shape[axis] - cut[1])
        weight = weight.take(kept, axis=axis)
        pads.append((before - cut[0], behind - cut[1]))
    return weight, tuple(pads)
