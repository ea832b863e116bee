"""What the trainable filters share: their parameters, and when they run."""

import math
from typing import Any

import torch

from keras_spiking import _checks
from keras_spiking.pytorch.tensors import as_float, check_inputs, check_state, state_dtype


class Filter(torch.nn.Module):
    """Base of `Lowpass` and `Alpha`.

    The arguments are those of `Lowpass`. Both parameters have shape `(1, ...)`: `level_var`, the
    output before the first step, and `smoothing_var`, the logit of the decay
    `a = exp(-dt / tau)`, so that training keeps `a` between 0 and 1.
    """

    def __init__(
        self,
        tau: float,
        units: int | tuple[int, ...],
        dt: float = 0.001,
        apply_during_training: bool = True,
        initial_level: torch.Tensor | None = None,
        return_sequences: bool = True,
    ):
        super().__init__()
        owner = type(self).__name__
        tau = _checks.positive_number(owner, "tau", tau, "a number of seconds")
        self.units = _checks.size(owner, "units", units)
        self.dt = _checks.positive_number(owner, "dt", dt, "a number of seconds")
        self.apply_during_training = _checks.boolean(
            owner, "apply_during_training", apply_during_training
        )
        self.return_sequences = _checks.boolean(owner, "return_sequences", return_sequences)

        shape = (1, *self.feature_shape)
        if initial_level is None:
            level = torch.zeros(shape)
        else:
            level = check_state(owner, "initial_level", initial_level, str(shape))
            level = level.to(torch.get_default_dtype(), copy=True)
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

    def filter(self, inputs: Any, level: Any, smoothing: Any) -> Any:
        """Filters inputs, `(batch, time, ...)`, from a level, `(batch, ...)`."""
        raise NotImplementedError

    def forward(self, inputs: torch.Tensor) -> Any:
        check_inputs(type(self).__name__, inputs, self.feature_shape)
        outputs = as_float(inputs)
        if self.apply_during_training or not self.training:
            result, dtype = outputs.dtype, state_dtype(outputs, self.smoothing_var)
            level = self.level_var.to(dtype).expand(inputs.shape[0], *self.feature_shape)
            smoothing = self.smoothing_var.to(dtype)
            outputs = self.filter(outputs.to(dtype), level, smoothing).to(result)
        return outputs if self.return_sequences else outputs[:, -1]

    def extra_repr(self) -> str:
        return (
            f"units={self.units}, dt={self.dt}, "
            f"apply_during_training={self.apply_during_training}, "
            f"return_sequences={self.return_sequences}"
        )
