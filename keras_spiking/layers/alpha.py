"""Second-order lowpass filters: the alpha function."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_spiking import kernels
from keras_spiking._types import Tensor
from keras_spiking.layers.filter import FilterCell, FilterLayer


@keras.saving.register_keras_serializable("keras_spiking")
class AlphaCell(FilterCell):
    """One time step of `Alpha`, for `keras.layers.RNN` or a layer of your own.

    Args:
        size: Number of units, or the shape of the feature axes.
        tau_initializer, dt, apply_during_training, level_initializer: As in `Alpha`.
        initial_level_constraint, tau_constraint: As in `Alpha`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`.
        states: The filter's state `(batch, 2, units)`, alone or in a list, with `units` the
            number of features.
        training: Whether the model is training.

    Input shape:
        `(batch, ...)`, with the feature axes of `size`.

    Output shape:
        `(outputs, [state])`: `(batch, ...)` and `(batch, 2, units)`.

    Raises:
        ValueError: If an argument has a value that it cannot have.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras
    >>> cell = keras_spiking.AlphaCell(1, 0.1, dt=0.1)
    >>> cell.build((None, 1))
    >>> outputs, states = cell(keras.ops.ones((1, 1)), cell.get_initial_state(batch_size=1))
    >>> round(float(keras.ops.convert_to_numpy(outputs)[0, 0]), 4)
    0.2642
    """

    @property
    def _default_state_size(self) -> list[tuple[int, ...]]:
        return [(2, *self._weight_shape)]

    @property
    def _weight_shape(self) -> tuple[int, ...]:
        return (math.prod(self.feature_shape),)

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """The state before the first step, `(batch_size, 2, units)`, in a list."""
        level = ops.cast(self.initial_level, self.state_dtype)
        state = ops.stack([ops.zeros_like(level), level])
        return [self._per_sample(state, batch_size)]

    def _coefficients(self, tau: Tensor, dt: Tensor) -> kernels.Filter:
        ratio = dt / ops.reshape(tau, (1, *self.feature_shape))
        gains = -kernels.expm1(-ratio), kernels.alpha_gain(ratio)
        return kernels.Filter(-ratio, ratio * ops.exp(-ratio), gains)

    def _levels(self, states: Sequence[Tensor], tau: Tensor) -> Sequence[Tensor]:
        state = ops.reshape(states[0], (-1, 2, *self.feature_shape))
        tau, output = ops.reshape(tau, (1, *self.feature_shape)), state[:, 1]
        return [tau * state[:, 0] + output, output]

    def _states(self, levels: Sequence[Tensor], tau: Tensor) -> list[Tensor]:
        level, output = (ops.reshape(part, (-1, *self._weight_shape)) for part in levels)
        return [ops.stack([(level - output) / tau, output], axis=1)]

    def call_inference(self, inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        (state,) = states
        x1, x2 = state[:, 0], state[:, 1]
        drive = ops.reshape(ops.cast(inputs, self.state_dtype), ops.shape(x1))
        tau, dt = self._seconds()
        ratio = dt / tau
        decay = ops.exp(-ratio)
        # The decay goes first: other products may be too large for a float, where it is 0.
        shift = decay * ratio
        new_x1 = decay * (1.0 - ratio) * x1 + shift / tau * (drive - x2)
        new_x2 = decay * dt * x1 + (decay + shift) * x2 + kernels.alpha_gain(ratio) * drive
        outputs = ops.reshape(new_x2, ops.shape(inputs))
        return outputs, [ops.stack([new_x1, new_x2], axis=1)]


@keras.saving.register_keras_serializable("keras_spiking")
class Alpha(FilterLayer):
    r"""Smooths its input with an alpha filter (two equal lowpass filters) that trains.

    The zero-order hold of :math:`1 / (\tau s + 1)^2`, whose impulse response is the alpha
    function :math:`(t / \tau^2) e^{-t / \tau}`: it rises smoothly, as synaptic currents do.
    With :math:`\rho = \Delta t / \tau` and :math:`a = e^{-\rho}`, it is run as two recurrences
    of the same decay:

    .. math::

        l_t &= a l_{t-1} + (1 - a) x_t \\
        y_t &= a y_{t-1} + a \rho l_{t-1} + (1 - a (1 + \rho)) x_t

    with input :math:`x`, output :math:`y` (from :math:`y_0 = l_0`, the initial level), time
    constant :math:`\tau` and step :math:`\Delta t` in seconds. A time constant below 1e-8 s
    counts as 1e-8 s.

    Each unit has its own time constant and initial level. The weights are `initial_level` and
    `tau`, in this order, each of shape `(units,)`, with `units` the number of features.

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
            state as it was and repeat the previous output.
        training: Whether the model is training.
        initial_state: State to start from, `(batch, 2, units)`: :math:`x_1 = (l - y) / \tau`
            and :math:`x_2 = y`.

    Input shape:
        `(batch, time, ...)`, or `(time, batch, ...)` if `time_major`.

    Output shape:
        As the input; `(batch, ...)` if not `return_sequences`. With `return_state`, a tuple of
        that and the final state, `(batch, 2, units)`, float32 or wider.

    Raises:
        ValueError: If an argument or input has a wrong value or shape.
        TypeError: If an argument or input has a wrong type.

    Example:

    >>> import keras
    >>> layer = keras_spiking.Alpha(0.1, dt=0.1)
    >>> outputs = keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 3, 1))))
    >>> [round(float(output), 3) for output in outputs[0, :, 0]]
    [0.264, 0.594, 0.801]

    References:
        - Rall, "Distinguishing theoretical synaptic potentials computed for different
          soma-dendritic distributions of synaptic input", Journal of Neurophysiology 30(5),
          1967, doi:10.1152/jn.1967.30.5.1138 (the alpha function).
    """

    _cell_class = AlphaCell
