"""The network without spikes whose activations are rounded, which the spiking one must equal."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.converted.evaluate import run, spikes_per_unit
from benchmarks.converted.networks import layers_of

if TYPE_CHECKING:
    import keras

DT = 2.0**-10  # a power of two, so that the height of a spike is the same in every program
TOLERANCE = 1e-5


def rounding(per_unit: np.ndarray, steps: int) -> Callable[[Any], Any]:
    """ReLU, rounded to multiples of what one spike in all the steps stands for."""
    from keras import ops

    levels = per_unit * steps
    return lambda x: ops.floor(0.5 + levels * ops.maximum(x, 0.0)) / levels


def rounded(
    model: "keras.Model", per_unit: dict[str, np.ndarray] | None = None, steps: int = 1
) -> "keras.Model":
    """A copy in float64, with each activation in `per_unit` rounded."""
    import keras

    def copy(layer: "keras.layers.Layer") -> "keras.layers.Layer":
        config = {**layer.get_config(), "dtype": "float64"}
        if layer.name not in (per_unit or {}):
            return type(layer).from_config(config)
        function = rounding(per_unit[layer.name], steps)
        if isinstance(layer, keras.layers.ReLU):
            return keras.layers.Activation(function, name=layer.name, dtype="float64")
        return type(layer).from_config({**config, "activation": function})

    result = keras.models.clone_model(model, clone_function=copy)
    result.set_weights(model.get_weights())
    return result


def differences(
    model: "keras.Model", images: np.ndarray, examples: np.ndarray, steps: tuple[int, ...]
) -> list[dict[str, float]]:
    """How far spikes are from the rounded network, in float64 and in float32.

    An activation on a tie to within rounding may go up in one program and down in the other. In
    float32 some of an image's do: hence the share of images.
    """
    import keras_spiking

    found = {}
    for dtype, original in (("float64", rounded(model)), ("float32", model)):
        spiking = keras_spiking.convert(
            original, num_steps=max(steps), dt=DT, example_data=examples
        )
        found[dtype] = run(spiking, images, steps)
        per_unit = {
            layer.name.removesuffix("_spikes"): spikes_per_unit(layer)
            for layer in layers_of(spiking, keras_spiking.SpikingActivation)
        }
        expected = {
            each: rounded(model, per_unit, each).predict(images, verbose=0) for each in steps
        }
        found[dtype] = {
            each: np.abs(found[dtype].outputs[each] - expected[each]).max(axis=1) for each in steps
        }
    return [
        {
            "steps": each,
            "largest": float(found["float64"][each].max()),
            "beyond": float(np.mean(found["float64"][each] > TOLERANCE)),
            "median_float32": float(np.median(found["float32"][each])),
            "largest_float32": float(found["float32"][each].max()),
            "beyond_float32": float(np.mean(found["float32"][each] > TOLERANCE)),
        }
        for each in steps
    ]
