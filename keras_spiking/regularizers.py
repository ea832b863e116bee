"""Penalties that keep firing rates, or any activity, near a target or within a range."""

import math
import numbers
import warnings
from typing import Any, TypeAlias

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking._named_objects import get_named
from keras_spiking._types import Tensor

# One value, or the ends of a range.
Target: TypeAlias = float | tuple[float, float]


@keras.saving.register_keras_serializable("keras_spiking")
class RangedRegularizer(keras.regularizers.Regularizer):
    r"""Applies a regularizer to the distance of values from a target.

    .. math::

        d(x) = x - \min(\max(x, \mathit{low}), \mathit{high})

    which is zero within the range, and :math:`x - \mathit{target}` for a single target.

    Args:
        target: Number, or pair `(low, high)`, in the units of what is regularized: hertz for the
            activity of a `SpikingActivation`. An infinite end leaves that side open.
        regularizer: Keras regularizer of the distance. Default: `L1L2(l2=0.01)` of Keras.

    Raises:
        ValueError: If a pair does not have two elements, its first is larger than its second, a
            single target is not finite, or Keras does not know the regularizer.
        TypeError: If `target` is neither a number nor a pair of numbers.

    Example:

    >>> import keras
    >>> penalty = keras_spiking.regularizers.RangedRegularizer(
    ...     target=(10, 20), regularizer=keras.regularizers.L1(1.0)
    ... )
    >>> float(penalty(keras.ops.array([5.0, 15.0, 22.0])))
    7.0
    """

    def __init__(
        self,
        target: Target = 0,
        regularizer: keras.regularizers.Regularizer | str | dict[str, Any] | None = None,
    ):
        owner = type(self).__name__
        self.target = _checked_target(owner, target)
        if regularizer is None:
            regularizer = keras.regularizers.L1L2(l2=0.01)
        try:
            self.regularizer = get_named(
                regularizer, keras.regularizers.get, keras.regularizers.Regularizer
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{owner}: `regularizer` must be a Keras regularizer, its name or its config; "
                f"received regularizer={regularizer!r}. The reason: {error}"
            ) from error

    def __call__(self, x: Tensor) -> Tensor:
        return self.regularizer(_distance(x, self.target))

    def get_config(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "regularizer": keras.regularizers.serialize(self.regularizer),
        }


