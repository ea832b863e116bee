"""Reads which layer of a model feeds which, without touching the model."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import keras

from keras_spiking._types import Tensor

Value = TypeVar("Value")


class Call(NamedTuple):
    """One call in a graph, on symbolic tensors.

    Attributes:
        layer: The layer, or an operation such as `keras.ops.add`.
        arguments: What it is called on; the first one holds its inputs.
        keywords: What it is called on by name.
        outputs: The tensors that it returns.
    """

    layer: keras.Operation
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: list[Tensor]

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that it is called on, in order."""
        leaves = keras.tree.flatten((self.arguments, self.keywords))
        return [leaf for leaf in leaves if keras.backend.is_keras_tensor(leaf)]

    def filled(self, values: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments and keywords, with values of any kind in the place of `tensors`."""
        structure = (self.arguments, self.keywords)
        remaining = iter(values)
        # Not `map_structure`: on PyTorch, it takes dictionaries in another order than `flatten`.
        leaves = [
            next(remaining) if keras.backend.is_keras_tensor(leaf) else leaf
            for leaf in keras.tree.flatten(structure)
        ]
        return keras.tree.pack_sequence_as(structure, leaves)


class Graph(NamedTuple):
    """The calls of a model, in an order in which they can run."""

    inputs: list[Tensor]
    calls: list[Call]
    outputs: list[Tensor]

    def run(
        self, inputs: list[Value], visit: Callable[[Call, list[Value]], list[Value]]
    ) -> list[Value]:
        """Finds a value for each tensor, and returns those of the outputs.

        Args:
            inputs: Values of any kind, one for each input.
            visit: Function of a call and the values of its tensors. It returns the values of the
                call's outputs.
        """
        values = dict(zip(map(id, self.inputs), inputs, strict=True))
        for call in self.calls:
            results = visit(call, [values[id(tensor)] for tensor in call.tensors])
            values.update(zip(map(id, call.outputs), results, strict=True))
        return [values[id(tensor)] for tensor in self.outputs]


def is_graph(layer: keras.Operation) -> bool:
    """Whether a layer is a model whose graph can be read."""
    if isinstance(layer, keras.Sequential):
        return hasattr(layer, "inputs")  # only once it is built
    return isinstance(layer, keras.Function)


def functional(model: keras.Model | keras.Function) -> keras.Model:
    """Makes a functional model of one that `is_graph`, on the same tensors and not compiled."""
    if isinstance(model, keras.Model) and not isinstance(model, keras.Sequential):
        return keras.Model(model.input, model.output, name=model.name)
    # The `input` of a Sequential model or a Function may be what it was called on.
    inputs, outputs = (
        tensors[0] if len(tensors) == 1 else tensors for tensors in (model.inputs, model.outputs)
    )
    return keras.Model(inputs, outputs, name=model.name)


def trace(model: keras.Model | keras.Function) -> Graph:
    """Reads a model that `is_graph`. A nested model is one call in it."""
    calls: list[Call] = []

    def record(layer: keras.Operation, *arguments: Any, **keywords: Any) -> Any:
        outputs = _StandIn(layer)(*arguments, **keywords)
        if not arguments:
            # It is called on its inputs by name.
            first = next(iter(inspect.signature(layer.call).parameters))
            arguments = (keywords.pop(first),) if first in keywords else ()
        calls.append(Call(layer, arguments, keywords, keras.tree.flatten(outputs)))
        return outputs

    traced = keras.models.clone_model(
        functional(model), clone_function=lambda layer: layer, call_function=record
    )
    return Graph(traced.inputs, calls, traced.outputs)


def inputs_in_order(model: keras.Model, inputs: Any) -> list[Any]:
    """Lists a structure that a model is called on, in the order of `model.inputs`."""
    takes_names = isinstance(model, keras.Function) and isinstance(model.input, dict)
    if isinstance(inputs, dict) and not takes_names:
        return [inputs[tensor.name] for tensor in model.inputs]
    return keras.tree.flatten(inputs)


class _StandIn(keras.Operation):
    """Takes the place of a layer in a graph: a call of the layer itself would change the layer."""

    def __init__(self, layer: keras.Operation):
        super().__init__()
        self.layer = layer

    def compute_output_spec(self, *arguments: Any, **keywords: Any) -> Any:
        return self.layer.compute_output_spec(*arguments, **keywords)
