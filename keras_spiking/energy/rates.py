"""What a model's layers get as input, on example data."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_spiking.energy.graph import are_masks, makes_mask, walk, without_masks
from keras_spiking.energy.spikes import Content, emits, is_filter, is_scaling, unwrapped
from keras_spiking.layers.sublayers import layers_within

BATCH_SIZE = 32


def measure_rates(model: Any, contents: list[Content], example_data: Any) -> np.ndarray:
    """The rate of the inputs of each use of a layer, in hertz, over all elements and samples.

    Args:
        model: Model whose graph Keras knows. Its states are as before when this is over.
        contents: What is in the first output of each node, in the order of `walk`.
        example_data: Arrays of samples, in a structure that the model takes.
    """
    arrays = _checked(model, example_data)
    num_samples = len(arrays[0])
    batch_size = model.inputs[0].shape[0] or BATCH_SIZE
    probe = _Probe(model, contents)
    before = [
        (variable, np.copy(ops.convert_to_numpy(variable)))
        for variable in model.variables
        if not variable.trainable
    ]
    rates: Any = 0.0
    try:
        for start in range(0, num_samples, batch_size):
            batch = [array[start : start + batch_size] for array in arrays]
            rates = rates + len(batch[0]) * probe.predict_on_batch(batch)
    finally:
        for variable, value in before:
            variable.assign(value)
    return rates / num_samples


class _Probe(keras.Model):
    """Runs a model, and returns the rates of the inputs of all its layers."""

    def __init__(self, model: Any, contents: list[Content]):
        # It must not cast: the layers do, each to its own type.
        super().__init__(name="probe", autocast=False)
        self.model = model
        self.contents = contents

    def call(self, inputs: list[Any]) -> Any:
        measure = _Measure(self.contents)
        walk(self.model, list(map(_Signal, inputs)), measure)
        return ops.stack(measure.rates)


class _Signal(NamedTuple):
    """A tensor as the model runs.

    Attributes:
        value: Its value.
        content: What it holds.
        magnitudes: Where there are spikes of several heights: the rate of each element in
            hertz. Elsewhere it follows from the value.
    """

    value: Any
    content: Content = Content()
    magnitudes: Any = None

    def rates(self) -> Any:
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

    def map(self, function: Any) -> "_Signal":
        magnitudes = None if self.magnitudes is None else function(self.magnitudes)
        return self._replace(value=function(self.value), magnitudes=magnitudes)


class _Measure:
    """Walks a graph to run it, and to measure the rates. The value of a tensor is a `_Signal`."""

    def __init__(self, contents: list[Content]):
        self.rates: list[Any] = []
        self._contents = iter(contents)

    def enter(self, value: _Signal, tensor: Any) -> _Signal:
        rank = len(tensor.shape)

        def fit(array: Any) -> Any:
            if len(array.shape) == rank:
                return array
            # Models of Keras add a last axis of size one where it is missing, and leave it out.
            return ops.squeeze(array, -1) if len(array.shape) > rank else ops.expand_dims(array, -1)

        value = value.map(fit)
        return value._replace(value=ops.cast(value.value, tensor.dtype))

    def apply(self, name: str, node: Any, values: list[_Signal]) -> list[_Signal]:
        content = next(self._contents)
        if not makes_mask(node):
            self.rates.append(_mean([each.rates() for each in without_masks(node, values)]))
        if node.is_input:
            return values
        outputs = _call(node, [value.value for value in values])
        first = _Signal(outputs[0], content, _magnitudes_behind(node, values, content))
        return [first, *map(_Signal, outputs[1:])]

    def fold(self, value: _Signal) -> _Signal:
        return value.map(lambda array: ops.reshape(array, (-1, *ops.shape(array)[2:])))

    def unfold(self, value: _Signal, like: _Signal) -> _Signal:
        steps = ops.shape(like.value)[1]
        return value.map(lambda array: ops.reshape(array, (-1, steps, *ops.shape(array)[1:])))


def _call(node: Any, tensors: Sequence[Any]) -> list[Any]:
    """Calls the layer of a node again, on other tensors."""
    tensor_of = dict(zip(map(id, node.input_tensors), tensors, strict=True))
    args, kwargs = keras.tree.map_structure(
        lambda item: tensor_of.get(id(item), item), (node.arguments.args, node.arguments.kwargs)
    )
    return keras.tree.flatten(node.operation(*args, **kwargs))


def _magnitudes_behind(node: Any, values: list[_Signal], content: Content) -> Any:
    """The rates behind a layer that passes spikes on, where its output's values do not say them."""
    layer = unwrapped(node.operation)
    follows = len(content.scales) == 1 and all(value.magnitudes is None for value in values)
    if any(isinstance(scale, tuple) for scale in content.scales):
        # One for each channel, and layers other than filters may move or join channels.
        follows = follows and is_filter(layer)
    if not content.dts or emits(layer) or (follows and not is_scaling(layer)):
        return None
    rates = [
        value.value if is_mask else value.rates()
        for value, is_mask in zip(values, are_masks(node), strict=True)
    ]
    if isinstance(layer, keras.layers.Multiply):
        return _coincidences(node, values, rates)
    if is_scaling(layer):
        return rates[0]
    if is_filter(layer):
        # Not called, as it may have a state. It keeps the mean over time, but for its start.
        time_axis = 0 if layer.time_major else 1
        return rates[0] if layer.return_sequences else ops.mean(rates[0], axis=time_axis)
    # Of spikes of two heights, those that are subtracted arrive too, and the smaller value may be
    # more spikes. So take the most that it can be.
    if isinstance(layer, keras.layers.Subtract):
        rates = [rates[0], -rates[1]]
    if isinstance(layer, keras.layers.Minimum):
        return -_call(node, [-rate for rate in rates])[0]
    return _call(node, rates)[0]


