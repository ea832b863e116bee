"""Runs a converted network once, and reads its outputs and spikes after every step."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.converted.networks import layers_of

if TYPE_CHECKING:
    import keras

BATCH = 20


@dataclass(frozen=True)
class Run:
    """What a network has given so far, after each number of steps.

    Attributes:
        outputs: By the number of steps, `(image, class)`.
        spikes: By the number of steps, the mean number of spikes for an image.
    """

    outputs: dict[int, np.ndarray]
    spikes: dict[int, float]


def spikes_per_unit(layer: "keras.layers.Layer") -> np.ndarray:
    """The spikes of a step for an activation of 1: a number, or one for each channel."""
    from keras import ops

    scale = ops.convert_to_numpy(layer.rate_scale)
    return np.asarray(scale, "float64") * float(ops.convert_to_numpy(layer.dt))


def run(spiking: "keras.Model", images: np.ndarray, steps: tuple[int, ...]) -> Run:
    """Runs all steps of a network that averages over them; fewer steps are its first ones."""
    import keras
    from keras import ops

    import keras_spiking

    (average,) = layers_of(spiking, keras_spiking.TemporalAvgPool)
    counts = [
        ops.sum(
            ops.abs(layer.output) * spikes_per_unit(layer).astype(layer.compute_dtype),
            axis=tuple(range(2, len(layer.output.shape))),
        )
        for layer in layers_of(spiking, keras_spiking.SpikingActivation)
    ]
    probe = keras.Model(spiking.input, [average.input, *counts])
    logits, *counts = probe.predict(images, batch_size=BATCH, verbose=0)
    so_far = np.cumsum(logits, axis=1, dtype="float64")
    spikes = np.cumsum(np.sum(counts, axis=0).mean(axis=0, dtype="float64"))
    return Run(
        {each: softmax(so_far[:, each - 1] / each) for each in steps},
        {each: float(spikes[each - 1]) for each in steps},
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def rows(
    mode: str, found: Run, labels: np.ndarray, original: np.ndarray
) -> list[dict[str, float | str]]:
    """Accuracy, agreement with the original's decisions and spikes, a row for each length."""
    return [
        {
            "mode": mode,
            "steps": steps,
            "accuracy": float(np.mean(outputs.argmax(1) == labels)),
            "agreement": float(np.mean(outputs.argmax(1) == original.argmax(1))),
            "spikes": found.spikes[steps],
        }
        for steps, outputs in found.outputs.items()
    ]
