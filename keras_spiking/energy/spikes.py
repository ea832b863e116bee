"""Which tensors of a graph hold spikes, and which layers pass spikes on.

A spike has the height `1 / (dt * rate_scale)`. Behind a layer that passes spikes on, values are
measured in this unit: a value of k heights is k spikes. It may be the largest value of a window,
the sum of spikes that arrive together, or the average of one spike and none, which is half a spike.
A layer that scales spikes does not change their number.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from keras_spiking.layers import (
    Alpha,
    LastStep,
    Lowpass,
    RepeatOverTime,
    SpikingActivation,
    TemporalAvgPool,
    TimeBatched,
)

# These apply the layer that they wrap to each time step.
OVER_STEPS = (layers.TimeDistributed, TimeBatched)


class Spikes(NamedTuple):
    """A kind of spikes, whose height is `1 / (dt * rate_scale)`.

    Attributes:
        dt: Length of their time step in seconds.
        rate_scale: One scale, or one for each channel.
    """

    dt: float
    rate_scale: float | tuple[float, ...]


class Content(NamedTuple):
    """What a tensor holds.

    Attributes:
        kinds: The kinds of spikes in it; None among them stands for values that are not spikes.
        whole: Whether all of its values are whole numbers of spikes.
        over_time: Whether its axis 1 is known to be time. That is so for the steps that
            `RepeatOverTime` makes; no other layer says so.
    """

    kinds: frozenset[Spikes | None] = frozenset({None})
    whole: bool = False
    over_time: bool = False

    @property
    def dts(self) -> list[float]:
        """The time steps of its spikes in seconds, the shortest first."""
        return sorted({kind.dt for kind in self.kinds if kind is not None})

    @property
    def scales(self) -> set[float | tuple[float, ...]]:
        """The factors from values to hertz: one, or several for spikes of several heights.

        Values that are not spikes are in hertz as they are.
        """
        return {1.0 if kind is None else kind.rate_scale for kind in self.kinds}


# Spikes stay spikes in these. The random ones do nothing in inference.
REARRANGING = (
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Concatenate,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.Dropout,
    layers.Flatten,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.InputLayer,
    layers.Permute,
    layers.RepeatVector,
    layers.Reshape,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
)

# These choose among spikes, repeat them, or let several arrive as one value.
_WHOLE = (
    *REARRANGING,
    LastStep,
    RepeatOverTime,
    layers.AdaptiveMaxPooling1D,
    layers.AdaptiveMaxPooling2D,
    layers.AdaptiveMaxPooling3D,
    layers.Add,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.Masking,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.Maximum,
    layers.Minimum,
    layers.Subtract,
    layers.UpSampling1D,
    layers.UpSampling3D,
)

# These may spread spikes, so that they return parts of a spike.
_FILTERS = (Alpha, Lowpass)
_IN_PARTS = (
    *_FILTERS,
    TemporalAvgPool,
    layers.AdaptiveAveragePooling1D,
    layers.AdaptiveAveragePooling2D,
    layers.AdaptiveAveragePooling3D,
    layers.Average,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.CenterCrop,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.Resizing,
    layers.UpSampling2D,
)

# A scaled spike is still one spike: on a device, the factor is part of the weights behind it. What
# normalization adds is part of a bias.
_SCALING = (
    layers.BatchNormalization,
    layers.Multiply,
    layers.Normalization,
    layers.Rescaling,
)


def unwrapped(layer: keras.Operation) -> keras.Operation:
    """A layer, or the one that it applies to each time step."""
    return layer.layer if isinstance(layer, OVER_STEPS) else layer


def emits(layer: keras.Operation) -> bool:
    """Whether a layer returns spikes of its own."""
    return isinstance(unwrapped(layer), SpikingActivation)


def is_filter(layer: keras.Operation) -> bool:
    """Whether a layer spreads spikes over time."""
    return isinstance(unwrapped(layer), _FILTERS)


def is_scaling(layer: keras.Operation) -> bool:
    """Whether a layer changes the height of spikes, but not their number."""
    return isinstance(unwrapped(layer), _SCALING)


def behind(layer: keras.Operation, contents: Sequence[Content]) -> Content:
    """What a layer returns for inputs with these contents. `over_time` is left as False."""
    inner = unwrapped(layer)
    if emits(inner):
        dt = float(keras.ops.convert_to_numpy(inner.dt))
        scale = inner.rate_scale
        scale = tuple(scale.tolist()) if isinstance(scale, np.ndarray) else scale
        return Content(frozenset({Spikes(dt, scale)}), whole=True)
    spiking = [content for content in contents if content.dts]
    if spiking and is_scaling(inner):
        return Content(_kinds(spiking))
    if not spiking or not isinstance(inner, _WHOLE + _IN_PARTS):
        return Content()
    whole = isinstance(inner, _WHOLE) and all(content.whole for content in contents)
    return Content(_kinds(contents), whole)


def _kinds(contents: Sequence[Content]) -> frozenset[Spikes | None]:
    return frozenset().union(*(content.kinds for content in contents))
