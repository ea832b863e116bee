"""Activations that spike."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking import _checks, kernels
from keras_spiking.kernels import portable
from keras_spiking.layers.activation import get_activation, serialize_activation
from keras_spiking.layers.base import KerasSpikingLayer
from keras_spiking.layers.cell import KerasSpikingCell
from keras_spiking.layers.initializers import get_initializer
from keras_spiking.layers.shapes import as_size, check_not_run_again


@keras.saving.register_keras_serializable("keras_spiking")
class SpikingActivationCell(KerasSpikingCell):
    """One time step of `SpikingActivation`, for `keras.layers.RNN` or a layer of your own.

    Args:
        size: Number of units, or the shape of the feature axes.
        activation, dt, seed, spiking_aware_training, initial_voltage, rate_scale: As in
            `SpikingActivation`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`.
        states: The voltage, `(batch, ...)`, alone or in a list.
        training: Whether the model is training.

    Input shape:
        `(batch, ...)`, with the feature axes of `size`.

    Output shape:
        `(spikes, [voltage])`, both `(batch, ...)`.

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
        rate_scale: float = 1.0,
        **kwargs: Any,
    ):
        owner = type(self).__name__
        spiking_aware_training = _checks.boolean(
            owner, "spiking_aware_training", spiking_aware_training
        )
        super().__init__(size, dt=dt, always_use_inference=spiking_aware_training, **kwargs)
        self.activation = get_activation(owner, activation)
        self.seed = _checks.seed(owner, seed)
        self.spiking_aware_training = spiking_aware_training
        self.initial_voltage = _checked_voltage(owner, initial_voltage)
        self.rate_scale = _checked_scale(self, rate_scale)
        self._freeze_sublayers()
        if isinstance(self.initial_voltage, str) and seed is None:
            self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self._check_voltage_fits(input_shape[0])
        if isinstance(self.activation, keras.layers.Layer) and not self.activation.built:
            self.activation.build(tuple(input_shape))

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """The initial voltage, in a list."""
        shape = (batch_size, *self.feature_shape)
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
            return [kernels.uniform(shape, seed, self.state_dtype)]
        if isinstance(voltage, keras.initializers.Initializer):
            return [ops.cast(voltage(shape, dtype=self.state_dtype), self.state_dtype)]
        self._check_voltage_fits(batch_size)
        return [self._per_sample(ops.cast(voltage, self.state_dtype), batch_size)]

    def _check_voltage_fits(self, batch_size: Any) -> None:
        """Checks an array of voltages against the batch, as far as its size is known."""
        voltage = self.initial_voltage
        if not isinstance(voltage, np.ndarray):
            return
        if not isinstance(batch_size, int):
            leading = voltage.ndim > len(self.feature_shape)
            batch_size = voltage.shape[0] if leading else 1
        shape = (batch_size, *self.feature_shape)
        try:
            np.broadcast_to(voltage, shape)
        except ValueError as error:
            raise ValueError(
                f"{type(self).__name__}: `initial_voltage` must broadcast to one step of the "
                f"inputs, {shape}; received shape {voltage.shape}."
            ) from error

    def _rates(self, inputs: Any) -> Any:
        """The activation of inputs `(batch, ...)`: the rate in hertz before `rate_scale`."""
        rates = self.activation(inputs)
        if tuple(rates.shape[1:]) != tuple(inputs.shape[1:]):
            raise ValueError(
                f"{type(self).__name__}: `activation` must keep the shape of its input; it turned "
                f"{tuple(inputs.shape)} into {tuple(rates.shape)}."
            )
        return portable.cast(rates, self.compute_dtype)

    def _seconds(self) -> Any:
        """What rates in hertz are multiplied by for spikes in a step."""
        return self._time_step.seconds(self.state_dtype, self.rate_scale)

    def call_training(self, inputs: Any, states: list[Any]) -> Any:
        return self._rates(inputs), states

    def call_inference(self, inputs: Any, states: list[Any]) -> Any:
        rates = self._rates(inputs)
        spikes, voltage = portable.spike(
            rates,
            states[0],
            self._seconds(),
            integrate_and_fire=_one_step,
            straight_through=kernels.straight_through,
        )
        return spikes, [voltage]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **_config(self)}


def _one_step(increments: Any, voltage: Any, time_axis: int) -> tuple[Any, Any]:
    """`integrate_and_fire` without an axis of time."""
    whole, fraction = portable.split(increments)
    raised = portable.to_grid(voltage) + fraction
    carry = portable.floor(raised)
    return whole + carry, raised - carry


@keras.saving.register_keras_serializable("keras_spiking")
class SpikingActivation(KerasSpikingLayer):
    r"""Turns an activation into spikes at the rate of that activation.

    Each unit integrates the activation of its input and emits a spike whenever the integral
    passes a whole number, so that over time the spikes add up to the activation, to within one
    spike. In training, gradients pass as if the activation itself had been the output
    ("spiking-aware training").

    .. math::

        r_t &= s f(x_t) \\
        n_t &= \lfloor v_{t-1} + r_t \Delta t \rfloor \\
        v_t &= v_{t-1} + r_t \Delta t - n_t \\
        y_t &= n_t / (s \Delta t)

    with the activation :math:`f`, the scale :math:`s` (`rate_scale`, 1 unless set), rate
    :math:`r` in hertz, voltage :math:`v` in spikes, the step :math:`\Delta t` in seconds, spikes
    :math:`n`, and output :math:`y`, in hertz where :math:`s = 1`. Several spikes in one step, and
    negative spikes for negative rates, are allowed: as :math:`s \Delta t` grows, the output
    approaches :math:`f(x)`.

    The same rates and initial voltage give the same spikes bit for bit, however time is cut, in
    any layout, on every backend, compiled or not: increments are rounded to 2^-23 and summed as
    integers.

    Args:
        activation: Name of a Keras activation, function of a tensor, or layer (whose weights
            train). It sees one time step per sample, and must keep its shape.
        dt: Length of a time step in seconds: a positive number, or a scalar variable, which
            other layers may share; it is never trained. Default: `keras_spiking.default.dt`.
        seed: Integer for the same random initial voltage at every call; None for a fresh one.
        spiking_aware_training: Whether training sees spikes. If False, the output in training
            is the activation itself, and the voltage stays as it was.
        initial_voltage: `"random_uniform"`, between 0 and 1; or a number in [0, 1), an array
            that broadcasts to the inputs of one step, or a `keras.initializers.Initializer`, of
            whose values the fractional part counts.
        rate_scale: Positive number by which the firing rate is multiplied and the height of each
            spike divided, so that the output stays near the activation, with more or fewer
            spikes. The firing rate in hertz is `rate_scale` times the output.
        return_sequences: Whether to return the output of every step, or only the last.
        return_state: Whether to return the final state too.
        stateful: Whether the next call resumes from the final state of this one. Needs a fixed
            batch size.
        unroll: As in `keras.layers.RNN`. It changes nothing here, as no loop runs in Python.
        time_major: Whether inputs and outputs are `(time, batch, ...)`.
        go_backwards: Whether to run from the last step to the first, and return the outputs in
            that order.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, of any real type.
        mask: Tensor of shape `(batch, time)`, True for steps to use. Masked steps leave the
            voltage as it was and output zero.
        training: Whether the model is training.
        initial_state: Voltage to start from, `(batch, ...)`, of which the fractional part counts.

    Input shape:
        `(batch, time, ...)`, or `(time, batch, ...)` if `time_major`.

    Output shape:
        As the input; `(batch, ...)` if not `return_sequences`. With `return_state`, a tuple of
        that and the final voltage, `(batch, ...)`, float32 or wider.

    Raises:
        ValueError: If an argument or input has a wrong value or shape.
        TypeError: If an argument or input has a wrong type.

    Example:

    >>> import numpy as np
    >>> layer = keras_spiking.SpikingActivation("relu", dt=0.1, initial_voltage=0.0)
    >>> np.asarray(layer(np.full((1, 8, 1), 2.5)))[0, :, 0].tolist()
    [0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 10.0]

    References:
        - Hunsberger and Eliasmith, "Training spiking deep networks for neuromorphic hardware",
          2016, doi:10.48550/arXiv.1611.05141.
        - Bengio, Léonard and Courville, "Estimating or propagating gradients through stochastic
          neurons for conditional computation", 2013, doi:10.48550/arXiv.1308.3432 (the
          straight-through estimator).
    """

    zero_output_for_mask = True

    def __init__(
        self,
        activation: Any,
        *,
        dt: Any = None,
        seed: int | None = None,
        spiking_aware_training: bool = True,
        initial_voltage: Any = "random_uniform",
        rate_scale: float = 1.0,
        return_sequences: bool = True,
        return_state: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        time_major: bool = False,
        go_backwards: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            dt=dt,
            return_sequences=return_sequences,
            return_state=return_state,
            stateful=stateful,
            unroll=unroll,
            time_major=time_major,
            go_backwards=go_backwards,
            **kwargs,
        )
        owner = type(self).__name__
        self.activation = get_activation(owner, activation)
        self.seed = _checks.seed(owner, seed)
        self.spiking_aware_training = _checks.boolean(
            owner, "spiking_aware_training", spiking_aware_training
        )
        self.initial_voltage = _checked_voltage(owner, initial_voltage)
        self.rate_scale = _checked_scale(self, rate_scale)
        self._freeze_sublayers()

    def build_cell(self, input_shape: tuple[int | None, ...]) -> SpikingActivationCell:
        return SpikingActivationCell(
            as_size(input_shape[2:]),
            self.activation,
            dt=self.dt,
            seed=self.seed,
            spiking_aware_training=self.spiking_aware_training,
            initial_voltage=self.initial_voltage,
            rate_scale=self.rate_scale,
            dtype=self.dtype_policy,
        )

    def run(
        self, inputs: Any, states: list[Any], mask: Any, training: bool
    ) -> tuple[Any, list[Any]]:
        cell = self.cell
        shape = ops.shape(inputs)
        if mask is not None:
            mask = ops.transpose(mask) if self.time_major else mask
            mask = ops.reshape(mask, (*shape[:2], *[1] * (len(shape) - 2)))
            # What is left out may be no number: its gradient would be none either.
            inputs = ops.where(mask, inputs, ops.zeros_like(inputs))
        seen = cell.always_use_inference or not training
        # The kernel's own relu may save a pass. It leaves what is masked at zero.
        rectify = seen and cell.activation is keras.activations.relu
        rates = inputs
        if not rectify:
            # The activation sees steps as samples, so that it cannot mix them.
            steps = ops.reshape(inputs, (shape[0] * shape[1], *cell.feature_shape))
            rates = ops.reshape(cell._rates(steps), shape)
            if mask is not None:
                rates = ops.where(mask, rates, ops.zeros_like(rates))
        if not seen:
            return rates, states
        spikes, voltage = kernels.spike(
            rates, states[0], cell._seconds(), self.time_axis, rectify=rectify
        )
        return spikes, [voltage]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **_config(self)}


def _config(layer: SpikingActivation | SpikingActivationCell) -> dict[str, Any]:
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
        "rate_scale": layer.rate_scale,
    }


def _checked_scale(layer: SpikingActivation | SpikingActivationCell, rate_scale: Any) -> float:
    owner = type(layer).__name__
    scale = _checks.positive_number(owner, "rate_scale", rate_scale)
    dt = layer._time_step.as_float()
    _checks.positive_number(owner, "dt * rate_scale", dt * scale)
    return scale


def _checked_voltage(owner: str, voltage: Any) -> Any:
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
