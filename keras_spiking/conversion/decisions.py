"""What the outputs of a model decide, such as a class, and how often two models agree."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking._data import in_order
from keras_spiking.conversion import rules
from keras_spiking.conversion.survey import Survey

_GREATEST = "greatest"

# What a loss of Keras is for, by its name without underscores.
_CLASSES, _YES_OR_NO, _NUMBERS = "classes", "yes or no", "numbers"
_LOSSES = {
    _CLASSES: (
        "categoricalcrossentropy",
        "categoricalfocalcrossentropy",
        "categoricalgeneralizedcrossentropy",
        "categoricalhinge",
        "sparsecategoricalcrossentropy",
    ),
    _YES_OR_NO: ("binarycrossentropy", "binaryfocalcrossentropy", "hinge", "squaredhinge"),
    _NUMBERS: (
        "cosinesimilarity",
        "huber",
        "logcosh",
        "meanabsoluteerror",
        "meanabsolutepercentageerror",
        "meansquarederror",
        "meansquaredlogarithmicerror",
        "poisson",
    ),
}


class Decisions:
    """Turns each output of a model into decisions, and labels likewise.

    Labels say best what an output is, then the loss that it was trained with, then its final
    activation.

    Args:
        owner: Name of the public function, for errors.
        survey: The model whose outputs they are.
        loss: What the model was compiled with as `loss`, or None.
        labels: What is right, in the structure of the outputs, or by their names, or None.
        num_samples: How many samples there are.

    Attributes:
        labels: What is right for each output, as `of` returns it, or None.

    Raises:
        ValueError: If labels do not fit the outputs.
        TypeError: If they are not numbers.
    """

    def __init__(self, owner: str, survey: Survey, loss: Any, labels: Any, num_samples: int):
        outputs = survey.model.outputs
        given = _labels_of_outputs(owner, survey, labels)
        losses = _losses_of_outputs(survey, loss)
        self._kinds: list[str | float | None] = []
        self.labels: list[np.ndarray | None] = []
        for final, tensor, trained_by, right in zip(
            survey.final, outputs, losses, given, strict=True
        ):
            shape = (num_samples, *tensor.shape[1:])
            ending = _ending(final, shape)
            kind = _kind(ending, shape, trained_by, right, is_only=len(outputs) == 1)
            self._kinds.append(kind)
            self.labels.append(
                None if right is None else _checked_labels(owner, right, shape, kind)
            )
        if labels is not None and all(each is None for each in self.labels):
            raise ValueError(
                f"{owner}: `labels` must be classes for at least one output of the model, as "
                "integers, one-hot vectors, or 0 and 1 for each unit; received "
                f"{[None if each is None else each.shape for each in given]} for the outputs "
                f"{survey.output_names}, of shapes {[tuple(each.shape) for each in outputs]}. "
                "Leave out `labels` to compare the outputs only."
            )

    def of(self, outputs: list[np.ndarray]) -> list[np.ndarray | None]:
        """The decisions of each output, None for those that decide nothing."""
        return [_decide(output, kind) for output, kind in zip(outputs, self._kinds, strict=True)]


class Agreement:
    """The share of decisions in which two parties agree."""

    def __init__(self) -> None:
        self._same = self._total = 0

    def add(self, one: np.ndarray | None, other: np.ndarray | None) -> None:
        """Takes the next decisions of both; None where there are none."""
        if one is not None and other is not None:
            self._same += int(np.sum(one == other))
            self._total += one.size

    def share(self) -> float | None:
        """The share so far; None where nothing was decided."""
        return self._same / self._total if self._total else None


def _labels_of_outputs(owner: str, survey: Survey, labels: Any) -> list[np.ndarray | None]:
    count = len(survey.output_names)
    if labels is None:
        return [None] * count
    if count == 1 and not isinstance(labels, dict):
        given = [labels]
    else:
        given = in_order(owner, "labels", labels, survey.model.output, survey.output_names)
    if len(given) != count:
        raise ValueError(
            f"{owner}: `labels` must be an array for each output of the model, or None for those "
            f"without; received labels for {len(given)} outputs, and the outputs are "
            f"{survey.output_names}."
        )
    arrays = [None if each is None else np.asarray(each) for each in given]
    for array in arrays:
        if array is not None and array.dtype.kind not in "biuf":
            raise TypeError(
                f"{owner}: `labels` must be numbers; received {array.dtype}. Number the classes, "
                "as with numpy.unique(labels, return_inverse=True)."
            )
    return arrays


def _losses_of_outputs(survey: Survey, loss: Any) -> list[Any]:
    """The loss of each output; one for all is that of each."""
    count = len(survey.output_names)
    if not isinstance(loss, (dict, list, tuple)):
        return [loss] * count
    if isinstance(loss, dict):
        # Keras takes a loss for some of the outputs, too.
        paths = keras.tree.flatten_with_path(survey.model.output)
        keys = ["/".join(map(str, path)) for path, _ in paths]
        return [
            loss.get(key, loss.get(name))
            for key, name in zip(keys, survey.output_names, strict=True)
        ]
    return list(loss) if len(loss) == count else [None] * count


def _purpose(loss: Any) -> str | None:
    """What a loss is for, None if that is not known."""
    names = _names(loss)
    return next((purpose for purpose, known in _LOSSES.items() if names & set(known)), None)


def _names(loss: Any) -> set[str]:
    """What a loss is called: its class or function, or a class that it is derived from."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    named = [loss] if hasattr(loss, "__name__") else type(loss).__mro__
    return {each.__name__.replace("_", "").lower() for each in named}


