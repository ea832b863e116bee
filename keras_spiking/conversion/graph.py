"""Reads the graph of a model, nested models included, without touching it."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_spiking.conversion.operations import as_layer


class Call(NamedTuple):
    """One call of a layer in a graph, on symbolic tensors of the graph's own.

    An operation, such as `x + y`, is a layer if it is an activation, else a `Function` of its
    tensors.
    """

    layer: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: list[Any]


class Graph(NamedTuple):
    """The calls of a model in an order in which they can run."""

    inputs: list[Any]
    calls: list[Call]
    outputs: list[Any]


Visit = Callable[[str, Any, tuple[Any, ...], dict[str, Any], list[Any]], Any]


def call_as_model(
    layer: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], name: str
) -> Any:
    """A model that makes one call of a layer, on tensors of the kind of those symbolic ones.

    Its inputs are a list, in the order of the tensors among arguments and keywords.
    """
    inputs: list[Any] = []

    def as_input(leaf: Any) -> Any:
        if not keras.backend.is_keras_tensor(leaf):
            return leaf
        inputs.append(keras.Input(leaf.shape[1:], dtype=leaf.dtype))
        return inputs[-1]

    arguments, keywords = keras.tree.map_structure(as_input, (arguments, keywords))
    model = keras.Model(inputs, layer(*arguments, **keywords), name=name)
    # Else what is called on it would be cast to the type that is usual now.
    model.dtype_policy = layer.dtype_policy
    return model


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
        if not isinstance(layer, keras.layers.Layer):
            layer, tensors = as_layer(layer, arguments, keywords)
            arguments, keywords = (tensors[0] if len(tensors) == 1 else tensors,), {}
        elif not arguments:
            # It is called on its inputs by name.
            first = next(iter(inspect.signature(layer.call).parameters))
            arguments = (keywords.pop(first),) if first in keywords else ()
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
    graphs: dict[int, Graph],
    prefix: str = "",
    inherited: dict[str, Any] | None = None,
) -> list[Any]:
    """Runs values of any kind through a model, and returns those of its outputs.

    Args:
        model: A model that `is_graph`.
        inputs: One value for each input.
        visit: Function of a layer's name, the layer, the arguments and keywords of one call, with
            values for tensors, and the symbolic outputs. It returns the value of the output, or a
            list of values if there are several. Nested models are entered: a layer `conv` of a
            nested model `block` has the name `block_conv`.
        graphs: The graphs that are read already, by the `id` of their model. So every call of a
            nested model has the same layers.
        prefix: What goes before each name.
        inherited: Keywords that a nested model was called with, for the calls within.
    """
    if id(model) not in graphs:
        graphs[id(model)] = trace(model)
    graph = graphs[id(model)]
    values = {id(tensor): value for tensor, value in zip(graph.inputs, inputs, strict=True)}

    def value_of(leaf: Any) -> Any:
        return values[id(leaf)] if keras.backend.is_keras_tensor(leaf) else leaf

    for layer, arguments, keywords, outputs in graph.calls:
        arguments = keras.tree.map_structure(value_of, arguments)
        own = keras.tree.map_structure(value_of, keywords)
        # Keras calls nested models with masks that are None.
        keywords = (inherited or {}) | {
            key: own[key]
            for key, given in keywords.items()
            if any(leaf is not None for leaf in keras.tree.flatten(given))
        }
        name = prefix + layer.name
        if is_graph(layer):
            flat = _in_order(layer, arguments)
            results = interpret(layer, flat, visit, graphs, f"{name}_", keywords)
        else:
            result = visit(name, layer, arguments, keywords, outputs)
            results = result if isinstance(result, list) else [result]
        values.update(zip(map(id, outputs), results, strict=True))
    return [values[id(tensor)] for tensor in graph.outputs]


def _in_order(model: Any, arguments: tuple[Any, ...]) -> list[Any]:
    """The values that a model is called on, in the order of its inputs."""
    if len(arguments) == 1 and isinstance(arguments[0], dict):
        takes_names = not isinstance(model, keras.Sequential) and isinstance(model.input, dict)
        if not takes_names:
            return [arguments[0][tensor.name] for tensor in model.inputs]
    return keras.tree.flatten(arguments)


class _StandIn(keras.Operation):
    """Takes a layer's place in a graph: a call of the layer itself would be recorded in it."""

    def __init__(self, layer: Any):
        super().__init__()
        self.layer = layer

    def compute_output_spec(self, *arguments: Any, **keywords: Any) -> Any:
        return self.layer.compute_output_spec(*arguments, **keywords)
