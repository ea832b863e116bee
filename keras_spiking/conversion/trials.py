"""Tries functions on random numbers, to find out what their outputs depend on.

Names do not tell: a softmax may come from any framework, or be part of a function of the user.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking._types import Shape, Tensor
from keras_spiking.conversion.operations import Function

# The length of axes whose length is unknown.
_LENGTH = 6
_NUM_SAMPLES = 4
_HALF = _NUM_SAMPLES // 2
# A number of samples that no operation has as a constant.
_MANY = 100_003


def treats_samples_alike(function: Function) -> bool:
    """Whether a sample's output depends on that sample alone."""
    try:
        return _samples_are_alike(function)
    except Exception:  # noqa: BLE001 (each backend has its own errors for wrong shapes)
        return False


def _samples_are_alike(function: Function) -> bool:
    tensors = function.tensors
    many = [keras.KerasTensor((_MANY, *tensor.shape[1:]), tensor.dtype) for tensor in tensors]
    specs = keras.tree.flatten(function.spec(many))
    if not all(tuple(spec.shape[:1]) == (_MANY,) for spec in specs):
        return False

    samples, mixed = _samples_and_mixed(tensors)
    reversed_samples = [array[::-1] for array in samples]

    def outputs(arrays: list[np.ndarray]) -> list[np.ndarray]:
        inputs = [
            ops.convert_to_tensor(np.ascontiguousarray(array), dtype=tensor.dtype)
            for array, tensor in zip(arrays, tensors, strict=True)
        ]
        return [_as_numpy(output) for output in keras.tree.flatten(function(inputs))]

    expected = outputs(samples)
    if not all(output.shape[:1] == (_NUM_SAMPLES,) for output in expected):
        return False
    return all(
        _equal(half_same[:_HALF], output[:_HALF]) and _equal(reverse[::-1], output)
        for output, half_same, reverse in zip(
            expected, outputs(mixed), outputs(reversed_samples), strict=True
        )
    )


def fault_of(model: keras.Model) -> str | None:
    """Why a model of one layer is not a function of its sample, and what to do; None if it is."""
    try:
        return _fault_of(model)
    except Exception:  # noqa: BLE001 (a layer that takes no random numbers cannot be tried)
        return None


def _fault_of(model: keras.Model) -> str | None:
    samples, mixed = _samples_and_mixed(model.inputs)

    def outputs(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [_as_numpy(output) for output in keras.tree.flatten(model(arrays, training=False))]

    def states() -> list[np.ndarray]:
        return [_as_numpy(variable) for variable in model.non_trainable_variables]

    states_before = states()
    expected = outputs(samples)
    again = outputs(samples)
    for first, second in zip([*expected, *states_before], [*again, *states()], strict=True):
        if not _equal(first, second):
            return (
                "gives another result when it is called again on the same samples: it keeps a "
                "state, or draws numbers. Use a layer that does so in training only."
            )
    for output, half_same in zip(expected, outputs(mixed), strict=True):
        has_samples = output.shape[:1] == (_NUM_SAMPLES,)
        if not has_samples or not _equal(output[:_HALF], half_same[:_HALF]):
            return (
                "mixes samples: what it returns for one depends on the others in the batch. Use "
                "a layer that treats each sample by itself."
            )
    return None


def is_elementwise(function: Callable[[Any], Any], shape: Shape, dtype: str) -> bool:
    """Whether a function keeps the shape of its input, and treats each element by itself."""
    rng = np.random.default_rng(0)
    inputs = _random(rng, (2, *shape[1:]), dtype)
    changed = rng.random(inputs.shape) < 0.5
    others = np.where(changed, _random(rng, inputs.shape, dtype), inputs)
    outputs, other_outputs = (
        _as_numpy(function(ops.convert_to_tensor(values, dtype=dtype)))
        for values in (inputs, others)
    )
    same_shape = outputs.shape == inputs.shape
    return same_shape and _equal(outputs[~changed], other_outputs[~changed])


def _samples_and_mixed(
    tensors: list[keras.KerasTensor],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random samples for such tensors, and the same with others in place of the second half."""
    rng = np.random.default_rng(0)
    samples, others = (
        [_random(rng, (_NUM_SAMPLES, *tensor.shape[1:]), tensor.dtype) for tensor in tensors]
        for _ in range(2)
    )
    mixed = [np.concatenate([a[:_HALF], b[_HALF:]]) for a, b in zip(samples, others, strict=True)]
    return samples, mixed


def _random(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    sizes = [_LENGTH if size is None else size for size in shape]
    if "float" in keras.backend.standardize_dtype(dtype):
        return rng.normal(size=sizes).astype("float32")
    return rng.integers(0, 2, size=sizes)


def _as_numpy(tensor: Tensor) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    return np.allclose(first, second, rtol=1e-3, atol=1e-5, equal_nan=True)
