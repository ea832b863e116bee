"""Builds a flat copy of a model, with the same activations, each a layer of its own."""

import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from keras_spiking.conversion import graph, rules
from keras_spiking.conversion.operations import Function
from keras_spiking.conversion.survey import Survey


@dataclass
class Signal:
    """A tensor of the copy.

    The activation of `layer`, which has the name `name`, is applied only when a layer or an
    output needs it: until then, whether it is to spike is not known.
    """

    tensor: Any
    over_time: bool = False
    name: str = ""
    layer: Any = None
    active: "Signal | None" = None
    repeated: Any = None

    def of_sample(self) -> Any:
        """A symbolic tensor for what it is at one step."""
        features = self.tensor.shape[2 if self.over_time else 1 :]
        return keras.KerasTensor((None, *features), self.tensor.dtype)


class Active(NamedTuple):
    """One call of an activation.

    Attributes:
        name: Name of the copy's layer that applies it.
        original: Name of the original's layer that has it.
        tensor: What it returns in the copy.
    """

    name: str
    original: str
    tensor: Any


class Copy:
    """A copy of a model without nesting, in which every activation is a layer of its own.

    Args:
        survey: The model, which stays as it is, and what is known of it.
        max_pooling: `"keep"` or `"average"`.

    Attributes:
        model: The copy, with copies of the weights.
        activations: Every call of an activation that spikes, in order.
    """

    def __init__(self, survey: Survey, max_pooling: str = "keep"):
        model = survey.model
        self.survey = survey
        self.max_pooling = max_pooling
        self.activations: list[Active] = []
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._activation_layers: dict[Any, tuple[str, Any]] = {}
        self._silent: dict[int, Any] = {}
        self._parts: dict[str, Any] = {}
        self._outputs_to_name = set(survey.output_names)
        self._names = set(survey.output_names)
        inputs = [self._input(tensor) for tensor in keras.tree.flatten(model.input)]
        signals = graph.interpret(
            model, [self.receive(tensor) for tensor in inputs], self._visit, survey.graphs
        )
        outputs = [
            self.finish(signal, self._output_name(name))
            for signal, name in zip(signals, survey.output_names, strict=True)
        ]
        self.model = keras.Model(
            keras.tree.pack_sequence_as(model.input, inputs),
            keras.tree.pack_sequence_as(model.output, outputs),
            name=model.name,
        )
        for layer, copy in self._copies.values():
            if isinstance(layer, keras.layers.Layer) and layer.built:
                copy.set_weights(_own_weights(layer))
            if isinstance(copy, keras.layers.Normalization):
                copy.finalize_state()

    def input_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the copy's input for an input of the model."""
        return shape

    def receive(self, tensor: Any) -> Signal:
        """What an input of the copy is."""
        return Signal(tensor)

    def apply(self, layer: Any, copy: Any, signals: Any, keywords: dict[str, Any]) -> list[Signal]:
        """Calls the copy of a layer on a structure of signals; returns one for each output."""
        tensors = keras.tree.map_structure(lambda each: each.tensor, signals)
        return signals_of(copy(tensors, **keywords))

    def fire(self, signal: Signal) -> Signal:
        """Applies an activation that spikes: one of single elements, which a layer follows."""
        name, activation = self._activation_layer(signal, signal.tensor.shape[1:])
        outputs = activation(signal.tensor)
        self.activations.append(Active(name, signal.name, outputs))
        return Signal(outputs)

    def keep_silent(self, signal: Signal) -> Signal:
        """Applies an activation that does not spike, though a layer follows."""
        layer = signal.layer
        if id(layer) not in self._silent:
            is_own_layer = rules.is_activation(layer)
            name = self.unused(signal.name if is_own_layer else f"{signal.name}_activation")
            self._silent[id(layer)] = self.plain_activation(layer, name)
        activation = self._silent[id(layer)]
        return self.apply(layer, activation, signal, {})[0]

    def make_activation(self, signal: Signal, name: str) -> Any:
        """A layer for an activation that spikes."""
        return self.plain_activation(signal.layer, name)

    def finish(self, signal: Signal, name: str) -> Any:
        """Applies a final activation, and returns what is an output of the copy."""
        tensor = signal.tensor
        if signal.layer is not None:
            activation = self.plain_activation(signal.layer, name)
            tensor = activation(tensor)
            if activation.name == name:
                return tensor
        return keras.layers.Identity(dtype=tensor.dtype, name=name)(tensor)

    def plain_activation(self, layer: Any, name: str) -> Any:
        """A layer that applies the activation of a layer without spikes."""
        function = self.function(layer)
        if rules.activation_of(layer) is layer:
            return function
        return keras.layers.Activation(
            function,
            activity_regularizer=layer.activity_regularizer,
            dtype=layer.dtype_policy,
            name=name,
        )

    def function(self, layer: Any) -> Any:
        """The activation of a layer: a function, or the copy of an activation layer."""
        function = rules.activation_of(layer)
        if function is layer:
            return self._copy(layer.name, layer)
        if not isinstance(function, keras.layers.Layer):
            return function
        if id(function) not in self._copies:
            copy = rules.copy_of(function, function.name, self.max_pooling)
            if function.built:
                # Keras does so only when the layer around it first runs.
                copy.build_from_config(function.get_build_config())
            self._copies[id(function)] = (function, copy)
        return self._copies[id(function)][1]

    def unused(self, name: str) -> str:
        """The name, or, where a layer of the copy has it, that name with a number."""
        chosen, number = name, 1
        while chosen in self._names:
            number += 1
            chosen = f"{name}_{number}"
        self._names.add(chosen)
        return chosen

    def _input(self, tensor: Any) -> Any:
        self._names.add(tensor.name)
        shape = self.input_shape(tuple(tensor.shape))
        return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name)

    def _visit(
        self,
        name: str,
        layer: Any,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        outputs: list[Any],
    ) -> Signal | list[Signal]:
        if rules.is_activation(layer):
            if rules.activation_of(layer) is None:
                return arguments[0]
            signal = self._active(arguments[0])
            return Signal(signal.tensor, signal.over_time, name, layer)
        arguments, keywords = keras.tree.map_structure(self._active, (arguments, keywords))
        copy = self._copy(name, layer)
        # Operations, too, have no other keyword.
        if (
            isinstance(layer, Function)
            or "training" not in inspect.signature(layer.call).parameters
        ):
            keywords = {key: value for key, value in keywords.items() if key != "training"}
        if _is_on_one_structure(arguments, keywords):
            results = self.apply(layer, copy, arguments[0], keywords)
        else:
            part, signals = self._part(copy, arguments, keywords)
            results = self.apply(part, part, signals, {})
        if rules.makes_mask(layer):
            # Drops the mask that comes with the tensor: a graph has it among its tensors.
            results[0].tensor = keras.ops.add(results[0].tensor, 0.0)
        if rules.activation_of(layer) is not None:
            results[0].name, results[0].layer = name, layer
        return results

    def _part(
        self, copy: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[Any, list[Signal]]:
        """A model for one call of a layer on more than one structure, and what it is called on."""
        leaves = keras.tree.flatten((arguments, keywords))
        signals = [each for each in leaves if isinstance(each, Signal)]
        arguments, keywords = keras.tree.map_structure(
            lambda each: each.of_sample() if isinstance(each, Signal) else each,
            (arguments, keywords),
        )
        name = copy.name if copy.name not in self._parts else self.unused(copy.name)
        part = graph.call_as_model(copy, arguments, keywords, name)
        self._parts[name] = part
        return part, signals

    def _active(self, signal: Any) -> Any:
        if not isinstance(signal, Signal) or signal.layer is None:
            return signal
        if signal.active is None:
            spikes = signal.name in self.survey.spiking
            signal.active = self.fire(signal) if spikes else self.keep_silent(signal)
        return signal.active

    def _activation_layer(self, signal: Signal, features: Any) -> tuple[str, Any]:
        # One for all calls of a layer, so that the weights of an activation stay shared; but a
        # SpikingActivation is made for one shape.
        key = (id(signal.layer), tuple(features))
        if key not in self._activation_layers:
            is_own_layer = rules.is_activation(signal.layer)
            name = self.unused(signal.name if is_own_layer else f"{signal.name}_spikes")
            self._activation_layers[key] = (name, self.make_activation(signal, name))
        return self._activation_layers[key]

    def _copy(self, name: str, layer: Any) -> Any:
        if id(layer) not in self._copies:
            if not rules.is_activation(layer):
                # The name of an output belongs to what returns that output in the copy.
                name = f"{name}_over_time" if name in self.survey.output_names else name
                name = self.unused(name)
            self._copies[id(layer)] = (layer, rules.copy_of(layer, name, self.max_pooling))
        return self._copies[id(layer)][1]

    def _output_name(self, name: str) -> str:
        if name in self._outputs_to_name:
            self._outputs_to_name.remove(name)
            return name
        return self.unused(name)


def _is_on_one_structure(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether a layer is called on one structure of tensors, as those that wrap layers call it."""
    return (
        len(arguments) == 1
        and set(keywords) <= {"training"}
        and all(isinstance(each, Signal) for each in keras.tree.flatten(arguments))
    )


def _own_weights(layer: Any) -> list[Any]:
    """The weights of a layer, without those of the layer that may be its activation."""
    activation = rules.activation_of(layer)
    if activation is layer or not isinstance(activation, keras.layers.Layer):
        return layer.get_weights()
    theirs = {id(weight) for weight in activation.weights}
    own = [weight for weight in layer.weights if id(weight) not in theirs]
    return [keras.ops.convert_to_numpy(weight) for weight in own]


def signals_of(outputs: Any, over_time: bool = False) -> list[Signal]:
    """A signal for each output of a layer."""
    return [Signal(tensor, over_time) for tensor in keras.tree.flatten(outputs)]
