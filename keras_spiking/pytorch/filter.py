"""What the trainable filters share: their parameters, and when they run."""

import math
from typing import Any

import torch

from keras_spiking import _checks
from keras_spiking._types import Tensor
from keras_spiking.kernels.contract import Filter as Coefficients
from keras_spiking.kernels.torch import to_dtype
from keras_spiking.pytorch.kernels import filter_end, linear_filter
from keras_spiking.pytorch.mask import UsedSteps
from keras_spiking.pytorch.stateful import Stateful
from keras_spiking.pytorch.tensors import (
    as_float,
    check_inputs,
    check_state,
    shape_of,
    state_dtype,
)


class Filter(Stateful):
    """Base of `Lowpass` and `Alpha`.

    The arguments are those of `Lowpass`. Both parameters have shape `(1, ...)`: `level_var`, the
    output before the first step, and `smoothing_var`, the logit of the decay
    `a = exp(-dt / tau)`, so that training keeps `a` between 0 and 1. The state is one level for
    each of `_order`: `(batch, ...)`, or `(batch, 2, ...)`.
    """

    _order = 1

    def __init__(
        self,
        tau: float,
        units: int | tuple[int, ...],
        dt: float = 0.001,
        apply_during_training: bool = True,
        initial_level: torch.Tensor | None = None,
        return_sequences: bool = True,
        return_state: bool = False,
        stateful: bool = False,
    ):
        super().__init__(return_sequences, return_state, stateful)
        owner = type(self).__name__
        tau = _checks.positive_number(owner, "tau", tau, "a number of seconds")
        self.units = _checks.size(owner, "units", units)
        self.dt = _checks.positive_number(owner, "dt", dt, "a number of seconds")
        self.apply_during_training = _checks.boolean(
            owner, "apply_during_training", apply_during_training
        )

        shape = (1, *self.feature_shape)
        if initial_level is None:
            level = torch.zeros(shape)
        else:
            level = check_state(owner, "initial_level", initial_level, str(shape))
            # A wider type is kept: `.double()` may follow.
            dtype = torch.promote_types(level.dtype, torch.get_default_dtype())
            level = level.to(dtype, copy=True)
            if tuple(level.shape) != shape:
                raise ValueError(
                    f"{owner}: `initial_level` must have shape (1, *units), here {shape}; received "
                    f"`initial_level` of shape {tuple(level.shape)}. Give it that shape, as with "
                    "initial_level.reshape."
                )
        # The logit of exp(-x), without the rounding of an exponential near 1.
        steps = self.dt / max(tau, 1e-8)
        logit = -steps - math.log(-math.expm1(-steps))
        train = self.apply_during_training
        self.level_var = torch.nn.Parameter(level, requires_grad=train)
        self.smoothing_var = torch.nn.Parameter(torch.full(shape, logit), requires_grad=train)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of the feature axes."""
        return (self.units,) if isinstance(self.units, int) else self.units

    @property
    def tau(self) -> Any:
        """The time constants as they are now, in seconds, `(1, ...)`."""
        return self.dt / torch.nn.functional.softplus(-self.smoothing_var)

    def _coefficients(self, log_decay: Tensor) -> Coefficients:
        """The filter of this decay."""
        raise NotImplementedError

    def _check(self, inputs: torch.Tensor) -> None:
        check_inputs(type(self).__name__, inputs, self.feature_shape)

    def _run(self, inputs: torch.Tensor, state: Any, mask: torch.Tensor | None) -> tuple[Any, Any]:
        outputs = as_float(inputs)
        result, dtype = outputs.dtype, state_dtype(outputs, self.smoothing_var)
        levels = self._levels(inputs, dtype, state)
        with_state = self.stateful or self.return_state
        steps = None if mask is None else UsedSteps(mask)
        outputs = outputs if steps is None else steps.gather(outputs)
        if self.apply_during_training or not self.training:
            # All levels, or all that is needed of them: the last step of the last one.
            whole = self.return_sequences or with_state or steps is not None
            log_decay = torch.nn.functional.logsigmoid(self.smoothing_var.to(dtype))
            # Half precision makes the logit of a fast decay infinite, and 0 times that is NaN.
            log_decay = log_decay.clamp(min=-1e4)
            kernel = linear_filter if whole else filter_end
            sequences = kernel(self._coefficients(log_decay), outputs.to(dtype), levels)
            sequences = sequences if with_state else sequences[-1:]
            if steps is not None:
                starts = levels[-len(sequences) :]
                sequences = tuple(map(steps.scatter, starts, sequences))
            outputs = to_dtype(sequences[-1], result)
            levels = tuple(sequence[:, -1] for sequence in sequences)
        elif steps is not None:
            outputs = steps.scatter(levels[-1].to(result), outputs)
        state = levels[0]
        if self._order > 1 and with_state:
            state = torch.stack(levels, 1)
        return outputs if self.return_sequences else outputs[:, -1], state

    def _levels(self, inputs: torch.Tensor, dtype: torch.dtype, state: Any) -> tuple[Any, ...]:
        shape = (inputs.shape[0], *self.feature_shape)
        if state is None:
            return (self.level_var.to(dtype).expand(shape),) * self._order
        batch, order = shape_of(inputs)[0], () if self._order == 1 else (self._order,)
        self._check_state_shape(state, (batch, *order, *self.feature_shape))
        state = state.to(inputs.device, dtype)
        return (state,) if self._order == 1 else state.unbind(1)

    def extra_repr(self) -> str:
        return (
            f"units={self.units}, dt={self.dt}, "
            f"apply_during_training={self.apply_during_training}, {super().extra_repr()}"
        )
