"""Activations that spike."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking._types import ActivationLike, InitializerLike, Shape, Tensor
from keras_spiking.layers.base import KerasSpikingLayer
from keras_spiking.layers.dt import DtLike
from keras_spiking.layers.shapes import as_size
from keras_spiking.layers.spiking_activation_cell import SpikingActivationCell
from keras_spiking.layers.spiking_options import SpikingOptions


@keras.saving.register_keras_serializable("keras_spiking")
class SpikingActivation(SpikingOptions, KerasSpikingLayer):
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

    With `integrate="input"`, the activation is that of the mean input, :math:`m`. So noise in the
    input, such as that of spikes, averages out before the activation sees it, and a spike that
    came too early is taken back by a negative one:

    .. math::

        N_t = \lfloor v_0 + s \Delta t \, t f(m_t) \rfloor, \qquad
        m_t = \frac{1}{t} \sum_{u \le t} x_u, \qquad
        y_t = (N_t - N_{t-1}) / (s \Delta t)

    with the number :math:`N` of spikes so far, 0 at first. For inputs that do not change, both
    are the same. With :math:`v_0 = 1/2`, the mean output after :math:`T` steps is
    :math:`f(m_T)`, rounded to a multiple of :math:`1 / (s \Delta t\, T)`. The gradient is that of
    :math:`t f(m_t) - (t - 1) f(m_{t-1})`, which is also the output in training without spikes.
    For `relu` and `linear`, everything is computed in whole numbers. Sums and numbers of spikes
    stop at 2^24; results beyond that may differ between kernels.

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
            that broadcasts to the inputs of one step, or a `keras.initializers.Initializer`; only
            the fractional part of its values counts.
        rate_scale: Positive number by which the firing rate is multiplied and the height of each
            spike divided, so that the output stays near the activation, with more or fewer
            spikes. The firing rate in hertz is `rate_scale` times the output. A list, tuple or
            one-dimensional array is one scale per channel, the last axis of the inputs.
        integrate: What is summed over time: `"activation"`; or `"input"`, and the activation is
            that of the mean input so far.
        negative_spikes: Whether there are negative spikes. If False, a unit stays silent for as
            long as it would owe them.
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
        initial_state: Voltage to start from, `(batch, ...)`; only its fractional part counts.
            Without negative spikes, a list of the voltage and the number of spikes owed, at most
            0. With `integrate="input"`, a list of five: the summed input in spikes, rounded down;
            the rest of it, in [0, 1); the number of steps, `(batch, 1)`; the number of spikes so
            far; and the voltage before the first step.

    Input shape:
        `(batch, time, ...)`, or `(time, batch, ...)` if `time_major`. Unless the layer is stateful,
        the sizes of features may be unknown when it is built.

    Output shape:
        As the input; `(batch, ...)` if not `return_sequences`. With `return_state`, a tuple of
        that and the final states, which are those of `initial_state`, float32 or wider.

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
    takes_unknown_sizes = True

    def __init__(
        self,
        activation: ActivationLike,
        *,
        dt: DtLike = None,
        seed: int | None = None,
        spiking_aware_training: bool = True,
        initial_voltage: InitializerLike | np.ndarray = "random_uniform",
        rate_scale: float | Sequence[float] | np.ndarray = 1.0,
        integrate: str = "activation",
        negative_spikes: bool = True,
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
        self._set_options(
            activation,
            seed,
            spiking_aware_training,
            initial_voltage,
            rate_scale,
            integrate,
            negative_spikes,
        )

    def build_cell(self, input_shape: Shape) -> SpikingActivationCell:
        size = as_size(input_shape[2:])
        return SpikingActivationCell(size, dt=self.dt, dtype=self.dtype_policy, **self._options())

    def initial_states(self, inputs: Tensor) -> list[Tensor]:
        shape = ops.shape(inputs)
        shape = (shape[self.batch_axis], *shape[2:])
        is_alone = inputs.shape[self.time_axis] == 1 and not self._needs_final_states
        if is_alone and self.cell._is_alike_at_first:
            return [self.cell._voltage(shape)]
        return self.cell._initial_states(shape)

    def run(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor | None, training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        cell = self.cell
        if mask is not None:
            mask = ops.transpose(mask) if self.time_major else mask
            mask = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(inputs.shape) - 2)))
            # A masked step may hold NaN, which would make the gradient NaN too.
            inputs = ops.where(mask, inputs, ops.zeros_like(inputs))
        if training and not cell.always_use_inference:
            return cell._without_spikes(inputs, states, mask, self.time_axis), states
        return cell._spike(inputs, states, mask, self.time_axis)
