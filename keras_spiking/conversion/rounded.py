"""What the means of neurons that integrate their input must be: activations, rounded."""

from collections import Counter
from typing import Any

import keras
import numpy as np

from keras_spiking.conversion.copies import Copy
from keras_spiking.conversion.signals import Signal
from keras_spiking.conversion.survey import Survey
from keras_spiking.layers import SpikingActivation

# How far, in spikes, the integral may be on the wrong side of a whole number: float32 leaves open
# to which side a tie goes.
_TIE = 0.01


class StagedCopy(Copy):
    """A copy whose layers can run on other activations than those that it computes itself.

    Args:
        survey: The model, which stays as it is, and what is known of it.
        max_pooling: `"keep"` or `"average"`.

    Attributes:
        given: For each of `activations`, the tensor that the layers after it get.
    """

    def __init__(self, survey: Survey, max_pooling: str = "keep"):
        super().__init__(survey, max_pooling)
        self.given: list[keras.KerasTensor] = []

    def fire(self, signal: Signal) -> Signal:
        tensor = super().fire(signal).tensor
        name = self.unused(f"{self.activations[-1].name}_given")
        # A tensor of its own, so that a model of this graph can have it as an input.
        self.given.append(keras.layers.Identity(dtype=tensor.dtype, name=name)(tensor))
        return Signal(self.given[-1])


class RoundedNetwork:
    r"""The network without spikes whose activations are rounded, beside the one that spikes.

    After T steps, with :math:`c` spikes in a step for a unit of activation, the mean output of a
    neuron that integrates its input is :math:`\lfloor v_0 + c T f(m) \rfloor / (c T)`, where
    :math:`f` is its activation and :math:`m` its mean input. If every layer between passes on the
    means, all means are those of a network that rounds so. Each layer is held against what it must
    be for the means before it, so that one which parts does not make those behind it part too.

    Args:
        original: A copy of the original.
        spiking_model: The model that spikes.
        layers: Its spiking layers, one for each of `original.activations`.
    """

    def __init__(self, original: StagedCopy, spiking_model: Any, layers: list[SpikingActivation]):
        same = _has_weights_of(original.model, spiking_model)
        self._layers = [layer if same and _rounds(layer) else None for layer in layers]
        self._model = keras.Model(
            [*keras.tree.flatten(original.model.input), *original.given],
            [active.tensor for active in original.activations],
        )

    def off(self, batch: Any, means: list[np.ndarray], duration: float) -> list[np.ndarray | None]:
        r"""Which means are no rounded activations: further than :math:`1 / (2 c T)` from it.

        Args:
            batch: Inputs of the original.
            means: Mean output of each spiking call, `(batch, ...)`.
            duration: All steps together, in seconds.

        Returns:
            For each spiking call a Boolean array, None where nothing is known: with other weights
            than the original's, with random voltages, and for neurons that integrate the activation
            or take no spike back.
        """
        if not any(self._layers):
            return [None] * len(means)
        inputs = [*keras.tree.flatten(batch), *means]
        activations = keras.tree.flatten(self._model.predict_on_batch(inputs))
        return [
            None if layer is None else _off(layer, mean, np.asarray(values, "float64"), duration)
            for layer, mean, values in zip(self._layers, means, activations, strict=True)
        ]


def _off(layer: Any, mean: np.ndarray, values: np.ndarray, duration: float) -> np.ndarray:
    # n is the whole number below x if n + 1/2 is within 1/2 of x.
    per_unit = np.asarray(layer.rate_scale, "float64") * duration
    distance = np.abs(mean * per_unit + 0.5 - (layer.initial_voltage + values * per_unit))
    return distance > 0.5 + _TIE


def _rounds(layer: SpikingActivation) -> bool:
    """Whether the mean output of a layer is its rounded activation, and to what is known."""
    fixed = isinstance(layer.initial_voltage, np.ndarray)
    return fixed and layer.integrate == "input" and layer.negative_spikes


def _has_weights_of(original: Any, spiking_model: Any) -> bool:
    """Whether all weights of the original are among those of the spiking model, as they were."""
    theirs, ours = (
        Counter((weight.shape, weight.tobytes()) for weight in model.get_weights())
        for model in (original, spiking_model)
    )
    return theirs <= ours
