"""Builds a flat copy of a model, in which each activation is a layer of its own."""

import inspect
from typing import Any

import keras
import numpy as np

from keras_spiking._types import Shape
from keras_spiking.conversion import graph, rules
from keras_spiking.conversion.layer_copy import copy_of
from keras_spiking.conversion.operations import Function
from keras_spiking.conversion.signals import Active, Signal, signals_of
from keras_spiking.conversion.survey import Survey


class ModelCopy:
    """A copy of a model without nesting, in which each activation is a layer of its own.

    `build` makes it. Subclasses say what becomes of inputs, layers, activations and outputs.

    Args:
        survey: The model, which does not change, and what is known of it.
        max_pooling: `"keep"` or `"average"`.

    Attributes:
        model: The copy, once it is built.
        activations: Every call of an activation that spikes, in order, once the copy is built.
    """

    model: keras.Model

    def __init__(self, survey: Survey, max_pooling: str = "keep"):
        self.survey = survey
        self.max_pooling = max_pooling
        self.activations: list[Active] = []
        # By the `id` of the original: the original, which keeps that `id` in use, and its copy.
        self._copies: dict[int, tuple[keras.Layer | Function, keras.Layer]] = {}
        self._activation_layers: dict[Any, tuple[str, keras.Layer]] = {}
        self._silent: dict[int, keras.Layer] = {}
        self._calls_as_models: set[str] = set()
        self._unused_output_names = set(survey.output_names)
        self._used_names = set(survey.output_names)

    def build(self) -> keras.Model:
        """Makes the copy, with copies of the weights, and returns it."""
        survey, original = self.survey, self.survey.model
        inputs = [self._input(tensor) for tensor in keras.tree.flatten(original.input)]
        received = [self.receive(tensor) for tensor in inputs]
        signals = graph.interpret(original, received, self._visit, survey.graphs)
        outputs = [
            self.finish(signal, self._output_name(name))
            for signal, name in zip(signals, survey.output_names, strict=True)
        ]
        self.model = keras.Model(
            keras.tree.pack_sequence_as(original.input, inputs),
            keras.tree.pack_sequence_as(original.output, outputs),
            name=original.name,
        )
        self._copy_weights()
        return self.model

    def input_shape(self, shape: Shape) -> Shape:
        """The shape of the copy's input for an input of the original."""
        return shape

    def receive(self, tensor: keras.KerasTensor) -> Signal:
        """The signal of an input of the copy."""
        return Signal(tensor)

    def apply(
        self,
        layer: keras.Layer | Function,
        copy: keras.Layer,
        signals: Any,
        keywords: dict[str, Any],
    ) -> list[Signal]:
        """Calls the copy of a layer on a structure of signals; returns one for each output."""
        tensors = keras.tree.map_structure(lambda signal: signal.tensor, signals)
        return signals_of(copy(tensors, **keywords))

    def fire(self, signal: Signal) -> Signal:
        """Applies an activation that spikes: it is elementwise, and another layer follows it."""
        name, activation = self._activation_layer(signal, signal.tensor.shape[1:])
        outputs = activation(signal.tensor)
        self.activations.append(Active(name, signal.name, outputs))
        return Signal(outputs)

    def make_activation(self, signal: Signal, name: str) -> keras.Layer:
        """A layer for an activation that spikes."""
        return self.plain_activation(signal.layer, name)

    def finish(self, signal: Signal, name: str) -> keras.KerasTensor:
        """Applies a final activation, and returns an output of the copy."""
        tensor = signal.tensor
        if signal.layer is not None:
            activation = self.plain_activation(signal.layer, name)
            tensor = activation(tensor)
            if activation.name == name:
                return tensor
        return keras.layers.Identity(dtype=tensor.dtype, name=name)(tensor)

    def plain_activation(self, layer: keras.Layer, name: str) -> keras.Layer:
        """A layer that applies the activation of `layer`, and does not spike."""
        function = self.function(layer)
        if rules.activation_of(layer) is layer:
            return function
        return keras.layers.Activation(
            function,
            activity_regularizer=layer.activity_regularizer,
            dtype=layer.dtype_policy,
            name=name,
        )

    def function(self, layer: keras.Layer) -> Any:
        """The activation of a layer: a function, or the copy of an activation layer."""
        function = rules.activation_of(layer)
        if function is layer:
            return self._copy_of(layer.name, layer)
        if not isinstance(function, keras.Layer):
            return function
        if id(function) not in self._copies:
            copy = copy_of(function, function.name, self.max_pooling)
            if function.built:
                # Keras builds it only when the layer around it runs for the first time.
                copy.build_from_config(function.get_build_config())
            self._copies[id(function)] = (function, copy)
        return self._copies[id(function)][1]

    def unused(self, name: str) -> str:
        """Returns `name`, with a number behind it if a layer of the copy has that name."""
        chosen, number = name, 1
        while chosen in self._used_names:
            number += 1
            chosen = f"{name}_{number}"
        self._used_names.add(chosen)
        return chosen

    def _input(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        self._used_names.add(tensor.name)
        shape = self.input_shape(tuple(tensor.shape))
        return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name)

    def _visit(self, name: str, call: graph.Call) -> Signal | list[Signal]:
        """Copies one call of a layer; returns its signal, or a signal for each output."""
        layer, arguments, keywords, _ = call
        if rules.is_activation(layer):
            if rules.activation_of(layer) is None:
                return arguments[0]
            signal = self._activated(arguments[0])
            return Signal(signal.tensor, signal.over_time, name, layer)
        arguments, keywords = keras.tree.map_structure(self._activated, (arguments, keywords))
        copy = self._copy_of(name, layer)
        if not _takes_training(layer):
            keywords = {key: value for key, value in keywords.items() if key != "training"}
        if _is_on_one_structure(arguments, keywords):
            results = self.apply(layer, copy, arguments[0], keywords)
        else:
            model, signals = self._call_as_model(copy, arguments, keywords)
            results = self.apply(model, model, signals, {})
        if rules.makes_mask(layer):
            # A sum has no mask: the copy's graph must not have one among its tensors.
            results[0].tensor = keras.ops.add(results[0].tensor, 0.0)
        if rules.activation_of(layer) is not None:
            results[0].name, results[0].layer = name, layer
        return results

    def _call_as_model(
        self, copy: keras.Layer, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[keras.Model, list[Signal]]:
        """A model for one call of a layer on several structures, and the signals it takes."""
        leaves = keras.tree.flatten((arguments, keywords))
        signals = [leaf for leaf in leaves if isinstance(leaf, Signal)]
        arguments, keywords = keras.tree.map_structure(
            lambda leaf: leaf.at_one_step() if isinstance(leaf, Signal) else leaf,
            (arguments, keywords),
        )
        name = copy.name if copy.name not in self._calls_as_models else self.unused(copy.name)
        self._calls_as_models.add(name)
        return graph.call_as_model(copy, arguments, keywords, name), signals

    def _activated(self, leaf: Any) -> Any:
        """The signal after its activation; constants as they are."""
        if not isinstance(leaf, Signal) or leaf.layer is None:
            return leaf
        if leaf.activated is None:
            spikes = leaf.name in self.survey.spiking
            leaf.activated = self.fire(leaf) if spikes else self._keep_silent(leaf)
        return leaf.activated

    def _keep_silent(self, signal: Signal) -> Signal:
        """Applies an activation that does not spike, though another layer follows it."""
        layer = signal.layer
        if id(layer) not in self._silent:
            is_own_layer = rules.is_activation(layer)
            name = self.unused(signal.name if is_own_layer else f"{signal.name}_activation")
            self._silent[id(layer)] = self.plain_activation(layer, name)
        return self.apply(layer, self._silent[id(layer)], signal, {})[0]

    def _activation_layer(self, signal: Signal, features: Shape) -> tuple[str, keras.Layer]:
        # All calls of a layer share one, so that the weights of an activation stay shared. But a
        # SpikingActivation is made for one shape.
        key = (id(signal.layer), tuple(features))
        if key not in self._activation_layers:
            is_own_layer = rules.is_activation(signal.layer)
            name = self.unused(signal.name if is_own_layer else f"{signal.name}_spikes")
            self._activation_layers[key] = (name, self.make_activation(signal, name))
        return self._activation_layers[key]

    def _copy_of(self, name: str, layer: keras.Layer | Function) -> keras.Layer:
        if id(layer) not in self._copies:
            if not rules.is_activation(layer):
                # The layer that returns an output in the copy has the name of that output.
                name = f"{name}_over_time" if name in self.survey.output_names else name
                name = self.unused(name)
            self._copies[id(layer)] = (layer, copy_of(layer, name, self.max_pooling))
        return self._copies[id(layer)][1]

    def _output_name(self, name: str) -> str:
        """The name of an output, which may be the same tensor as another output."""
        if name in self._unused_output_names:
            self._unused_output_names.remove(name)
            return name
        return self.unused(name)

    def _copy_weights(self) -> None:
        for layer, copy in self._copies.values():
            if isinstance(layer, keras.Layer) and layer.built:
                copy.set_weights(_own_weights(layer))
            if isinstance(copy, keras.layers.Normalization):
                copy.finalize_state()


def _is_on_one_structure(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether a layer is called on one structure of tensors, as layers over time can call it."""
    return (
        len(arguments) == 1
        and set(keywords) <= {"training"}
        and all(isinstance(leaf, Signal) for leaf in keras.tree.flatten(arguments))
    )


def _takes_training(layer: keras.Layer | Function) -> bool:
    return (
        not isinstance(layer, Function) and "training" in inspect.signature(layer.call).parameters
    )


def _own_weights(layer: keras.Layer) -> list[np.ndarray]:
    """The weights of a layer, without those of an activation layer inside it."""
    activation = rules.activation_of(layer)
    if activation is layer or not isinstance(activation, keras.Layer):
        return layer.get_weights()
    theirs = {id(weight) for weight in activation.weights}
    own = [weight for weight in layer.weights if id(weight) not in theirs]
    return [keras.ops.convert_to_numpy(weight) for weight in own]
