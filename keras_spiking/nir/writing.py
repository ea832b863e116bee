"""Follows the layers of a Keras model, and writes each of them into a NIR graph."""

import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_spiking import _graph, version
from keras_spiking.config import default
from keras_spiking.conversion import graph as model_graph
from keras_spiking.conversion import rules
from keras_spiking.conversion.operations import Function
from keras_spiking.layers import (
    LastStep,
    RepeatOverTime,
    RunningAverage,
    TemporalAvgPool,
    TimeBatched,
)
from keras_spiking.layers.base import KerasSpikingLayer
from keras_spiking.layers.sublayers import layers_within
from keras_spiking.nir import refusals, write_connections, write_neurons
from keras_spiking.nir.dialects import DIALECTS
from keras_spiking.nir.graph import Graph
from keras_spiking.nir.refusals import Refusals, UnsupportedError
from keras_spiking.nir.signals import Added, Nodes, Signal, plain, without_padding
from keras_spiking.nir.weights import channels_first

_OWNER = "to_nir"
_WRAPPERS = (keras.layers.TimeDistributed, TimeBatched, RunningAverage)
_OVER_TIME = (KerasSpikingLayer, TemporalAvgPool, LastStep, *_WRAPPERS)
_READOUTS = {TemporalAvgPool: "take the mean over time", LastStep: "take the last step"}
_WRITERS = {**write_connections.WRITERS, **write_neurons.WRITERS}


@dataclass(frozen=True, eq=False)
class _Final:
    """The output of an activation that does not spike, with which a model may end."""

    signal: Any
    name: str
    kind: str
    activation: str


class _Refused:
    """The output of a layer that cannot be written."""


