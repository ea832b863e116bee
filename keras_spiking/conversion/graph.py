"""Reads the graph of a model, nested models included, without touching it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras


class Call(NamedTuple):
    """One call of a layer in a graph, on symbolic tensors of the graph's own."""

    layer: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: list[Any]


class Graph(NamedTuple):
    """The calls of a model in an order in which they can run."""

    inputs: list[Any]
    calls: list[Call]
    outputs: list[Any]


Visit = Callable[[str, Any, tuple[Any, ...], dict[str, Any]], Any]


def is_graph(layer: Any) -> bool:
    """Whether a layer is a model whose layers and their connections can be read."""
    if isinstance(layer, keras.Sequential):
        return layer.built and hasattr(layer, "inputs")
    return isinstance(layer, keras.Model) and hasattr(layer, "operations")


def functional(model: Any) -> Any:
    """A model that `is_graph`, as a functional one on the same tensors, and not compiled."""
    if isinstance(model, keras.Sequential):
        # Not `model.input`, which, once the model is called on a tensor, may be that tensor.
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def trace(model: Any) -> Graph:
    """Lists the calls of a model; those of a nested model are one call."""
    calls: list[Call] = []

    def record(layer: Any, *arguments: Any, **keywords: Any) -> Any:
        outputs = _StandIn(layer)(*arguments, **keywords)
        calls.append(Call(layer, arguments, keywords, keras.tree.flatten(outputs)))
        return outputs

    traced = keras.models.clone_model(
        functional(model), clone_function=lambda layer: layer, call_function=record
    )
    return Graph(traced.inputs, calls, traced.outputs)


def interpret(
    model: Any,
    inputs: list[Any],
    visit: Visit,
    prefix: str = "",
    inherited: dict[str, Any] | None = None,
) -> list[Any]:
    """Runs values of any kind through a model, and returns those of its outputs.

    Args:
        model: A model that `is_graph`.
        inputs: One value for each input.
        visit: Function of a layer's name, the layer, and the arguments and keywords of one call,
            with values for tensors. It returns the value of the layer's output. Nested models are
            entered: a layer `conv` of a nested model `block` has the name `block_conv`.
        prefix: What goes before each name.
        inherited: Keywords that a nested model was called with, for the calls within.
    """
    graph = trace(model)
    values = {id(tensor): value for tensor, value in zip(graph.inputs, inputs, strict=True)}

    def value_of(leaf: Any) -> Any:
        return values[id(leaf)] if keras.backend.is_keras_tensor(leaf) else leaf

    for layer, arguments, keywords, outputs in graph.calls:
        arguments = keras.tree.map_structure(value_of, arguments)
        own = keras.tree.map_structure(value_of, keywords)
        # Keras calls nested models with a mask that is None.
        keywords = (inherited or {}) | {key: own[key] for key in own if keywords[key] is not None}
        name = prefix + layer.name
        if is_graph(layer):
            flat = keras.tree.flatten(arguments)
            results = interpret(layer, flat, visit, f"{name}_", keywords)
        else:
            results = [visit(name, layer, arguments, keywords)] * len(outputs)
        values.update(zip(map(id, outputs), results, strict=True))
    return [values[id(tensor)] for tensor in graph.outputs]


class _StandIn(keras.Operation):
    """Takes a layer's place in a graph: a call of the layer itself would be recorded in it."""

    def __init__(self, layer: Any):
        super().__init__()
        self.layer = layer

    def compute_output_spec(self, *arguments: Any, **keywords: Any) -> Any:
        return self.layer.compute_output_spec(*arguments, **keywords)
