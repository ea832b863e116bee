"""Looks through a model before it is converted: what would spike, and what cannot be converted."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras

from keras_spiking.conversion import graph, rules, trials
from keras_spiking.conversion.layer_copy import copy_of
from keras_spiking.conversion.models import check_model
from keras_spiking.conversion.operations import Function
from keras_spiking.conversion.refusals import refusal, refusal_by_step


@dataclass(frozen=True)
class _Value:
    """A tensor of the model.

    Attributes:
        tensor: The symbolic tensor.
        name: Name of the layer that applied an activation to it, or "".
        layer: That layer, or None.
    """

    tensor: keras.KerasTensor
    name: str = ""
    layer: Any = None


class Survey:
    """What is known of a model before it is converted.

    Args:
        owner: Name of the public function, for errors.
        model: A Sequential or functional model.
        integrate: What neurons will integrate, `"activation"` or `"input"`.

    Attributes:
        model: A functional model on the same layers, not compiled.
        integrate: What neurons will integrate.
        graphs: The graphs of the model and of the models nested in it, by the `id` of the model.
        spiking: Names of the layers whose activation another layer follows, in order. These spike.
        not_spiking: Names of layers that do not spike, although one might expect it, and of layers
            that cannot run at each step by itself. With `integrate="input"` they run on the mean of
            their inputs.
        num_calls: How often each layer is called, by its `id`.
        final: The layer that has the final activation of each output, or None.
        output_names: Name of the layer (or nested model) that returns each output.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If its graph cannot be read, or layers cannot be converted. It lists all of
            them.
    """

    def __init__(self, owner: str, model: Any, integrate: str = "activation"):
        check_model(owner, model)
        self.model = graph.functional(model)
        self.integrate = integrate
        self.spiking: list[str] = []
        self.not_spiking: list[str] = []
        self.num_calls: Counter[int] = Counter()
        self.graphs: dict[int, graph.Graph] = {}
        self._problems: dict[str, tuple[str, str]] = {}
        self._only_by_step = integrate == "activation"
        inputs = [_Value(tensor) for tensor in self.model.inputs]
        final = graph.interpret(self.model, inputs, self._visit, self.graphs)
        if self._problems:
            raise ValueError(
                f"{owner}: `model` must consist of layers that can be converted; model "
                f"{model.name!r} has {len(self._problems)} that cannot{self._advice()}:\n"
                f"{self._listed()}"
            )
        self.final = [value.layer for value in final]
        top = self.graphs[id(self.model)]
        names = {id(tensor): call.layer.name for call in top.calls for tensor in call.outputs}
        self.output_names = [names.get(id(tensor), tensor.name) for tensor in top.outputs]

    def _visit(self, name: str, call: graph.Call) -> _Value | list[_Value]:
        layer, arguments, keywords, outputs = call
        self.num_calls[id(layer)] += 1
        leaves = keras.tree.flatten((arguments, keywords))
        received = [leaf for leaf in leaves if isinstance(leaf, _Value)]
        has_constants = len(arguments) != 1 or any(
            not isinstance(leaf, _Value) for leaf in keras.tree.flatten(arguments)
        )
        reason = refusal(layer, outputs)
        by_step = refusal_by_step(layer, keywords, has_constants) if reason is None else None
        self._only_by_step &= reason is None
        if self.integrate == "activation":
            reason = reason or by_step
        if reason is not None:
            self._refuse(name, layer, reason)
        elif rules.is_activation(layer) and rules.activation_of(layer) is None:
            return received[0]
        elif by_step is not None:
            _add_name(self.not_spiking, name)
            self._try(name, layer, arguments, keywords)
        for value in received:
            if value.layer is not None:
                self._consume(value)
        if reason is None and rules.activation_of(layer) is not None:
            return _Value(outputs[0], name, layer)
        return [_Value(tensor) for tensor in outputs]

    def _consume(self, value: _Value) -> None:
        """Notes whether an activation that another layer follows can spike."""
        shape, dtype = value.tensor.shape, value.tensor.dtype
        if rules.is_elementwise(rules.activation_of(value.layer), shape, dtype):
            _add_name(self.spiking, value.name)
        elif self.integrate == "input":
            _add_name(self.not_spiking, value.name)
        else:
            self._refuse(
                value.name,
                value.layer,
                "has a softmax (or the like) that another layer follows, and no neuron can fire at "
                "a rate that depends on all other neurons. Make it the last layer, or use an "
                "activation that treats each element by itself, such as relu.",
            )

    def _try(
        self,
        name: str,
        layer: keras.Layer,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        """Refuses a layer of the user that is not a function of its sample."""
        if not rules.is_to_be_tried(layer):
            return
        arguments, keywords = keras.tree.map_structure(
            lambda leaf: leaf.tensor if isinstance(leaf, _Value) else leaf, (arguments, keywords)
        )
        keywords = {key: keywords[key] for key in keywords if key != "training"}
        copy = copy_of(layer, name, "keep")
        model = graph.call_as_model(copy, arguments, keywords, name)
        copy.set_weights(layer.get_weights())
        if reason := trials.fault_of(model):
            self._refuse(name, layer, reason)

    def _refuse(self, name: str, layer: keras.Layer | Function, reason: str) -> None:
        kind = layer.operation if isinstance(layer, Function) else layer
        self._problems[name] = (type(kind).__name__, reason)

    def _advice(self) -> str:
        """What to do if layers are refused only because they would run at each step."""
        if not self._only_by_step:
            return ""
        return ' with integrate="activation" (with "input" they can, and do not spike)'

    def _listed(self) -> str:
        """The layers that cannot be converted, in one line for each reason."""
        named: dict[str, dict[str, list[str]]] = {}
        for name, (kind, reason) in self._problems.items():
            named.setdefault(reason, {}).setdefault(kind, []).append(repr(name))
        lines = []
        for reason, names in named.items():
            layers = ", ".join(f"{', '.join(of_kind)} ({kind})" for kind, of_kind in names.items())
            several = sum(map(len, names.values())) > 1
            lines.append(f"- {layers}{': each' if several else ''} {reason}")
        return "\n".join(lines)


def _add_name(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)
