"""The contract of the kernels: what runs over time, as pure functions of tensors.

Every backend's module is a `Kernels`, and gives the results of `portable.py`: spikes bit for bit,
filters to 1e-6 relative. Time is axis 1, or axis 0 with `time_axis=0`. There may be any number of
feature axes, written `...` below.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from keras_spiking._types import Tensor


class Filter(NamedTuple):
    """One or two levels of first-order filters of the same decay, with values of each unit.

    Each level is fed by the inputs and by the level before it. With `a = exp(log_decay)`,
    `h1_t = a * h1_{t-1} + gains[0] * inputs_t` and
    `h2_t = a * h2_{t-1} + coupling * h1_{t-1} + gains[1] * inputs_t`.

    Attributes:
        log_decay: The logarithm of the decay, at most 0, (1, ...). Not the decay itself: float32
            rounds a decay near 1 so coarsely that slow filters would be wrong in the fourth digit.
        coupling: Of the first level into the second, (1, ...). One level has no use for it.
        gains: Of the inputs into each level, (1, ...). There are as many levels as gains.
    """

    log_decay: Tensor
    coupling: Tensor
    gains: tuple[Tensor, ...]


class FilterGradients(NamedTuple):
    """Gradients in all arguments of `linear_filter`, in its order and shapes."""

    filter: Filter
    inputs: Tensor
    initial: tuple[Tensor, ...]


def to_row(filter_: Filter, inputs: Tensor, initial: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The arguments of `linear_filter`, or their gradients, in one row."""
    return filter_.log_decay, filter_.coupling, *filter_.gains, inputs, *initial


def from_row(row: Sequence[Tensor]) -> FilterGradients:
    """The arguments, or their gradients, from that row."""
    log_decay, coupling, *rest = row
    order = len(rest) // 2
    filter_ = Filter(log_decay, coupling, tuple(rest[:order]))
    return FilterGradients(filter_, rest[order], tuple(rest[order + 1 :]))


class Kernels(Protocol):
    """What a backend's module offers."""

    def integrate_and_fire(
        self, increments: Tensor, voltage: Tensor, time_axis: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Counts the spikes of each step. Not differentiable.

        Args:
            increments: `rate * dt`, (batch, time, ...), float32 or float64. A step counts 2^104
                spikes at most in float32, also for an infinite increment. NaN counts as NaN, and
                leaves the voltage as it was.
            voltage: (batch, ...). Its fractional part counts.
            time_axis: The axis of time, 0 or 1.

        Returns:
            The counts, and the final voltage.
        """

    def integrate(
        self, increments: Tensor, voltage: Tensor, time_axis: int = 1
    ) -> tuple[Tensor, Tensor]:
        """The counts of `integrate_and_fire`, and the voltages after every step."""

    def linear_filter(
        self, filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
    ) -> tuple[Tensor, ...]:
        """Runs a filter over time. Differentiable in everything, to any order.

        Args:
            filter_: The filter.
            inputs: (batch, time, ...).
            initial: Every level before the first step, (batch, ...).
            time_axis: The axis of time, 0 or 1.

        Returns:
            Every level over time, (batch, time, ...).
        """

    def filter_end(
        self, filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
    ) -> Tensor:
        """The last level's last step alone, (batch, 1, ...): a weighted sum of the inputs."""

    def straight_through(self, rates: Tensor, spikes: Tensor) -> Tensor:
        """`spikes` forwards. Backwards, the gradient goes to `rates` unchanged."""

    def spike(
        self,
        rates: Tensor,
        voltage: Tensor,
        dt: Tensor,
        time_axis: int = 1,
        rectify: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Turns rates into spikes in hertz, with the gradient of the rates.

        Args:
            rates: (batch, time, ...), of any float type, which the spikes have too.
            voltage: (batch, ...), of the type to compute in.
            dt: Seconds of a step, a number or a scalar tensor.
            time_axis: The axis of time, 0 or 1.
            rectify: Whether the rates are `relu(rates)`.

        Returns:
            The spikes, and the final voltage.
        """

    def spike_by_channel(
        self,
        rates: Tensor,
        voltage: Tensor,
        seconds: Tensor,
        heights: Tensor,
        time_axis: int = 1,
        rectify: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """`spike` where `dt` differs between channels, the last axis.

        `seconds` are its values, and `heights` are `1 / dt`, both tensors.
        """

    def uniform(self, shape: Sequence[int], seed: object, dtype: str) -> Tensor:
        """Random voltages in [0, 1), on the grid.

        `seed` is an integer, for the same numbers at every call, compiled or not, or a
        `keras.random.SeedGenerator`, for others at every call.
        """

    def expm1(self, x: Tensor) -> Tensor:
        """`exp(x) - 1` for `x` of at most 0, as exact near zero as anywhere.

        Its derivative is `exp(x)`. Some backends' own has `expm1(x) + 1`, which cancels far below
        zero.
        """

    def alpha_gain(self, ratio: Tensor) -> Tensor:
        """`1 - (1 + ratio) * exp(-ratio)`, as exact near zero as anywhere."""