def _ending(final: Any, shape: tuple[Any, ...]) -> str | None:
    """What an ending works like: "softmax", "sigmoid" or "linear" (none); None for all others."""
    activation = None if final is None else rules.activation_of(final)
    if activation is None:
        return "linear"
    # Its name does not tell: it may be any framework's, or in a function of the user's.
    size = (4, *(6 if length is None else length for length in shape[1:]))
    inputs = np.random.default_rng(0).normal(scale=3, size=size).astype("float32")
    outputs, mirrored = (
        ops.convert_to_numpy(ops.cast(activation(ops.convert_to_tensor(each)), "float32"))
        for each in (inputs, -inputs)
    )
    if _are_shares(outputs) or ((outputs <= 0).all() and _are_shares(np.exp(outputs))):
        return "softmax"
    is_share = (outputs >= 0).all() and (np.abs(outputs + mirrored - 1) < 1e-3).all()
    return "sigmoid" if is_share and ((outputs - 0.5) * inputs >= 0).all() else None


def _kind(
    ending: str | None, shape: tuple[Any, ...], loss: Any, labels: Any, is_only: bool
) -> str | float | None:
    """How an output decides: by its greatest unit, at a threshold in each unit, or not at all."""
    if ending == "softmax":
        return _GREATEST
    purpose = _purpose(loss)
    has_classes = len(shape) > 1 and shape[-1] != 1
    threshold = _threshold(ending, purpose, loss)
    if labels is None:
        # One of several outputs, of which nothing is known, may as well be coordinates.
        if purpose == _CLASSES or (purpose is None and ending == "linear" and is_only):
            return _GREATEST if has_classes else None
        says_yes = purpose == _YES_OR_NO or (purpose is None and ending == "sigmoid")
        return threshold if says_yes else None
    if has_classes and not _fits(labels, shape):
        return _GREATEST
    may_be_classes = has_classes and ending != "sigmoid" and purpose != _YES_OR_NO
    if may_be_classes and (purpose == _CLASSES or _are_shares(labels)):
        return _GREATEST
    return threshold if purpose == _YES_OR_NO or _are_yes_or_no(labels) else None


def _threshold(ending: str | None, purpose: str | None, loss: Any) -> float | None:
    """Where a unit says yes, None if that is not known."""
    if ending == "sigmoid":
        return 0.5
    if purpose == _YES_OR_NO:
        is_hinge = any("hinge" in name for name in _names(loss))
        return 0.0 if is_hinge or getattr(loss, "from_logits", False) else 0.5
    if ending == "linear":
        # Trained towards 0 and 1 as numbers, or else a logit.
        return 0.5 if purpose == _NUMBERS else 0.0
    return None


def _are_shares(labels: np.ndarray) -> bool:
    """Whether labels are one-hot vectors, or probabilities of classes."""
    return bool((labels >= 0).all() and (np.abs(labels.sum(axis=-1) - 1) < 1e-3).all())


def _are_yes_or_no(labels: np.ndarray) -> bool:
    return any(np.isin(labels, values).all() for values in ([0, 1], [-1, 1]))


def _decide(output: np.ndarray, kind: str | float | None) -> np.ndarray | None:
    if kind is None:
        return None
    return output.argmax(axis=-1) if kind == _GREATEST else (output > kind).astype("int64")


def _fits(labels: np.ndarray, shape: tuple[Any, ...]) -> bool:
    return labels.ndim == len(shape) and all(
        b is None or a == b for a, b in zip(labels.shape, shape, strict=True)
    )


def _checked_labels(
    owner: str, labels: np.ndarray, shape: tuple[Any, ...], kind: str | float | None
) -> np.ndarray | None:
    """Labels as decisions; None if the output decides nothing."""
    if kind != _GREATEST:
        if shape[-1] == 1 and _fits(labels, shape[:-1]):
            labels = labels[..., None]
        if not _fits(labels, shape):
            raise ValueError(
                f"{owner}: `labels` must have the shape of the outputs, {shape}; received shape "
                f"{labels.shape}."
            )
        return None if kind is None else (labels > 0.5).astype("int64")
    if _fits(labels, shape):
        return labels.argmax(axis=-1)
    if _fits(labels, (*shape[:-1], 1)):
        labels = labels[..., 0]
    elif not _fits(labels, shape[:-1]):
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
