"""Records Keras models."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking._data import as_numpy, batches, checked_samples, fixed_batch_size, num_samples
from keras_spiking._types import Array
from keras_spiking.layers.base import KerasSpikingLayer
from keras_spiking.layers.integration import EXACT
from keras_spiking.layers.reset import synchronize, unchanged
from keras_spiking.layers.spiking_activation import SpikingActivation
from keras_spiking.layers.sublayers import paths_within
from keras_spiking.recording.keras_probe import NamedCall, Probe
from keras_spiking.recording.options import Options, chosen_layers, numbered
from keras_spiking.recording.recording import LayerRecording, Recording
from keras_spiking.recording.voltages import Neuron
from keras_spiking.recording.writing import Writer, check_memory, layer_recording, say_memory

_OWNER = "record"


def record_model(model: keras.Model, data: Any, options: Options) -> Recording:
    """What `record` does for a Keras model."""
    total = num_samples(checked_samples(_OWNER, "data", data, model))
    data = keras.tree.map_structure(as_numpy, data)
    batch_size = min(fixed_batch_size(model) or options.batch_size, total)
    probe = probe_for(_OWNER, model, options.layers, options.quantities)
    spec = probe.spec(data, batch_size)
    num_bytes = _num_bytes(spec, options.quantities) / batch_size * total
    check_memory(_OWNER, options, num_bytes)
    say_memory(options, num_bytes, len(probe.calls), total)

    return run_probe(probe, model, data, options.batch_size, options.verbose)


def run_probe(
    probe: Probe, model: keras.Model, data: Any, batch_size: int, verbose: bool = False
) -> Recording:
    """Runs a model on data, and leaves it as it was.

    Args:
        probe: A probe of the model.
        model: The model.
        data: A structure of arrays.
        batch_size: Number of samples in a batch. A fixed batch size of the model wins.
        verbose: Whether to show progress.
    """
    total = num_samples(data)
    batch_size = fixed_batch_size(model) or batch_size
    writer = Writer(total)
    progress = keras.utils.Progbar(math.ceil(total / batch_size), verbose=int(verbose))
    found: dict[str, Any] = {}
    synchronize(model)
    with unchanged(model):
        for index, batch in enumerate(batches(data, batch_size)):
            found = probe.run(batch)
            layers = [
                _layer_recording(call, arrays, probe.quantities)
                for call, arrays in zip(probe.calls, found["calls"], strict=True)
            ]
            outputs = keras.tree.flatten(found["outputs"])
            writer.add(index * batch_size, num_samples(batch), layers, outputs)
            progress.update(index + 1)
    outputs = keras.tree.pack_sequence_as(found["outputs"], writer.outputs())
    return Recording(writer.layers(), outputs)


def probe_for(
    owner: str, model: keras.Model, layers: list[Any] | None, quantities: tuple[str, ...]
) -> Probe:
    """A probe of those layers of a model that are asked for.

    Args:
        owner: Name of the public object, for errors.
        model: The model.
        layers: Layers or names; None for all.
        quantities: What to record.
    """
    found: dict[str, tuple[Any, bool]] = {}
    for path, layer in paths_within(model):
        if isinstance(layer, KerasSpikingLayer):
            found[numbered(path, found)] = layer, isinstance(layer, SpikingActivation)
    return Probe(model, chosen_layers(owner, found, layers, quantities), quantities)


def _layer_recording(
    call: NamedCall, arrays: dict[str, Any], quantities: tuple[str, ...]
) -> LayerRecording:
    """What one call of a layer did in a batch."""
    layer, spikes = call.layer, isinstance(call.layer, SpikingActivation)
    return layer_recording(
        call.name,
        dt=float(ops.convert_to_numpy(layer.dt)),
        rate_scale=layer.rate_scale if spikes else None,
        arrays=arrays,
        neuron=_neuron(layer) if spikes else None,
        quantities=quantities,
    )


def _neuron(layer: SpikingActivation) -> Neuron:
    """What the voltages of a layer follow from."""
    cell, integrates_input = layer.cell, layer.integrate == "input"

    def activation(array: Array) -> Array:
        if layer.activation in EXACT:
            return np.maximum(array, 0) if layer.activation is keras.activations.relu else array
        dtype = layer.state_dtype if integrates_input else layer.compute_dtype
        tensor = ops.cast(ops.convert_to_tensor(array), dtype)
        return ops.convert_to_numpy(cell._rates_over_time(tensor, layer.state_dtype))

    per_step = float(ops.convert_to_numpy(layer.dt)) * np.asarray(layer.rate_scale)
    return Neuron(per_step, activation, integrates_input, layer.state_dtype)


def _num_bytes(spec: dict[str, Any], quantities: tuple[str, ...]) -> int:
    """How much memory a batch takes."""
    total = sum(map(_size, keras.tree.flatten(spec["outputs"])))
    for call in spec["calls"]:
        total += sum(_size(tensor) for key, tensor in call.items() if key in (*quantities, "mask"))
        if "states" in call:
            total += _size(call["inputs"])  # the voltages are as many
    return total


def _size(tensor: keras.KerasTensor) -> int:
    # An axis of unknown length counts as one.
    return math.prod(size or 1 for size in tensor.shape) * np.dtype(tensor.dtype).itemsize
