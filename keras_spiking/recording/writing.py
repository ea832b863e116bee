"""Puts batches together, and says how much memory that takes."""

import dataclasses
from typing import Any

import numpy as np

from keras_spiking.recording.options import Options
from keras_spiking.recording.recording import LayerRecording
from keras_spiking.recording.voltages import Neuron, voltages_of

_SEQUENCES = ("spikes", "inputs", "voltages", "outputs", "mask")


class Writer:
    """Writes batches of samples into arrays for all of them.

    Args:
        num_samples: How many samples there will be.
    """

    def __init__(self, num_samples: int):
        self._num_samples = num_samples
        self._arrays: dict[Any, np.ndarray] = {}
        self._layers: list[LayerRecording] = []
        self._num_outputs = 0

    def add(
        self, start: int, size: int, layers: list[LayerRecording], outputs: list[np.ndarray]
    ) -> None:
        """Adds a batch.

        Args:
            start: Index of its first sample.
            size: Number of its samples.
            layers: What each layer did, in the order in which the model runs them.
            outputs: What the model returned.
        """
        self._layers, self._num_outputs = layers, len(outputs)
        parts: dict[Any, np.ndarray | None] = dict(enumerate(outputs))
        for layer in layers:
            parts.update(((layer.name, key), getattr(layer, key)) for key in _SEQUENCES)
        for key, part in parts.items():
            if part is not None:
                self._write(key, part, start, size)

    def layers(self) -> dict[str, LayerRecording]:
        """What each layer did, for all samples."""
        result = {}
        for layer in self._layers:
            arrays: dict[str, Any] = {
                key: self._arrays.get((layer.name, key)) for key in _SEQUENCES
            }
            result[layer.name] = dataclasses.replace(layer, **arrays)
        return result

    def outputs(self) -> list[np.ndarray]:
        """What the model returned, for all samples."""
        return [self._arrays[index] for index in range(self._num_outputs)]

    def _write(self, key: Any, part: np.ndarray, start: int, size: int) -> None:
        if not part.ndim or len(part) % size:
            raise ValueError(
                f"record: the first axis of what layers and the model put out must be that of "
                f"samples, {size} in this batch; received shape {part.shape}. Leave out that layer "
                "with `layers`, or make a model with another output."
            )
        rows = len(part) // size  # more than one where a layer sees parts of a sample as samples
        if key not in self._arrays:
            self._arrays[key] = np.empty((self._num_samples * rows, *part.shape[1:]), part.dtype)
        self._arrays[key][start * rows : (start + size) * rows] = part


def layer_recording(
    name: str,
    dt: float,
    rate_scale: float | np.ndarray | None,
    arrays: dict[str, Any],
    neuron: Neuron | None,
    quantities: tuple[str, ...],
) -> LayerRecording:
    """What a layer did in a batch.

    Args:
        name: Its name.
        dt: Length of a time step in seconds.
        rate_scale: As `LayerRecording` has it.
        arrays: The quantities that were noted. If voltages are wanted, they have `states` before
            the first step, `inputs` and `spikes`.
        neuron: What voltages follow from; None for a filter.
        quantities: What is wanted.
    """
    wanted = {key: array for key, array in arrays.items() if key in (*quantities, "mask")}
    recording = LayerRecording(name, dt, rate_scale, **wanted)
    if neuron is None or "states" not in arrays:
        return recording
    counts = dataclasses.replace(recording, spikes=arrays["spikes"]).counts
    voltages = voltages_of(neuron, arrays["inputs"], counts, arrays["states"], recording.mask)
    return dataclasses.replace(recording, voltages=voltages)


def check_memory(owner: str, options: Options, num_bytes: float) -> None:
    """Refuses to make a recording that takes too much memory.

    Args:
        owner: Name of the public function, for errors.
        options: Its arguments.
        num_bytes: How much it takes.
    """
    gigabytes = num_bytes / 1e9
    if gigabytes > options.memory_limit:
        raise ValueError(
            f"{owner}: the recording would take {gigabytes:.3g} GB of memory, more than the "
            f"{options.memory_limit:g} GB of `memory_limit`. Record fewer samples, `layers` or "
            "`quantities`, or give a larger `memory_limit`."
        )


def say_memory(options: Options, num_bytes: float, num_layers: int, num_samples: int) -> None:
    """Says how much memory a recording takes, unless that is not wanted."""
    if options.verbose:
        layers = f"{num_layers} layer{'s' * (num_layers != 1)}"
        samples = f"{num_samples} sample{'s' * (num_samples != 1)}"
        size = f"{num_bytes / 1e6:,.0f} MB" if num_bytes >= 1e6 else "less than 1 MB"
        print(f"Recording {layers} for {samples}: {size} of memory")
