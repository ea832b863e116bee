"""Runs values through the graph of a model, nested models included."""

from collections.abc import Callable
from typing import Any

import keras

from keras_spiking import _graph
from keras_spiking._graph import Call, Graph, functional, inputs_in_order, is_graph
from keras_spiking.conversion.operations import as_layer

__all__ = ["Call", "Graph", "call_as_model", "functional", "interpret", "is_graph", "trace"]

Visit = Callable[[str, Call], Any]


def trace(model: keras.Model) -> Graph:
    """Reads the graph of a model, with operations in the form of layers.

    An operation, such as `x + y`, becomes a layer if it is an activation, else a `Function`.
    """
    graph = _graph.trace(model)
    return graph._replace(calls=list(map(_with_layer, graph.calls)))


def _with_layer(call: Call) -> Call:
    if isinstance(call.layer, keras.layers.Layer):
        return call
    tensors = call.tensors
    arguments = (tensors[0] if len(tensors) == 1 else tensors,)
    return Call(as_layer(call), arguments, {}, call.outputs)


def call_as_model(
    layer: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], name: str
) -> keras.Model:
    """A model that makes one call of a layer, on new inputs in place of the symbolic tensors.

    Its inputs are a list, in the order of the tensors among arguments and keywords.
    """
    call = Call(layer, arguments, keywords, [])
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in call.tensors]
    arguments, keywords = call.filled(inputs)
    model = keras.Model(inputs, layer(*arguments, **keywords), name=name)
    # Otherwise the model would cast its inputs to the current default type.
    model.dtype_policy = layer.dtype_policy
    return model


def interpret(
    model: keras.Model,
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
        visit: Function of a layer's name and of one call of the layer, with values for the tensors
            in its arguments and keywords. It returns the value of the output, or a list of values
            if there are several. Nested models are entered: a layer `conv` of a nested model
            `block` has the name `block_conv`.
        graphs: The graphs that are read already, by the `id` of their model. So every call of a
            nested model has the same layers.
        prefix: What to put before each name.
        inherited: Keywords of the call of a nested model, for the calls within it.
    """

    def follow(call: Call, values: list[Any]) -> list[Any]:
        arguments, own = call.filled(values)
        # Keras calls nested models with masks that are None. Those do not count.
        keywords = (inherited or {}) | {
            key: own[key]
            for key, given in call.keywords.items()
            if any(leaf is not None for leaf in keras.tree.flatten(given))
        }
        name = prefix + call.layer.name
        if is_graph(call.layer):
            nested = inputs_in_order(call.layer, arguments[0])
            return interpret(call.layer, nested, visit, graphs, f"{name}_", keywords)
        result = visit(name, call._replace(arguments=arguments, keywords=keywords))
        return result if isinstance(result, list) else [result]

    if id(model) not in graphs:
        graphs[id(model)] = trace(model)
    return graphs[id(model)].run(inputs, follow)
