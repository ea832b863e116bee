"""Runs a spiking model for steps of any length and number, and counts its spikes."""

import inspect
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking.conversion import graph
from keras_spiking.conversion.data import in_order
from keras_spiking.kernels import portable
from keras_spiking.layers import (
    KerasSpikingLayer,
    LastStep,
    RepeatOverTime,
    SpikingActivation,
    TemporalAvgPool,
)

# How many elements all tensors over time may have together, so that memory does not grow with the
# number of steps: 128 MiB in float32.
PIECE_SIZE = 2**25


class Probe:
    """Runs a converted model with another number of steps, and another `dt` at any time.

    Time runs in pieces that fit in memory, each from the states that the one before it ended with.

    Args:
        model: A model that `convert` made; neither it nor its weights change. Its layers run as
            they are, but for those over time, which take another `dt` and return their states.
        num_steps: Number of time steps.

    Attributes:
        dt: The length of a step in seconds, a variable.
        names: The name of the spiking layer of each call, in order.
    """

    def __init__(self, model: Any, num_steps: int):
        self.dt = keras.Variable(1.0, dtype="float32", trainable=False, name="dt")
        self.num_steps = num_steps
        functional = graph.functional(model)
        self.graph = graph.trace(functional)
        self.layers: dict[int, Any] = {}
        for call in self.graph.calls:
            if id(call.layer) not in self.layers:
                layer = call.layer
                if isinstance(layer, KerasSpikingLayer):
                    layer = self._copy(layer, call.arguments[0].shape)
                self.layers[id(call.layer)] = layer
        self.names = [
            call.layer.name
            for call in self.graph.calls
            if isinstance(call.layer, SpikingActivation)
        ]
        self._structure = functional.input
        self._pieces: dict[int, _Piece] = {}

    def run(self, batch: Any) -> tuple[list[np.ndarray], list[tuple[np.ndarray, ...]]]:
        """The outputs, and for each spiking call the mean output, spikes, and crowded steps."""
        names = [tensor.name for tensor in self.graph.inputs]
        arrays = in_order("compare", "data", batch, self._structure, names)
        num_outputs, num_counts = len(self.graph.outputs), 3 * len(self.names)
        results: list[np.ndarray] = [np.empty(0)] * num_outputs
        for steps in self._lengths(arrays):
            if steps not in self._pieces:
                self._pieces[steps] = _Piece(self, steps)
            inputs = [*arrays, *results[num_outputs:]]
            results = [np.asarray(array) for array in self._pieces[steps].predict_on_batch(inputs)]
        counts = results[num_outputs : num_outputs + num_counts]
        means = [total / self.num_steps for total in counts[::3]]
        return results[:num_outputs], list(zip(means, counts[1::3], counts[2::3], strict=True))

    def _copy(self, layer: Any, input_shape: Any) -> Any:
        """A layer over time with the same arguments and weights, but the probe's `dt`."""
        # Not from its config: functions of the user's need not be serializable.
        arguments = {
            name: getattr(layer, name)
            for name, parameter in inspect.signature(type(layer)).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        }
        arguments |= {"dt": self.dt, "return_state": True, "dtype": layer.dtype_policy}
        copy = type(layer)(**arguments)
        copy.build(tuple(input_shape))
        copy.set_weights(layer.get_weights())
        return copy

    def _lengths(self, arrays: list[np.ndarray]) -> list[int]:
        """The number of steps in each piece: as alike as can be, since each length is compiled."""
        per_step = len(arrays[0]) * self._elements_per_step(max(map(_longest_axis, arrays)))
        longest = min(max(PIECE_SIZE // per_step, 1), self.num_steps)
        length = math.ceil(self.num_steps / math.ceil(self.num_steps / longest))
        full, left = divmod(self.num_steps, length)
        return [length] * full + [left] * (left > 0)

    def _elements_per_step(self, unknown: int) -> int:
        """How many elements all tensors over time have, for one sample and step."""
        total = 0
        over_time: set[int] = set()
        for call in self.graph.calls:
            arguments = keras.tree.flatten(call.arguments)
            if isinstance(call.layer, (TemporalAvgPool, LastStep)) or not (
                isinstance(call.layer, RepeatOverTime)
                or any(id(each) in over_time for each in arguments)
            ):
                continue
            for tensor in call.outputs:
                over_time.add(id(tensor))
                total += math.prod(unknown if size is None else size for size in tensor.shape[2:])
        return total


class _Piece(keras.Model):
    """Some of the steps: of the inputs, and, but for the first piece, what the last one carried.

    It returns the outputs, which are right after the last piece, and what it carries on: the counts
    so far, the sums of readouts so far, and the states.
    """

    def __init__(self, probe: Probe, num_steps: int):
        # It must not cast: the layers do, each to its own type.
        super().__init__(name="piece", autocast=False)
        self._probe = probe
        self._num_steps = num_steps
        self._used = list(probe.layers.values())  # so that Keras sees their variables
        # There is nothing to build, for which JAX would run it once without compiling.
        self.built = True

    def call(self, arrays: list[Any]) -> list[Any]:
        traced = self._probe.graph
        num_inputs = len(traced.inputs)
        values = {
            id(tensor): ops.cast(array, tensor.dtype)
            for tensor, array in zip(traced.inputs, arrays[:num_inputs], strict=True)
        }
        carried = arrays[num_inputs:]
        num_counts = 3 * len(self._probe.names) if carried else 0
        counts = _Carried(carried[:num_counts])
        others = _Carried(carried[num_counts:])

        def value_of(leaf: Any) -> Any:
            return values[id(leaf)] if keras.backend.is_keras_tensor(leaf) else leaf

        for layer, *called, outputs in traced.calls:
            arguments, keywords = keras.tree.map_structure(value_of, called)
            results = self._run(layer, arguments, keywords, others)
            if isinstance(layer, SpikingActivation):
                self._count(layer, results, counts)
            values.update(zip(map(id, outputs), keras.tree.flatten(results), strict=True))
        return [*map(value_of, traced.outputs), *counts.after, *others.after]

    def _run(self, layer: Any, arguments: Any, keywords: Any, carried: "_Carried") -> Any:
        if isinstance(layer, RepeatOverTime):
            return ops.repeat(ops.expand_dims(*arguments, 1), self._num_steps, axis=1)
        copy = self._probe.layers[id(layer)]
        if isinstance(layer, KerasSpikingLayer):
            states = carried.take(len(copy.cell.state_shapes))
            outputs, *states = copy(*arguments, **keywords, initial_state=states)
            carried.after.extend(states)
            return outputs
        if isinstance(layer, TemporalAvgPool):
            dtype = "float64" if layer.compute_dtype == "float64" else "float32"
            total = carried.add(ops.sum(ops.cast(arguments[0], dtype), axis=1))
            return portable.cast(total / self._probe.num_steps, layer.compute_dtype)
        return copy(*arguments, **keywords)

    def _count(self, layer: Any, spikes: Any, counts: "_Carried") -> None:
        """The sum of the output over time, the spikes, and the steps with more than one spike."""
        spikes = ops.cast(spikes, "float32")
        numbers = ops.abs(spikes) * ops.cast(self._probe.dt, "float32") * layer.rate_scale
        for each in (spikes, numbers, ops.cast(numbers > 1.5, "float32")):
            counts.add(ops.sum(each, axis=1))


class _Carried:
    """What one piece of time takes from the piece before it, and what it leaves to the next."""

    def __init__(self, before: list[Any]):
        self.after: list[Any] = []
        self._before = iter(before) if before else None

    def take(self, count: int) -> list[Any] | None:
        """The next tensors, None in the first piece."""
        return None if self._before is None else [next(self._before) for _ in range(count)]

    def add(self, value: Any) -> Any:
        """The sum so far of a value, which is carried on."""
        before = self.take(1)
        total = value if before is None else before[0] + value
        self.after.append(total)
        return total


def _longest_axis(array: np.ndarray) -> int:
    return max(array.shape[1:], default=1)
