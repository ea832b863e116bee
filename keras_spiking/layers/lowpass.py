"""First-order lowpass filters."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_spiking import kernels
from keras_spiking._types import Tensor
from keras_spiking.layers.filter import FilterCell, FilterLayer


@keras.saving.register_keras_serializable("keras_spiking")
class LowpassCell(FilterCell):
    """One time step of `Lowpass`, for `keras.layers.RNN` or a layer of your own.

    Args:
        size: Number of units, or the shape of the feature axes.
        tau_initializer, dt, apply_during_training, level_initializer: As in `Lowpass`.
        initial_level_constraint, tau_constraint: As in `Lowpass`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`.
        states: The filter's level, `(batch, ...)`, alone or in a list.
        training: Whether the model is training.

    Input shape:
        `(batch, ...)`, with the feature axes of `size`.

    Output shape:
        `(outputs, [level])`, both `(batch, ...)`.

    Raises:
        ValueError: If an argument has a value that it cannot have.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras
    >>> cell = keras_spiking.LowpassCell(1, 0.1, dt=0.01, level_initializer="ones")
    >>> cell.build((None, 1))
    >>> outputs, states = cell(keras.ops.zeros((1, 1)), cell.get_initial_state(batch_size=1))
    >>> round(float(keras.ops.convert_to_numpy(outputs)[0, 0]), 4)
    0.9048
    """

    @property
    def _weight_shape(self) -> tuple[int, ...]:
        return (1, *self.feature_shape)

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """The initial level, in a list."""
        return [self._per_sample(ops.cast(self.initial_level, self.state_dtype), batch_size)]

    def _coefficients(self, tau: Tensor, dt: Tensor) -> kernels.Filter:
        log_decay = -dt / tau
        gain = -kernels.expm1(log_decay)
        return kernels.Filter(log_decay, ops.zeros_like(gain), (gain,))

    def _levels(self, states: Sequence[Tensor], tau: Tensor) -> Sequence[Tensor]:
        return states

    def _states(self, levels: Sequence[Tensor], tau: Tensor) -> list[Tensor]:
        return list(levels)

    def call_inference(self, inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        (level,) = states
        (gain,) = self._coefficients(*self._seconds()).gains
        level = level + gain * (ops.cast(inputs, self.state_dtype) - level)
        return level, [level]


@keras.saving.register_keras_serializable("keras_spiking")
class Lowpass(FilterLayer):
    r"""Smooths its input with a first-order lowpass filter whose time constants train.

    .. math::

        y_t &= a y_{t-1} + (1 - a) x_t \\
        a &= e^{-\Delta t / \tau}

    the zero-order hold of :math:`1 / (\tau s + 1)`, with input :math:`x`, output :math:`y`
    (from :math:`y_0`, the initial level), time constant :math:`\tau` and step
    :math:`\Delta t` in seconds. A time constant below 1e-8 s counts as 1e-8 s.

    Each unit has its own time constant and initial level. The weights are `initial_level` and
    `tau`, in this order, each of shape `(1, ...)`.

    Args:
        tau_initializer: Time constants in seconds: a positive number, or a Keras initializer.
        dt: Length of a time step in seconds: a positive number, or a scalar variable, which
            other layers may share; it is never trained. Default: `keras_spiking.default.dt`.
        apply_during_training: Whether the filter works in training. If False, the output in
            training is the input, and the weights are not trained.
        level_initializer: Output before the first step: a number, or a Keras initializer.
        initial_level_constraint: Keras constraint for `initial_level`.
        tau_constraint: Keras constraint for `tau`, such as `keras_spiking.constraints.Mean()`.
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
            level as it was and repeat the previous output.
        training: Whether the model is training.
        initial_state: Level to start from, `(batch, ...)`.

    Input shape:
        `(batch, time, ...)`, or `(time, batch, ...)` if `time_major`.

    Output shape:
        As the input; `(batch, ...)` if not `return_sequences`. With `return_state`, a tuple of
        that and the final level, `(batch, ...)`, float32 or wider.

    Raises:
        ValueError: If an argument or input has a wrong value or shape.
        TypeError: If an argument or input has a wrong type.

    Example:

    >>> import keras
    >>> layer = keras_spiking.Lowpass(0.1, dt=0.1)
    >>> outputs = keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 3, 1))))
    >>> [round(float(output), 3) for output in outputs[0, :, 0]]
    [0.632, 0.865, 0.95]

    References:
        - Oppenheim and Schafer, "Discrete-time signal processing", 3rd edition, Pearson, 2009.
    """

    _cell_class = LowpassCell