class Writing:
    """Writes one model, by `run`.

    Args:
        nir: The package `nir`.
        model: A model whose graph can be read.
        target: The simulator that is to read it.
    """

    def __init__(self, nir: Any, model: keras.Model, target: str):
        self.model = model
        self._target = target
        self._single = len(model.inputs) == 1, len(model.outputs) == 1
        reserved = "output" if self._single[1] else None
        self._graph = Graph(nir, DIALECTS[target], reserved)
        self._problems = Refusals(
            f"{_OWNER}: {_named(target)} cannot say what these layers of model {model.name!r} do:"
        )
        self._model_graphs: dict[int, model_graph.Graph] = {}
        self._left_out: list[str] = []
        self._dt: float | None = None
        self._with_voltage: list[str] = []
        parts = layers_within(model)
        repeats = [part for part in parts if isinstance(part, RepeatOverTime)]
        self._num_steps = repeats[0].num_steps if repeats else None
        self._has_time = not repeats and any(isinstance(part, _OVER_TIME) for part in parts)

    def run(self) -> Any:
        """Writes the model, and returns the graph."""
        inputs = [self._input(tensor) for tensor in self.model.inputs]
        outputs = model_graph.interpret(self.model, inputs, self._visit, self._model_graphs)
        for name, output in zip(_graph.functional(self.model).output_names, outputs, strict=True):
            self._output(name, output)
        self._problems.check()
        if self._with_voltage:
            warnings.warn(
                f"{_OWNER}: NIR cannot say that neurons start from a voltage, as these do: "
                f"{', '.join(self._with_voltage)}. Convert with initial_voltage=0.0, or set the "
                "voltages in the simulator: metadata of the nodes has them as `initial_voltage`, "
                "in units of the threshold.",
                stacklevel=3,
            )
        return self._graph.finished(self._metadata())

    def _metadata(self) -> dict[str, Any]:
        metadata = {
            "keras_spiking": version.version,
            "target": self._target,
            "dt": default.dt if self._dt is None else self._dt,
            "differs": self._graph.dialect.differs,
            "left_out": "; ".join(self._left_out) or "nothing",
        }
        return metadata if self._num_steps is None else {**metadata, "num_steps": self._num_steps}

    def _input(self, tensor: keras.KerasTensor) -> Signal | _Refused:
        sample = tuple(tensor.shape[2:] if self._has_time else tensor.shape[1:])
        if not 1 <= len(sample) <= 3 or None in sample:
            self._problems.add(
                tensor.name,
                "Input",
                f"has samples of shape {sample}. NIR needs one to three axes of known sizes.",
            )
            return _Refused()
        shape = channels_first(sample)
        node = self._graph.nir.Input({"input": np.array(shape)})
        name = "input" if self._single[0] else tensor.name
        return Nodes((self._graph.add(name, node, (), shape, shape),), shape)

    def _output(self, name: str, signal: Any) -> None:
        if isinstance(signal, _Final):
            self._left_out.append(f"{signal.name}: apply {signal.activation} after the readout")
            signal = signal.signal
        if isinstance(signal, _Refused):
            return
        nodes = without_padding(signal.made(self._graph), self._graph)
        if np.any(nodes.offset):
            nodes = plain(nodes, self._graph)
        scale = None if np.all(nodes.scale == 1) else np.asarray(nodes.scale)
        if scale is not None:
            self._left_out.append(f"{name}: multiply by `scale`, in the metadata of the output")
        if nodes.order is not None:
            self._left_out.append(f"{name}: Keras flattens in another order, channels last")
        node = self._graph.nir.Output({"output": np.array(nodes.shape)})
        name = "output" if self._single[1] else name
        self._graph.add(name, node, nodes.names, nodes.shape, nodes.shape, scale=scale)

    def _visit(self, name: str, call: model_graph.Call) -> list[Any]:
        """Writes one call of a layer; returns a signal for each output."""
        layer, signals = call.layer, keras.tree.flatten(call.arguments)
        while isinstance(layer, _WRAPPERS):
            layer = layer.layer
        if model_graph.is_graph(layer):
            prefix = f"{name}_"
            return model_graph.interpret(layer, signals, self._visit, self._model_graphs, prefix)
        try:
            if unknown := sorted(set(call.keywords) - {"training"}):
                raise UnsupportedError(
                    f"is called with {', '.join(unknown)}. Call it on its inputs only."
                )
            output = self._written(name, layer, signals)
            _check_shape(output, call.outputs[0])
            return [output]
        except UnsupportedError as error:
            self._problems.add(name, _kind(layer), str(error))
            return [_Refused() for _ in call.outputs]

    def _written(self, name: str, layer: Any, signals: list[Any]) -> Any:
        """The output of a layer.

        Raises:
            UnsupportedError: If it cannot be written.
        """
        if rules.is_activation(layer):
            return self._activated(name, layer, signals[0])
        if type(layer) in _READOUTS or type(layer) is keras.layers.Identity:
            return self._read_out(name, layer, signals[0])
        signals = [self._not_final(signal) for signal in signals]
        if type(layer) is RepeatOverTime:
            self._left_out.append(f"{name}: show the inputs in each of {layer.num_steps} steps")
            return signals[0]
        is_sum = type(layer) is keras.layers.Add or _is_plus(layer)
        if not is_sum and type(layer) not in _WRITERS:
            raise UnsupportedError(refusals.unknown(layer))
        if reason := refusals.refusal(layer):
            raise UnsupportedError(reason)
        if any(isinstance(signal, _Refused) for signal in signals):
            return self._activated(name, layer, _Refused())
        if is_sum:
            return Added.of(signals, self._graph)
        return self._with_options(name, layer, signals[0])

    def _with_options(self, name: str, layer: Any, signal: Signal) -> Any:
        """The output of a layer that is written, with what its options leave to the reader."""
        if type(layer) is keras.layers.GlobalAveragePooling1D and len(signal.shape) == 1:
            return self._read_out(name, TemporalAvgPool(), signal)
        if isinstance(layer, KerasSpikingLayer):
            self._check_dt(write_neurons.seconds(layer))
            if np.any(getattr(layer, "initial_voltage", 0)):
                self._with_voltage.append(name)
        output = _WRITERS[type(layer)](name, layer, signal, self._graph)
        if not getattr(layer, "return_sequences", True):
            return self._read_out(name, LastStep(), output)
        return self._activated(name, layer, output)

    def _activated(self, name: str, layer: Any, signal: Any) -> Any:
        activation = rules.activation_of(layer)
        if activation is None:
            return signal
        signal = self._not_final(signal)
        return _Final(signal, name, _kind(layer), refusals.activation_name(activation))

    def _read_out(self, name: str, layer: Any, signal: Any) -> Any:
        if type(layer) in _READOUTS:
            self._left_out.append(f"{name}: {_READOUTS[type(layer)]}")
        return signal

    def _not_final(self, signal: Any) -> Any:
        """The signal, unless it comes from an activation that layers must not follow."""
        if not isinstance(signal, _Final):
            return signal
        reason = refusals.after_activation(signal.activation)
        self._problems.add(signal.name, signal.kind, reason)
        return _Refused()

    def _check_dt(self, dt: float) -> None:
        if self._dt not in (None, dt):
            raise UnsupportedError(f"has dt={dt}, and layers before it {self._dt}. Use one dt.")
        self._dt = dt


def _check_shape(output: Any, tensor: keras.KerasTensor) -> None:
    """Checks that a step of the output has the shape that it has in Keras."""
    signal = output.signal if isinstance(output, _Final) else output
    if isinstance(signal, _Refused):
        return
    sample = tuple(tensor.shape[-len(signal.shape) :])
    if channels_first(sample) != signal.shape:
        raise UnsupportedError(
            f"returns the shape {tuple(tensor.shape)}, so it does not treat each time step by "
            "itself. Wrap it in keras_spiking.TimeBatched."
        )


def _is_plus(layer: Any) -> bool:
    """Whether this is the sum of two tensors, as `x + y` makes it."""
    return (
        isinstance(layer, Function)
        and type(layer.operation).__name__ == "Add"
        and not layer.constants
    )


def _kind(layer: Any) -> str:
    return type(layer.operation if isinstance(layer, Function) else layer).__name__


def _named(target: str) -> str:
    return "NIR" if target == "generic" else f"NIR for {target}"
