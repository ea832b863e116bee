"""What a model's layers get as input, on example data."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking.energy.graph import Spikes, by_name, in_order, walk

BATCH_SIZE = 32


def measure_rates(model: Any, spikes: list[Spikes | None], example_data: Any) -> np.ndarray:
    """The rate of the inputs of each use of a layer, in hertz, over all elements and samples.

    Args:
        model: Model whose graph Keras knows. Its states are as before when this is over.
        spikes: For each use, in the order of `walk`, what the spikes are that it gets, None if it
            does not get spikes.
        example_data: Arrays of samples, in a structure that the model takes.
    """
    arrays = _checked(model, example_data)
    num_samples = len(arrays[0])
    batch_size = model.inputs[0].shape[0] or BATCH_SIZE
    probe = _Probe(model, spikes)
    before = [
        (variable, np.copy(ops.convert_to_numpy(variable)))
        for variable in model.variables
        if not variable.trainable
    ]
    rates = np.zeros(len(spikes))
    try:
        for start in range(0, num_samples, batch_size):
            batch = [array[start : start + batch_size] for array in arrays]
            rates += len(batch[0]) * probe.predict_on_batch(batch)
    finally:
        for variable, value in before:
            variable.assign(value)
    return rates / num_samples


class _Probe(keras.Model):
    """Runs a model, and returns the rates of the inputs of all its layers."""

    def __init__(self, model: Any, spikes: list[Spikes | None]):
        # It must not cast: the layers do, each to its own type.
        super().__init__(name="probe", autocast=False)
        self.model = model
        self.spikes = spikes

    def call(self, inputs: list[Any]) -> Any:
        tensors = [
            ops.cast(value, tensor.dtype)
            for value, tensor in zip(inputs, self.model.inputs, strict=True)
        ]
        measure = _Measure(self.spikes)
        walk(self.model, tensors, measure)
        return ops.stack(measure.rates)


class _Measure:
    """Walks a graph to run it, and to measure the rates. The value of a tensor is its value."""

    def __init__(self, spikes: list[Spikes | None]):
        self.spikes = spikes
        self.rates: list[Any] = []

    def apply(self, name: str, node: Any, values: list[Any]) -> list[Any]:
        self.rates.append(_rate(values, self.spikes[len(self.rates)]))
        if node.is_input:
            return values
        value_of = dict(zip(map(id, node.input_tensors), values, strict=True))
        args, kwargs = keras.tree.map_structure(
            lambda item: value_of.get(id(item), item), (node.arguments.args, node.arguments.kwargs)
        )
        return keras.tree.flatten(node.operation(*args, **kwargs))

    def fold(self, value: Any) -> Any:
        return ops.reshape(value, (-1, *ops.shape(value)[2:]))

    def unfold(self, value: Any, like: Any) -> Any:
        return ops.reshape(value, (-1, ops.shape(like)[1], *ops.shape(value)[1:]))


def _rate(values: list[Any], spikes: Spikes | None) -> Any:
    """The mean of `abs(values)` over everything; of spikes, their number per unit and second."""
    total, size = 0.0, 0.0
    for value in values:
        magnitude = ops.abs(ops.cast(value, "float32"))
        if spikes is not None:
            # Half precision does not hold every multiple of their height.
            magnitude = ops.round(magnitude * (spikes.dt * spikes.rate_scale)) / spikes.dt
        total = total + ops.sum(magnitude)
        size = size + math.prod(ops.cast(length, "float32") for length in ops.shape(value))
    return total / size


def _checked(model: Any, example_data: Any) -> list[np.ndarray]:
    """Example data as one array for each of `model.inputs`."""
    owner = "ModelEnergy"
    expected = ", ".join(f"{tensor.name} {tuple(tensor.shape)}" for tensor in model.inputs)
    if by_name(model, example_data):
        missing = [tensor.name for tensor in model.inputs if tensor.name not in example_data]
        if missing:
            raise ValueError(
                f"{owner}: `example_data` must have an array for each input of the model, "
                f"{expected}; it has none for {', '.join(missing)}."
            )
    leaves = in_order(model, example_data)
    if not all(hasattr(array, "shape") and hasattr(array, "dtype") for array in leaves):
        raise TypeError(
            f"{owner}: `example_data` must be an array for each input of the model, {expected}; "
            f"received {type(example_data).__name__}. Turn lists into arrays with numpy.asarray; "
            "of a dataset, take some batches and join them with numpy.concatenate."
        )
    arrays = [ops.convert_to_numpy(array) for array in leaves]
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays):
        raise ValueError(
            f"{owner}: `example_data` must be finite; received values that are infinite or not a "
            "number. Leave out the samples that have them."
        )
    shapes = [array.shape for array in arrays]
    fit = len(arrays) == len(model.inputs) and all(
        len(shape) == len(tensor.shape)
        and all(
            size in (None, given) for size, given in zip(tensor.shape[1:], shape[1:], strict=True)
        )
        for shape, tensor in zip(shapes, model.inputs, strict=True)
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
    if batch_size and len(arrays[0]) % batch_size:
        raise ValueError(
            f"{owner}: `example_data` must hold a multiple of {batch_size} samples, the batch size "
            f"of the model; received {len(arrays[0])}."
        )
    return arrays
