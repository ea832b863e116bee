"""Looks through a model before anything is made: what would spike, and what cannot be converted."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras

from keras_spiking.conversion import graph, rules
from keras_spiking.conversion.operations import Function


@dataclass(frozen=True)
class _Pending:
    """A layer's output whose activation is not applied yet: it spikes if a layer follows."""

    name: str
    layer: Any
    output: Any


class Survey:
    """What is known of a model.

    Args:
        owner: Name of the public function, for errors.
        model: A Sequential or functional model.

    Attributes:
        model: The model, functional and not compiled, on the same layers.
        graphs: The graphs of it and of the models nested in it, by the `id` of the model.
        spiking: Names of the layers whose activation is followed by a layer, in order.
        num_calls: How often each layer is called, by its `id`.
        final: For each output, the layer whose activation ends it, or None.
        output_names: Name of the layer (or nested model) that gives each output.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If its graph cannot be read, or layers cannot be converted: all are listed.
    """

    def __init__(self, owner: str, model: Any):
        _check_model(owner, model)
        self.model = graph.functional(model)
        self.spiking: list[str] = []
        self.num_calls: Counter[int] = Counter()
        self.graphs: dict[int, graph.Graph] = {}
        self._problems: dict[str, tuple[str, str]] = {}
        inputs = [None] * len(self.model.inputs)
        final = graph.interpret(self.model, inputs, self._visit, self.graphs)
        if self._problems:
            raise ValueError(
                f"{owner}: `model` must consist of layers that can be converted; model "
                f"{model.name!r} has {len(self._problems)} that cannot:\n{self._listed()}"
            )
        self.final = [None if pending is None else pending.layer for pending in final]
        top = self.graphs[id(self.model)]
        names = {id(tensor): call.layer.name for call in top.calls for tensor in call.outputs}
        self.output_names = [names.get(id(tensor), tensor.name) for tensor in top.outputs]

    def _visit(
        self,
        name: str,
        layer: Any,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        outputs: list[Any],
    ) -> Any:
        self.num_calls[id(layer)] += 1
        leaves = keras.tree.flatten(arguments)
        received = [each for each in leaves if isinstance(each, _Pending)]
        reason = rules.refusal(layer, keywords, outputs)
        # A tensor without an activation to come is None here.
        constants = len(received) + sum(each is None for each in leaves) < len(leaves)
        if reason is None and (constants or len(arguments) != 1):
            reason = "is called with more than tensors of the model. Call it on its inputs only."
        if reason is not None:
            self._refuse(name, layer, reason)
        elif rules.is_activation(layer) and rules.activation_of(layer) is None:
            return received[0] if received else None
        for pending in received:
            self._consume(pending)
        if reason is None and rules.activation_of(layer) is not None:
            return _Pending(name, layer, outputs[0])
        return [None] * len(outputs)

    def _consume(self, pending: _Pending) -> None:
        shape, dtype = pending.output.shape, pending.output.dtype
        if not rules.is_elementwise(rules.activation_of(pending.layer), shape, dtype):
            self._refuse(
                pending.name,
                pending.layer,
                "has a softmax (or the like) that another layer follows, and no neuron can fire at "
                "a rate that depends on all other neurons. Make it the last layer, or use an "
                "activation of one element, such as relu.",
            )
        elif pending.name not in self.spiking:
            self.spiking.append(pending.name)

    def _refuse(self, name: str, layer: Any, reason: str) -> None:
        kind = layer.operation if isinstance(layer, Function) else layer
        self._problems[name] = (type(kind).__name__, reason)

    def _listed(self) -> str:
        """What cannot be converted, in one line for each reason."""
        named: dict[str, dict[str, list[str]]] = {}
        for name, (kind, reason) in self._problems.items():
            named.setdefault(reason, {}).setdefault(kind, []).append(repr(name))
        lines = []
        for reason, names in named.items():
            layers = ", ".join(f"{', '.join(each)} ({kind})" for kind, each in names.items())
            several = len(names) > 1 or any(len(each) > 1 for each in names.values())
            lines.append(f"- {layers}{': each' if several else ''} {reason}")
        return "\n".join(lines)


def _check_model(owner: str, model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{owner}: `model` must be a Keras model; received model={model!r} "
            f"of type {type(model).__name__}."
        )
    if not graph.is_graph(model):
        if isinstance(model, keras.Sequential):
            advice = "Call it once on data, or begin it with keras.Input."
        else:
            advice = "Make it with keras.Sequential or keras.Model(inputs, outputs)."
        raise ValueError(
            f"{owner}: `model` must be a Sequential model that is built, or a functional model, "
            f"so that its graph can be read; received {model.name!r} of type "
            f"{type(model).__name__}. {advice}"
        )
