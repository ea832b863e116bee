"""Sums up over batches what the layers and outputs of a spiking model did."""

from typing import Any

import numpy as np

from keras_spiking.conversion.calibrate import TopValues
from keras_spiking.conversion.decisions import Agreement
from keras_spiking.conversion.report import LayerResult, OutputResult


class RelativeError:
    """The root of the mean square of differences, relative to that of the reference."""

    def __init__(self) -> None:
        self._difference = self._reference = 0.0

    def add(self, values: np.ndarray, reference: np.ndarray) -> None:
        """Takes the next values and what they should be."""
        values, reference = values.astype("float64"), reference.astype("float64")
        self._difference += float(np.sum((values - reference) ** 2))
        self._reference += float(np.sum(reference**2))

    def value(self) -> float:
        """The error so far; infinite if all but the reference is zero."""
        if self._reference > 0:
            return float(np.sqrt(self._difference / self._reference))
        return 0.0 if self._difference == 0 else float("inf")


class LayerTotals:
    """Sums up what one spiking layer did.

    Args:
        name: Name of the layer.
        num_samples: How many samples there will be, times the layer's calls.
        num_steps: Number of steps of each.
        dt: Their length in seconds.
    """

    def __init__(self, name: str, num_samples: int, num_steps: int, dt: float):
        self.name = name
        self.spikes = 0.0
        self.num_neurons = 0
        self._num_samples = num_samples
        self._num_steps = num_steps
        self._duration = num_steps * dt
        self._crowded = 0.0
        self._fired: Any = False
        self._top: TopValues | None = None
        self._error = RelativeError()

    def add(
        self, mean: np.ndarray, spikes: np.ndarray, crowded: np.ndarray, reference: np.ndarray
    ) -> None:
        """Takes the next samples, `(batch, ...)` each."""
        self.num_neurons = int(np.prod(spikes.shape[1:]))
        if self._top is None:
            self._top = TopValues(self._num_samples * self.num_neurons)
        self._top.add(spikes)
        self.spikes += float(spikes.sum(dtype="float64"))
        self._crowded += float(crowded.sum(dtype="float64"))
        self._fired = self._fired | (spikes > 0.5).any(axis=0)
        self._error.add(mean, reference)

    def result(self, num_inferences: int) -> LayerResult:
        """What the layer did, in all."""
        assert self._top is not None
        total = self._num_samples * self.num_neurons
        return LayerResult(
            name=self.name,
            mean_rate=self.spikes / (total * self._duration),
            top_rate=float(self._top.percentiles()[0]) / self._duration,
            spikes=self.spikes / num_inferences,
            silent=1 - float(np.mean(self._fired)),
            several=self._crowded / (total * self._num_steps),
            error=self._error.value(),
        )


class OutputTotals:
    """Sums up what one output did.

    Args:
        name: Name of the output.
    """

    def __init__(self, name: str):
        self.name = name
        self._agreement, self._accuracy, self._original = Agreement(), Agreement(), Agreement()
        self._error = RelativeError()

    def add(
        self,
        ours: np.ndarray | None,
        theirs: np.ndarray | None,
        labels: np.ndarray | None,
        values: np.ndarray,
        reference: np.ndarray,
    ) -> None:
        """Takes the next decisions of both models and what is right, and the outputs of both."""
        self._agreement.add(ours, theirs)
        self._accuracy.add(ours, labels)
        self._original.add(theirs, labels)
        self._error.add(values, reference)

    def result(self) -> OutputResult:
        """What the output did, in all."""
        return OutputResult(
            name=self.name,
            agreement=self._agreement.share(),
            accuracy=self._accuracy.share(),
            original_accuracy=self._original.share(),
            error=self._error.value(),
        )
