"""What NIR cannot say, and what to do about it."""

from typing import Any

import keras
import numpy as np

from keras_spiking.conversion import rules
from keras_spiking.conversion.operations import Function
from keras_spiking.layers import SpikingActivation
from keras_spiking.layers.base import KerasSpikingLayer

CONVERT = 'keras_spiking.convert(model, ..., integrate="input", negative_spikes=False)'


class UnsupportedError(Exception):
    """A layer cannot be written; the message goes on after the name of the layer."""


class Refusals:
    """Collects the layers that cannot be written, or nodes that cannot be read.

    Args:
        headline: What to say before the list.
    """

    def __init__(self, headline: str):
        self._headline = headline
        self._reasons: dict[str, dict[str, str]] = {}

    def add(self, name: str, kind: str, reason: str) -> None:
        """Adds a layer or node of this name and class; one reason for each."""
        named = self._reasons.setdefault(reason, {})
        named.setdefault(name, f"{name!r} ({kind})")

    def check(self) -> None:
        """Raises a ValueError with one line for each reason, if there is any."""
        if self._reasons:
            lines = [
                f"- {', '.join(names.values())}{': each' if len(names) > 1 else ''} {reason}"
                for reason, names in self._reasons.items()
            ]
            raise ValueError("\n".join([self._headline, *lines]))


def refusal(layer: keras.layers.Layer | Function) -> str | None:
    """Why a layer cannot be written, as far as its settings tell; None if it can.

    Args:
        layer: A layer out of its wrappers, or a `Function`. Its class is one that can be written.
    """
    if isinstance(layer, KerasSpikingLayer):
        return _refusal_over_time(layer)
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return 'has data_format="channels_first". Make the model with "channels_last".'
    if mode := getattr(layer, "quantization_mode", None):
        return f"is quantized ({mode}). Write the model first, then quantize."
    padding = getattr(layer, "padding", "valid")
    if "Pooling" in type(layer).__name__ and padding != "valid":
        return f'has padding="{padding}", and NIR counts its zeros. Use padding="valid".'
    if isinstance(layer, keras.layers.BatchNormalization) and layer.axis != -1:
        last = len(layer.get_build_config()["input_shape"]) - 1 if layer.built else None
        if layer.axis != last:
            return f"has axis={layer.axis}. Normalize the last axis, of the channels."
    return None


def unknown(layer: keras.layers.Layer | Function) -> str:
    """Why a layer of a class that cannot be written cannot be."""
    if type(layer) in rules.AVERAGE_POOLING:
        return (
            "takes a maximum, and NIR has no node for that. Use average pooling, as "
            'keras_spiking.convert(model, ..., max_pooling="average") does.'
        )
    return "has no node in NIR. Use layers that keras_spiking.nir.to_nir lists, or leave it out."


def after_activation(name: str) -> str:
    """Why an activation without spikes cannot be written if layers follow it."""
    advice = f"Convert the model: {CONVERT}."
    if name == "relu":
        return f"applies relu without spikes, and other layers follow. {advice}"
    return (
        f"applies {name}, and other layers follow; NIR's neurons compute ReLU. Train the model "
        f"with relu. {advice}"
    )


def _refusal_over_time(layer: KerasSpikingLayer) -> str | None:
    for option in ("return_state", "time_major", "go_backwards"):
        if getattr(layer, option):
            return f"has {option}=True, and a graph has no place for that. Make it without."
    if isinstance(layer, SpikingActivation):
        return _refusal_of_spikes(layer)
    if np.any(keras.ops.convert_to_numpy(layer.cell.initial_level)):
        return (
            "starts from a level, and NIR's neurons start from zero. Set `initial_level` to zero."
        )
    return None


def _refusal_of_spikes(layer: SpikingActivation) -> str | None:
    activation: Any = layer.activation
    is_linear = activation is keras.activations.linear
    if not (is_linear or activation is keras.activations.relu or rules.is_plain_relu(activation)):
        name = activation_name(activation)
        return f"has the activation {name}, and NIR's IF computes ReLU. Train the model with relu."
    reasons = []
    if layer.integrate == "activation" and not is_linear:
        reasons.append("applies its activation before it integrates")
    if layer.negative_spikes:
        reasons.append("has negative spikes")
    if reasons:
        return (
            f"{' and '.join(reasons)}, which NIR's IF does not. Make it with "
            f'integrate="input", negative_spikes=False, as {CONVERT} does.'
        )
    if isinstance(layer.initial_voltage, (str, keras.initializers.Initializer)):
        return "draws its initial voltage. Use a number, at best initial_voltage=0.0."
    return None


def activation_name(activation: Any) -> str:
    """The name of a function or layer."""
    return getattr(activation, "__name__", None) or type(activation).__name__