@keras.saving.register_keras_serializable("keras_spiking")
class L1L2(RangedRegularizer):
    """Penalizes absolute and squared distances from a target: `sum(l1 * |d| + l2 * d**2)`.

    Args:
        l1: Weight of the absolute distance, at least 0.
        l2: Weight of the squared distance, at least 0.
        target: Number, or pair `(low, high)`; see `RangedRegularizer`.

    Raises:
        ValueError: If a weight is negative or not finite, or `target` is not a range.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras
    >>> penalty = keras_spiking.regularizers.L1L2(l1=1.0, l2=0.5, target=10)
    >>> float(penalty(keras.ops.array([8.0, 10.0])))
    4.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, target: Target = 0):
        owner = type(self).__name__
        self.l1, self.l2 = _checked_weights(owner, l1, l2)
        if not (self.l1 or self.l2):
            warnings.warn(
                f"{owner}: every weight (l1, l2) is zero, so this regularizer does nothing; "
                "give one.",
                stacklevel=2 if type(self) is L1L2 else 3,  # the line that made the regularizer
            )
        super().__init__(target, keras.regularizers.L1L2(self.l1, self.l2))

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2, "target": self.target}


@keras.saving.register_keras_serializable("keras_spiking")
class L1(L1L2):
    """Penalizes absolute distances from a target: `sum(l1 * |d|)`.

    Args:
        l1: Weight, at least 0.
        target: Number, or pair `(low, high)`; see `RangedRegularizer`.

    Raises:
        ValueError: If the weight is negative or not finite, or `target` is not a range.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras
    >>> float(keras_spiking.regularizers.L1(1.0, target=10)(keras.ops.array([8.0, 13.0])))
    5.0
    """

    def __init__(self, l1: float = 0.01, target: Target = 0):
        super().__init__(l1=l1, target=target)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "target": self.target}


@keras.saving.register_keras_serializable("keras_spiking")
class L2(L1L2):
    """Penalizes squared distances from a target: `sum(l2 * d**2)`.

    Args:
        l2: Weight, at least 0.
        target: Number, or pair `(low, high)`; see `RangedRegularizer`.

    Raises:
        ValueError: If the weight is negative or not finite, or `target` is not a range.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras
    >>> float(keras_spiking.regularizers.L2(1.0, target=(8, 10))(keras.ops.array([9.0, 13.0])))
    9.0
    """

    def __init__(self, l2: float = 0.01, target: Target = 0):
        super().__init__(l2=l2, target=target)

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2, "target": self.target}


@keras.saving.register_keras_serializable("keras_spiking")
class Percentile(L1L2):
    """Penalizes the distance of a percentile of the values from a target.

    With the default, 100, the largest rates are held in the range, whatever the others do. A
    percentile between two values is interpolated linearly, as `numpy.percentile` does.

    Args:
        percentile: From 0 (minimum) through 50 (median) to 100 (maximum).
        axis: Axis, or tuple of axes, over which the percentile is taken: 0, the batch, unless
            set.
        target: Number, or pair `(low, high)`; see `RangedRegularizer`.
        l1: Weight of the absolute distance, at least 0.
        l2: Weight of the squared distance, at least 0.

    Raises:
        ValueError: If `percentile` is outside [0, 100], a weight is negative or not finite,
            `target` is not a range, or, when called, `axis` names no axis of the values.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras
    >>> penalty = keras_spiking.regularizers.Percentile(50, target=10, l1=1.0)
    >>> float(penalty(keras.ops.array([[1.0], [12.0], [99.0]])))
    2.0
    """

    def __init__(
        self,
        percentile: float = 100,
        axis: int | tuple[int, ...] = 0,
        target: Target = 0,
        l1: float = 0,
        l2: float = 0,
    ):
        super().__init__(l1=l1, l2=l2, target=target)
        owner = type(self).__name__
        self.percentile = _checks.number(owner, "percentile", percentile)
        if not 0 <= self.percentile <= 100:
            raise ValueError(
                f"{owner}: `percentile` must be from 0 to 100; received percentile={percentile}."
            )
        self.axis = _checks.axes(owner, axis)

    def __call__(self, x: Tensor) -> Tensor:
        x = _in_float32(x)
        rank = len(x.shape)
        given = (self.axis,) if isinstance(self.axis, int) else self.axis
        axes = {axis % rank for axis in given if -rank <= axis < rank}
        if len(axes) < len(given):
            raise ValueError(
                f"{type(self).__name__}: `axis` must name axes of the values, which have "
                f"{rank}, each once; received axis={self.axis} and values of shape "
                f"{tuple(x.shape)}."
            )
        return super().__call__(self._percentile(x, sorted(axes)))

    def _percentile(self, x: Tensor, axes: list[int]) -> Tensor:
        if self.percentile == 100:
            return ops.max(x, axis=axes)
        # Sorted by hand: ops.quantile refuses large tensors on torch (16 million elements).
        others = [axis for axis in range(len(x.shape)) if axis not in axes]
        shape = ops.shape(x)
        x = ops.transpose(x, axes + others)
        x = ops.sort(ops.reshape(x, (-1, *(shape[axis] for axis in others))), axis=0)
        # Not in float32, which does not hold every index of a large tensor.
        last = ops.shape(x)[0] - 1
        if isinstance(last, int):
            position = last * self.percentile / 100
            below, above = math.floor(position), math.ceil(position)
            part = position - below
        else:
            position = ops.cast(last, "float64") * (self.percentile / 100)
            below, above = ops.floor(position), ops.ceil(position)
            part = ops.cast(position - ops.floor(position), x.dtype)
        # With a type: where `floatx` is bfloat16, JAX would round a large integer to it.
        below, above = (ops.cast(index, "int32") for index in (below, above))
        return (1 - part) * ops.take(x, below, axis=0) + part * ops.take(x, above, axis=0)

    def get_config(self) -> dict[str, Any]:
        names = "percentile", "axis", "target", "l1", "l2"
        return {name: getattr(self, name) for name in names}


def _distance(x: Tensor, target: Target) -> Tensor:
    x = _in_float32(x)
    return x - (ops.clip(x, *target) if isinstance(target, tuple) else target)


def _in_float32(x: Tensor) -> Tensor:
    """Casts to float32 or wider: rates overflow float16 when squared, and integers are rounded."""
    x = ops.convert_to_tensor(x)
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def _checked_target(owner: str, target: Any) -> Target:
    meaning = "a number or a pair (low, high)"
    if not isinstance(target, (list, tuple)):
        return _checks.number(owner, "target", target, meaning)
    if len(target) != 2:
        raise ValueError(
            f"{owner}: `target` must be {meaning}; received {len(target)} elements, "
            f"target={target!r}."
        )
    low, high = (
        float(end) if _is_infinite(end) else _checks.number(owner, "target", end, meaning)
        for end in target
    )
    if low > high:
        raise ValueError(
            f"{owner}: `target` must be {meaning} with low <= high; received target={target!r}."
        )
    if low == high and _is_infinite(low):
        raise ValueError(
            f"{owner}: `target` must be {meaning} with a finite number between them; "
            f"received target={target!r}."
        )
    return low, high


def _is_infinite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isinf(value)


def _checked_weights(owner: str, l1: Any, l2: Any) -> tuple[float, float]:
    weights = []
    for name, value in (("l1", l1), ("l2", l2)):
        weight = _checks.number(owner, name, value)
        if weight < 0:
            raise ValueError(f"{owner}: `{name}` must be at least 0; received {name}={value}.")
        weights.append(weight)
    return weights[0], weights[1]
