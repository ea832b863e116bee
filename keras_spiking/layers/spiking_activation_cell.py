"""One time step of an activation that spikes, and the kernels that run a whole sequence."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking import _checks, kernels
from keras_spiking._types import ActivationLike, InitializerLike, Shape, Tensor
from keras_spiking.kernels import grid, portable, tensors
from keras_spiking.layers.cell import KerasSpikingCell
from keras_spiking.layers.dt import DtLike
from keras_spiking.layers.integration import (
    EXACT,
    InputState,
    exact_spikes,
    input_changes,
    input_spikes,
)
from keras_spiking.layers.shapes import check_not_run_again
from keras_spiking.layers.spiking_options import SpikingOptions


@keras.saving.register_keras_serializable("keras_spiking")
class SpikingActivationCell(SpikingOptions, KerasSpikingCell):
    """One time step of `SpikingActivation`, for `keras.layers.RNN` or a layer of your own.

    Args:
        size: Number of units, or the shape of the feature axes.
        activation, dt, seed, spiking_aware_training, initial_voltage, rate_scale: As in
            `SpikingActivation`.
        integrate, negative_spikes: As in `SpikingActivation`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`.
        states: The voltage, `(batch, ...)`, alone or in a list; or the states that
            `SpikingActivation` describes under `integrate` and `negative_spikes`.
        training: Whether the model is training.

    Input shape:
        `(batch, ...)`, with the feature axes of `size`.

    Output shape:
        `(spikes, states)`: spikes `(batch, ...)`, and a list of states.

    Raises:
        ValueError: If an argument has a value that it cannot have.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import numpy as np
    >>> cell = keras_spiking.SpikingActivationCell(3, "relu", dt=0.1, initial_voltage=0.5)
    >>> spikes, states = cell(np.full((1, 3), 5.0), cell.get_initial_state(batch_size=1))
    >>> np.asarray(spikes).tolist()
    [[10.0, 10.0, 10.0]]
    """

    def __init__(
        self,
        size: int | Sequence[int],
        activation: ActivationLike,
        *,
        dt: DtLike = None,
        seed: int | None = None,
        spiking_aware_training: bool = True,
        initial_voltage: InitializerLike | np.ndarray = "random_uniform",
        rate_scale: float | Sequence[float] | np.ndarray = 1.0,
        integrate: str = "activation",
        negative_spikes: bool = True,
        **kwargs: Any,
    ):
        super().__init__(
            size,
            dt=dt,
            always_use_inference=_checks.boolean(
                type(self).__name__, "spiking_aware_training", spiking_aware_training
            ),
            **kwargs,
        )
        self._set_options(
            activation,
            seed,
            spiking_aware_training,
            initial_voltage,
            rate_scale,
            integrate,
            negative_spikes,
        )
        if self._integrates_input:
            self.state_size = [self.size, self.size, 1, self.size, self.size]
        elif not self.negative_spikes:
            self.state_size = [self.size, self.size]
        if isinstance(self.initial_voltage, str) and seed is None:
            self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self._check_scale_fits(input_shape[-1])
        self._check_voltage_fits((input_shape[0], *self.feature_shape))
        if isinstance(self.activation, keras.layers.Layer) and not self.activation.built:
            self.activation.build(tuple(input_shape))

    @property
    def _integrates_input(self) -> bool:
        """Whether the input is integrated, and not its activation."""
        return self.integrate == "input"

    @property
    def _is_alike_at_first(self) -> bool:
        """Whether the first step has the bits of a neuron that integrates its activation.

        That neuron takes fewer passes, and is all that a model of one step needs.
        """
        is_exact = self.activation in EXACT
        return self._integrates_input and is_exact and self.negative_spikes

    def _checked_size(self, size: Any) -> Any:
        # A layer may know the sizes of features only when it is called.
        if not isinstance(size, (list, tuple)):
            return super()._checked_size(size)
        checked = super()._checked_size([1 if units is None else units for units in size])
        return tuple(
            None if given is None else units for given, units in zip(size, checked, strict=True)
        )

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """The states before the first step: for the default options, the initial voltage."""
        return self._initial_states((batch_size, *self.feature_shape))

    def _initial_states(self, shape: tuple[Any, ...]) -> list[Tensor]:
        """The states before the first step of neurons of a shape, `(batch, ...)`."""
        voltage = self._voltage(shape)
        if self._integrates_input:
            return list(InputState.before_first_step(voltage))
        return [voltage] if self.negative_spikes else [voltage, ops.zeros_like(voltage)]

    def _voltage(self, shape: tuple[Any, ...]) -> Tensor:
        voltage = self.initial_voltage
        if isinstance(voltage, str):
            if self.seed is None:
                check_not_run_again(
                    self,
                    "draws a new initial voltage in every call",
                    "Give it a `seed` or an `initial_voltage`, or make the model outside of that "
                    "scope: a layer made in it is run again from the voltage it drew.",
                )
            seed = self.seed_generator if self.seed is None else self.seed
            return kernels.uniform(shape, seed, self.state_dtype)
        if isinstance(voltage, keras.initializers.Initializer):
            return ops.cast(voltage(shape, dtype=self.state_dtype), self.state_dtype)
        self._check_voltage_fits(shape)
        return ops.copy(ops.broadcast_to(ops.cast(voltage, self.state_dtype), shape))

    def _rates(self, inputs: Tensor, dtype: str | None = None) -> Tensor:
        """The activation of inputs `(batch, ...)`: the rate in hertz before `rate_scale`."""
        rates = self.activation(inputs)
        if tuple(rates.shape[1:]) != tuple(inputs.shape[1:]):
            raise ValueError(
                f"{type(self).__name__}: `activation` must keep the shape of its input; it turned "
                f"{tuple(inputs.shape)} into {tuple(rates.shape)}."
            )
        return tensors.cast(rates, dtype or self.compute_dtype)

    def _rates_over_time(self, inputs: Tensor, dtype: str | None = None) -> Tensor:
        """The activation of a sequence. It sees steps as samples, so that it cannot mix them."""
        shape = ops.shape(inputs)
        steps = ops.reshape(inputs, (shape[0] * shape[1], *shape[2:]))
        return ops.reshape(self._rates(steps, dtype), shape)

    def _by_channel(
        self, rates: Tensor, run: Callable[[Tensor, Tensor], tuple[Tensor, Any]]
    ) -> tuple[Tensor, Any]:
        """Calls `run(rates, seconds)`, which takes one number of seconds for all channels.

        Where each channel has its own, they go into the rates, and come out of the spikes.
        """
        if not isinstance(self.rate_scale, np.ndarray):
            return run(rates, self._seconds())
        seconds, heights = self._scales(rates.shape[-1])
        outputs, states = run(ops.cast(rates, self.state_dtype) * seconds, 1.0)
        return tensors.cast(outputs * heights, self.compute_dtype), states

    def call_training(self, inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self._rates(inputs), states

    def call_inference(self, inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        if self._integrates_input or not self.negative_spikes:
            spikes, states = self._spike(ops.expand_dims(inputs, 1), states)
            return tensors.one_step(spikes, 1, 0), states
        rates = self._rates(inputs)
        spikes, voltage = self._by_channel(
            rates,
            lambda rates, seconds: portable.spike_by(
                _one_step, kernels.straight_through, rates, states[0], seconds
            ),
        )
        return spikes, [voltage]

    def _spike(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor | None = None, time_axis: int = 1
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs a sequence in which masked inputs are zero: the spikes and the final states.

        Args:
            inputs: Sequence, `(batch, time, ...)`, or `(time, batch, ...)`.
            states: States to start from. Where `_is_alike_at_first`, the voltage alone will do for
                a single step.
            mask: None, or Boolean tensor that broadcasts to `inputs`, True for steps to use.
            time_axis: Axis of time, 0 or 1.
        """
        if self._integrates_input and len(states) > 1:
            return self._spike_by_input(inputs, states, mask, time_axis)
        # The kernel's own relu may save a pass. It leaves masked steps at zero.
        rectify = self.activation is keras.activations.relu
        rates = inputs if rectify else self._used_rates(inputs, mask)
        if self.negative_spikes or rectify:
            if isinstance(self.rate_scale, np.ndarray):
                seconds, heights = self._scales(rates.shape[-1])
                spikes, voltage = kernels.spike_by_channel(
                    rates, states[0], seconds, heights, time_axis, rectify
                )
            else:
                spikes, voltage = kernels.spike(
                    rates, states[0], self._seconds(), time_axis, rectify
                )
            return spikes, [voltage, *states[1:]]
        voltage, owed = states
        before = owed, voltage, ops.zeros_like(owed), voltage
        spikes, (floor, voltage, emitted) = self._by_channel(
            ops.cast(rates, self.state_dtype),
            lambda rates, seconds: kernels.accumulate_and_fire(
                rates, before, seconds, time_axis, False, False
            ),
        )
        return tensors.cast(spikes, self.compute_dtype), [voltage, floor - emitted]

    def _without_spikes(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor | None, time_axis: int
    ) -> Tensor:
        """The output of a sequence in training without spikes: what the spikes stand for."""
        if not self._integrates_input or len(states) == 1:
            return self._used_rates(inputs, mask)
        self._check_scale_fits(inputs.shape[-1])
        inputs = ops.cast(inputs, self.state_dtype)
        state, activation = InputState(*states), self._of_means
        changes = input_changes(inputs, state, activation, self._seconds(), mask, time_axis)
        return tensors.cast(changes, self.compute_dtype)

    def _spike_by_input(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor | None, time_axis: int
    ) -> tuple[Tensor, list[Tensor]]:
        inputs, state = ops.cast(inputs, self.state_dtype), InputState.on_grid(states)
        if self.activation in EXACT:
            rectify = self.activation is keras.activations.relu
            spikes, state = self._by_channel(
                inputs,
                lambda inputs, per_step: exact_spikes(
                    inputs, state, per_step, mask, time_axis, rectify, self.negative_spikes
                ),
            )
            return tensors.cast(spikes, self.compute_dtype), list(state)
        self._check_scale_fits(inputs.shape[-1])
        per_step = self._seconds()
        changes = input_changes(inputs, state, self._of_means, per_step, mask, time_axis)
        inputs, *states = map(ops.stop_gradient, (inputs, *state))
        counts, state = input_spikes(
            inputs,
            InputState(*states),
            lambda means: ops.stop_gradient(self._of_means(means)),
            per_step,
            mask,
            time_axis,
            self.negative_spikes,
        )
        spikes = kernels.straight_through(changes, counts * (1.0 / per_step))
        return tensors.cast(spikes, self.compute_dtype), list(state)

    def _of_means(self, means: Tensor) -> Tensor:
        # In half precision, errors would grow with the number of steps.
        return self._rates_over_time(means, self.state_dtype)

    def _used_rates(self, inputs: Tensor, mask: Any) -> Tensor:
        rates = self._rates_over_time(inputs)
        return rates if mask is None else ops.where(mask, rates, ops.zeros_like(rates))


def _one_step(increments: Tensor, voltage: Tensor, time_axis: int) -> tuple[Tensor, Tensor]:
    """`integrate_and_fire` without an axis of time."""
    whole, fraction = grid.split(increments)
    raised = grid.to_grid(voltage) + fraction
    carry = tensors.floor(raised)
    return whole + carry, raised - carry
