"""A copy of a spiking model that counts its spikes, for steps of any length."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking.conversion import graph
from keras_spiking.conversion.calibrate import TopValues
from keras_spiking.conversion.report import LayerResult
from keras_spiking.layers import KerasSpikingLayer, RepeatOverTime, SpikingActivation
from keras_spiking.layers.cell import WithTimeStep


class Probe:
    """Runs a converted model with another number of steps, and another `dt` at any time.

    Args:
        model: A model that `convert` made; neither it nor its weights change.
        num_steps: Number of time steps.

    Attributes:
        dt: The length of a step in seconds, a variable.
        names: The name of the spiking layer of each call, in order.
    """

    def __init__(self, model: Any, num_steps: int):
        self.dt = keras.Variable(1.0, dtype="float32", trainable=False, name="dt")
        self.num_steps = num_steps
        self.names: list[str] = []
        copies = []
        counted: list[Any] = []

        def copy_of(layer: Any) -> Any:
            config = layer.get_config()
            if isinstance(layer, KerasSpikingLayer):
                config["dt"] = self.dt
            elif isinstance(layer, RepeatOverTime):
                config["num_steps"] = num_steps
            copies.append((layer, type(layer).from_config(config)))
            return copies[-1][1]

        def call(layer: Any, *arguments: Any, **keywords: Any) -> Any:
            outputs = layer(*arguments, **keywords)
            if isinstance(layer, SpikingActivation):
                self.names.append(layer.name)
                counted.extend(_SpikeCounts(layer.rate_scale, dt=self.dt)(outputs))
            return outputs

        copy = keras.models.clone_model(
            graph.functional(model), clone_function=copy_of, call_function=call
        )
        for layer, copied in copies:
            copied.set_weights(layer.get_weights())
            if isinstance(copied, keras.layers.Normalization):
                copied.finalize_state()
        self._num_outputs = len(copy.outputs)
        self._model = keras.Model(copy.input, [*copy.outputs, *counted])

    def run(self, batch: Any) -> tuple[list[np.ndarray], list[tuple[np.ndarray, ...]]]:
        """The outputs, and for each spiking call the mean output, spikes, and crowded steps."""
        arrays = [np.asarray(array) for array in self._model.predict_on_batch(batch)]
        outputs, counted = arrays[: self._num_outputs], arrays[self._num_outputs :]
        return outputs, list(zip(counted[::3], counted[1::3], counted[2::3], strict=True))


class _SpikeCounts(WithTimeStep):
    """The mean output over time, the number of spikes, and of steps with more than one spike."""

    def __init__(self, rate_scale: float, dt: Any):
        super().__init__(dt=dt)
        self.rate_scale = rate_scale

    def call(self, inputs: Any) -> list[Any]:
        inputs = ops.cast(inputs, "float32")
        counts = ops.abs(inputs) * self._time_step.seconds("float32", self.rate_scale)
        crowded = ops.cast(counts > 1.5, "float32")
        return [ops.mean(inputs, axis=1), ops.sum(counts, axis=1), ops.sum(crowded, axis=1)]


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
            top_rate=self._top.percentile() / self._duration,
            spikes=self.spikes / num_inferences,
            silent=1 - float(np.mean(self._fired)),
            several=self._crowded / (total * self._num_steps),
            error=self._error.value(),
        )
