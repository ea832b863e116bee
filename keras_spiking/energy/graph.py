"""Takes values through the graph of a model: through nested models, and those at each time step."""

from collections.abc import Callable
from typing import Protocol

import keras

from keras_spiking._graph import Call, Graph, Value, inputs_in_order, is_graph
from keras_spiking._types import Tensor
from keras_spiking.energy.spikes import unwrapped

# Gives the graph of a model; it may remember those that it read before.
Reader = Callable[[keras.Model], Graph]


class Visitor(Protocol[Value]):
    """What `walk` does with values of any kind, one for each tensor."""

    def enter(self, value: Value, tensor: Tensor) -> Value:
        """Returns a value as it is within a model, which it enters as that input."""

    def apply(self, name: str, call: Call, values: list[Value]) -> list[Value]:
        """Returns the values of a call's outputs from those of its tensors."""

    def fold(self, value: Value) -> Value:
        """Moves time into the batch axis."""

    def unfold(self, value: Value, like: Value) -> Value:
        """Moves time out of the batch axis again; `like` is a value before it was folded."""


def walk(
    model: keras.Model,
    values: list[Value],
    visitor: Visitor[Value],
    read: Reader,
    prefix: str = "",
) -> list[Value]:
    """Visits every call of a layer after those it depends on, nested models included.

    Args:
        model: A model that `is_graph`. Its input layers are visited too, unless it is nested.
        values: A value for each of `model.inputs`.
        visitor: What turns values of inputs into values of outputs.
        read: Gives the graph of a model.
        prefix: Names of the models that this one is nested in.

    Returns:
        The value of each of `model.outputs`.
    """

    def follow(call: Call, values: list[Value]) -> list[Value]:
        name = prefix + call.layer.name
        inner = unwrapped(call.layer)
        if not is_graph(inner):
            return visitor.apply(name, call, values)
        value_of = dict(zip(map(id, call.tensors), values, strict=True))
        values = [value_of[id(tensor)] for tensor in inputs_in_order(inner, call.arguments[0])]
        if inner is call.layer:
            return walk(inner, values, visitor, read, f"{name}/")
        folded = [visitor.fold(value) for value in values]
        outputs = walk(inner, folded, visitor, read, f"{name}/")
        return [visitor.unfold(value, values[0]) for value in outputs]

    graph = read(model)
    values = [
        visitor.enter(value, tensor) for value, tensor in zip(values, graph.inputs, strict=True)
    ]
    if not prefix:
        for call, value in zip(_input_calls(model), values, strict=True):
            if call is not None:
                visitor.apply(call.layer.name, call, [value])
    return graph.run(values, follow)


def _input_calls(model: keras.Model) -> list[Call | None]:
    """The input layer of each of `model.inputs`, as a call; None where a model shows none."""
    layer_of = {
        id(layer.output): layer
        for layer in model.layers
        if isinstance(layer, keras.layers.InputLayer)
    }
    return [
        Call(layer_of[id(tensor)], (tensor,), {}, [tensor]) if id(tensor) in layer_of else None
        for tensor in model.inputs
    ]


def are_masks(call: Call) -> list[bool]:
    """Whether each of the call's tensors is a mask."""
    masks = {
        id(tensor)
        for name, item in call.keywords.items()
        if name.endswith("mask")
        for tensor in keras.tree.flatten(item)
    }
    return [id(tensor) in masks for tensor in call.tensors]


def without_masks(call: Call, values: list[Value]) -> list[Value]:
    """The values of the call's tensors that are not masks."""
    return [value for value, is_mask in zip(values, are_masks(call), strict=True) if not is_mask]


def makes_mask(call: Call) -> bool:
    """Whether it is an operation by which Keras makes one mask of another."""
    return not isinstance(call.layer, keras.layers.Layer) and all(
        tensor.dtype == "bool" for tensor in call.outputs
    )
