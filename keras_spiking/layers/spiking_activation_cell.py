"""One time step of an activation that spikes, and the options that cells and layers share."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking import _checks, kernels
from keras_spiking.kernels import portable
from keras_spiking.layers.activation import get_activation, serialize_activation
from keras_spiking.layers.cell import KerasSpikingCell
from keras_spiking.layers.initializers import get_initializer
from keras_spiking.layers.integration import (
    EXACT,
    INTEGRATE,
    InputState,
    exact_spikes,
    input_changes,
    input_spikes,
)
from keras_spiking.layers.shapes import check_not_run_again


@keras.saving.register_keras_serializable("keras_spiking")
class SpikingActivationCell(KerasSpikingCell):
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
        size: Any,
        activation: Any,
        *,
        dt: Any = None,
        seed: int | None = None,
        spiking_aware_training: bool = True,
        initial_voltage: Any = "random_uniform",
        rate_scale: Any = 1.0,
        integrate: str = "activation",
        negative_spikes: bool = True,
        **kwargs: Any,
    ):
        owner = type(self).__name__
        spiking_aware_training = _checks.boolean(
            owner, "spiking_aware_training", spiking_aware_training
        )
        super().__init__(size, dt=dt, always_use_inference=spiking_aware_training, **kwargs)
        self.integrate = _checks.choice(owner, "integrate", integrate, INTEGRATE)
        self.negative_spikes = _checks.boolean(owner, "negative_spikes", negative_spikes)
        if self._integrates_input:
            self.state_size = [self.size, self.size, 1, self.size, self.size]
        elif not self.negative_spikes:
            self.state_size = [self.size, self.size]
        self.activation = get_activation(owner, activation)
        self.seed = _checks.seed(owner, seed)
        self.spiking_aware_training = spiking_aware_training
        self.initial_voltage = checked_voltage(owner, initial_voltage)
        self.rate_scale = checked_scale(self, rate_scale)
        self._freeze_sublayers()
        if isinstance(self.initial_voltage, str) and seed is None:
            self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: Any) -> None:
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
        """Whether the first step is that of a neuron that integrates its activation, to the bit.

        That takes fewer passes, and is all that a model of one step needs.
        """
        is_exact = self.activation in EXACT
        return self._integrates_input and is_exact and self.negative_spikes

    def _checked_size(self, size: Any) -> Any:
        # A layer may know the sizes of features only when it is called.
        if not isinstance(size, (list, tuple)):
            return super()._checked_size(size)
        checked = super()._checked_size([1 if each is None else each for each in size])
        return tuple(
            None if given is None else each for given, each in zip(size, checked, strict=True)
        )

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """The states before the first step: for the default options, the initial voltage."""
        return self._initial_states((batch_size, *self.feature_shape))

    def _initial_states(self, shape: tuple[Any, ...]) -> list[Any]:
        """The same for neurons of a shape, `(batch, ...)`."""
        voltage = self._voltage(shape)
        if self._integrates_input:
            return list(InputState.before_first_step(voltage))
        return [voltage] if self.negative_spikes else [voltage, ops.zeros_like(voltage)]

    def _voltage(self, shape: tuple[Any, ...]) -> Any:
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

    def _check_voltage_fits(self, shape: tuple[Any, ...]) -> None:
        """Checks an array of voltages against neurons, as far as their sizes are known."""
        voltage = self.initial_voltage
        if not isinstance(voltage, np.ndarray):
            return
        own = (*[1] * (len(shape) - voltage.ndim), *voltage.shape[-len(shape) :])
        shape = tuple(
            size if isinstance(size, int) else given for size, given in zip(shape, own, strict=True)
        )
        try:
            np.broadcast_to(voltage, shape)
        except ValueError as error:
            raise ValueError(
                f"{type(self).__name__}: `initial_voltage` must broadcast to one step of the "
                f"inputs, {shape}; received shape {voltage.shape}."
            ) from error

    def _rates(self, inputs: Any, dtype: Any = None) -> Any:
        """The activation of inputs `(batch, ...)`: the rate in hertz before `rate_scale`."""
        rates = self.activation(inputs)
        if tuple(rates.shape[1:]) != tuple(inputs.shape[1:]):
            raise ValueError(
                f"{type(self).__name__}: `activation` must keep the shape of its input; it turned "
                f"{tuple(inputs.shape)} into {tuple(rates.shape)}."
            )
        return portable.cast(rates, dtype or self.compute_dtype)

    def _rates_over_time(self, inputs: Any, dtype: Any = None) -> Any:
        """The same for a sequence. The activation sees steps as samples: it cannot mix them."""
        shape = ops.shape(inputs)
        steps = ops.reshape(inputs, (shape[0] * shape[1], *shape[2:]))
        return ops.reshape(self._rates(steps, dtype), shape)

    def _check_scale_fits(self, channels: Any) -> None:
        """Checks an array of scales against the last axis, if its length is known."""
        scale = self.rate_scale
        if isinstance(scale, np.ndarray) and isinstance(channels, int) and channels != len(scale):
            raise ValueError(
                f"{type(self).__name__}: `rate_scale` must be one number, or one for each of the "
                f"{channels} channels in the last axis of the inputs; received {len(scale)}."
            )

    def _seconds(self) -> Any:
        """What rates in hertz are multiplied by for spikes in a step."""
        if not isinstance(self.rate_scale, np.ndarray):
            return self._time_step.seconds(self.state_dtype, self.rate_scale)
        if self._time_step.varies:
            scale = ops.convert_to_tensor(self.rate_scale, self.state_dtype)
            return self._time_step.seconds(self.state_dtype) * scale
        return ops.convert_to_tensor(self.dt * self.rate_scale, self.state_dtype)

    def _scales(self, channels: Any) -> tuple[Any, Any]:
        """For each channel, what its rates are multiplied by, and one over that."""
        self._check_scale_fits(channels)
        seconds = self._seconds()
        if self._time_step.varies:
            return seconds, 1.0 / seconds
        # As exact as for one number.
        heights = 1.0 / (self.dt * self.rate_scale)
        return seconds, ops.convert_to_tensor(heights, self.state_dtype)

    def _by_channel(self, rates: Any, run: Any) -> tuple[Any, Any]:
        """Calls `run(rates, seconds)`, of one number of seconds, with rates in spikes in a step."""
        if not isinstance(self.rate_scale, np.ndarray):
            return run(rates, self._seconds())
        seconds, heights = self._scales(rates.shape[-1])
        outputs, states = run(ops.cast(rates, self.state_dtype) * seconds, 1.0)
        return portable.cast(outputs * heights, self.compute_dtype), states

    def call_training(self, inputs: Any, states: list[Any]) -> Any:
        return self._rates(inputs), states

    def call_inference(self, inputs: Any, states: list[Any]) -> Any:
        if self._integrates_input or not self.negative_spikes:
            spikes, states = self._spike(ops.expand_dims(inputs, 1), states)
            return portable.one_step(spikes, 1, 0), states
        rates = self._rates(inputs)
        spikes, voltage = self._by_channel(
            rates,
            lambda rates, seconds: portable.spike_by(
                _one_step, kernels.straight_through, rates, states[0], seconds
            ),
        )
        return spikes, [voltage]

    def _spike(
        self, inputs: Any, states: list[Any], mask: Any = None, time_axis: int = 1
    ) -> tuple[Any, list[Any]]:
        """Runs a sequence in which masked inputs are zero: the spikes and the final states.

        Args:
            inputs: Sequence, `(batch, time, ...)`, or `(time, batch, ...)`.
            states: States to start from; the voltage alone for one step that is alike.
            mask: None, or Boolean tensor that broadcasts to `inputs`, True for steps to use.
            time_axis: Axis of time, 0 or 1.
        """
        if self._integrates_input and len(states) > 1:
            return self._spike_by_input(inputs, states, mask, time_axis)
        # The kernel's own relu may save a pass. It leaves what is masked at zero.
        rectify = self.activation is keras.activations.relu
        rates = inputs if rectify else self._used_rates(inputs, mask)
        if self.negative_spikes or rectify:
            each, options = (rates, states[0]), (time_axis, rectify)
            if isinstance(self.rate_scale, np.ndarray):
                scales = self._scales(rates.shape[-1])
                spikes, voltage = kernels.spike_by_channel(*each, *scales, *options)
            else:
                spikes, voltage = kernels.spike(*each, self._seconds(), *options)
            return spikes, [voltage, *states[1:]]
        voltage, debt = states
        nothing = ops.zeros_like(debt)
        before = debt, voltage, nothing, voltage
        spikes, (floor, voltage, emitted) = self._by_channel(
            ops.cast(rates, self.state_dtype),
            lambda rates, seconds: kernels.accumulate_and_fire(
                rates, before, seconds, time_axis, False, False
            ),
        )
        return portable.cast(spikes, self.compute_dtype), [voltage, floor - emitted]

    def _without_spikes(self, inputs: Any, states: list[Any], mask: Any, time_axis: int) -> Any:
        """What the spikes of a sequence stand for."""
        if not self._integrates_input or len(states) == 1:
            return self._used_rates(inputs, mask)
        self._check_scale_fits(inputs.shape[-1])
        inputs = ops.cast(inputs, self.state_dtype)
        state, activation = InputState(*states), self._of_means
        changes = input_changes(inputs, state, activation, self._seconds(), mask, time_axis)
        return portable.cast(changes, self.compute_dtype)

    def _spike_by_input(
        self, inputs: Any, states: list[Any], mask: Any, time_axis: int
    ) -> tuple[Any, list[Any]]:
        inputs, state = ops.cast(inputs, self.state_dtype), InputState.on_grid(states)
        if self.activation in EXACT:
            rectify = self.activation is keras.activations.relu
            spikes, state = self._by_channel(
                inputs,
                lambda inputs, per_step: exact_spikes(
                    inputs, state, per_step, mask, time_axis, rectify, self.negative_spikes
                ),
            )
            return portable.cast(spikes, self.compute_dtype), list(state)
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
        return portable.cast(spikes, self.compute_dtype), list(state)

    def _of_means(self, means: Any) -> Any:
        # Not in half precision, whose errors would grow with the number of steps.
        return self._rates_over_time(means, self.state_dtype)

    def _used_rates(self, inputs: Any, mask: Any) -> Any:
        rates = self._rates_over_time(inputs)
        return rates if mask is None else ops.where(mask, rates, ops.zeros_like(rates))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **spiking_config(self)}


def _one_step(increments: Any, voltage: Any, time_axis: int) -> tuple[Any, Any]:
    """`integrate_and_fire` without an axis of time."""
    whole, fraction = portable.split(increments)
    raised = portable.to_grid(voltage) + fraction
    carry = portable.floor(raised)
    return whole + carry, raised - carry


def spiking_config(layer: Any) -> dict[str, Any]:
    """The options of a layer or cell, for its config."""
    voltage = layer.initial_voltage
    if isinstance(voltage, np.ndarray):
        voltage = voltage.tolist()
    elif isinstance(voltage, keras.initializers.Initializer):
        voltage = keras.initializers.serialize(voltage)
    return {
        "activation": serialize_activation(layer.activation),
        "seed": layer.seed,
        "spiking_aware_training": layer.spiking_aware_training,
        "initial_voltage": voltage,
        "rate_scale": np.asarray(layer.rate_scale).tolist(),
        "integrate": layer.integrate,
        "negative_spikes": layer.negative_spikes,
    }


def checked_scale(layer: Any, rate_scale: Any) -> Any:
    """Accepts a scale with which, times `dt`, float32 can compute; an array is one per channel."""
    owner, dt = type(layer).__name__, layer._time_step.as_float()
    is_array = isinstance(rate_scale, np.ndarray) and rate_scale.ndim > 0
    if is_array or isinstance(rate_scale, (list, tuple)):
        if not len(rate_scale):
            raise ValueError(
                f"{owner}: `rate_scale` must be a number, or one number for each channel; received "
                f"rate_scale={rate_scale!r}, which has none."
            )
        return np.array([_checked_scale(owner, dt, scale) for scale in rate_scale])
    return _checked_scale(owner, dt, rate_scale)


def _checked_scale(owner: str, dt: float, rate_scale: Any) -> float:
    scale = _checks.positive_number(owner, "rate_scale", rate_scale)
    _checks.positive_number(owner, "dt * rate_scale", dt * scale)
    return scale


def checked_voltage(owner: str, voltage: Any) -> Any:
    """Returns "random_uniform", a float64 array of values in [0, 1), or an initializer."""
    if isinstance(voltage, (str, dict, keras.initializers.Initializer)):
        return (
            voltage
            if voltage == "random_uniform"
            else get_initializer(owner, "initial_voltage", voltage)
        )
    try:
        values = np.asarray(voltage)
    except ValueError as error:
        raise ValueError(
            f"{owner}: `initial_voltage` must be an array, its rows equally long; received "
            f"{voltage!r}."
        ) from error
    if isinstance(voltage, (bool, np.bool_)) or values.dtype.kind not in "iuf":
        raise TypeError(
            f'{owner}: `initial_voltage` must be "random_uniform", a number in [0, 1), an array '
            f"of them, or a keras.initializers.Initializer; received {voltage!r} "
            f"of type {type(voltage).__name__}."
        )
    if not np.all((values >= 0) & (values < 1)):
        raise ValueError(
            f"{owner}: `initial_voltage` must be at least 0 and less than 1; received {voltage!r}."
        )
    return values.astype("float64")
