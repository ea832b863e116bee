"""What flows from node to node while a graph is read."""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_spiking._types import Array
from keras_spiking.layers import TimeBatched
from keras_spiking.nir import weights
from keras_spiking.nir.dialects import Dialect
from keras_spiking.nir.refusals import UnsupportedError


@dataclass(frozen=True)
class Reading:
    """What the units of a graph depend on.

    Attributes:
        dialect: How the simulator reads graphs for which it was written.
        dt: Length of a time step in seconds.
    """

    dialect: Dialect
    dt: float


@dataclass(frozen=True, eq=False)
class Values:
    """The output of a node in Keras.

    Attributes:
        tensor: `(batch, time, ...)`, channels last.
        flattened: The shape `(channels, ...)` of the samples before they were flattened, which
            Keras does in another order; None if they were not.
    """

    tensor: keras.KerasTensor
    flattened: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample in NIR."""
        return weights.channels_first(tuple(self.tensor.shape[2:]))

    @property
    def order(self) -> Array | None:
        """Where Keras has each element of a flattened sample; None for the same order."""
        return None if self.flattened is None else weights.flat_order(self.flattened)

    def then(self, layer: keras.layers.Layer) -> "Values":
        """The output of a layer that keeps shapes, called on this one."""
        return replace(self, tensor=layer(self.tensor))

    def each_step(self, layer: keras.layers.Layer, name: str) -> "Values":
        """The output of a layer that is called on each time step."""
        return replace(self, tensor=TimeBatched(layer, name=name)(self.tensor))

    def parameter(self, values: Any) -> Array:
        """A parameter of a node in the layout of Keras: a number where all are equal."""
        values = np.asarray(values, "float64")
        if values.size and np.all(values == values.flat[0]):
            return np.asarray(values.flat[0])
        values = np.broadcast_to(values, self.shape)
        if self.order is not None:
            values = values[np.argsort(self.order)]
        return np.moveaxis(values, 0, -1)


def added(before: list[Values], name: str) -> Values:
    """The sum of all that leads to a node."""
    if not before:
        raise UnsupportedError("has no input. Lead an edge to it.")
    if len(before) == 1:
        return before[0]
    if any(values.flattened != before[0].flattened for values in before):
        before = [in_nir_order(each, f"{name}_order_{i}") for i, each in enumerate(before, 1)]
    total = layers.Add(name=f"{name}_sum")([values.tensor for values in before])
    return replace(before[0], tensor=total)


def scaled(values: Values, scale: Any, name: str) -> Values:
    """Values times a number, or times an array in the layout of NIR."""
    return values.then(layers.Rescaling(values.parameter(scale).tolist(), name=name))


def in_nir_order(values: Values, name: str) -> Values:
    """Values in the order of NIR, if they were flattened in that of Keras."""
    if values.order is None:
        return replace(values, flattened=None)
    assert values.flattened is not None
    channels, *sizes = values.flattened
    axes = (len(sizes) + 1, *range(1, len(sizes) + 1))
    parts = [layers.Reshape((*sizes, channels)), layers.Permute(axes), layers.Flatten()]
    return Values(TimeBatched(keras.Sequential(parts), name=name)(values.tensor))