def _coincidences(node: Any, values: list[_Signal], rates: list[Any]) -> Any:
    """The rates of products of spikes; a factor that is no spikes scales them only."""
    dts = [value.content.dts for value in values]
    counts = [
        rate * dt[0] if dt else ops.ones_like(rate) for rate, dt in zip(rates, dts, strict=True)
    ]
    return _call(node, counts)[0] / next(dt[0] for dt in dts if dt)


def _mean(rates: Sequence[Any]) -> Any:
    """The mean over all elements of several arrays."""
    total = sum(ops.sum(rate) for rate in rates)
    # Not `ops.size`, which follows `floatx` where that has 16 bits.
    sizes = [[ops.cast(length, "float32") for length in ops.shape(rate)] for rate in rates]
    size = sum(math.prod(lengths) for lengths in sizes)
    return total / size


def _checked(model: Any, example_data: Any) -> list[np.ndarray]:
    """Example data as one array for each of `model.inputs`."""
    owner = "ModelEnergy"
    expected = ", ".join(f"{tensor.name} {tuple(tensor.shape)}" for tensor in model.inputs)
    leaves = _leaves(model, example_data, expected)
    if not all(hasattr(array, "__array__") or hasattr(array, "toarray") for array in leaves):
        raise TypeError(
            f"{owner}: `example_data` must be an array for each input of the model, {expected}; "
            f"received {type(example_data).__name__}. Turn lists into arrays with numpy.asarray; "
            "of a dataset, take some batches and join them with numpy.concatenate."
        )
    arrays = [_as_numpy(array) for array in leaves]
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays):
        raise ValueError(
            f"{owner}: `example_data` must be finite; received values that are infinite or not a "
            "number. Leave out the samples that have them."
        )
    shapes = [array.shape for array in arrays]
    fit = len(arrays) == len(model.inputs) and all(
        _fits(shape, tensor.shape) for shape, tensor in zip(shapes, model.inputs, strict=True)
    )
    if not fit:
        raise ValueError(
            f"{owner}: `example_data` must be an array for each input of the model, {expected}; "
            f"received arrays of shape {', '.join(map(str, shapes))}."
        )
    samples = {len(array) for array in arrays}
    if len(samples) > 1 or 0 in samples:
        raise ValueError(
            f"{owner}: `example_data` must hold one or more samples, as many for every input; "
            f"received arrays of shape {', '.join(map(str, shapes))}."
        )
    batch_size = model.inputs[0].shape[0]
    stateful = any(getattr(layer, "stateful", False) for layer in layers_within(model))
    if stateful and batch_size and len(arrays[0]) % batch_size:
        raise ValueError(
            f"{owner}: `example_data` must hold a multiple of {batch_size} samples, the batch size "
            f"of the model, as it is stateful; received {len(arrays[0])}."
        )
    return arrays


def _leaves(model: Any, example_data: Any, expected: str) -> list[Any]:
    """What was given for each of `model.inputs`, in their order."""
    if not isinstance(example_data, dict):
        return keras.tree.flatten(example_data)
    named = model.input if isinstance(model, keras.Function) else None
    if isinstance(named, dict) and set(named) <= set(example_data):
        return keras.tree.flatten({key: example_data[key] for key in named})
    missing = [tensor.name for tensor in model.inputs if tensor.name not in example_data]
    if missing:
        raise ValueError(
            f"ModelEnergy: `example_data` must have an array for each input of the model, "
            f"{expected}; it has none for {', '.join(missing)}."
        )
    return [example_data[tensor.name] for tensor in model.inputs]


def _as_numpy(array: Any) -> np.ndarray:
    if hasattr(array, "toarray"):  # a sparse matrix of SciPy
        return array.toarray()
    return ops.convert_to_numpy(array) if ops.is_tensor(array) else np.asarray(array)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether `predict` takes an array: a last axis of size one may be missing, or too many."""
    if len(shape) == len(expected) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    elif len(shape) == len(expected) - 1 and expected[-1] == 1:
        shape = (*shape, 1)
    return len(shape) == len(expected) and all(
        size in (None, given) for size, given in zip(expected[1:], shape[1:], strict=True)
    )
