"""What layers put out over time, as arrays."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np


class LayerRecording(NamedTuple):
    """What one layer did over time, for some samples.

    Arrays are `(samples, time, ...)`, with the features as in the model. Those that were not
    recorded are None.

    Attributes:
        name: Name of the layer, as in the model.
        dt: Length of a time step in seconds.
        rate_scale: A spike has the height `1 / (dt * rate_scale)`. One number, or one for each
            channel. None for a filter, which does not spike.
        spikes: What a spiking layer returned, bit for bit.
        inputs: What the layer was called on.
        voltages: Voltage of a spiking layer after each step, in spikes: at 1, the unit spikes.
        outputs: What a filter returned.
        mask: Boolean array `(samples, time)`, True for steps that were used; None if all were.
    """

    name: str
    dt: float
    rate_scale: float | np.ndarray | None = None
    spikes: np.ndarray | None = None
    inputs: np.ndarray | None = None
    voltages: np.ndarray | None = None
    outputs: np.ndarray | None = None
    mask: np.ndarray | None = None

    @property
    def counts(self) -> np.ndarray:
        """The number of spikes in each step, `(samples, time, ...)`, of type int32."""
        scale = np.asarray(self.rate_scale, np.float64)
        return np.rint(self.spikes * (self.dt * scale)).astype(np.int32)

    @property
    def times(self) -> np.ndarray:
        """When each time step ends, in seconds, `(time,)`."""
        return self.dt * np.arange(1, self.spikes.shape[1] + 1)

    def rates(self) -> np.ndarray:
        """Firing rate of each unit in hertz, over all samples and steps: the shape of features."""
        return self.counts.mean((0, 1)) / self.dt

    def spike_times(self, sample: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Which unit spiked, and when in seconds: one entry for each spike, ordered by time.

        Units are numbered as in the flattened features.
        """
        counts = self.counts[sample].reshape(self.counts.shape[1], -1)
        steps, units = np.nonzero(counts > 0)
        repeats = counts[steps, units]
        return np.repeat(units, repeats), np.repeat(self.times[steps], repeats)


class Recording(Mapping[str, LayerRecording]):
    """What the layers of a model did over time: one `LayerRecording` for each name.

    Args:
        layers: What each layer did, in the order in which the model runs them.
        outputs: What the model returned: an array `(samples, ...)`, or a structure of them.
    """

    def __init__(self, layers: Mapping[str, LayerRecording], outputs: Any = None):
        self._layers = dict(layers)
        self.outputs = outputs

    def __getitem__(self, name: str) -> LayerRecording:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
