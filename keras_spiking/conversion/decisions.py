"""What the outputs of a model decide, such as a class, and how often two models agree."""

from typing import Any

import keras
import numpy as np

from keras_spiking.conversion import rules
from keras_spiking.conversion.survey import Survey

_GREATEST, _HALF, _NOTHING = "greatest", "half", "nothing"


class Decisions:
    """Turns outputs into decisions, and labels likewise.

    Args:
        owner: Name of the public function, for errors.
        survey: The model whose outputs they are.
        labels: What is right, in the structure of the outputs, or None.
        num_samples: How many samples there are.

    Attributes:
        labels: What is right for each output that decides, as `of` returns it, or None.

    Raises:
        ValueError: If labels do not fit the outputs.
        TypeError: If they are not numbers.
    """

    def __init__(self, owner: str, survey: Survey, labels: Any, num_samples: int):
        outputs = survey.model.outputs
        self._kinds = list(map(_kind, survey.final, outputs))
        self.labels: list[np.ndarray] | None = None
        if labels is None:
            return
        given = keras.tree.flatten(labels) if len(outputs) > 1 else [labels]
        if len(given) != len(outputs) or _NOTHING in self._kinds:
            raise ValueError(
                f"{owner}: `labels` must be classes for each output of the model, which each end "
                "in a softmax, a sigmoid, or in several units without activation; received labels "
                f"for {len(given)} outputs, and the outputs are {survey.output_names}. Leave out "
                "`labels` to compare the outputs only."
            )
        self.labels = [
            _checked_labels(owner, np.asarray(each), (num_samples, *tensor.shape[1:]), kind)
            for each, tensor, kind in zip(given, outputs, self._kinds, strict=True)
        ]

    def of(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """The decisions of those outputs that decide."""
        return [
            _decide(output, kind)
            for output, kind in zip(outputs, self._kinds, strict=True)
            if kind != _NOTHING
        ]


class Agreement:
    """The mean, over outputs, of the share of decisions in which two parties agree."""

    def __init__(self) -> None:
        self._shares: list[tuple[int, int]] = []

    def add(self, one: list[np.ndarray], other: list[np.ndarray]) -> None:
        """Takes the next decisions of both."""
        before = self._shares or [(0, 0)] * len(one)
        self._shares = [
            (same + int(np.sum(a == b)), total + a.size)
            for (same, total), a, b in zip(before, one, other, strict=True)
        ]

    def share(self) -> float | None:
        """The share so far; None where nothing was decided."""
        if not self._shares:
            return None
        return float(np.mean([same / total for same, total in self._shares]))


def _kind(final: Any, output: Any) -> str:
    """How an output with this final activation decides."""
    activation = None if final is None else rules.activation_of(final)
    if activation is None:
        return _GREATEST if output.shape[-1] != 1 else _NOTHING
    if not rules.is_elementwise(activation):
        return _GREATEST
    return _HALF if activation is keras.activations.sigmoid else _NOTHING


def _decide(output: np.ndarray, kind: str) -> np.ndarray:
    return output.argmax(axis=-1) if kind == _GREATEST else (output > 0.5).astype("int64")


def _checked_labels(
    owner: str, labels: np.ndarray, shape: tuple[Any, ...], kind: str
) -> np.ndarray:
    """Labels as decisions."""
    if labels.dtype.kind not in "biuf":
        raise TypeError(
            f"{owner}: `labels` must be numbers; received {labels.dtype}. Number the classes, as "
            "with numpy.unique(labels, return_inverse=True)."
        )

    def fits(expected: tuple[Any, ...]) -> bool:
        return labels.ndim == len(expected) and all(
            b is None or a == b for a, b in zip(labels.shape, expected, strict=True)
        )

    if kind == _HALF:
        if fits(shape):
            return (labels > 0.5).astype("int64")
        if shape[-1] == 1 and fits(shape[:-1]):
            return (labels > 0.5).astype("int64")[..., None]
        raise ValueError(
            f"{owner}: `labels` must have the shape of the outputs, {shape}; received shape "
            f"{labels.shape}."
        )
    if fits(shape):
        return labels.argmax(axis=-1)
    if fits((*shape[:-1], 1)):
        labels = labels[..., 0]
    elif not fits(shape[:-1]):
        raise ValueError(
            f"{owner}: `labels` must be classes, of shape {shape[:-1]}, or one-hot vectors, of "
            f"shape {shape}; received shape {labels.shape}."
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < shape[-1]):
        raise ValueError(
            f"{owner}: `labels` must be classes from 0 to {shape[-1] - 1}; received values from "
            f"{labels.min()} to {labels.max()}."
        )
    if np.any(labels % 1):
        raise ValueError(
            f"{owner}: `labels` must be whole numbers, one for each class; received "
            f"{labels[labels % 1 != 0][0]} among them. Round them, or give one-hot vectors."
        )
    return labels.astype("int64")
