"""What layers put out over time, as arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_spiking.recording import files
from keras_spiking.recording.figures import NAMES, Figures, figures_of, rates_of


@dataclass(frozen=True, eq=False)
class LayerRecording:
    """What one layer did over time, for some samples.

    Arrays are `(samples, time, ...)`, with the features as in the model. Those that were not
    recorded are None. A layer with `go_backwards` is recorded in the order in which it ran.

    Attributes:
        name: Name of the layer, as in the model.
        dt: Length of a time step in seconds.
        rate_scale: A spike has the height `1 / (dt * rate_scale)`. One number, or one for each
            channel. None for a filter, which does not spike.
        spikes: What a spiking layer returned, bit for bit. Half precision is kept in float32.
        inputs: What the layer was called on.
        voltages: Voltage of a spiking layer after each step, in spikes: what the activation has
            added up to, with the initial voltage, less the spikes. At 1, the unit spikes.
            With `negative_spikes=False` it is below 0 while the unit owes spikes.
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
        numbers = self._numbers()
        if not np.isfinite(numbers).all():
            raise ValueError(
                f"LayerRecording: the spikes of layer {self.name!r} are not finite, and cannot be "
                "counted. Look for NaN in the weights of the model."
            )
        return numbers.astype(np.int32)

    @property
    def hertz(self) -> np.ndarray:
        """The spikes in hertz, `(samples, time, ...)`: their number per second in each step."""
        return self.counts / self.dt

    @property
    def times(self) -> np.ndarray:
        """When each time step ends, in seconds, `(time,)`."""
        arrays = (self.spikes, self.inputs, self.voltages, self.outputs)
        num_steps = next(array.shape[1] for array in arrays if array is not None)
        return self.dt * np.arange(1, num_steps + 1)

    def rates(self) -> np.ndarray:
        """Firing rate of each unit in hertz, over all samples and steps: the shape of features.

        Negative spikes count as spikes. Masked steps do not count.
        """
        return rates_of(self.counts, self.dt, self.mask)

    def spike_times(self, sample: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Which unit spiked, and when in seconds, in one sample: an entry for each spike, by time.

        Units are numbered as in the flattened features. A spike is at the end of its time step.
        Negative spikes are left out.
        """
        counts = self.counts[sample].reshape(self.counts.shape[1], -1)
        steps, units = np.nonzero(counts > 0)
        repeats = counts[steps, units]
        return np.repeat(units, repeats), np.repeat(self.times[steps], repeats)

    def figures(self) -> Figures:
        """The figures of the layer, as `Recording.to_dataframe` shows them."""
        return figures_of(self._numbers(), self.dt, self.mask)

    def _numbers(self) -> np.ndarray:
        """The number of spikes in each step, as floats."""
        if self.spikes is None:
            raise ValueError(
                f"LayerRecording: the spikes of layer {self.name!r} were not recorded. Record "
                'them with quantities=("spikes", ...); a filter has none.'
            )
        dtype = np.result_type(self.spikes.dtype, np.float32)
        per_step = np.asarray(self.dt * np.asarray(self.rate_scale), dtype)
        numbers = self.spikes * per_step
        return np.rint(numbers, out=numbers)


class Recording(Mapping[str, LayerRecording]):
    """What the layers of a model did over time: one `LayerRecording` for each name.

    Args:
        layers: What each layer did, in the order in which the model runs them.
        outputs: What the model returned: an array `(samples, ...)`, or a structure of them.

    Example:

    >>> import numpy as np
    >>> from keras_spiking.recording import LayerRecording, Recording
    >>> spikes = np.array([[[100.0, 0.0], [0.0, 0.0], [100.0, 0.0]]])  # in hertz
    >>> layer = LayerRecording("spikes", dt=0.01, rate_scale=1.0, spikes=spikes)
    >>> recording = Recording({"spikes": layer})
    >>> units, times = recording["spikes"].spike_times(sample=0)
    >>> units.tolist(), times.tolist()
    ([0, 0], [0.01, 0.03])
    >>> recording["spikes"].figures().silent
    0.5
    """

    def __init__(self, layers: Mapping[str, LayerRecording], outputs: Any = None):
        self._layers = dict(layers)
        self.outputs = outputs

    def __getitem__(self, name: str) -> LayerRecording:
        if name not in self._layers:
            raise KeyError(
                f"Recording: there is no layer {name!r}. Those that were recorded are "
                f"{list(self._layers)}."
            )
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return f"Recording({list(self._layers)})"

    def to_dataframe(self) -> Any:
        """A `pandas.DataFrame` with one row for each spiking layer.

        Rates are in hertz, over units, each over all samples and steps. The columns are
        `mean_rate`, `median_rate`, `top_rate` (the 99.9th percentile), `silent` (share of units
        without a spike), `spikes` (per sample), `several` (share of steps with more than one spike)
        and `negative` (share of spikes that are negative).

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "Recording: `to_dataframe` needs pandas, which is not installed. Install it with "
                "`pip install pandas`, or use recording[name].figures()."
            ) from error
        layers = [layer for layer in self.values() if layer.spikes is not None]
        names = pd.Index([layer.name for layer in layers], name="layer")
        rows = [asdict(layer.figures()) for layer in layers]
        return pd.DataFrame(rows, index=names, columns=list(NAMES))

    def save(self, path: str | Path) -> None:
        """Writes the recording to a file at `path`, an `.npz` without pickled objects."""
        layers = [vars(layer) for layer in self.values()]
        files.save(path, {"names": list(self), "layers": layers, "outputs": self.outputs})

    @classmethod
    def load(cls, path: str | Path) -> "Recording":
        """Reads the file at `path`, which `save` wrote. Tuples in `outputs` become lists.

        Raises:
            ValueError: If `save` did not write the file.
        """
        saved = files.load("Recording.load", path)
        layers = [LayerRecording(**fields) for fields in saved["layers"]]
        return cls(dict(zip(saved["names"], layers, strict=True)), saved["outputs"])
