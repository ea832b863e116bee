"""Runs a Keras model, and returns what its layers were called on and what they put out."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_spiking._types import Tensor
from keras_spiking.layers.base import KerasSpikingLayer
from keras_spiking.layers.spiking_activation import SpikingActivation
from keras_spiking.layers.sublayers import layers_within
from keras_spiking.recording.options import numbered, to_note


class NamedCall(NamedTuple):
    """A call of a layer, and the name under which it is recorded."""

    name: str
    layer: KerasSpikingLayer


class _Note(NamedTuple):
    """One call of a layer: what it was called on, and what it put out at every step.

    Attributes:
        layer: The layer.
        inputs: Sequence, `(batch, time, ...)`, or `(time, batch, ...)`.
        states: The states before the first step.
        mask: Boolean tensor `(batch, time)`, or None.
        outputs: Sequence like the inputs.
    """

    layer: KerasSpikingLayer
    inputs: Tensor
    states: list[Tensor]
    mask: Tensor | None
    outputs: Tensor


class Probe:
    """Runs a model as `predict` does, and returns what layers do.

    Args:
        model: The model. It is not changed, but for its states and seeds.
        layers: The layers to look at, by name.
        quantities: What is wanted of them.

    Attributes:
        quantities: What is wanted.
        calls: Each call of a layer in the latest run, in order.
    """

    def __init__(
        self,
        model: keras.Model,
        layers: Mapping[str, KerasSpikingLayer],
        quantities: tuple[str, ...],
    ):
        self.calls: list[NamedCall] = []
        self._layers = layers
        self._all_layers = layers_within(model)
        self.quantities = quantities
        self._model = _Probed(model, self._call)

    def spec(self, data: Any, batch_size: int) -> dict[str, Any]:
        """Symbolic tensors for what `run` would return for a batch, without running anything."""
        inputs = keras.tree.map_structure(
            lambda array: keras.KerasTensor((batch_size, *array.shape[1:]), array.dtype.name), data
        )
        if not self._model.model.built:
            self._model.model(inputs)  # which runs it once to build it, and again
        return self._model.compute_output_spec(inputs)

    def run(self, batch: Any) -> dict[str, Any]:
        """Runs a batch: the outputs of the model, and a dictionary of arrays for each call.

        Returns:
            A dictionary with `outputs`, as the model returns them, and `calls`, in which a
            dictionary has the arrays of each quantity that the call has; with `states`, the list
            of states before the first step, if voltages are wanted.
        """
        return self._model.predict_on_batch(batch)

    def _call(self, model: keras.Model, inputs: Any) -> dict[str, Any]:
        with _not_rematerialized(self._all_layers), _noted(self._layers.values()) as notes:
            outputs = model(inputs)
        names = {id(layer): name for name, layer in self._layers.items()}
        calls: dict[str, NamedCall] = {}
        for note in notes:
            name = numbered(names[id(note.layer)], calls)
            calls[name] = NamedCall(name, note.layer)
        self.calls = list(calls.values())
        return {
            "outputs": keras.tree.map_structure(_in_full, outputs),
            "calls": list(map(self._wanted, notes)),
        }

    def _wanted(self, note: _Note) -> dict[str, Any]:
        """What is wanted of a call, with samples first."""
        is_spiking = isinstance(note.layer, SpikingActivation)
        sequences = {"inputs": note.inputs, "spikes" if is_spiking else "outputs": note.outputs}
        if note.layer.time_major:
            sequences = {key: ops.swapaxes(array, 0, 1) for key, array in sequences.items()}
        noted = {key: _in_full(array) for key, array in sequences.items()}
        noted["states"] = note.states
        if note.mask is not None:
            noted["mask"] = note.mask
        wanted = to_note(self.quantities, is_spiking)
        return {key: value for key, value in noted.items() if key in wanted}


class _Probed(keras.Model):
    """A model that runs another one, compiled in the same way."""

    def __init__(self, model: keras.Model, run: Callable[[keras.Model, Any], Any]):
        # It must not cast its inputs: the model does.
        super().__init__(name="probed", autocast=False)
        self.model = model
        self._run = run
        self.run_eagerly = model.run_eagerly
        self.jit_compile = model.jit_compile and keras.backend.backend() != "torch"
        # There is nothing to build. Otherwise Keras would run it once without compiling, on JAX.
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self._run(self.model, inputs)


@contextlib.contextmanager
def _not_rematerialized(layers: list[keras.layers.Layer]) -> Iterator[None]:
    """Has `keras.RematScope` run nothing in a function of its own, which would keep the notes."""
    for layer in layers:
        layer.rematerialized_call = lambda call, *args, **kwargs: call
    try:
        yield
    finally:
        for layer in layers:
            del layer.rematerialized_call


@contextlib.contextmanager
def _noted(layers: Any) -> Iterator[list[_Note]]:
    """Notes each call of these layers, until the context ends."""
    notes: list[_Note] = []

    def run(
        layer: KerasSpikingLayer,
        original: Callable[..., Any],
        inputs: Tensor,
        states: list[Tensor],
        mask: Tensor | None,
        training: bool,
    ) -> Any:
        # A layer that returns only the last step may compute nothing else.
        returns = layer.return_sequences
        layer.return_sequences = True
        try:
            outputs, after = original(inputs, states, mask, training)
        finally:
            layer.return_sequences = returns
        notes.append(_Note(layer, inputs, states, mask, outputs))
        return outputs, after

    layers = list(layers)
    for layer in layers:
        layer._run_once = functools.partial(run, layer, layer._run_once)
    try:
        yield notes
    finally:
        for layer in layers:
            del layer._run_once


def _in_full(tensor: Tensor) -> Tensor:
    """The tensor; in float32 if it is in half precision, for which NumPy has not every type."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return ops.cast(tensor, "float32") if dtype in ("float16", "bfloat16") else tensor
