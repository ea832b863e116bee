"""The graph of a model: where each layer is used, those in nested models included."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras

from keras_spiking.energy.spikes import OVER_STEPS, Content, behind, unwrapped
from keras_spiking.layers import RepeatOverTime

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class LayerUse:
    """One use of a layer in a model: what a rule of `register_layer` counts from.

    Args:
        layer: The layer.
        name: Its name, after those of the models that it is nested in.
        input_shapes: Shapes of the tensors that the layer gets, batch axis included; with None for
            an axis of time, also of the steps that `RepeatOverTime` made.
        output_shapes: Shapes of the tensors that it gives.

    Example:

    >>> import keras
    >>> layer = keras.layers.Dense(3)
    >>> use = keras_spiking.energy.LayerUse(layer, "dense", [(None, 4)], [(None, 3)])
    >>> use.output_shape
    (None, 3)
    """

    layer: keras.layers.Layer
    name: str
    input_shapes: list[Shape]
    output_shapes: list[Shape]

    @property
    def input_shape(self) -> Shape:
        """Shape of the first input."""
        return self.input_shapes[0]

    @property
    def output_shape(self) -> Shape:
        """Shape of the first output."""
        return self.output_shapes[0]


class Visitor(Protocol):
    """What `walk` carries through a graph: a value for each tensor."""

    def enter(self, value: Any, tensor: Any) -> Any:
        """What becomes of a value as it enters a model by one of the model's inputs."""

    def apply(self, name: str, node: Any, values: list[Any]) -> list[Any]:
        """The values of a node's outputs, from those of its inputs."""

    def fold(self, value: Any) -> Any:
        """Time into the batch."""

    def unfold(self, value: Any, like: Any) -> Any:
        """Out of it again, where `like` is what had been folded."""


def is_graph(layer: Any) -> bool:
    """Whether a layer is a model whose graph Keras knows."""
    return isinstance(layer, keras.Function) or (
        isinstance(layer, keras.Sequential) and hasattr(layer, "outputs")
    )


def walk(model: Any, values: list[Any], visitor: Visitor, prefix: str = "") -> list[Any]:
    """Visits every use of a layer after those it depends on, nested models included.

    Args:
        model: Model whose graph Keras knows.
        values: A value for each of `model.inputs`.
        visitor: What turns values of inputs into values of outputs.
        prefix: Names of the models that this one is nested in.

    Returns:
        The value of each of `model.outputs`.
    """
    value_of = {
        id(tensor): visitor.enter(value, tensor)
        for tensor, value in zip(model.inputs, values, strict=True)
    }
    if not prefix:
        for tensor in model.inputs:
            layer, *_ = tensor._keras_history
            if layer in model.layers:
                visitor.apply(layer.name, node_of(tensor), [value_of[id(tensor)]])
    for node in _sorted_nodes(model):
        inputs = [value_of[id(tensor)] for tensor in node.input_tensors]
        layer = node.operation
        name = prefix + layer.name
        inner = unwrapped(layer)
        if not is_graph(inner):
            outputs = visitor.apply(name, node, inputs)
        else:
            arguments = keras.tree.map_structure(
                lambda item, value_of=value_of: (
                    _Reference(value_of[id(item)]) if keras.backend.is_keras_tensor(item) else item
                ),
                _inputs_argument(node),
            )
            inputs = [item.value for item in in_order(inner, arguments)]
            if inner is layer:
                outputs = walk(inner, inputs, visitor, f"{name}/")
            else:
                folded = [visitor.fold(value) for value in inputs]
                outputs = walk(inner, folded, visitor, f"{name}/")
                outputs = [visitor.unfold(value, inputs[0]) for value in outputs]
        value_of.update(zip(map(id, node.outputs), outputs, strict=True))
    return [value_of[id(tensor)] for tensor in model.outputs]


def node_of(tensor: Any) -> Any:
    """The use of a layer that a symbolic tensor comes from."""
    # Keras has no public way to ask.
    layer, node_index, _ = tensor._keras_history
    return layer._inbound_nodes[node_index]


def are_masks(node: Any) -> list[bool]:
    """Of each tensor that a node gets, whether it is a mask."""
    masks = {
        id(tensor)
        for name, item in node.arguments.kwargs.items()
        if name.endswith("mask")
        for tensor in keras.tree.flatten(item)
    }
    return [id(tensor) in masks for tensor in node.input_tensors]


def without_masks(node: Any, values: list[Any]) -> list[Any]:
    """The values of the tensors that a node gets, without those of masks."""
    if node.is_input:
        return values
    return [value for value, is_mask in zip(values, are_masks(node), strict=True) if not is_mask]


