"""Tries functions on random numbers, to learn what an output depends on.

Names do not tell: a softmax may come from any framework, or be hidden in a function of the user's.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking.conversion.operations import Function

# For axes of unknown length.
_LENGTH = 6
_NUM_SAMPLES = 4
# More samples than an operation would pick by number.
_MANY = 100_003


def treats_samples_alike(function: Function) -> bool:
    """Whether a sample's output depends on that sample alone."""
    try:
        return _samples_are_alike(function)
    except Exception:  # noqa: BLE001 (each backend has its own, for shapes that do not fit)
        return False


def _samples_are_alike(function: Function) -> bool:
    tensors = function.tensors
    many = [keras.KerasTensor((_MANY, *each.shape[1:]), each.dtype) for each in tensors]
    specs = keras.tree.flatten(function.spec(many))
    if not all(tuple(spec.shape[:1]) == (_MANY,) for spec in specs):
        return False

    rng = np.random.default_rng(0)
    samples = [_random(rng, (_NUM_SAMPLES, *each.shape[1:]), each.dtype) for each in tensors]
    others = [_random(rng, (_NUM_SAMPLES, *each.shape[1:]), each.dtype) for each in tensors]
    half = _NUM_SAMPLES // 2
    mixed = [np.concatenate([a[:half], b[half:]]) for a, b in zip(samples, others, strict=True)]
    turned = [array[::-1] for array in samples]

    def outputs(arrays: list[np.ndarray]) -> list[np.ndarray]:
        given = [
            ops.convert_to_tensor(np.ascontiguousarray(array), dtype=each.dtype)
            for array, each in zip(arrays, tensors, strict=True)
        ]
        return [_as_numpy(output) for output in keras.tree.flatten(function(given))]

    expected = outputs(samples)
    if not all(output.shape[:1] == (_NUM_SAMPLES,) for output in expected):
        return False
    return all(
        _equal(same[:half], output[:half]) and _equal(reverse[::-1], output)
        for output, same, reverse in zip(expected, outputs(mixed), outputs(turned), strict=True)
    )


def fault_of(model: keras.Model) -> str | None:
    """Why a model of one layer is no function of its sample, and what to do; None if it is one."""
    try:
        return _fault_of(model)
    except Exception:  # noqa: BLE001 (what takes no random numbers cannot be tried)
        return None


def _fault_of(model: keras.Model) -> str | None:
    rng = np.random.default_rng(0)
    samples, others = (
        [_random(rng, (_NUM_SAMPLES, *each.shape[1:]), each.dtype) for each in model.inputs]
        for _ in range(2)
    )
    half = _NUM_SAMPLES // 2
    mixed = [np.concatenate([a[:half], b[half:]]) for a, b in zip(samples, others, strict=True)]

    def outputs(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [_as_numpy(each) for each in keras.tree.flatten(model(arrays, training=False))]

    before = [_as_numpy(each) for each in model.non_trainable_variables]
    expected, again = outputs(samples), outputs(samples)
    after = [_as_numpy(each) for each in model.non_trainable_variables]
    for one, other in zip([*expected, *before], [*again, *after], strict=True):
        if not _equal(one, other):
            return (
                "gives another result when it is called again on the same samples: it keeps a "
                "state, or draws numbers. Use a layer that does so in training only."
            )
    for one, other in zip(expected, outputs(mixed), strict=True):
        if one.shape[:1] != (_NUM_SAMPLES,) or not _equal(one[:half], other[:half]):
            return (
                "mixes samples: what it returns for one depends on the others in the batch. Use "
                "a layer that treats each sample for itself."
            )
    return None


def is_elementwise(function: Callable[[Any], Any], shape: tuple[Any, ...], dtype: str) -> bool:
    """Whether a function keeps the shape, and each output depends on one element of the input."""
    rng = np.random.default_rng(0)
    inputs = _random(rng, (2, *shape[1:]), dtype)
    changed = rng.random(inputs.shape) < 0.5
    others = np.where(changed, _random(rng, inputs.shape, dtype), inputs)
    one, other = (
        _as_numpy(function(ops.convert_to_tensor(each, dtype=dtype))) for each in (inputs, others)
    )
    return one.shape == inputs.shape and _equal(one[~changed], other[~changed])


def _random(rng: np.random.Generator, shape: tuple[Any, ...], dtype: str) -> np.ndarray:
    sizes = [_LENGTH if size is None else size for size in shape]
    if "float" in keras.backend.standardize_dtype(dtype):
        return rng.normal(size=sizes).astype("float32")
    return rng.integers(0, 2, size=sizes)


def _as_numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return np.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True)
