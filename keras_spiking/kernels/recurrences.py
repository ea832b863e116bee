"""Filters as operations on whole sequences, in any framework that has NumPy's names for them.

Such a namespace is `keras.ops`, and `torch`, which must do without Keras.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras_spiking._types import Tensor
from keras_spiking.kernels.constants import ALPHA_SERIES
from keras_spiking.kernels.contract import Filter, FilterGradients
from keras_spiking.kernels.filter_steps import AdjointSums, add_products, finish

# `h_t = exp(log_decay) * h_{t-1} + drive_t`, of log_decay, drive, initial, and axis of time.
Recurrence = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def linear_filter(
    namespace: Any,
    recurrence: Recurrence,
    filter_: Filter,
    inputs: Tensor,
    initial: Sequence[Tensor],
    time_axis: int = 1,
) -> tuple[Tensor, ...]:
    """As `Kernels.linear_filter`, by one recurrence for every level."""
    levels: list[Tensor] = []
    for gain, start in zip(filter_.gains, initial, strict=True):
        drive = _over_time(gain, time_axis) * inputs
        if levels:
            before = shift(namespace, levels[-1], initial[len(levels) - 1], time_axis)
            drive = drive + _over_time(filter_.coupling, time_axis) * before
        levels.append(recurrence(filter_.log_decay, drive, start, time_axis))
    return tuple(levels)


def filter_gradients(
    namespace: Any,
    backwards: Recurrence,
    filter_: Filter,
    inputs: Tensor,
    initial: Sequence[Tensor],
    levels: Sequence[Tensor],
    upstream: Sequence[Tensor],
    time_axis: int = 1,
) -> FilterGradients:
    """Gradients of `linear_filter`: a filter's adjoint is the filter run backwards.

    The adjoint of the last level comes first, and couples into the level before it.

    Args:
        namespace: `keras.ops` or `torch`.
        backwards: A recurrence from the last step to the first.
        filter_: The filter.
        inputs: As the filter received them.
        initial: As the filter received it.
        levels: What the filter returned.
        upstream: The gradients in what the filter returned.
        time_axis: The axis of time, 0 or 1.
    """
    zero = namespace.zeros_like(initial[0])

    def after(sequence: Tensor) -> Tensor:
        return namespace.concatenate(
            [_steps(sequence, time_axis, 1, None), _over_time(zero, time_axis)], axis=time_axis
        )

    def over_time(product: Tensor) -> Tensor:
        return namespace.sum(product, axis=time_axis)

    def times_before(adjoint: Tensor, level: Tensor, start: Tensor, first: Tensor) -> Tensor:
        """The sum over an adjoint times the step of a level before."""
        later, before = _steps(adjoint, time_axis, 1, None), _steps(level, time_axis, None, -1)
        return first * start + over_time(later * before)

    adjoints: list[Tensor] = []
    for drive in reversed(upstream):
        if adjoints:
            # What this level feeds into the next one, a step later.
            drive = drive + _over_time(filter_.coupling, time_axis) * after(adjoints[0])
        adjoints.insert(0, backwards(filter_.log_decay, drive, zero, time_axis))
    # A sum, which is zero where there is no step.
    firsts = [over_time(_steps(adjoint, time_axis, None, 1)) for adjoint in adjoints]
    of_level = list(map(times_before, adjoints, levels, initial, firsts))
    # Of each level into the next one.
    coupled = map(times_before, adjoints[1:], levels, initial, firsts[1:])
    gains = [_over_time(gain, time_axis) for gain in filter_.gains]
    grad_inputs = add_products(gains[0] * adjoints[0], gains[1:], adjoints[1:])
    sums = AdjointSums(
        firsts,
        [],
        sum(of_level[1:], of_level[0]),
        sum(coupled, zero),
        [over_time(adjoint * inputs) for adjoint in adjoints],
    )

    def over_batch(total: Tensor) -> Tensor:
        return namespace.sum(total, axis=0, keepdims=True)

    return finish(filter_, namespace.exp(filter_.log_decay), sums, grad_inputs, over_batch)


def alpha_gain(namespace: Any, expm1: Callable[[Tensor], Tensor], ratio: Tensor) -> Tensor:
    """As `Kernels.alpha_gain`: by its power series where the difference cancels."""
    small = namespace.where(ratio < 0.5, ratio, 0.0)
    series = namespace.zeros_like(ratio)
    for factor in reversed(ALPHA_SERIES):
        series = series * small + factor
    direct = -expm1(-ratio) - ratio * namespace.exp(-ratio)
    return namespace.where(ratio < 0.5, series * small * small, direct)


def shift(namespace: Any, sequence: Tensor, first: Tensor, time_axis: int = 1) -> Tensor:
    """The step before each step; `first`, (batch, ...), before the first one."""
    before = _steps(sequence, time_axis, None, -1)
    return namespace.concatenate([_over_time(first, time_axis), before], axis=time_axis)


def _over_time(tensor: Tensor, time_axis: int) -> Tensor:
    """A tensor without time, for all steps."""
    return tensor[(slice(None),) * time_axis + (None,)]


def _steps(sequence: Tensor, time_axis: int, start: int | None, stop: int | None) -> Tensor:
    return sequence[(slice(None),) * time_axis + (slice(start, stop),)]
