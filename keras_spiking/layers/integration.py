r"""What a spiking neuron integrates, and whether it takes spikes back.

With :math:`c` spikes in a step for a unit of activation, :math:`N_t` spikes are out after step t:

.. math:: N_t = \lfloor v_0 + c S_t \rfloor

- `integrate="activation"`: :math:`S_t` is the sum of :math:`f(x_1) \dots f(x_t)`.
- `integrate="input"`: :math:`S_t = t f(m_t)`, with the mean :math:`m_t` of :math:`x_1 \dots x_t`.
- `negative_spikes=False`: :math:`N_t` is the largest so far, and at least 0.

The sums are whole numbers on the grid of voltages, so that time may be cut anywhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from keras_spiking import kernels
from keras_spiking._types import Tensor
from keras_spiking.kernels import grid, running, tensors

INTEGRATE = ("activation", "input")
# Activations for which everything is done in whole numbers.
EXACT = (keras.activations.relu, keras.activations.linear)


class InputState(NamedTuple):
    """State of a neuron that integrates its input; all but `steps` are (batch, ...).

    Attributes:
        whole: The summed input, times c, rounded down: in spikes.
        fraction: The rest of it, in [0, 1).
        steps: How many steps were summed, (batch, 1).
        emitted: How many spikes are out.
        voltage: The voltage before the first step, in [0, 1).
    """

    whole: Tensor
    fraction: Tensor
    steps: Tensor
    emitted: Tensor
    voltage: Tensor

    @classmethod
    def on_grid(cls, states: list[Tensor]) -> "InputState":
        """The state from a list of tensors, with its fractions rounded to the grid."""
        state = cls(*states)
        fraction, voltage = grid.to_grid(state.fraction), grid.to_grid(state.voltage)
        return state._replace(fraction=fraction, voltage=voltage)

    @classmethod
    def before_first_step(cls, voltage: Tensor) -> "InputState":
        """The state of neurons with these initial voltages, (batch, ...)."""
        # An initializer may give any numbers. Their fractional part counts.
        voltage = grid.to_grid(voltage)
        # Three arrays, not one: JAX reuses the memory of each, which it can do only once.
        whole, fraction, emitted = (ops.zeros_like(voltage) for _ in range(3))
        steps = ops.zeros_like(voltage[(slice(None), *[0] * (len(voltage.shape) - 1))])
        return cls(whole, fraction, ops.expand_dims(steps, 1), emitted, voltage)


def input_changes(
    inputs: Tensor,
    state: InputState,
    activation: Callable[[Tensor], Tensor],
    per_step: float | Tensor,
    mask: Tensor | None,
    time_axis: int,
) -> Tensor:
    """The change in S at each step: what the spikes stand for. Differentiable.

    Args:
        inputs: Sequence in the type of the state, zero where masked.
        state: The state before the first step.
        activation: Function of a sequence; its output has the same shape and type.
        per_step: The spikes in a step for a unit of activation, c.
        mask: None, or Boolean tensor that broadcasts to the inputs, True for steps to use.
        time_axis: Axis of time, 0 or 1.
    """
    steps_before, steps = _steps(state, inputs, mask, time_axis)
    sum_before = (state.whole + state.fraction) * (1.0 / per_step)
    means = running.running_sum(inputs, sum_before, time_axis) / _at_least_one(steps)
    mean_before = ops.expand_dims(sum_before / _at_least_one(steps_before), time_axis)
    start = steps_before * tensors.one_step(activation(mean_before), time_axis, 0)
    return running.differences(steps * activation(means), start, time_axis)


def input_spikes(
    inputs: Tensor,
    state: InputState,
    activation: Callable[[Tensor], Tensor],
    per_step: float | Tensor,
    mask: Tensor | None,
    time_axis: int,
    negative_spikes: bool,
) -> tuple[Tensor, InputState]:
    """The number of spikes in each step, and the final state. Not differentiable.

    The arguments are those of `input_changes`, and `negative_spikes`: whether there are any.
    """
    _, steps = _steps(state, inputs, mask, time_axis)
    counts, fractions = kernels.integrate(inputs * per_step, state.fraction, time_axis)
    wholes = running.sum_of_counts(counts, state.whole, time_axis)
    levels = activation((wholes + fractions) / (per_step * _at_least_one(steps)))
    voltage = ops.expand_dims(state.voltage, time_axis)
    emitted = running.bounded(tensors.floor(voltage + per_step * steps * levels))
    if not negative_spikes:
        emitted = running.running_max(emitted, state.emitted, time_axis)
    spikes = running.differences(emitted, state.emitted, time_axis)
    spikes = ops.where(ops.isnan(counts), float("nan"), spikes)
    ends = (
        tensors.last_step(sequence, start, time_axis)
        for sequence, start in zip(
            (wholes, fractions, emitted), (state.whole, state.fraction, state.emitted), strict=True
        )
    )
    whole, fraction, final_emitted = ends
    return spikes, InputState(
        whole, fraction, _last_steps(state, inputs, mask, time_axis), final_emitted, state.voltage
    )


def exact_spikes(
    inputs: Tensor,
    state: InputState,
    per_step: float | Tensor,
    mask: Tensor | None,
    time_axis: int,
    rectify: bool,
    negative_spikes: bool,
) -> tuple[Tensor, InputState]:
    """What `input_spikes` gives for relu and the linear function, in whole numbers alone.

    For both, `floor(v + f(sum)) = f(floor(v + sum))`. It is differentiable, and returns spikes in
    units of the activation.
    """
    raised = state.fraction + state.voltage
    carry = tensors.floor(raised)
    before = state.whole + carry, raised - carry, state.emitted, state.voltage
    spikes, (floor, voltage, emitted) = kernels.accumulate_and_fire(
        inputs, before, per_step, time_axis, rectify, negative_spikes
    )
    fraction = voltage - state.voltage
    borrow = ops.cast(fraction < 0.0, fraction.dtype)
    steps = _last_steps(state, inputs, mask, time_axis)
    return spikes, InputState(floor - borrow, fraction + borrow, steps, emitted, state.voltage)


def _last_steps(state: InputState, inputs: Tensor, mask: Tensor | None, time_axis: int) -> Tensor:
    """The number of steps after the last one, (batch, 1)."""
    if mask is None:
        return state.steps + ops.cast(ops.shape(inputs)[time_axis], state.steps.dtype)
    used = ops.sum(ops.cast(mask, state.steps.dtype), axis=time_axis)
    return state.steps + ops.reshape(used, ops.shape(state.steps))


def _steps(
    state: InputState, inputs: Tensor, mask: Tensor | None, time_axis: int
) -> tuple[Tensor, Tensor]:
    """The numbers of steps before the first one and up to each, with axes of length 1 for units."""
    rank = len(inputs.shape)
    before = ops.reshape(state.steps, (-1, *[1] * (rank - 2)))
    ones = ops.ones((*ops.shape(inputs)[:2], *[1] * (rank - 2)), inputs.dtype)
    if mask is not None:
        ones = ops.where(mask, ones, ops.zeros_like(ones))
    return before, running.running_sum(ones, before, time_axis)


def _at_least_one(steps: Tensor) -> Tensor:
    """The number to divide sums by: before the first step, the mean is zero."""
    return ops.where(steps > 1.0, steps, 1.0)
