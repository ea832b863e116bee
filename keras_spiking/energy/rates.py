"""What a model's layers get as input, on example data."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking.energy.graph import Spikes, walk
from keras_spiking.layers.reset import layers_within

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
        measure = _Measure(self.spikes)
        walk(self.model, inputs, measure)
        return ops.stack(measure.rates)


class _Measure:
    """Walks a graph to run it, and to measure the rates. The value of a tensor is its value."""

    def __init__(self, spikes: list[Spikes | None]):
        self.spikes = spikes
        self.rates: list[Any] = []

    def enter(self, value: Any, tensor: Any) -> Any:
        value = ops.cast(value, tensor.dtype)
        rank = len(tensor.shape)
        if len(value.shape) == rank:
            return value
        # Models of Keras add a last axis of size one where it is missing, and leave it out.
        return ops.squeeze(value, -1) if len(value.shape) > rank else ops.expand_dims(value, -1)

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
        size = size + ops.cast(ops.size(value), "float32")
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
