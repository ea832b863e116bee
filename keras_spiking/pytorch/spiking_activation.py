"""Activations that spike."""

from collections.abc import Callable
from typing import Any

import torch

from keras_spiking import _checks
from keras_spiking.pytorch.kernels import spike
from keras_spiking.pytorch.mask import zero_masked
from keras_spiking.pytorch.stateful import Stateful
from keras_spiking.pytorch.tensors import as_float, check_inputs, check_state, shape_of, state_dtype

_RELU = (torch.relu, torch.nn.functional.relu)


class SpikingActivation(Stateful):
    r"""Turns an activation into spikes at the rate of that activation.

    Each unit integrates the activation of its input and emits a spike whenever the integral
    passes a whole number, so that over time the spikes add up to the activation, to within one
    spike. In training, gradients pass as if the activation itself had been the output
    ("spiking-aware training").

    .. math::

        r_t &= f(x_t) \\
        n_t &= \lfloor v_{t-1} + r_t \Delta t \rfloor \\
        v_t &= v_{t-1} + r_t \Delta t - n_t \\
        y_t &= n_t / \Delta t

    with the activation :math:`f`, rate :math:`r` in hertz, voltage :math:`v` in spikes, the step
    :math:`\Delta t` in seconds, spikes :math:`n`, and output :math:`y` in hertz. Several spikes
    in one step, and negative spikes for negative rates, are allowed: as :math:`\Delta t` grows,
    the output approaches :math:`f(x)`.

    The spikes are those of `keras_spiking.SpikingActivation`, bit for bit, for the same rates and
    initial voltage, in eager mode or compiled. The voltage is kept in float32 for rates in half
    precision, and in float64 for rates in float64. No gradient flows to it.

    Args:
        activation: Function of a tensor, or module (whose parameters train), such as
            `torch.relu`. It is called on the whole inputs, and must keep their shape.
        dt: Length of a time step in seconds, a positive number.
        initial_state: Voltage to start from, `(batch, ...)`, of which the fractional part counts;
            None draws it anew in each call, between 0 and 1, on the device of the inputs. It is
            moved to that device when needed, and is no part of the `state_dict`.
        spiking_aware_training: Whether training sees spikes. If False, the output in training
            mode is the activation itself.
        return_sequences: Whether to return every time step, or the last one only.
        return_state: Whether to return the final voltage too, for the next call's `state`.
        stateful: Whether each call goes on from the final voltage of the one before, until
            `reset_state()`.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, of any real type.
        state: Voltage to start from, `(batch, ...)`, instead of `initial_state`.
        mask: Boolean tensor of shape `(batch, time)`, True for steps to use. Masked steps leave
            the voltage as it was and output zero; the activation sees zeros there.

    Input shape:
        `(batch, time, ...)`, with any number of feature axes, at least one.

    Output shape:
        As the input; `(batch, ...)` if not `return_sequences`. The type is that of the
        activation's output. With `return_state`, a tuple of that and the voltage, `(batch, ...)`.

    Raises:
        ValueError: If an argument or input has a wrong value, shape or type of numbers.
        TypeError: If an argument or input, or what `activation` returns, has a wrong type.

    Example:

    >>> import torch
    >>> from keras_spiking.pytorch import SpikingActivation
    >>> spiking = SpikingActivation(torch.relu, dt=0.1, initial_state=torch.zeros(1, 1))
    >>> spiking(torch.full((1, 8, 1), 2.5))[0, :, 0].tolist()
    [0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 10.0]

    References:
        - Hunsberger and Eliasmith, "Training spiking deep networks for neuromorphic hardware",
          2016, doi:10.48550/arXiv.1611.05141.
        - Bengio, Léonard and Courville, "Estimating or propagating gradients through stochastic
          neurons for conditional computation", 2013, doi:10.48550/arXiv.1308.3432 (the
          straight-through estimator).
    """

    def __init__(
        self,
        activation: Callable[[Any], Any],
        dt: float = 0.001,
        initial_state: torch.Tensor | None = None,
        spiking_aware_training: bool = True,
        return_sequences: bool = True,
        return_state: bool = False,
        stateful: bool = False,
    ):
        super().__init__(return_sequences, return_state, stateful)
        owner = type(self).__name__
        if isinstance(activation, type) or not callable(activation):
            raise TypeError(
                f"{owner}: `activation` must be a function of a tensor or a module, such as "
                f"torch.relu or torch.nn.ReLU(); received activation={activation!r}."
            )
        self.activation = activation
        self.dt = _checks.positive_number(owner, "dt", dt, "a number of seconds")
        # No buffer: `.half()` would round it.
        self.initial_state = (
            None
            if initial_state is None
            else check_state(owner, "initial_state", initial_state, "(batch, ...)")
        )
        self.spiking_aware_training = _checks.boolean(
            owner, "spiking_aware_training", spiking_aware_training
        )

    def _check(self, inputs: Any) -> None:
        check_inputs(type(self).__name__, inputs)

    def _run(self, inputs: Any, state: Any, mask: Any) -> tuple[Any, Any]:
        self._check_states(inputs, state)
        # What is left out may be no number: its gradient would be none either.
        inputs = inputs if mask is None else zero_masked(inputs, mask)
        seen = self.spiking_aware_training or not self.training
        # The kernel's own relu saves a pass.
        rectify = seen and self.activation in _RELU and inputs.is_floating_point()
        rates = inputs if rectify else self._rates(inputs)
        if mask is not None and not rectify:
            rates = zero_masked(rates, mask)
        voltage = self._initial_voltage(rates, state_dtype(rates), state)
        outputs = rates
        if seen:
            outputs, voltage = spike(rates, voltage, self.dt, rectify=rectify)
        return outputs if self.return_sequences else outputs[:, -1], voltage

    def _rates(self, inputs: Any) -> Any:
        rates = self.activation(inputs)
        if not isinstance(rates, torch.Tensor):
            raise TypeError(
                f"{type(self).__name__}: `activation` must return a torch.Tensor; it returned "
                f"{type(rates).__name__}. Wrap it in a function that returns one tensor."
            )
        if shape_of(rates) != shape_of(inputs):
            raise ValueError(
                f"{type(self).__name__}: `activation` must keep the shape of its input; it turned "
                f"{shape_of(inputs)} into {shape_of(rates)}. Put what changes the shape, "
                "such as a torch.nn.Linear, in a module before this one."
            )
        return as_float(rates)

    def _check_states(self, inputs: Any, state: Any) -> None:
        batch, _, *features = shape_of(inputs)
        expected = (batch, *features)
        if state is not None:
            self._check_state_shape(state, expected)
            return
        if self.initial_state is not None and shape_of(self.initial_state) != expected:
            raise ValueError(
                f"{type(self).__name__}: `initial_state` must have the shape (batch, ...) of one "
                f"step of the inputs, here {expected}; received `initial_state` of shape "
                f"{shape_of(self.initial_state)}. Use batches of that size (drop a smaller last "
                "one), or initial_state=None."
            )

    def _initial_voltage(self, rates: Any, dtype: Any, state: Any) -> Any:
        state = self.initial_state if state is None else state.detach()
        if state is not None:
            return state.to(rates.device, dtype)
        shape = (rates.shape[0], *rates.shape[2:])
        return torch.rand(shape, device=rates.device, dtype=dtype)

    def extra_repr(self) -> str:
        function = "" if isinstance(self.activation, torch.nn.Module) else f"{self.activation}, "
        return (
            f"{function}dt={self.dt}, spiking_aware_training={self.spiking_aware_training}, "
            f"{super().extra_repr()}"
        )