def makes_mask(node: Any) -> bool:
    """Whether a node is an operation by which Keras makes one mask of another."""
    return not isinstance(node.operation, keras.layers.Layer) and all(
        tensor.dtype == "bool" for tensor in node.outputs
    )


def in_order(model: Any, inputs: Any) -> list[Any]:
    """A structure of inputs as a list, in the order of `model.inputs`."""
    if by_name(model, inputs):
        return [inputs[tensor.name] for tensor in model.inputs]
    return keras.tree.flatten(inputs)


def by_name(model: Any, inputs: Any) -> bool:
    """Whether inputs are named after those of a model that was not made with names."""
    takes_names = isinstance(model, keras.Function) and isinstance(model.input, dict)
    return isinstance(inputs, dict) and not takes_names


class _Reference:
    """A value in a structure, as a leaf of it whatever it is."""

    def __init__(self, value: Any):
        self.value = value


def _inputs_argument(node: Any) -> Any:
    arguments = node.arguments
    return arguments.args[0] if arguments.args else next(iter(arguments.kwargs.values()))


def _sorted_nodes(model: Any) -> list[Any]:
    """The nodes that a model's outputs need, each after those that it needs itself."""
    done = {id(tensor) for tensor in model.inputs}
    order: list[Any] = []
    # Not recursive: deep models are deeper than Python's stack.
    stack: list[tuple[Any, Iterator[Any]]] = []
    for output in model.outputs:
        if id(output) not in done:
            stack.append((node := node_of(output), iter(node.input_tensors)))
        while stack:
            node, remaining = stack[-1]
            for tensor in remaining:
                if id(tensor) not in done:
                    stack.append((needed := node_of(tensor), iter(needed.input_tensors)))
                    break
            else:
                stack.pop()
                if not done.issuperset(map(id, node.outputs)):
                    done.update(map(id, node.outputs))
                    order.append(node)
    return order


class Collector:
    """Walks a graph to list its uses of layers, and what comes into each.

    The value of a tensor is its `Content`.
    """

    def __init__(self) -> None:
        self.uses: list[LayerUse] = []
        self.contents: list[list[Content]] = []
        # Of every node, in the order of `walk`: what is in its first output. Others are states.
        self.outputs: list[Content] = []

    def enter(self, value: Content, tensor: Any) -> Content:
        return value

    def apply(self, name: str, node: Any, values: list[Content]) -> list[Content]:
        if makes_mask(node):
            self.outputs.append(Content())
            return [Content()] * len(node.outputs)
        values = without_masks(node, values)
        over_time = [value.over_time for value in values]
        keeps_time = _keeps_time(node, over_time)
        self.uses.append(as_use(name, node, over_time, keeps_time))
        self.contents.append(values)
        output = behind(node.operation, values)._replace(over_time=keeps_time)
        self.outputs.append(output)
        return [output] + [Content()] * (len(node.outputs) - 1)

    def fold(self, value: Content) -> Content:
        return value._replace(over_time=False)

    def unfold(self, value: Content, like: Content) -> Content:
        return value._replace(over_time=like.over_time)


def uses_of(model: Any) -> list[LayerUse]:
    """Every use of a layer in a model, nested models included."""
    collector = Collector()
    walk(model, [Content()] * len(model.inputs), collector)
    return collector.uses


def as_use(
    name: str, node: Any, over_time: Sequence[bool] = (), keeps_time: bool = False
) -> LayerUse:
    """A Keras node, with what rules need of it; axis 1 of these inputs, and the output, is time."""
    # An input has no inputs of its own.
    inputs = without_masks(node, node.input_tensors) or node.outputs
    return LayerUse(
        node.operation, name, _shapes(inputs, over_time), _shapes(node.outputs, [keeps_time])
    )


def _shapes(tensors: list[Any], over_time: Sequence[bool]) -> list[Shape]:
    shapes: list[Shape] = [tuple(tensor.shape) for tensor in tensors]
    for index, is_over_time in enumerate(over_time):
        if is_over_time:
            shapes[index] = (shapes[index][0], None, *shapes[index][2:])
    return shapes


def _keeps_time(node: Any, over_time: list[bool]) -> bool:
    """Whether axis 1 of a layer's output is time, where it is of these inputs."""
    layer = node.operation
    if isinstance(layer, RepeatOverTime):
        return True
    if isinstance(layer, OVER_STEPS):
        return any(over_time)
    if isinstance(layer, (keras.layers.Permute, keras.layers.Reshape)):
        return False
    shape = node.outputs[0].shape
    tensors = without_masks(node, node.input_tensors)
    return any(
        is_over_time and len(tensor.shape) == len(shape) and tensor.shape[1] == shape[1]
        for tensor, is_over_time in zip(tensors, over_time, strict=False)
    )
