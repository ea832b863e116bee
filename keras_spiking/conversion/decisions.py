"""What the outputs of a model decide, such as a class, and how often two models agree."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_spiking._data import in_order
from keras_spiking._types import Shape
from keras_spiking.conversion import rules
from keras_spiking.conversion.survey import Survey
from keras_spiking.layers.shapes import fits

_GREATEST = "greatest"
# How an output decides: by its greatest unit, by a threshold for each unit, or, with None, not.
_Rule: TypeAlias = str | float | None
_Loss: TypeAlias = str | keras.losses.Loss | Callable[..., Any] | None

# What the losses of Keras are for. The names have no underscores.
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
    """Turns the outputs of a model, and the labels, into decisions.

    What an output decides depends on its labels. Without labels it depends on the loss of the
    model, and without a loss on the final activation.

    Args:
        owner: Name of the public function, for errors.
        survey: The model.
        loss: The `loss` that the model was compiled with, or None.
        labels: The labels in the structure of the outputs, or by their names, or None.
        num_samples: Number of samples.

    Attributes:
        labels: The correct decisions of each output, as `of` returns them, or None.

    Raises:
        ValueError: If labels do not fit the outputs.
        TypeError: If they are not numbers.
    """

    def __init__(self, owner: str, survey: Survey, loss: Any, labels: Any, num_samples: int):
        outputs = survey.model.outputs
        given = _labels_of_outputs(owner, survey, labels)
        losses = _losses_of_outputs(survey, loss)
        self._rules: list[_Rule] = []
        self.labels: list[np.ndarray | None] = []
        for final, tensor, own_loss, own_labels in zip(
            survey.final, outputs, losses, given, strict=True
        ):
            shape = (num_samples, *tensor.shape[1:])
            ending = _ending(final, shape)
            rule = _rule(ending, shape, own_loss, own_labels, is_only=len(outputs) == 1)
            self._rules.append(rule)
            self.labels.append(
                None if own_labels is None else _checked_labels(owner, own_labels, shape, rule)
            )
        if labels is not None and all(decided is None for decided in self.labels):
            received = [None if array is None else array.shape for array in given]
            shapes = [tuple(tensor.shape) for tensor in outputs]
            raise ValueError(
                f"{owner}: `labels` must be classes for at least one output of the model, as "
                "integers, one-hot vectors, or 0 and 1 for each unit; received "
                f"{received} for the outputs {survey.output_names}, of shapes {shapes}. "
                "Leave out `labels` to compare the outputs only."
            )

    def of(self, outputs: list[np.ndarray]) -> list[np.ndarray | None]:
        """The decisions of each output; None for an output that decides nothing."""
        return [_decide(output, rule) for output, rule in zip(outputs, self._rules, strict=True)]


class Agreement:
    """The share of decisions that are equal."""

    def __init__(self) -> None:
        self._same = self._total = 0

    def add(self, decisions: np.ndarray | None, others: np.ndarray | None) -> None:
        """Adds two arrays of decisions to compare; None if there are none."""
        if decisions is not None and others is not None:
            self._same += int(np.sum(decisions == others))
            self._total += decisions.size

    def share(self) -> float | None:
        """The share so far; None without any decisions."""
        return self._same / self._total if self._total else None


def _labels_of_outputs(owner: str, survey: Survey, labels: Any) -> list[np.ndarray | None]:
    """The labels of each output, as an array."""
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
    arrays = [None if values is None else np.asarray(values) for values in given]
    for array in arrays:
        if array is not None and array.dtype.kind not in "biuf":
            raise TypeError(
                f"{owner}: `labels` must be numbers; received {array.dtype}. Number the classes, "
                "as with numpy.unique(labels, return_inverse=True)."
            )
    return arrays


def _losses_of_outputs(survey: Survey, loss: Any) -> list[_Loss]:
    """The loss of each output."""
    count = len(survey.output_names)
    if not isinstance(loss, (dict, list, tuple)):
        return [loss] * count
    if isinstance(loss, dict):
        # Keras accepts losses for some of the outputs only.
        paths = keras.tree.flatten_with_path(survey.model.output)
        keys = ["/".join(map(str, path)) for path, _ in paths]
        return [
            loss.get(key, loss.get(name))
            for key, name in zip(keys, survey.output_names, strict=True)
        ]
    return list(loss) if len(loss) == count else [None] * count


def _purpose(loss: _Loss) -> str | None:
    """What a loss is for; None if that is not known."""
    names = _names(loss)
    return next((purpose for purpose, known in _LOSSES.items() if names & set(known)), None)


def _names(loss: _Loss) -> set[str]:
    """The names of a loss: of its function, or of its class and the base classes."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    objects: Sequence[Any] = [loss] if hasattr(loss, "__name__") else type(loss).__mro__
    return {named.__name__.replace("_", "").lower() for named in objects}


