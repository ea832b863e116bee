"""What a model's layers get as input, on example data."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_spiking._data import batches, checked_samples, num_samples
from keras_spiking._graph import Call
from keras_spiking._types import Tensor
from keras_spiking.energy.graph import Reader, are_masks, makes_mask, walk, without_masks
from keras_spiking.energy.spikes import Content, emits, is_filter, is_scaling, unwrapped
from keras_spiking.layers.reset import unchanged

BATCH_SIZE = 32


def measure_rates(
    model: keras.Model, contents: list[Content], example_data: Any, read: Reader
) -> np.ndarray:
    """The rate of the inputs of each use of a layer, in hertz, over all elements and samples.

    Args:
        model: A model that `is_graph`. Its states are as before when this is over.
        contents: What is in the first output of each call, in the order of `walk`.
        example_data: Arrays of samples, in a structure that the model takes.
        read: Gives the graph of a model.
    """
    arrays = checked_samples("ModelEnergy", "example_data", example_data, model)
    batch_size = model.inputs[0].shape[0] or BATCH_SIZE
    probe = _Probe(model, contents, read)
    with unchanged(model):
        total = sum(
            num_samples(batch) * probe.predict_on_batch(batch)
            for batch in batches(arrays, batch_size)
        )
    return total / num_samples(arrays)


class _Probe(keras.Model):
    """Runs a model, and returns the rates of the inputs of all its layers."""

    def __init__(self, model: keras.Model, contents: list[Content], read: Reader):
        # It must not cast: the layers do, each to its own type.
        super().__init__(name="probe", autocast=False)
        self.model = model
        self.contents = contents
        self.read = read

    def call(self, inputs: list[Tensor]) -> Tensor:
        measure = _Measure(self.contents)
        walk(self.model, list(map(_Signal, inputs)), measure, self.read)
        return ops.stack(measure.rates)


class _Signal(NamedTuple):
    """A tensor as the model runs.

    Attributes:
        value: Its value.
        content: What it holds.
        magnitudes: The rate of each element in hertz, where there are spikes of several heights.
            Elsewhere it is None, and the rate follows from the value.
    """

    value: Tensor
    content: Content = Content()
    magnitudes: Tensor = None

    def rates(self) -> Tensor:
        """The rate of each element in hertz: of spikes, their number per second."""
        if self.magnitudes is not None:
            return self.magnitudes
        (scale,), dts = self.content.scales, self.content.dts
        magnitudes = ops.abs(ops.cast(self.value, "float32"))
        if isinstance(scale, tuple):
            scale = ops.convert_to_tensor(scale, "float32")  # one for each channel
        if self.content.whole and len(dts) == 1:
            # Half precision does not hold every multiple of their height.
            return ops.round(magnitudes * (dts[0] * scale)) / dts[0]
        return magnitudes * scale

    def map(self, function: Callable[[Tensor], Tensor]) -> "_Signal":
        """Applies a function to the value and to the magnitudes."""
        magnitudes = None if self.magnitudes is None else function(self.magnitudes)
        return self._replace(value=function(self.value), magnitudes=magnitudes)


class _Measure:
    """Runs a model as it is walked through, and measures the rates.

    The value of a tensor is a `_Signal`.
    """

    def __init__(self, contents: list[Content]):
        self.rates: list[Tensor] = []
        self._contents = iter(contents)

    def enter(self, value: _Signal, tensor: Tensor) -> _Signal:
        rank = len(tensor.shape)

        def fit(array: Tensor) -> Tensor:
            if len(array.shape) == rank:
                return array
            # A Keras model adds a last axis of size one that is missing, and drops one too many.
            return ops.squeeze(array, -1) if len(array.shape) > rank else ops.expand_dims(array, -1)

        value = value.map(fit)
        return value._replace(value=ops.cast(value.value, tensor.dtype))

    def apply(self, name: str, call: Call, values: list[_Signal]) -> list[_Signal]:
        content = next(self._contents)
        if not makes_mask(call):
            self.rates.append(_mean([value.rates() for value in without_masks(call, values)]))
        if isinstance(call.layer, keras.layers.InputLayer):
            return values
        outputs = _run(call, [value.value for value in values])
        first = _Signal(outputs[0], content, _magnitudes_behind(call, values, content))
        return [first, *map(_Signal, outputs[1:])]

    def fold(self, value: _Signal) -> _Signal:
        return value.map(lambda array: ops.reshape(array, (-1, *ops.shape(array)[2:])))

    def unfold(self, value: _Signal, like: _Signal) -> _Signal:
        steps = ops.shape(like.value)[1]
        return value.map(lambda array: ops.reshape(array, (-1, steps, *ops.shape(array)[1:])))


def _run(call: Call, tensors: list[Tensor]) -> list[Tensor]:
    """Calls the layer of a call again, on other tensors."""
    arguments, keywords = call.filled(tensors)
    return keras.tree.flatten(call.layer(*arguments, **keywords))


def _magnitudes_behind(call: Call, values: list[_Signal], content: Content) -> Tensor:
    """The rates behind a layer that passes spikes on; None where they follow from its output."""
    layer = unwrapped(call.layer)
    follows = len(content.scales) == 1 and all(value.magnitudes is None for value in values)
    if any(isinstance(scale, tuple) for scale in content.scales):
        # There is a scale for each channel, and all layers but filters may move or join channels.
        follows = follows and is_filter(layer)
    if not content.dts or emits(layer) or (follows and not is_scaling(layer)):
        return None
    rates = [
        value.value if is_mask else value.rates()
        for value, is_mask in zip(values, are_masks(call), strict=True)
    ]
    if isinstance(layer, keras.layers.Multiply):
        return _coincidences(call, values, rates)
    if is_scaling(layer):
        return rates[0]
    if is_filter(layer):
        # It may have a state, so it is not called. Its output has the mean of its input over time,
        # but for the start.
        time_axis = 0 if layer.time_major else 1
        return rates[0] if layer.return_sequences else ops.mean(rates[0], axis=time_axis)
    # Spikes that are subtracted arrive too, and of spikes of two heights, the smaller value may be
    # more spikes. So take the largest rate that is possible.
    if isinstance(layer, keras.layers.Subtract):
        rates = [rates[0], -rates[1]]
    if isinstance(layer, keras.layers.Minimum):
        return -_run(call, [-rate for rate in rates])[0]
    return _run(call, rates)[0]


def _coincidences(call: Call, values: list[_Signal], rates: list[Tensor]) -> Tensor:
    """The rates of products of spikes; a factor that is not spikes only scales them."""
    dts = [value.content.dts for value in values]
    counts = [
        rate * dt[0] if dt else ops.ones_like(rate) for rate, dt in zip(rates, dts, strict=True)
    ]
    return _run(call, counts)[0] / next(dt[0] for dt in dts if dt)


def _mean(rates: Sequence[Tensor]) -> Tensor:
    """The mean over all elements of several arrays."""
    total = sum(ops.sum(rate) for rate in rates)
    # Not `ops.size`, which follows `floatx` where that has 16 bits.
    sizes = [[ops.cast(length, "float32") for length in ops.shape(rate)] for rate in rates]
    size = sum(math.prod(lengths) for lengths in sizes)
    return total / size
