"""Runs a spiking model with any `dt` and any numbers of steps, and counts its spikes."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_spiking import _graph
from keras_spiking._data import in_order
from keras_spiking._graph import Call
from keras_spiking._types import Shape, Tensor
from keras_spiking.conversion.retiming import remade
from keras_spiking.kernels import tensors
from keras_spiking.layers import (
    KerasSpikingLayer,
    LastStep,
    RepeatOverTime,
    RunningAverage,
    SpikingActivation,
    TemporalAvgPool,
)

# How many elements all tensors over time may have together in one piece: 128 MiB in float32. So
# memory does not grow with the number of steps.
PIECE_SIZE = 2**25


class Counts(NamedTuple):
    """What the neurons of one spiking call did. All arrays have the shape `(batch, ...)`.

    Attributes:
        mean: Mean output over time.
        spikes: Number of spikes, including negative ones.
        negative: Number of negative spikes.
        crowded: Number of steps with more than one spike.
    """

    mean: np.ndarray
    spikes: np.ndarray
    negative: np.ndarray
    crowded: np.ndarray


class Probe:
    """Runs a converted model with other numbers of steps, and with a `dt` that can change.

    Time runs in pieces that fit in memory. Each piece starts from the states with which the piece
    before it ended.

    Args:
        model: A model that `convert` made. Neither it nor its weights change. The probe uses its
            layers, except those over time: it uses copies that take another `dt` and return their
            states.
        num_steps: Numbers of time steps, in any order.

    Attributes:
        dt: Length of a time step in seconds, a variable.
        layers: The model's spiking layer of each call, in order.
    """

    def __init__(self, model: keras.Model, num_steps: Sequence[int]):
        self.dt = keras.Variable(1.0, dtype="float32", trainable=False, name="dt")
        self._stops = sorted(set(num_steps))
        functional = _graph.functional(model)
        self.graph = _graph.trace(functional)
        # By the `id` of the model's layer.
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
        """The outputs after each number of steps, and what each spiking call did until then."""
        names = [tensor.name for tensor in self.graph.inputs]
        arrays = in_order("compare", "data", batch, self._structure, names)
        results, done = {}, 0
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
                results[done] = outputs, [Counts(total / done, *rest) for total, *rest in counts]
        return results

    def _copy(self, layer: KerasSpikingLayer, input_shape: Shape) -> KerasSpikingLayer:
        """A layer over time with the same arguments and weights, except for the probe's `dt`."""
        copy = remade(layer, dt=self.dt, return_state=True)
        copy.build(tuple(input_shape))
        copy.set_weights(layer.get_weights())
        return copy

    def _lengths(self, arrays: list[np.ndarray]) -> list[int]:
        """The number of steps in each piece. A piece ends at each number of `num_steps`.

        The lengths are as equal as possible, because each length is compiled.
        """
        per_step = len(arrays[0]) * self._elements_per_step(max(map(_longest_axis, arrays)))
        longest = max(PIECE_SIZE // per_step, 1)
        lengths: list[int] = []
        for start, stop in itertools.pairwise([0, *self._stops]):
            steps = stop - start
            length = math.ceil(steps / math.ceil(steps / longest))
            num_full, rest = divmod(steps, length)
            lengths += [length] * num_full + [rest] * (rest > 0)
        return lengths

    def _elements_per_step(self, unknown: int) -> int:
        """How many elements all tensors over time have together, for one sample and one step.

        Args:
            unknown: Length to assume for an axis of unknown length.
        """
        total = 0
        over_time: set[int] = set()
        for call in self.graph.calls:
            starts = isinstance(call.layer, RepeatOverTime)
            ends = isinstance(call.layer, (TemporalAvgPool, LastStep))
            if ends or not (starts or any(id(tensor) in over_time for tensor in call.tensors)):
                continue
            for tensor in call.outputs:
                over_time.add(id(tensor))
                total += math.prod(unknown if size is None else size for size in tensor.shape[2:])
        return total


class _Piece(keras.Model):
    """Runs a number of time steps.

    It is called on a list: the inputs, the number of steps up to its end, the counts so far, and
    the states so far (with the sums of readouts). Counts and states are empty in the first piece.
    It returns the outputs, the new counts and the new states.
    """

    def __init__(self, probe: Probe, num_steps: int):
        # It must not cast its inputs: each layer casts to its own data type.
        super().__init__(name="piece", autocast=False)
        self._probe = probe
        self._num_steps = num_steps
        self._used = list(probe.copies.values())  # so that Keras sees their variables
        # There is nothing to build. Otherwise Keras would run it once without compiling, on JAX.
        self.built = True

    def call(self, inputs: list[Any]) -> list[Any]:
        arrays, so_far, counts_before, states_before = inputs
        counts, states = _Carried(counts_before), _Carried(states_before)

        def visit(call: Call, values: list[Tensor]) -> list[Tensor]:
            outputs = self._run(call, values, so_far, states)
            if isinstance(call.layer, SpikingActivation):
                counts.add(self._count(call.layer, outputs))
            return keras.tree.flatten(outputs)

        graph = self._probe.graph
        cast = [
            ops.cast(array, tensor.dtype)
            for array, tensor in zip(arrays, graph.inputs, strict=True)
        ]
        return [graph.run(cast, visit), counts.after, states.after]

    def _run(self, call: Call, values: list[Tensor], so_far: Tensor, states: "_Carried") -> Any:
        """What a call of the model returns for the steps of this piece."""
        layer = call.layer
        arguments, keywords = call.filled(values)
        if "training" in keywords:
            # The default of a layer may be True, as of CenterCrop, and Keras hands it on to the
            # layers after it.
            keywords = {**keywords, "training": False}
        if isinstance(layer, RepeatOverTime):
            return ops.repeat(ops.expand_dims(*arguments, 1), self._num_steps, axis=1)
        copy = self._probe.copies[id(layer)]
        if isinstance(layer, KerasSpikingLayer):
            outputs, *after = copy(*arguments, **keywords, initial_state=states.take())
            states.after.append(after)
            return outputs
        if isinstance(layer, RunningAverage):
            outputs, after = layer.run(arguments[0], states.take(), **keywords)
            states.after.append(after)
            return outputs
        if isinstance(layer, TemporalAvgPool):
            dtype = "float64" if layer.compute_dtype == "float64" else "float32"
            (total,) = states.add([ops.sum(ops.cast(arguments[0], dtype), axis=1)])
            steps = ops.reshape(ops.cast(so_far, dtype), (-1, *[1] * (len(total.shape) - 1)))
            return tensors.cast(total / steps, layer.compute_dtype)
        return copy(*arguments, **keywords)

    def _count(self, layer: SpikingActivation, spikes: Tensor) -> list[Tensor]:
        """The sum of the output over time, and the numbers that `Counts` has."""
        spikes = ops.cast(spikes, "float32")
        numbers = (
            spikes
            * ops.cast(self._probe.dt, "float32")
            * ops.convert_to_tensor(layer.rate_scale, "float32")
        )
        sizes = ops.abs(numbers)
        crowded = ops.cast(sizes > 1.5, "float32")
        negative = ops.maximum(-numbers, 0.0)
        return [ops.sum(values, axis=1) for values in (spikes, sizes, negative, crowded)]


class _Carried:
    """The tensors that one piece of time receives from the piece before it, and hands on.

    Args:
        before: A list of tensors for each call that has some; empty in the first piece.

    Attributes:
        after: The same for the next piece.
    """

    def __init__(self, before: list[list[Tensor]]):
        self.after: list[list[Tensor]] = []
        self._before = iter(before) if before else None

    def take(self) -> list[Tensor] | None:
        """The tensors of the next call; None in the first piece."""
        return None if self._before is None else next(self._before)

    def add(self, values: list[Tensor]) -> list[Tensor]:
        """Adds the values of the next call to the sums so far, hands these on, and returns them."""
        before = self.take()
        if before is not None:
            values = [total + value for total, value in zip(before, values, strict=True)]
        self.after.append(values)
        return values


def _longest_axis(array: np.ndarray) -> int:
    return max(array.shape[1:], default=1)
