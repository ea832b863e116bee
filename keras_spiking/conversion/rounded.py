"""The rounded activations that neurons must have as means if they integrate their input."""

from collections import Counter
from typing import Any

import keras
import numpy as np

from keras_spiking.conversion.model_copy import ModelCopy
from keras_spiking.conversion.signals import Signal
from keras_spiking.conversion.survey import Survey
from keras_spiking.layers import SpikingActivation

# How far, in spikes, the integral may be on the wrong side of a whole number. In float32, a tie may
# go to either side.
_TIE = 0.01


class StagedCopy(ModelCopy):
    """A copy whose layers can run on activations from elsewhere.

    Args:
        survey: The model, which does not change, and what is known of it.

    Attributes:
        given: For each of `activations`, the tensor that the next layers get. A model of this graph
            can have it as an input.
    """

    def __init__(self, survey: Survey):
        super().__init__(survey)
        self.given: list[keras.KerasTensor] = []

    def fire(self, signal: Signal) -> Signal:
        tensor = super().fire(signal).tensor
        name = self.unused(f"{self.activations[-1].name}_given")
        given = keras.layers.Identity(dtype=tensor.dtype, name=name)(tensor)
        self.given.append(given)
        return Signal(given)


class RoundedNetwork:
    r"""The network without spikes whose activations are rounded.

    Take a neuron that integrates its input, with :math:`c` spikes in a step for an activation of 1.
    After T steps, its mean output is :math:`\lfloor v_0 + c T f(m) \rfloor / (c T)`, where
    :math:`f` is its activation and :math:`m` its mean input. If the layers between neurons keep
    means, all means of the spiking model are those of this network.

    Each layer is compared on the means that the spiking model has before it. So an error in one
    layer does not count as an error of the layers after it.

    Args:
        original: A copy of the original, built.
        spiking_model: The spiking model.
        layers: Its spiking layer for each of `original.activations`.
    """

    def __init__(
        self, original: StagedCopy, spiking_model: keras.Model, layers: list[SpikingActivation]
    ):
        same_weights = _has_weights_of(original.model, spiking_model)
        self._layers = [layer if same_weights and _rounds(layer) else None for layer in layers]
        self._model = keras.Model(
            [*keras.tree.flatten(original.model.input), *original.given],
            [active.tensor for active in original.activations],
        )

    def off(self, batch: Any, means: list[np.ndarray], duration: float) -> list[np.ndarray | None]:
        r"""Which means are not the rounded activation: further than :math:`1 / (2 c T)` from it.

        Args:
            batch: Inputs of the original.
            means: Mean output of each spiking call, `(batch, ...)`.
            duration: Length of all steps together, in seconds.

        Returns:
            A Boolean array for each spiking call. None where it is not known what the mean must be:
            if the weights are not the original's, if the initial voltage is random, or if neurons
            integrate the activation or cannot take spikes back.
        """
        if not any(self._layers):
            return [None] * len(means)
        inputs = [*keras.tree.flatten(batch), *means]
        activations = keras.tree.flatten(self._model.predict_on_batch(inputs))
        return [
            None if layer is None else _off(layer, mean, np.asarray(values, "float64"), duration)
            for layer, mean, values in zip(self._layers, means, activations, strict=True)
        ]


def _off(
    layer: SpikingActivation, mean: np.ndarray, values: np.ndarray, duration: float
) -> np.ndarray:
    # n = floor(x) is the same as |n + 1/2 - x| <= 1/2 (but for ties).
    per_unit = np.asarray(layer.rate_scale, "float64") * duration
    distance = np.abs(mean * per_unit + 0.5 - (layer.initial_voltage + values * per_unit))
    return distance > 0.5 + _TIE


def _rounds(layer: SpikingActivation) -> bool:
    """Whether the mean output of a layer is its activation, rounded from a known voltage."""
    is_known = isinstance(layer.initial_voltage, np.ndarray)
    return is_known and layer.integrate == "input" and layer.negative_spikes


def _has_weights_of(original: keras.Model, spiking_model: keras.Model) -> bool:
    """Whether all weights of the original are among those of the spiking model, unchanged."""
    return _weights_of(original) <= _weights_of(spiking_model)


def _weights_of(model: keras.Model) -> Counter[tuple[tuple[int, ...], bytes]]:
    return Counter((weight.shape, weight.tobytes()) for weight in model.get_weights())
