"""Neurons that integrate their input, and neurons that take no spike back.

`keras_spiking/layers/integration.py` has the formulas, and the same arithmetic on Keras.
"""

from typing import Any, NamedTuple

import torch

from keras_spiking.kernels import torch_plain
from keras_spiking.kernels.torch import to_dtype
from keras_spiking.pytorch.kernels import accumulate_and_fire, integrate, straight_through
from keras_spiking.pytorch.mask import zero_masked

INTEGRATE = ("activation", "input")


class InputState(NamedTuple):
    """State of a neuron that integrates its input; all but `steps` are (batch, ...).

    Attributes:
        whole: The summed input, times dt, rounded down: in spikes.
        fraction: The rest of it, in [0, 1).
        steps: How many steps were summed, (batch, 1).
        emitted: How many spikes are out.
        voltage: The voltage before the first step, in [0, 1).
    """

    whole: torch.Tensor
    fraction: torch.Tensor
    steps: torch.Tensor
    emitted: torch.Tensor
    voltage: torch.Tensor

    @classmethod
    def on_grid(cls, state: Any) -> "InputState":
        """The state in a tuple of tensors, whatever fractions they have."""
        whole, fraction, steps, emitted, voltage = state
        fraction, voltage = torch_plain.to_grid(fraction), torch_plain.to_grid(voltage)
        return cls(whole, fraction, steps, emitted, voltage)

    @classmethod
    def before_first_step(cls, voltage: torch.Tensor) -> "InputState":
        """The state of neurons with these initial voltages, (batch, ...)."""
        whole, fraction, emitted = (torch.zeros_like(voltage) for _ in range(3))
        steps = voltage.new_zeros(voltage.shape[0], 1)
        return cls(whole, fraction, steps, emitted, torch_plain.to_grid(voltage))


def without_negative_spikes(
    rates: torch.Tensor, state: Any, dt: float
) -> tuple[Any, tuple[Any, Any]]:
    """Spikes of rates, and the final state: the voltage, and the spikes owed, at most 0."""
    voltage, owed = state
    before = owed, voltage, torch.zeros_like(owed), voltage
    spikes, (floor, voltage, emitted) = accumulate_and_fire(
        rates.to(voltage.dtype), before, dt, negative_spikes=False
    )
    return to_dtype(spikes, rates.dtype), (voltage, floor - emitted)


def exact_spikes(
    inputs: torch.Tensor,
    state: InputState,
    dt: float,
    mask: torch.Tensor | None,
    rectify: bool,
    negative_spikes: bool,
) -> tuple[Any, InputState]:
    """Spikes of relu or the linear function, in whole numbers, and the final state.

    For both, `floor(v + f(sum)) = f(floor(v + sum))`.
    """
    raised = state.fraction + state.voltage
    carry = raised.floor()
    before = state.whole + carry, raised - carry, state.emitted, state.voltage
    spikes, (floor, voltage, emitted) = accumulate_and_fire(
        inputs, before, dt, rectify, negative_spikes
    )
    fraction = voltage - state.voltage
    borrow = (fraction < 0.0).to(fraction.dtype)
    steps = _last_steps(state, inputs, mask)
    return spikes, InputState(floor - borrow, fraction + borrow, steps, emitted, state.voltage)


def changes(
    inputs: torch.Tensor, state: InputState, activation: Any, dt: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """What the spikes stand for: the change at each step of `t f(m_t)`, with its gradient.

    Args:
        inputs: Sequence in the type of the state, zero where masked.
        state: What to go on from.
        activation: Function of a sequence; its output has the same shape and type.
        dt: The spikes in a step for a unit of activation.
        mask: None, or Boolean tensor (batch, time), True for steps to use.
    """
    steps = _steps(state, inputs, mask)
    return _changes(_means(inputs, state, steps, dt), state, steps, activation, dt, mask)[0]


def spikes_of_mean(
    inputs: torch.Tensor,
    state: InputState,
    activation: Any,
    dt: float,
    mask: torch.Tensor | None,
    negative_spikes: bool,
) -> tuple[Any, InputState]:
    """Spikes of any activation, and the final state; the first arguments are as for `changes`."""
    steps = _steps(state, inputs, mask)
    counts, fractions = integrate(inputs.detach() * dt, state.fraction)
    wholes = torch_plain.sum_of_counts(counts, state.whole)
    # The mean of what is on the grid, so that time may be cut anywhere.
    means = straight_through(
        _means(inputs, state, steps, dt), (wholes + fractions) / (dt * steps.clamp(min=1.0))
    )
    change, levels = _changes(means, state, steps, activation, dt, mask)
    due = state.voltage.unsqueeze(1) + dt * steps * levels.detach()
    emitted = torch_plain.bounded(due.floor())
    if not negative_spikes:
        emitted = torch_plain.running_max(emitted, state.emitted)
    spikes = torch_plain.differences(emitted, state.emitted) * (1.0 / dt)
    spikes = torch.where(counts.isnan(), torch.nan, spikes)
    # Copies: parts of the sequences would keep all of them in memory.
    whole, fraction, last = (
        sequence.select(1, -1).clone() for sequence in (wholes, fractions, emitted)
    )
    steps = _last_steps(state, inputs, mask)
    return straight_through(change, spikes), InputState(whole, fraction, steps, last, state.voltage)


def _means(inputs: torch.Tensor, state: InputState, steps: torch.Tensor, dt: float) -> torch.Tensor:
    """The mean input up to each step."""
    return (torch.cumsum(inputs, 1) + _sum_before(state, dt)) / steps.clamp(min=1.0)


def _sum_before(state: InputState, dt: float) -> torch.Tensor:
    """The sum of all inputs before the first step, with an axis of time."""
    return ((state.whole + state.fraction) * (1.0 / dt)).unsqueeze(1)


def _changes(
    means: torch.Tensor,
    state: InputState,
    steps: torch.Tensor,
    activation: Any,
    dt: float,
    mask: torch.Tensor | None,
) -> tuple[Any, Any]:
    """The change at each step of `t f(m_t)`, and the activation of the means."""
    levels = activation(means)
    if mask is not None:  # Before the first step to use, the activation of zero may be NaN.
        levels = torch.where(steps > 0.0, levels, 0.0)
    before = _over_units(state.steps, means)
    mean_before = _sum_before(state, dt) / before.clamp(min=1.0)
    # Where there is no step before, take a mean whose activation is not NaN.
    mean_before = torch.where(before > 0.0, mean_before, means.narrow(1, 0, 1).detach())
    start = torch.where(before > 0.0, before * activation(mean_before), 0.0)
    change = torch_plain.differences(steps * levels, start.squeeze(1))
    return change if mask is None else zero_masked(change, mask), levels


def _steps(state: InputState, inputs: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """How many steps there are up to each one, with axes of length 1 for units."""
    if mask is None:
        mask = torch.ones_like(inputs.flatten(2).select(2, 0))
    steps = torch.cumsum(mask, 1).to(inputs.dtype)
    return _over_units(state.steps + steps, inputs)


def _last_steps(state: InputState, inputs: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The number of steps after the last one, (batch, 1)."""
    if mask is None:
        return state.steps + inputs.shape[1]
    return state.steps + mask.sum(1, keepdim=True).to(state.steps.dtype)


def _over_units(steps: torch.Tensor, sequence: torch.Tensor) -> torch.Tensor:
    """Numbers of steps, (batch, time), with the axes of a sequence."""
    return steps.reshape(*steps.shape, *[1] * (sequence.dim() - 2))
