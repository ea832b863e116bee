"""Looks through a model before anything is made: what would spike, and what cannot be converted."""

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

    The activation of `layer`, which has the name `name`, is not applied yet: it spikes if a layer
    follows.
    """

    tensor: Any
    name: str = ""
    layer: Any = None


class Survey:
    """What is known of a model.

    Args:
        owner: Name of the public function, for errors.
        model: A Sequential or functional model.
        integrate: What neurons are to integrate, `"activation"` or `"input"`.

    Attributes:
        model: The model, functional and not compiled, on the same layers.
        integrate: What neurons are to integrate.
        graphs: The graphs of it and of the models nested in it, by the `id` of the model.
        spiking: Names of the layers whose activation is followed by a layer, in order.
        not_spiking: Those of layers that one might think would spike, or cannot run at each step
            alone: with `integrate="input"` they run on the mean of their inputs.
        num_calls: How often each layer is called, by its `id`.
        final: For each output, the layer whose activation ends it, or None.
        output_names: Name of the layer (or nested model) that gives each output.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If its graph cannot be read, or layers cannot be converted: all are listed.
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

    def _visit(
        self,
        name: str,
        layer: Any,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        outputs: list[Any],
    ) -> Any:
        self.num_calls[id(layer)] += 1
        leaves = keras.tree.flatten((arguments, keywords))
        received = [each for each in leaves if isinstance(each, _Value)]
        has_constants = len(arguments) != 1 or any(
            not isinstance(each, _Value) for each in keras.tree.flatten(arguments)
        )
        call = layer, keywords, has_constants, outputs
        reason = refusal(*call)
        by_step = refusal_by_step(*call) if reason is None else None
        self._only_by_step &= reason is None
        if self.integrate == "activation":
            reason = reason or by_step
        if reason is not None:
            self._refuse(name, layer, reason)
        elif rules.is_activation(layer) and rules.activation_of(layer) is None:
            return received[0]
        elif by_step is not None:
            self._add(self.not_spiking, name)
            self._try(name, layer, arguments, keywords)
        for value in received:
            if value.layer is not None:
                self._consume(value)
        if reason is None and rules.activation_of(layer) is not None:
            return _Value(outputs[0], name, layer)
        return [_Value(tensor) for tensor in outputs]

    def _consume(self, value: _Value) -> None:
        shape, dtype = value.tensor.shape, value.tensor.dtype
        if rules.is_elementwise(rules.activation_of(value.layer), shape, dtype):
            self._add(self.spiking, value.name)
        elif self.integrate == "input":
            self._add(self.not_spiking, value.name)
        else:
            self._refuse(
                value.name,
                value.layer,
                "has a softmax (or the like) that another layer follows, and no neuron can fire at "
                "a rate that depends on all other neurons. Make it the last layer, or use an "
                "activation of one element, such as relu.",
            )

    def _try(
        self, name: str, layer: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        """Refuses a layer of the user's that is no function of its sample."""
        if not rules.is_to_be_tried(layer):
            return
        arguments, keywords = keras.tree.map_structure(
            lambda each: each.tensor if isinstance(each, _Value) else each, (arguments, keywords)
        )
        keywords = {key: keywords[key] for key in keywords if key != "training"}
        copy = copy_of(layer, name, "keep")
        model = graph.call_as_model(copy, arguments, keywords, name)
        copy.set_weights(layer.get_weights())
        if reason := trials.fault_of(model):
            self._refuse(name, layer, reason)

    def _add(self, names: list[str], name: str) -> None:
        if name not in names:
            names.append(name)

    def _refuse(self, name: str, layer: Any, reason: str) -> None:
        kind = layer.operation if isinstance(layer, Function) else layer
        self._problems[name] = (type(kind).__name__, reason)

    def _advice(self) -> str:
        """What to do about layers that are refused only because they run at each step."""
        if not self._only_by_step:
            return ""
        return ' with integrate="activation" (with "input" they can, and do not spike)'

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
