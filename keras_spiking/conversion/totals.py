"""Sums up, over batches, what the layers and outputs of a spiking model did."""

from collections import Counter
from typing import Any

import numpy as np

from keras_spiking.conversion.calibrate import TopValues
from keras_spiking.conversion.decisions import Agreement
from keras_spiking.conversion.probe import Counts
from keras_spiking.conversion.results import LayerResult, OutputResult, Result


class RelativeError:
    """The root mean square of differences, divided by the root mean square of the reference."""

    def __init__(self) -> None:
        self._difference = self._reference = 0.0

    def add(self, values: np.ndarray, reference: np.ndarray) -> None:
        """Adds values, and the reference for them."""
        values, reference = values.astype("float64"), reference.astype("float64")
        self._difference += float(np.sum((values - reference) ** 2))
        self._reference += float(np.sum(reference**2))

    def value(self) -> float:
        """The error so far; infinite if the reference is zero and the values are not."""
        if self._reference > 0:
            return float(np.sqrt(self._difference / self._reference))
        return 0.0 if self._difference == 0 else float("inf")


class LayerTotals:
    """Sums up what one spiking layer did.

    Args:
        name: Name of the layer.
        num_samples: How many samples there will be, times the number of calls of the layer.
        num_steps: Number of time steps.
        dt: Length of a time step in seconds.
    """

    def __init__(self, name: str, num_samples: int, num_steps: int, dt: float):
        self.name = name
        self.spikes = self.negative = 0.0
        self.num_neurons = 0
        self._num_samples = num_samples
        self._num_steps = num_steps
        self._duration = num_steps * dt
        self._crowded = 0.0
        self._fired: Any = False
        self._top: TopValues | None = None
        self._error = RelativeError()
        self._off: float | None = None

    def add(self, counts: Counts, reference: np.ndarray, off: np.ndarray | None) -> None:
        """Adds samples.

        Args:
            counts: What the layer did.
            reference: The activation of the original.
            off: Which means are off, as `RoundedNetwork.off` returns it.
        """
        mean, spikes, negative, crowded = counts
        self.num_neurons = int(np.prod(spikes.shape[1:]))
        if self._top is None:
            self._top = TopValues(self._num_samples * self.num_neurons)
        self._top.add(spikes)
        self.spikes += float(spikes.sum(dtype="float64"))
        self.negative += float(negative.sum(dtype="float64"))
        self._crowded += float(crowded.sum(dtype="float64"))
        self._fired = self._fired | (spikes > 0.5).any(axis=0)
        self._error.add(mean, reference)
        if off is not None:
            self._off = (self._off or 0.0) + float(off.sum())

    def result(self, num_inferences: int) -> LayerResult:
        """What the layer did for all samples."""
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
            negative=self.negative / num_inferences,
            off=None if self._off is None else self._off / total,
        )


class OutputTotals:
    """Sums up what one output did.

    Args:
        name: Name of the output.
    """

    def __init__(self, name: str):
        self.name = name
        self._agreement = Agreement()
        self._accuracy = Agreement()
        self._original_accuracy = Agreement()
        self._error = RelativeError()

    def add(
        self,
        decisions: np.ndarray | None,
        original_decisions: np.ndarray | None,
        labels: np.ndarray | None,
        values: np.ndarray,
        original_values: np.ndarray,
    ) -> None:
        """Adds samples: the decisions of both models, the labels, and what both models returned."""
        self._agreement.add(decisions, original_decisions)
        self._accuracy.add(decisions, labels)
        self._original_accuracy.add(original_decisions, labels)
        self._error.add(values, original_values)

    def result(self) -> OutputResult:
        """What the output did for all samples."""
        return OutputResult(
            name=self.name,
            agreement=self._agreement.share(),
            accuracy=self._accuracy.share(),
            original_accuracy=self._original_accuracy.share(),
            error=self._error.value(),
        )


class ResultTotals:
    """Sums up what the spiking model did with one `dt` and one number of steps.

    Args:
        names: Name of the spiking layer of each call.
        output_names: Name of each output.
        num_samples: How many samples there will be.
        dt: Length of a time step in seconds.
        num_steps: Number of time steps.
    """

    def __init__(
        self, names: list[str], output_names: list[str], num_samples: int, dt: float, num_steps: int
    ):
        self._layers = {
            name: LayerTotals(name, num_samples * num_calls, num_steps, dt)
            for name, num_calls in Counter(names).items()
        }
        self._outputs = [OutputTotals(name) for name in output_names]
        self._error = RelativeError()
        self._num_samples = num_samples
        self._dt = dt
        self._num_steps = num_steps

    def add_layer(
        self, name: str, counts: Counts, reference: np.ndarray, off: np.ndarray | None
    ) -> None:
        """Adds one call of a spiking layer, as `LayerTotals.add` does."""
        self._layers[name].add(counts, reference, off)

    def add_outputs(
        self,
        decisions: list[np.ndarray | None],
        original_decisions: list[np.ndarray | None],
        labels: list[np.ndarray | None],
        outputs: list[np.ndarray],
        original_outputs: list[np.ndarray],
    ) -> None:
        """Adds samples; each argument has one entry for each output, as `OutputTotals.add` has."""
        for total, *sample in zip(
            self._outputs,
            decisions,
            original_decisions,
            labels,
            outputs,
            original_outputs,
            strict=True,
        ):
            total.add(*sample)
        for values, original_values in zip(outputs, original_outputs, strict=True):
            self._error.add(values, original_values)

    def result(self, not_spiking: tuple[str, ...]) -> Result:
        """What the model did for all samples.

        Args:
            not_spiking: The `not_spiking` of the result.
        """
        layers = self._layers.values()
        outputs = tuple(total.result() for total in self._outputs)
        spikes = sum(total.spikes for total in layers)
        neurons = sum(total.num_neurons for total in layers)
        duration = self._num_steps * self._dt
        return Result(
            dt=self._dt,
            num_steps=self._num_steps,
            agreement=mean_share([output.agreement for output in outputs]),
            accuracy=mean_share([output.accuracy for output in outputs]),
            output_error=self._error.value(),
            mean_rate=spikes / (self._num_samples * neurons * duration),
            spikes=spikes / self._num_samples,
            layers=tuple(total.result(self._num_samples) for total in layers),
            outputs=outputs,
            negative=sum(total.negative for total in layers) / self._num_samples,
            not_spiking=not_spiking,
        )


def mean_share(shares: list[float | None]) -> float | None:
    """The mean of the shares that are not None; None if all are."""
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known else None
