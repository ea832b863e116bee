"""The options that `SpikingActivation` and its cell share: their checks and config."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking import _checks
from keras_spiking._types import ActivationLike, InitializerLike, Tensor
from keras_spiking.layers.activation import get_activation, serialize_activation
from keras_spiking.layers.cell import WithTimeStep
from keras_spiking.layers.initializers import get_initializer
from keras_spiking.layers.integration import INTEGRATE


class SpikingOptions(WithTimeStep):
    """A layer or cell with the options of a spiking activation."""

    def _set_options(
        self,
        activation: ActivationLike,
        seed: int | None,
        spiking_aware_training: bool,
        initial_voltage: InitializerLike | np.ndarray,
        rate_scale: float | Sequence[float] | np.ndarray,
        integrate: str,
        negative_spikes: bool,
    ) -> None:
        owner = type(self).__name__
        self.activation = get_activation(owner, activation)
        self.seed = _checks.seed(owner, seed)
        self.spiking_aware_training = _checks.boolean(
            owner, "spiking_aware_training", spiking_aware_training
        )
        self.initial_voltage = checked_voltage(owner, initial_voltage)
        self.rate_scale = _checked_scales(owner, self._time_step.as_float(), rate_scale)
        self.integrate = _checks.choice(owner, "integrate", integrate, INTEGRATE)
        self.negative_spikes = _checks.boolean(owner, "negative_spikes", negative_spikes)
        self._freeze_sublayers()

    def _options(self) -> dict[str, Any]:
        """The options by name."""
        return {
            "activation": self.activation,
            "seed": self.seed,
            "spiking_aware_training": self.spiking_aware_training,
            "initial_voltage": self.initial_voltage,
            "rate_scale": self.rate_scale,
            "integrate": self.integrate,
            "negative_spikes": self.negative_spikes,
        }

    def get_config(self) -> dict[str, Any]:
        voltage = self.initial_voltage
        if isinstance(voltage, np.ndarray):
            voltage = voltage.tolist()
        elif isinstance(voltage, keras.initializers.Initializer):
            voltage = keras.initializers.serialize(voltage)
        options = {
            **self._options(),
            "activation": serialize_activation(self.activation),
            "initial_voltage": voltage,
            "rate_scale": np.asarray(self.rate_scale).tolist(),
        }
        return {**super().get_config(), **options}

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

    def _check_scale_fits(self, channels: Any) -> None:
        """Checks an array of scales against the last axis, if its length is known."""
        scale = self.rate_scale
        if isinstance(scale, np.ndarray) and isinstance(channels, int) and channels != len(scale):
            raise ValueError(
                f"{type(self).__name__}: `rate_scale` must be one number, or one for each of the "
                f"{channels} channels in the last axis of the inputs; received {len(scale)}."
            )

    def _seconds(self) -> Tensor:
        """What turns rates in hertz into spikes in a step: `dt` times the scale."""
        if not isinstance(self.rate_scale, np.ndarray):
            return self._time_step.seconds(self.state_dtype, self.rate_scale)
        if self._time_step.varies:
            scale = ops.convert_to_tensor(self.rate_scale, self.state_dtype)
            return self._time_step.seconds(self.state_dtype) * scale
        return ops.convert_to_tensor(self.dt * self.rate_scale, self.state_dtype)

    def _scales(self, channels: Any) -> tuple[Tensor, Tensor]:
        """The same for each channel, and one over that: the height of a spike."""
        self._check_scale_fits(channels)
        seconds = self._seconds()
        if self._time_step.varies:
            return seconds, 1.0 / seconds
        # In float64, as for one number.
        heights = 1.0 / (self.dt * self.rate_scale)
        return seconds, ops.convert_to_tensor(heights, self.state_dtype)


def checked_voltage(owner: str, voltage: Any) -> Any:
    """Returns "random_uniform", a float64 array of values in [0, 1), or an initializer."""
    if isinstance(voltage, str) and voltage == "random_uniform":
        return voltage
    if isinstance(voltage, (str, dict, keras.initializers.Initializer)):
        return get_initializer(owner, "initial_voltage", voltage)
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


def _checked_scales(owner: str, dt: float, rate_scale: Any) -> float | np.ndarray:
    """Accepts a positive number, or several as an array of one scale per channel."""
    is_array = isinstance(rate_scale, np.ndarray) and rate_scale.ndim > 0
    if not (is_array or isinstance(rate_scale, (list, tuple))):
        return _checked_scale(owner, dt, rate_scale)
    if not len(rate_scale):
        raise ValueError(
            f"{owner}: `rate_scale` must be a number, or one number for each channel; received "
            f"rate_scale={rate_scale!r}, which has none."
        )
    return np.array([_checked_scale(owner, dt, scale) for scale in rate_scale])


def _checked_scale(owner: str, dt: float, rate_scale: Any) -> float:
    """Accepts a scale with which, times `dt`, float32 can compute."""
    scale = _checks.positive_number(owner, "rate_scale", rate_scale)
    _checks.positive_number(owner, "dt * rate_scale", dt * scale)
    return scale
