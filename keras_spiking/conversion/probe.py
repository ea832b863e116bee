"""Runs a spiking model for steps of any length and numbers, and counts its spikes."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_spiking._data import in_order
from keras_spiking.conversion import graph
from keras_spiking.conversion.retiming import made_again
from keras_spiking.kernels import portable
from keras_spiking.layers import (
    KerasSpikingLayer,
    LastStep,
    RepeatOverTime,
    RunningAverage,
    SpikingActivation,
    TemporalAvgPool,
)

# How many elements all tensors over time may have together, so that memory does not grow with the
# number of steps: 128 MiB in float32.
PIECE_SIZE = 2**25


class Counts(NamedTuple):
    """What the neurons of one spiking call did, each `(batch, ...)`.

    Attributes:
        mean: The mean output over time.
        spikes: Number of spikes, the negative ones included.
        negative: Number of negative spikes.
        crowded: Number of steps with more than one spike.
    """

    mean: np.ndarray
    spikes: np.ndarray
    negative: np.ndarray
    crowded: np.ndarray


class Probe:
    """Runs a converted model with other numbers of steps, and another `dt` at any time.

    Time runs in pieces that fit in memory, each from the states that the one before it ended with.

    Args:
        model: A model that `convert` made; neither it nor its weights change. Its layers run as
            they are, but for those over time, which take another `dt` and return their states.
        num_steps: Numbers of time steps, in any order.

    Attributes:
        dt: The length of a step in seconds, a variable.
        layers: The spiking layer of each call, in order, as it is in the model.
    """

    def __init__(self, model: Any, num_steps: Sequence[int]):
        self.dt = keras.Variable(1.0, dtype="float32", trainable=False, name="dt")
        self._stops = sorted(set(num_steps))
        functional = graph.functional(model)
        self.graph = graph.trace(functional)
        self.copies: dict[int, Any] = {}
        for call in self.graph.calls:
            if id(call.layer) not in self.copies:
                layer = call.layer
                if isinstance(layer, KerasSpikingLayer):
                    layer = self._copy(layer, call.arguments[0].shape)
                self.copies[id(call.layer)] = layer
        self.layers = [
            call.layer for call in self.graph.calls if isinstance(call.layer, SpikingActivation)
        ]
        self._structure = functional.input
        self._pieces: dict[int, _Piece] = {}

    def run(self, batch: Any) -> dict[int, tuple[list[np.ndarray], list[Counts]]]:
        """For each number of steps the outputs, and what each spiking call did so far."""
        names = [tensor.name for tensor in self.graph.inputs]
        arrays = in_order("compare", "data", batch, self._structure, names)
        found, done = {}, 0
        counts: list[Any] = []
        carried: list[Any] = []
        for steps in self._lengths(arrays):
            if steps not in self._pieces:
                self._pieces[steps] = _Piece(self, steps)
            done += steps
            so_far = np.full(len(arrays[0]), done, "float32")
            outputs, counts, carried = keras.tree.map_structure(
                np.asarray,
                self._pieces[steps].predict_on_batch([arrays, so_far, counts, carried]),
            )
            if done in self._stops:
                found[done] = outputs, [Counts(each[0] / done, *each[1:]) for each in counts]
        return found

    def _copy(self, layer: Any, input_shape: Any) -> Any:
        """A layer over time with the same arguments and weights, but the probe's `dt`."""
        copy = made_again(layer, dt=self.dt, return_state=True)
        copy.build(tuple(input_shape))
        copy.set_weights(layer.get_weights())
        return copy

    def _lengths(self, arrays: list[np.ndarray]) -> list[int]:
        """The number of steps in each piece, from one number that was asked for to the next.

        They are as alike as can be, since each length is compiled.
        """
        per_step = len(arrays[0]) * self._elements_per_step(max(map(_longest_axis, arrays)))
        longest = max(PIECE_SIZE // per_step, 1)
        lengths: list[int] = []
        for start, stop in itertools.pairwise([0, *self._stops]):
            steps = stop - start
            length = math.ceil(steps / math.ceil(steps / longest))
            full, left = divmod(steps, length)
            lengths += [length] * full + [left] * (left > 0)
        return lengths

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

    It is called on the inputs, the number of steps up to its end, the counts so far, and the states
    (with the sums of readouts), both empty at first; it returns the outputs, counts and states.
    """

    def __init__(self, probe: Probe, num_steps: int):
        # It must not cast: the layers do, each to its own type.
        super().__init__(name="piece", autocast=False)
        self._probe = probe
        self._num_steps = num_steps
        self._used = list(probe.copies.values())  # so that Keras sees their variables
        # There is nothing to build, for which JAX would run it once without compiling.
        self.built = True

    def call(self, given: list[Any]) -> list[Any]:
        arrays, so_far, *before = given
        counts, carried = map(_Carried, before)
        traced = self._probe.graph
        values = {
            id(tensor): ops.cast(array, tensor.dtype)
            for tensor, array in zip(traced.inputs, arrays, strict=True)
        }

        def value_of(leaf: Any) -> Any:
            return values[id(leaf)] if keras.backend.is_keras_tensor(leaf) else leaf

        for layer, *called, outputs in traced.calls:
            arguments, keywords = keras.tree.map_structure(value_of, called)
            if "training" in keywords:
                # As in any model that predicts. It may be True by default, as of CenterCrop, and
                # Keras hands it on to the layers after it.
                keywords = {**keywords, "training": False}
            results = self._run(layer, arguments, keywords, so_far, carried)
            if isinstance(layer, SpikingActivation):
                counts.add(self._count(layer, results))
            values.update(zip(map(id, outputs), keras.tree.flatten(results), strict=True))
        return [list(map(value_of, traced.outputs)), counts.after, carried.after]

    def _run(
        self, layer: Any, arguments: Any, keywords: Any, so_far: Any, carried: "_Carried"
    ) -> Any:
        if isinstance(layer, RepeatOverTime):
            return ops.repeat(ops.expand_dims(*arguments, 1), self._num_steps, axis=1)
        copy = self._probe.copies[id(layer)]
        if isinstance(layer, KerasSpikingLayer):
            outputs, *states = copy(*arguments, **keywords, initial_state=carried.take())
            carried.after.append(states)
            return outputs
        if isinstance(layer, RunningAverage):
            outputs, states = layer.run(arguments[0], carried.take(), **keywords)
            carried.after.append(states)
            return outputs
        if isinstance(layer, TemporalAvgPool):
            dtype = "float64" if layer.compute_dtype == "float64" else "float32"
            (total,) = carried.add([ops.sum(ops.cast(arguments[0], dtype), axis=1)])
            steps = ops.reshape(ops.cast(so_far, dtype), (-1, *[1] * (len(total.shape) - 1)))
            return portable.cast(total / steps, layer.compute_dtype)
        return copy(*arguments, **keywords)

    def _count(self, layer: Any, spikes: Any) -> list[Any]:
        """The sum of the output over time, and what `Counts` has."""
        spikes = ops.cast(spikes, "float32")
        numbers = (
            spikes
            * ops.cast(self._probe.dt, "float32")
            * ops.convert_to_tensor(layer.rate_scale, "float32")
        )
        sizes = ops.abs(numbers)
        crowded = ops.cast(sizes > 1.5, "float32")
        each = (spikes, sizes, ops.maximum(-numbers, 0.0), crowded)
        return [ops.sum(values, axis=1) for values in each]


class _Carried:
    """What one piece of time takes from the piece before it, and what it leaves to the next.

    Args:
        before: A list of tensors for each call that carries any; empty in the first piece.
    """

    def __init__(self, before: list[list[Any]]):
        self.after: list[list[Any]] = []
        self._before = iter(before) if before else None

    def take(self) -> list[Any] | None:
        """The tensors of the next call, None in the first piece."""
        return None if self._before is None else next(self._before)

    def add(self, values: list[Any]) -> list[Any]:
        """The sums so far of the values of the next call, which are carried on."""
        before = self.take()
        if before is not None:
            values = [one + other for one, other in zip(before, values, strict=True)]
        self.after.append(values)
        return values


def _longest_axis(array: np.ndarray) -> int:
    return max(array.shape[1:], default=1)
