"""Activations that spike."""

from collections.abc import Callable
from typing import Any

import torch

from keras_spiking import _checks
from keras_spiking.kernels.torch import to_dtype
from keras_spiking.pytorch.integration import (
    INTEGRATE,
    InputState,
    changes,
    exact_spikes,
    spikes_of_mean,
    without_negative_spikes,
)
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

    With `integrate="input"`, the activation is that of the mean input, :math:`m`. So noise in the
    input, such as that of spikes, averages out before the activation sees it, and a spike that
    came too early is taken back by a negative one:

    .. math::

        N_t = \lfloor v_0 + \Delta t \, t f(m_t) \rfloor, \qquad
        m_t = \frac{1}{t} \sum_{u \le t} x_u, \qquad
        y_t = (N_t - N_{t-1}) / \Delta t

    with the number :math:`N` of spikes so far, 0 at first. For inputs that do not change, both
    are the same. With :math:`v_0 = 1/2`, the mean output after :math:`T` steps is
    :math:`f(m_T)`, rounded to a multiple of :math:`1 / (\Delta t\, T)`. The gradient is that of
    :math:`t f(m_t) - (t - 1) f(m_{t-1})`, which is also the output in training without spikes.
    For `torch.relu`, `torch.nn.functional.relu`, `torch.nn.ReLU()` and `torch.nn.Identity()` all
    is done in whole numbers, and the activation itself is not called. Sums and numbers of spikes
    stop at 2^24.

    The spikes are those of `keras_spiking.SpikingActivation`, bit for bit, for the same rates and
    initial voltage, in eager mode or compiled. The state is kept in float32 for rates in half
    precision, and in float64 for rates in float64. No gradient flows to it.

    Args:
        activation: Function of a tensor, or module (whose parameters train), such as
            `torch.relu`. It is called on the whole inputs (with `integrate="input"`, on the mean
            inputs, in float32 or wider if its parameters are), and must keep their shape.
        dt: Length of a time step in seconds, a positive number.
        initial_state: Voltage to start from, `(batch, ...)`, of which the fractional part counts;
            None draws it anew in each call, between 0 and 1, on the device of the inputs. It is
            moved to that device when needed, and is no part of the `state_dict`. It is a voltage
            whatever `integrate` and `negative_spikes` are.
        spiking_aware_training: Whether training sees spikes. If False, the output in training
            mode is the activation itself, or what `integrate` says of it.
        return_sequences: Whether to return every time step, or the last one only.
        return_state: Whether to return the final state too, for the next call's `state`.
        stateful: Whether each call goes on from the final state of the one before, until
            `reset_state()`.
        integrate: What is summed over time: `"activation"`, or `"input"`, of whose mean so far the
            activation is then taken.
        negative_spikes: Whether there are negative spikes. If False, what they would take back is
            made up for by later silence.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, of any real type.
        state: Voltage to start from, `(batch, ...)`, instead of `initial_state`. Without negative
            spikes a tuple of that and the spikes owed, at most 0. With `integrate="input"` a tuple
            of five: the summed input in spikes rounded down, the rest of it in [0, 1), the number
            of steps `(batch, 1)`, the number of spikes so far, and the voltage before the first
            step.
        mask: Boolean tensor of shape `(batch, time)`, True for steps to use. Masked steps leave
            the state as it was and output zero; an activation of inputs sees zeros there.

    Input shape:
        `(batch, time, ...)`, with any number of feature axes, at least one.

    Output shape:
        As the input; `(batch, ...)` if not `return_sequences`. The type is that of the
        activation's output, or with `integrate="input"` that of the inputs. With `return_state`, a
        tuple of that and the final state, as `state` above.

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
        integrate: str = "activation",
        negative_spikes: bool = True,
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
        self.integrate = _checks.choice(owner, "integrate", integrate, INTEGRATE)
        self.negative_spikes = _checks.boolean(owner, "negative_spikes", negative_spikes)

    def _check(self, inputs: torch.Tensor) -> None:
        check_inputs(type(self).__name__, inputs)

    def _run(self, inputs: torch.Tensor, state: Any, mask: torch.Tensor | None) -> tuple[Any, Any]:
        self._check_states(inputs, state)
        # A masked step may be NaN, and its gradient would be NaN too.
        inputs = inputs if mask is None else zero_masked(inputs, mask)
        spiking = self.spiking_aware_training or not self.training
        run = self._run_by_input if self.integrate == "input" else self._run_by_activation
        outputs, states = run(inputs, state, mask, spiking)
        state = tuple(states) if len(states) > 1 else states[0]
        return outputs if self.return_sequences else outputs[:, -1], state

    def _run_by_activation(
        self, inputs: torch.Tensor, state: Any, mask: torch.Tensor | None, spiking: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        # The kernel's own relu saves a pass.
        rectify = spiking and self.activation in _RELU and inputs.is_floating_point()
        rates = inputs if rectify else self._rates(inputs)
        if mask is not None and not rectify:
            rates = zero_masked(rates, mask)
        voltage, *owed = self._states(rates, state)
        outputs = rates
        if spiking and (rectify or self.negative_spikes):
            outputs, voltage = spike(rates, voltage, self.dt, rectify=rectify)
        elif spiking:
            outputs, (voltage, *owed) = without_negative_spikes(rates, (voltage, *owed), self.dt)
        return outputs, (voltage, *owed)

    def _run_by_input(
        self, inputs: torch.Tensor, state: Any, mask: torch.Tensor | None, spiking: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        inputs = as_float(inputs)
        dtype, states = inputs.dtype, InputState(*self._states(inputs, state))
        inputs = inputs.to(states.voltage.dtype)
        rectify = self.activation in _RELU or type(self.activation) is torch.nn.ReLU
        if not spiking:
            outputs = changes(inputs, states, self._rates_of_means, self.dt, mask)
            return to_dtype(outputs, dtype), states
        before = InputState.on_grid(states)
        if rectify or type(self.activation) is torch.nn.Identity:
            outputs, states = exact_spikes(
                inputs, before, self.dt, mask, rectify, self.negative_spikes
            )
        else:
            outputs, states = spikes_of_mean(
                inputs, before, self._rates_of_means, self.dt, mask, self.negative_spikes
            )
        return to_dtype(outputs, dtype), states

    def _rates_of_means(self, means: torch.Tensor) -> torch.Tensor:
        # Not in half precision, whose errors would grow with the number of steps, but where a
        # module has its parameters in it.
        dtype = means.dtype
        if isinstance(self.activation, torch.nn.Module):
            dtypes = (parameter.dtype for parameter in self.activation.parameters())
            dtype = next((found for found in dtypes if found.is_floating_point), dtype)
        return self._rates(means.to(dtype)).to(means.dtype)

    def _rates(self, inputs: torch.Tensor) -> torch.Tensor:
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

    def _check_states(self, inputs: torch.Tensor, state: Any) -> None:
        batch, _, *features = shape_of(inputs)
        expected = (batch, *features)
        if state is not None:
            self._check_given(state, expected)
        elif self.initial_state is not None and shape_of(self.initial_state) != expected:
            raise ValueError(
                f"{type(self).__name__}: `initial_state` must have the shape (batch, ...) of one "
                f"step of the inputs, here {expected}; received `initial_state` of shape "
                f"{shape_of(self.initial_state)}. Use batches of that size (drop a smaller last "
                "one), or initial_state=None."
            )

    def _check_given(self, state: Any, expected: tuple[int, ...]) -> None:
        """Checks a state that is given: a voltage, or several tensors."""
        if self.integrate == "input":
            shapes = [expected, expected, (expected[0], 1), expected, expected]
        elif self.negative_spikes:
            self._check_state_shape(state, expected)
            return
        else:
            shapes = [expected, expected]
        if not isinstance(state, (tuple, list)) or len(state) != len(shapes):
            received = type(state).__name__
            if isinstance(state, (tuple, list)):
                received = f"{len(state)} of them"
            raise TypeError(
                f"{type(self).__name__}: `state` must be a tuple of {len(shapes)} tensors, of "
                f"shapes {', '.join(map(str, shapes))}; received {received}. Pass on the state "
                "that this module returned with return_state=True, or start from a voltage with "
                "`initial_state`."
            )
        for index, (part, shape) in enumerate(zip(state, shapes, strict=True)):
            self._check_state_shape(part, shape, f"state[{index}]")

    def _states(self, rates: torch.Tensor, state: Any) -> tuple[Any, ...]:
        """The tensors of the state to start from, beside the rates."""
        dtype = state_dtype(rates)
        if state is not None:
            given = state if isinstance(state, (tuple, list)) else (state,)
            return tuple(part.detach().to(rates.device, dtype) for part in given)
        voltage = self._initial_voltage(rates, dtype)
        if self.integrate == "input":
            return InputState.before_first_step(voltage)
        return (voltage,) if self.negative_spikes else (voltage, torch.zeros_like(voltage))

    def _initial_voltage(self, rates: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if self.initial_state is not None:
            return self.initial_state.to(rates.device, dtype)
        shape = (rates.shape[0], *rates.shape[2:])
        return torch.rand(shape, device=rates.device, dtype=dtype)

    def extra_repr(self) -> str:
        function = "" if isinstance(self.activation, torch.nn.Module) else f"{self.activation}, "
        return (
            f"{function}dt={self.dt}, spiking_aware_training={self.spiking_aware_training}, "
            f"{super().extra_repr()}, integrate={self.integrate!r}, "
            f"negative_spikes={self.negative_spikes}"
        )
