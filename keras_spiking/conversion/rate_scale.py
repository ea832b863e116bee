"""The argument `rate_scale` of `convert`, and the arguments that calibrate it."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_spiking import _checks
from keras_spiking.conversion.calibrate import PERCENTILE

_OWNER = "convert"
_ARRAYS = (list, tuple, np.ndarray)
# With fewer spikes than this for an activation of 1, hardly anything is left of it.
_FEW_SPIKES = 1


def check_rate_scale(rate_scale: Any, example_data: Any, target_rate: Any, percentile: Any) -> None:
    """Checks these arguments of `convert`, as far as that needs no model."""
    percentile = _checks.positive_number(_OWNER, "percentile", percentile, "a number of percent")
    if percentile > 100:
        raise ValueError(
            f"{_OWNER}: `percentile` must be at most 100; received percentile={percentile!r}."
        )
    if isinstance(rate_scale, str) and rate_scale == "calibrate":
        if example_data is None:
            raise ValueError(
                f'{_OWNER}: rate_scale="calibrate" needs `example_data`; received '
                "example_data=None. Give some hundred inputs as in training."
            )
        if target_rate is not None:
            _checks.positive_number(_OWNER, "target_rate", target_rate, "a number of hertz")
        return
    for name, is_given in (
        ("example_data", example_data is not None),
        ("target_rate", target_rate is not None),
        ("percentile", percentile != PERCENTILE),
    ):
        if is_given:
            raise ValueError(
                f'{_OWNER}: `{name}` is for rate_scale="calibrate" only, which needs '
                f"`example_data`; received rate_scale={rate_scale!r}."
            )
    if rate_scale is not None:
        _check_numbers(rate_scale)


def _check_numbers(rate_scale: Any) -> None:
    """Checks a number, or a mapping of names to numbers and arrays."""
    if isinstance(rate_scale, Mapping):
        for name, value in rate_scale.items():
            for number in np.ravel(value) if isinstance(value, _ARRAYS) else [value]:
                _checks.positive_number(_OWNER, f"rate_scale[{name!r}]", number)
    elif isinstance(rate_scale, (str, *_ARRAYS)):
        error = ValueError if isinstance(rate_scale, str) else TypeError
        raise error(
            f"{_OWNER}: `rate_scale` must be a positive number, a mapping of layer names to them "
            f'or to arrays of them, or "calibrate"; received rate_scale={rate_scale!r}.'
        )
    else:
        _checks.positive_number(_OWNER, "rate_scale", rate_scale)


def scale_of_each(rate_scale: Any, names: list[str]) -> dict[str, Any]:
    """The scale of each spiking layer: a number, or an array with one for each channel."""
    if not isinstance(rate_scale, Mapping):
        return dict.fromkeys(names, float(rate_scale))
    unknown = [name for name in rate_scale if name not in names]
    if unknown:
        raise ValueError(
            f"{_OWNER}: `rate_scale` must name layers whose activation spikes, which are {names}; "
            f"received {unknown}."
        )
    return {name: rate_scale.get(name, 1.0) for name in names}


def warn_of_few_spikes(num_steps: int | None, dt: float, integrate: str) -> None:
    """Warns if the default scale leaves few spikes for an activation of 1."""
    if num_steps is None or num_steps * dt >= _FEW_SPIKES:
        return
    effect = (
        f"activations are rounded to multiples of {1 / (num_steps * dt):.3g}"
        if integrate == "input"
        else "neurons hardly fire"
    )
    warnings.warn(
        f"{_OWNER}: an activation of 1 makes {num_steps * dt:.3g} spikes in all {num_steps} steps "
        f"of {dt:g} s, which is few. If activations are near 1, {effect}, and outputs may be "
        "close to chance. Give some hundred inputs as `example_data`, with which each layer is "
        "brought to one spike in a step. Or give a `rate_scale` of your own, such as "
        "rate_scale=1.0 if that is meant.",
        stacklevel=3,
    )
