"""Finds the scale at which the strongest activations of each layer fire at a given rate."""

import math
import warnings
from typing import Any

import keras
import numpy as np

from keras_spiking.conversion.copies import Copy
from keras_spiking.conversion.data import batches, num_samples
from keras_spiking.conversion.survey import Survey

PERCENTILE = 99.9
_BATCH_SIZE = 32


class TopValues:
    """The 99.9th percentile of values that arrive in parts, exactly.

    Only the values above it are kept, one in a thousand.

    Args:
        count: How many values there will be.
    """

    def __init__(self, count: int):
        self._position = (count - 1) * PERCENTILE / 100
        self._num_kept = count - math.floor(self._position)
        self._kept = np.empty(0, "float32")

    def add(self, values: np.ndarray) -> None:
        """Takes the next values, of any shape."""
        values = values.ravel()
        if len(self._kept) == self._num_kept:
            values = values[values > self._kept.min()]
        self._kept = np.concatenate([self._kept, values])
        if len(self._kept) > self._num_kept:
            self._kept = np.partition(self._kept, -self._num_kept)[-self._num_kept :]

    def percentile(self) -> float:
        """The percentile of all values; linear between two, as `numpy.percentile` has it."""
        lowest = np.sort(self._kept)[:2].astype("float64")
        return float(np.interp(self._position % 1, range(len(lowest)), lowest))


def calibrated_scales(
    survey: Survey, max_pooling: str, example_data: Any, target_rate: float
) -> dict[str, float]:
    """The rate scale of each layer in `survey.spiking`."""
    copy = Copy(survey, max_pooling)
    names = [active.original for active in copy.activations]
    activity = keras.Model(copy.model.input, [active.tensor for active in copy.activations])
    samples = num_samples(example_data)
    sizes = dict.fromkeys(survey.spiking, 0)
    found: dict[str, TopValues] = {}
    for batch in batches(example_data, _BATCH_SIZE):
        values = keras.tree.flatten(activity.predict_on_batch(batch))
        if not found:
            for name, value in zip(names, values, strict=True):
                sizes[name] += samples * int(np.prod(value.shape[1:]))
            found = {name: TopValues(size) for name, size in sizes.items()}
        for name, value in zip(names, values, strict=True):
            found[name].add(np.abs(np.asarray(value, "float32")))

    scales = {}
    for name, values in found.items():
        strongest = values.percentile()
        if strongest > 0:
            scales[name] = target_rate / strongest
        else:
            scales[name] = 1.0
            warnings.warn(
                f"convert: the activation of layer {name!r} is zero on `example_data` (in at least "
                f"{PERCENTILE} % of its values), so no scale brings it to the target rate; its "
                "rate_scale stays 1. Give more data, or data as in training.",
                stacklevel=3,
            )
    return scales