def _ending(final: keras.Layer | None, shape: Shape) -> str | None:
    """What a final activation does: "softmax", "sigmoid" or "linear"; None for any other.

    Args:
        final: The layer that has the activation, or None without activation.
        shape: Shape of the output.
    """
    activation = None if final is None else rules.activation_of(final)
    if activation is None:
        return "linear"
    # Its name does not tell: it may be a function of any framework, or a function of the user.
    size = (4, *(6 if length is None else length for length in shape[1:]))
    inputs = np.random.default_rng(0).normal(scale=3, size=size).astype("float32")
    outputs, mirrored = (
        ops.convert_to_numpy(ops.cast(activation(ops.convert_to_tensor(values)), "float32"))
        for values in (inputs, -inputs)
    )
    if _are_shares(outputs) or ((outputs <= 0).all() and _are_shares(np.exp(outputs))):
        return "softmax"
    is_share = (outputs >= 0).all() and (np.abs(outputs + mirrored - 1) < 1e-3).all()
    return "sigmoid" if is_share and ((outputs - 0.5) * inputs >= 0).all() else None


def _rule(
    ending: str | None, shape: Shape, loss: _Loss, labels: np.ndarray | None, is_only: bool
) -> _Rule:
    """How an output decides.

    Args:
        ending: As `_ending` returns it.
        shape: Shape of the output.
        loss: The loss of the output, or None.
        labels: The labels of the output, or None.
        is_only: Whether the model has no other output.
    """
    if ending == "softmax":
        return _GREATEST
    purpose = _purpose(loss)
    has_classes = len(shape) > 1 and shape[-1] != 1
    threshold = _threshold(ending, purpose, loss)
    if labels is None:
        # If nothing is known of one of several outputs, it may be coordinates.
        if purpose == _CLASSES or (purpose is None and ending == "linear" and is_only):
            return _GREATEST if has_classes else None
        says_yes = purpose == _YES_OR_NO or (purpose is None and ending == "sigmoid")
        return threshold if says_yes else None
    if has_classes and not fits(labels.shape, shape):
        return _GREATEST
    may_be_classes = has_classes and ending != "sigmoid" and purpose != _YES_OR_NO
    if may_be_classes and (purpose == _CLASSES or _are_shares(labels)):
        return _GREATEST
    return threshold if purpose == _YES_OR_NO or _are_yes_or_no(labels) else None


def _threshold(ending: str | None, purpose: str | None, loss: _Loss) -> float | None:
    """The value above which a unit says yes; None if that is not known."""
    if ending == "sigmoid":
        return 0.5
    if purpose == _YES_OR_NO:
        is_hinge = any("hinge" in name for name in _names(loss))
        return 0.0 if is_hinge or getattr(loss, "from_logits", False) else 0.5
    if ending == "linear":
        # It was trained to return 0 and 1 as numbers, or it returns a logit.
        return 0.5 if purpose == _NUMBERS else 0.0
    return None


def _are_shares(labels: np.ndarray) -> bool:
    """Whether labels are one-hot vectors, or probabilities of classes."""
    return bool((labels >= 0).all() and (np.abs(labels.sum(axis=-1) - 1) < 1e-3).all())


def _are_yes_or_no(labels: np.ndarray) -> bool:
    return any(np.isin(labels, values).all() for values in ([0, 1], [-1, 1]))


def _decide(output: np.ndarray, rule: _Rule) -> np.ndarray | None:
    if rule is None:
        return None
    return output.argmax(axis=-1) if rule == _GREATEST else (output > rule).astype("int64")


def _checked_labels(owner: str, labels: np.ndarray, shape: Shape, rule: _Rule) -> np.ndarray | None:
    """Labels as decisions; None if the output decides nothing."""
    if rule != _GREATEST:
        if shape[-1] == 1 and fits(labels.shape, shape[:-1]):
            labels = labels[..., None]
        if not fits(labels.shape, shape):
            raise ValueError(
                f"{owner}: `labels` must have the shape of the outputs, {shape}; received shape "
                f"{labels.shape}."
            )
        return None if rule is None else (labels > 0.5).astype("int64")
    return _checked_classes(owner, labels, shape)


def _checked_classes(owner: str, labels: np.ndarray, shape: tuple[Any, ...]) -> np.ndarray:
    """Labels of classes as integers."""
    if fits(labels.shape, shape):
        return labels.argmax(axis=-1)
    if fits(labels.shape, (*shape[:-1], 1)):
        labels = labels[..., 0]
    elif not fits(labels.shape, shape[:-1]):
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
