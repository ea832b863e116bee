"""What flows from layer to layer while a graph is written.

Keras's values are `scale * outputs + offset` of nodes. The height of our spikes is such a scale,
for those of NIR are 1 high. It waits until weights follow, which take it in. Nodes with weights are
made as late as possible, so that what follows them, such as BatchNormalization, can go into them.

Scales and offsets are numbers, or arrays that broadcast to a sample of NIR, `(channels, ...)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from keras_spiking._types import Array
from keras_spiking.nir import weights
from keras_spiking.nir.graph import Graph, Shape
from keras_spiking.nir.refusals import UnsupportedError
from keras_spiking.nir.weights import Padding


class Signal(Protocol):
    """The output of a layer.

    Attributes:
        shape: Shape of a sample of it in NIR, `(channels, ...)`.
        order: Where Keras has each element, if a sample was flattened; None for the same order.
    """

    @property
    def shape(self) -> Shape: ...

    @property
    def order(self) -> Array | None: ...

    def times(self, scale: Any, offset: Any = 0.0) -> "Signal":
        """The signal `scale * self + offset`."""

    def made(self, graph: Graph) -> "Nodes":
        """The nodes of this signal, after adding those that are not in the graph yet."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """The sum of the outputs of nodes, times a scale, plus an offset, with zeros around it.

    `shape` counts these zeros; `node_shape` does not.
    """

    names: tuple[str, ...]
    shape: Shape
    scale: Any = 1.0
    offset: Any = 0.0
    order: Array | None = None
    padding: Padding = ()

    def times(self, scale: Any, offset: Any = 0.0) -> "Nodes":
        assert not (self.padding and np.any(offset)), "nothing is added to zeros around it"
        return replace(self, scale=self.scale * scale, offset=self.offset * scale + offset)

    def made(self, graph: Graph) -> "Nodes":
        return self

    @property
    def node_shape(self) -> Shape:
        pads = self.padding or ((0, 0),) * (len(self.shape) - 1)
        sizes = [size - sum(pair) for size, pair in zip(self.shape[1:], pads, strict=True)]
        return (self.shape[0], *sizes)

    def padded(self, padding: Padding) -> "Nodes":
        """The same with zeros around it, in place of those that there are."""
        sizes = [size + sum(p) for size, p in zip(self.node_shape[1:], padding, strict=False)]
        shape = (self.shape[0], *(sizes if padding else self.node_shape[1:]))
        return replace(self, shape=shape, padding=padding)


class Weighted:
    """The output of weights on nodes. The node is made when another node needs it."""

    def __init__(
        self,
        name: str,
        inputs: Nodes,
        shape: Shape,
        weight: Array,
        bias: Array,
        make: Callable[[Array, Array], Any],
        order: Array | None = None,
    ):
        self.shape, self.order = shape, order
        self._name, self._inputs, self._make = name, inputs, make
        self._weight, self._bias = weight, bias
        self._made: Nodes | None = None

    def times(self, scale: Any, offset: Any = 0.0) -> Signal:
        scale, offset = by_channel(scale, self.shape), by_channel(offset, self.shape)
        if scale is None or offset is None:
            raise UnsupportedError("has other numbers at each position. Use the same in a channel.")
        weight = self._weight * scale.reshape(-1, *[1] * (self._weight.ndim - 1))
        return self._with(weight, self._bias * scale + offset, self.order)

    def in_order(self, order: Array | None) -> "Weighted":
        """The same with its outputs, which have one axis, in another order."""
        rows = _moved(self, order)
        return self._with(self._weight[rows], self._bias[rows], order)

    def _with(self, weight: Array, bias: Array, order: Array | None) -> "Weighted":
        return Weighted(self._name, self._inputs, self.shape, weight, bias, self._make, order)

    def made(self, graph: Graph) -> Nodes:
        if self._made is None:
            node, inputs = self._make(self._weight, self._bias), self._inputs
            name = graph.add(self._name, node, inputs.names, inputs.node_shape, self.shape)
            self._made = Nodes((name,), self.shape, order=self.order)
        return self._made


class Pooled:
    """Averages over parts of a signal."""

    order = None

    def __init__(self, name: str, inputs: Signal, shape: Shape, pool: Shape, strides: Shape):
        self.shape = shape
        self._name, self._inputs, self._pool, self._strides = name, inputs, pool, strides
        self._made: Nodes | None = None

    def times(self, scale: Any, offset: Any = 0.0) -> Signal:
        inputs = self._inputs.times(scale, offset)
        return Pooled(self._name, inputs, self.shape, self._pool, self._strides)

    def made(self, graph: Graph) -> Nodes:
        if self._made is None:
            kind, inputs, number = graph.nir.AvgPool2d, self._inputs, 1
            if graph.dialect.only_plain:
                kind, number = graph.nir.SumPool2d, math.prod(self._pool)
            before = without_padding(inputs.times(1 / number).made(graph), graph)
            node = kind(np.array(self._pool), np.array(self._strides), np.array([0, 0]))
            name = graph.add(self._name, node, before.names, before.shape, self.shape)
            offset = before.offset * number
            self._made = replace(before, names=(name,), shape=self.shape, offset=offset)
        return self._made


class Added:
    """The sum of signals, which have one shape and order."""

    def __init__(self, signals: list[Signal]):
        self.shape, self.order = signals[0].shape, signals[0].order
        self._signals = signals
        self._made: Nodes | None = None

    @classmethod
    def of(cls, signals: list[Signal], graph: Graph) -> "Added":
        """The sum of signals, after bringing them into one order.

        Raises:
            UnsupportedError: If they have different shapes.
        """
        if any(signal.shape != signals[0].shape for signal in signals):
            shapes = ", ".join(str(signal.shape) for signal in signals)
            raise UnsupportedError(
                f"adds samples of different shapes, {shapes}. Give them one shape."
            )
        orders = [signal.order for signal in signals if signal.order is not None]
        order = orders[0] if orders else None
        return cls([in_order(signal, order, graph) for signal in signals])

    def times(self, scale: Any, offset: Any = 0.0) -> "Added":
        first, *others = self._signals
        return Added([first.times(scale, offset), *(other.times(scale) for other in others)])

    def made(self, graph: Graph) -> Nodes:
        if self._made is None:
            parts = [without_padding(signal.made(graph), graph) for signal in self._signals]
            self._made = _sum(parts, graph)
        return self._made


def _sum(parts: list[Nodes], graph: Graph) -> Nodes:
    """Adds up nodes, which keep their scale if it is the same for all."""
    first, *others = parts
    if len({part.names for part in parts}) < len(parts):
        # The same nodes twice: a graph has one edge between two nodes.
        same = [part for part in others if part.names == first.names]
        total = replace(
            first,
            scale=first.scale + sum(part.scale for part in same),
            offset=first.offset + sum(part.offset for part in same),
        )
        different = [part for part in others if part.names != first.names]
        return _sum([*different, total], graph) if different else total
    if any(not np.array_equal(part.scale, first.scale) for part in others):
        parts = [plain(part, graph) for part in parts]
    names = tuple(name for part in parts for name in part.names)
    if len(names) > 1 and not graph.dialect.has_branches:
        raise UnsupportedError(
            "adds several inputs, and this simulator follows one. Use a chain of layers, or "
            "another target."
        )
    offset = sum(part.offset for part in parts)
    return replace(parts[0], names=names, offset=offset)


def by_channel(values: Any, shape: Shape) -> Array | None:
    """One number for each channel, if these are the same at each position; else None."""
    rows = np.broadcast_to(values, shape).reshape(shape[0], -1)
    return rows[:, 0] if (rows == rows[:, :1]).all() else None


def in_order(signal: Signal, order: Array | None, graph: Graph) -> Signal:
    """A signal with its elements in an order, as `Signal.order` has it."""
    if order is signal.order or np.array_equal(_moved(signal, order), _moved(signal, signal.order)):
        return signal
    if isinstance(signal, Weighted):
        return signal.in_order(order)
    nodes, rows = signal.made(graph), _moved(signal, order)
    weight = np.eye(len(rows))[rows] * nodes.scale
    bias = np.broadcast_to(nodes.offset, nodes.shape)[rows]
    name = f"{nodes.names[0]}_order"
    return Weighted(name, nodes, nodes.shape, weight, bias, graph.affine, order)


def _moved(signal: Signal, order: Array | None) -> Array:
    """Where a signal with one axis has the elements that come in an order."""
    same = np.arange(signal.shape[0])
    at = same if signal.order is None else np.argsort(signal.order)
    return at if order is None else at[order]


def plain(nodes: Nodes, graph: Graph) -> Nodes:
    """Nodes whose outputs are the values of Keras, with more nodes if that takes some."""
    if np.any(nodes.scale != np.ones(())) or np.any(nodes.offset):
        scaled = _own_node(nodes.padded(()), f"{nodes.names[0]}_scaled", graph)
        # Last, for nothing is added to these zeros.
        nodes = scaled.padded(nodes.padding)
    return without_padding(nodes, graph)


def without_padding(nodes: Nodes, graph: Graph) -> Nodes:
    """The same nodes, with a node that pads them if they are to be padded."""
    if not nodes.padding:
        return nodes
    if np.any(nodes.offset):
        return plain(nodes, graph)
    padded = _own_node(replace(nodes, scale=1.0), f"{nodes.names[0]}_padded", graph)
    return replace(padded, scale=nodes.scale)


def _own_node(nodes: Nodes, name: str, graph: Graph) -> Nodes:
    """A node with the scale, and the offset or the padding, of these nodes."""
    scale, offset = (by_channel(each, nodes.shape) for each in (nodes.scale, nodes.offset))
    if scale is None or offset is None:
        raise UnsupportedError("has other numbers at each position. Use the same in a channel.")
    sizes = nodes.node_shape[1:]
    ones = (1,) * len(sizes)
    if not sizes:
        node = graph.affine(np.diag(scale), offset)
    else:
        weight, groups = scale.reshape(-1, 1, *ones), len(scale)
        if graph.dialect.only_plain:
            weight, groups = weights.without_groups(weight, groups), 1
        padding = nodes.padding or ((0, 0),) * len(sizes)
        weight, step, pads = weights.with_equal_padding(weight, ones, padding)
        node = graph.convolution(weight, offset, sizes, ones, pads, step, groups)
    name = graph.add(name, node, nodes.names, nodes.node_shape, nodes.shape)
    return Nodes((name,), nodes.shape, order=nodes.order)


def keras_array(values: Array, signal: Signal) -> Array:
    """An array that broadcasts to a sample of Keras, so that it broadcasts to one of NIR."""
    if values.ndim == 0:
        return values
    if len(signal.shape) == 1:
        values = np.broadcast_to(values.ravel(), signal.shape)
        return values if signal.order is None else values[signal.order]
    if values.ndim == 1:
        return values.reshape(-1, *[1] * (len(signal.shape) - 1))
    return np.moveaxis(np.broadcast_to(values, (*signal.shape[1:], signal.shape[0])), -1, 0)
