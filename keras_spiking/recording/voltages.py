"""Voltages, computed again from inputs and spikes, in float64."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_spiking.kernels.constants import DIGITS


class Neuron(NamedTuple):
    """What the voltages of a spiking layer follow from.

    Attributes:
        per_step: The spikes in a step for a unit of activation, `dt * rate_scale`; one number, or
            one for each channel.
        activation: Function of an array `(samples, time, ...)`.
        integrates_input: Whether the input is integrated, and not its activation.
        dtype: Type of the state, "float32" or "float64".
    """

    per_step: float | np.ndarray
    activation: Callable[[np.ndarray], np.ndarray]
    integrates_input: bool
    dtype: str


def voltages_of(
    neuron: Neuron,
    inputs: np.ndarray,
    counts: np.ndarray,
    states: list[np.ndarray],
    mask: np.ndarray | None,
) -> np.ndarray:
    """The voltage after each step, `(samples, time, ...)`, in spikes.

    Args:
        neuron: What the voltages follow from.
        inputs: What the layer was called on, `(samples, time, ...)`.
        counts: The number of spikes in each step.
        states: The states before the first step, as the layer has them.
        mask: Boolean array `(samples, time)`, True for used steps, or None.
    """
    features = (1,) * (inputs.ndim - 2)
    used = np.ones(inputs.shape[:2], bool) if mask is None else mask
    used = used.reshape(*used.shape, *features)
    inputs = np.where(used, inputs, 0)
    states = [np.asarray(state, np.float64) for state in states]
    emitted = np.cumsum(counts, 1, dtype=np.float64)
    if neuron.integrates_input:
        summed = _summed_activation(neuron, inputs, states, used)
        # The first call of all may start from a voltage alone.
        before = states[3][:, None] if len(states) > 1 else 0.0
        voltage = _fraction(states[-1], neuron.dtype)[:, None]
        return (voltage + summed - before - emitted).astype(neuron.dtype)
    increments = np.where(used, _on_grid(neuron, neuron.activation(inputs)), 0)
    start = _fraction(states[0], neuron.dtype)
    start = start if len(states) == 1 else start + states[1]
    return (start[:, None] + np.cumsum(increments, 1) - emitted).astype(neuron.dtype)


def _summed_activation(
    neuron: Neuron, inputs: np.ndarray, states: list[np.ndarray], used: np.ndarray
) -> np.ndarray:
    """The activation of the mean input so far, times the number of steps, in spikes."""
    steps = np.cumsum(used, 1, dtype=np.float64)
    summed = np.cumsum(_on_grid(neuron, inputs), 1)
    if len(states) > 1:
        summed = summed + (states[0] + states[1])[:, None]
        steps = steps + states[2].reshape(len(inputs), *[1] * (inputs.ndim - 1))
    means = summed / (neuron.per_step * np.maximum(steps, 1))
    return neuron.per_step * steps * neuron.activation(means)


def _on_grid(neuron: Neuron, rates: np.ndarray) -> np.ndarray:
    """Rates as spikes in a step, on the grid to which layers round them."""
    unit = 2.0 ** DIGITS[neuron.dtype]
    per_step = np.asarray(np.asarray(neuron.per_step) * unit, neuron.dtype)
    return np.rint(rates.astype(neuron.dtype) * per_step).astype(np.float64) / unit


def _fraction(voltage: np.ndarray, dtype: str) -> np.ndarray:
    """The fractional part of a voltage on the grid."""
    unit = 2.0 ** DIGITS[dtype]
    rounded = np.rint((voltage - np.floor(voltage)) * unit) / unit
    return np.where(rounded < 1, rounded, 1 - 1 / unit)
