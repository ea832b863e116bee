"""Finds scales with which the strongest activations of each layer fire at a given rate."""

import math
import warnings
from typing import Any

import keras
import numpy as np

from keras_spiking._data import batches, num_samples
from keras_spiking.conversion.model_copy import ModelCopy
from keras_spiking.conversion.survey import Survey

PERCENTILE = 99.9
_BATCH_SIZE = 32
# The least strength of a channel, as a share of the strongest. Without it, a channel that is hardly
# ever active would have a scale without bounds.
_WEAKEST = 0.01


class TopValues:
    """Computes a percentile of values that arrive in parts. The result is exact.

    It keeps the values above the percentile only: one in a thousand for the 99.9th.

    Args:
        count: Number of values in each channel, all parts together.
        percentile: The percentile, in percent.
        num_channels: Length of the last axis of the values; 1 to take all values together.
    """

    def __init__(self, count: int, percentile: float = PERCENTILE, num_channels: int = 1):
        self._position = (count - 1) * percentile / 100
        self._num_kept = count - math.floor(self._position)
        self._kept = np.empty((num_channels, 0), "float32")

    def add(self, values: np.ndarray) -> None:
        """Adds values of any shape whose last axis is that of the channels."""
        num_channels = len(self._kept)
        self._kept = np.concatenate([self._kept, values.reshape(-1, num_channels).T], axis=1)
        if self._kept.shape[1] > self._num_kept:
            self._kept = np.partition(self._kept, -self._num_kept)[:, -self._num_kept :]

    def percentiles(self) -> np.ndarray:
        """The percentile of each channel; linear between two values, as in `numpy.percentile`."""
        lowest = np.sort(self._kept)[:, :2].astype("float64")
        return lowest[:, 0] + (self._position % 1) * (lowest[:, -1] - lowest[:, 0])


def calibrated_scales(
    survey: Survey, max_pooling: str, example_data: Any, target_rate: float, percentile: float
) -> dict[str, Any]:
    """The rate scale of each layer in `survey.spiking`: one for each channel of its last axis."""
    copy = ModelCopy(survey, max_pooling)
    model = copy.build()
    names = [active.original for active in copy.activations]
    activity = keras.Model(model.input, [active.tensor for active in copy.activations])
    channels = _numbers_of_channels(copy)
    sizes = dict.fromkeys(survey.spiking, 0)
    tops: dict[str, TopValues] = {}
    for batch in batches(example_data, _BATCH_SIZE):
        outputs = keras.tree.flatten(activity.predict_on_batch(batch))
        values = [np.abs(np.asarray(output, "float32")) for output in outputs]
        if not tops:
            for name, value in zip(names, values, strict=True):
                per_sample = math.prod(value.shape[1:]) // channels[name]
                sizes[name] += num_samples(example_data) * per_sample
            tops = {
                name: TopValues(size, percentile, channels[name]) for name, size in sizes.items()
            }
        for name, value in zip(names, values, strict=True):
            tops[name].add(value)
    return {
        name: _scales_of(name, top.percentiles(), target_rate, percentile)
        for name, top in tops.items()
    }


def _numbers_of_channels(copy: ModelCopy) -> dict[str, int]:
    """How many scales each activation can have: 1 if the last axis differs between its calls."""
    lengths: dict[str, set[Any]] = {}
    for active in copy.activations:
        lengths.setdefault(active.original, set()).add(active.tensor.shape[-1])
    return {
        name: next(iter(found)) if len(found) == 1 and None not in found else 1
        for name, found in lengths.items()
    }


def _scales_of(name: str, strongest: np.ndarray, target_rate: float, percentile: float) -> Any:
    """The scale of each channel, as an array; as a number if there is one channel."""
    active = strongest[strongest > 0]
    if not active.size:
        warnings.warn(
            f"convert: the activation of layer {name!r} is zero on `example_data` (in at least "
            f"{percentile:g} % of its values), so no scale brings it to the target rate; its "
            "rate_scale stays 1. Give more data, or data as in training.",
            stacklevel=4,
        )
        return 1.0
    # A channel that is silent here may fire on other data. Assume that it is like the others.
    strongest = np.where(strongest > 0, strongest, np.median(active))
    scales = target_rate / np.maximum(strongest, _WEAKEST * active.max())
    return scales.astype("float32") if len(scales) > 1 else float(scales[0])
