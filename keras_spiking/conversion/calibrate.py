"""Finds the scales at which the strongest activations of each layer fire at a given rate."""

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
# A channel that is hardly ever active would otherwise fire without end where it is.
_WEAKEST = 0.01


class TopValues:
    """A percentile of values that arrive in parts, exactly.

    Only the values above it are kept: of the 99.9th percentile, one in a thousand.

    Args:
        count: How many values there will be in each channel.
        percentile: Which one, in percent.
        num_channels: How long the last axis of the values is; 1 to take all values together.
    """

    def __init__(self, count: int, percentile: float = PERCENTILE, num_channels: int = 1):
        self._position = (count - 1) * percentile / 100
        self._num_kept = count - math.floor(self._position)
        self._kept = np.empty((num_channels, 0), "float32")

    def add(self, values: np.ndarray) -> None:
        """Takes the next values, of any shape that ends with the channels."""
        num_channels = len(self._kept)
        self._kept = np.concatenate([self._kept, values.reshape(-1, num_channels).T], axis=1)
        if self._kept.shape[1] > self._num_kept:
            self._kept = np.partition(self._kept, -self._num_kept)[:, -self._num_kept :]

    def percentiles(self) -> np.ndarray:
        """That of each channel; linear between two values, as `numpy.percentile` has it."""
        lowest = np.sort(self._kept)[:, :2].astype("float64")
        return lowest[:, 0] + (self._position % 1) * (lowest[:, -1] - lowest[:, 0])


def calibrated_scales(
    survey: Survey, max_pooling: str, example_data: Any, target_rate: float, percentile: float
) -> dict[str, Any]:
    """The rate scale of each layer in `survey.spiking`: one for each channel of its last axis."""
    copy = ModelCopy(survey, max_pooling)
    copy.build()
    names = [active.original for active in copy.activations]
    activity = keras.Model(copy.model.input, [active.tensor for active in copy.activations])
    channels = _numbers_of_channels(copy)
    sizes = dict.fromkeys(survey.spiking, 0)
    found: dict[str, TopValues] = {}
    for batch in batches(example_data, _BATCH_SIZE):
        values = [np.abs(np.asarray(each, "float32")) for each in _flat(activity, batch)]
        if not found:
            for name, value in zip(names, values, strict=True):
                per_sample = math.prod(value.shape[1:]) // channels[name]
                sizes[name] += num_samples(example_data) * per_sample
            found = {
                name: TopValues(size, percentile, channels[name]) for name, size in sizes.items()
            }
        for name, value in zip(names, values, strict=True):
            found[name].add(value)
    return {
        name: _scales_of(name, values.percentiles(), target_rate, percentile)
        for name, values in found.items()
    }


def _flat(model: keras.Model, batch: Any) -> list[Any]:
    return keras.tree.flatten(model.predict_on_batch(batch))


def _numbers_of_channels(copy: ModelCopy) -> dict[str, int]:
    """How many scales each activation can have: 1 if it is used on more than one last axis."""
    found: dict[str, set[Any]] = {}
    for active in copy.activations:
        found.setdefault(active.original, set()).add(active.tensor.shape[-1])
    return {
        name: next(iter(sizes)) if len(sizes) == 1 and None not in sizes else 1
        for name, sizes in found.items()
    }


def _scales_of(name: str, strongest: np.ndarray, target_rate: float, percentile: float) -> Any:
    active = strongest[strongest > 0]
    if not active.size:
        warnings.warn(
            f"convert: the activation of layer {name!r} is zero on `example_data` (in at least "
            f"{percentile:g} % of its values), so no scale brings it to the target rate; its "
            "rate_scale stays 1. Give more data, or data as in training.",
            stacklevel=4,
        )
        return 1.0
    # What is silent here may not be on other data: then it is taken to be like the others.
    strongest = np.where(strongest > 0, strongest, np.median(active))
    scales = target_rate / np.maximum(strongest, _WEAKEST * active.max())
    return scales.astype("float32") if len(scales) > 1 else float(scales[0])
