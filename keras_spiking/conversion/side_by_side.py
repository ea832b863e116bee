"""Runs a spiking model beside its original, on the same samples."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_spiking._data import batches, num_samples
from keras_spiking.conversion.decisions import Decisions
from keras_spiking.conversion.probe import Probe
from keras_spiking.conversion.rounded import RoundedNetwork, StagedCopy
from keras_spiking.conversion.survey import Survey
from keras_spiking.conversion.totals import ResultTotals


class SideBySide:
    """A model, and the spiking model that `convert` made of it.

    Args:
        owner: Name of the public function, for errors.
        survey: The original, which does not change, and what is known of it.
        spiking_model: The spiking model, which does not change either.
        num_steps: Numbers of time steps for which it is to run.

    Raises:
        ValueError: If the spiking layers are not those that the original would have.
    """

    def __init__(
        self, owner: str, survey: Survey, spiking_model: keras.Model, num_steps: Sequence[int]
    ):
        self._output_names = survey.output_names
        self._num_steps = num_steps
        self._original = StagedCopy(survey)
        model = self._original.build()
        self._probe = Probe(spiking_model, num_steps)
        self._check_layers(owner, survey.model.name)
        self._order = self._order_of_activations()
        layers = [self._probe.layers[index] for index in self._order]
        self._rounded = RoundedNetwork(self._original, spiking_model, layers)
        activations = [active.tensor for active in self._original.activations]
        self._expected = keras.Model(model.input, [*model.outputs, *activations])

    def run(
        self, data: Any, decisions: Decisions, dts: Sequence[float], batch_size: int
    ) -> dict[tuple[float, int], ResultTotals]:
        """Runs both models on all data, and sums up what they did.

        Args:
            data: The samples, in the structure of the original's inputs.
            decisions: What the outputs decide, and the labels of all samples.
            dts: Lengths of a time step in seconds.
            batch_size: Number of samples in a batch.

        Returns:
            The totals for each pair of a `dt` and a number of steps.
        """
        names = [layer.name for layer in self._probe.layers]
        totals = {
            (dt, steps): ResultTotals(names, self._output_names, num_samples(data), dt, steps)
            for dt in dts
            for steps in self._num_steps
        }
        start = 0
        for batch in batches(data, batch_size):
            stop = start + num_samples(batch)
            labels = [None if array is None else array[start:stop] for array in decisions.labels]
            self._add_batch(totals, batch, labels, decisions)
            start = stop
        return totals

    def _add_batch(
        self,
        totals: dict[tuple[float, int], ResultTotals],
        batch: Any,
        labels: list[np.ndarray | None],
        decisions: Decisions,
    ) -> None:
        """Runs both models on a batch, and adds what they did to the totals."""
        expected = [np.asarray(array) for array in self._expected.predict_on_batch(batch)]
        original_outputs = expected[: len(self._output_names)]
        original_activations = expected[len(self._output_names) :]
        original_decisions = decisions.of(original_outputs)
        for dt in dict.fromkeys(dt for dt, _ in totals):
            self._probe.dt.assign(dt)
            for steps, (outputs, calls) in self._probe.run(batch).items():
                total = totals[dt, steps]
                counts = [calls[index] for index in self._order]
                off = self._rounded.off(batch, [count.mean for count in counts], dt * steps)
                for active, count, reference, is_off in zip(
                    self._original.activations, counts, original_activations, off, strict=True
                ):
                    total.add_layer(active.name, count, reference, is_off)
                total.add_outputs(
                    decisions.of(outputs), original_decisions, labels, outputs, original_outputs
                )

    def _order_of_activations(self) -> list[int]:
        """For each activation of the original, the index of its call among `probe.layers`."""
        calls: dict[str, list[int]] = {}
        for index, layer in enumerate(self._probe.layers):
            calls.setdefault(layer.name, []).append(index)
        return [calls[active.name].pop(0) for active in self._original.activations]

    def _check_layers(self, owner: str, name: str) -> None:
        """Checks that the spiking layers are those that the original would have."""
        expected = sorted(active.name for active in self._original.activations)
        names = sorted(layer.name for layer in self._probe.layers)
        if names != expected:
            raise ValueError(
                f"{owner}: `spiking_model` must be what convert made of `model` ({name!r}), with "
                f"the spiking layers {expected}; received one with {names}."
            )
