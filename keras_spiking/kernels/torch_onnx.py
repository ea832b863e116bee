"""The kernels on PyTorch while `torch.jit.trace` runs, which is how Keras exports a model to ONNX.

The modules of `keras_spiking.pytorch` are traced with these too, where there is no Keras.

What is traced must not depend on the length of time, which the exported model may find to be
another. So spikes are one sum over all steps, and filters double as `portable.py` has it, but for
as many passes as any length may need: those that reach back beyond the first step change nothing.
"""

from typing import Any

import torch

from keras_spiking.kernels.torch import to_dtype

# Of a length below 2**31.
_PASSES = 31


def filter_end(*arguments: Any) -> Any:
    from keras_spiking.kernels import portable  # imports Keras

    return portable.filter_end(*arguments)


def alpha_gain(ratio: Any) -> Any:
    from keras_spiking.kernels import portable  # imports Keras

    return portable.alpha_gain(ratio)


def expm1(x: Any) -> Any:
    """`exp(x) - 1`, exact near zero; ONNX has no operation for it."""
    return torch.tanh(x / 2) * (torch.exp(x) + 1.0)


def integrate_and_fire(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    double = increments.dtype == torch.float64
    digits, integer = (52, torch.int64) if double else (23, torch.int32)
    unit = 2.0**digits
    fraction = torch.round((voltage - torch.floor(voltage)) * unit)
    start = torch.clamp(fraction, max=unit - 1).to(integer)
    rounded = torch.round(increments * unit)
    whole = torch.floor(rounded * (1.0 / unit))
    finite = torch.isfinite(increments)
    added = torch.where(finite, rounded - whole * unit, torch.zeros_like(rounded)).to(integer)
    total = torch.cumsum(added, time_axis, dtype=integer) + start.unsqueeze(time_axis)
    voltages = torch.bitwise_and(total, torch.full_like(total, 2**digits - 1))
    counts = whole + (voltages < added).to(whole.dtype)
    return counts, voltages.select(time_axis, -1).to(whole.dtype) * (1.0 / unit)


def linear_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int = 1
) -> tuple[Any, ...]:
    levels: list[Any] = []
    before = None
    for gain, start in zip(gains, initial, strict=True):
        drive = inputs * gain.unsqueeze(time_axis)
        if before is not None:
            drive = drive + coupling.unsqueeze(time_axis) * before
        start = start.unsqueeze(time_axis)
        sequence = torch.cat([start, drive], time_axis)
        sequence = _recurrence(log_decay.unsqueeze(time_axis), sequence, time_axis)
        levels.append(sequence.narrow(time_axis, 1, inputs.shape[time_axis]))
        before = sequence.narrow(time_axis, 0, inputs.shape[time_axis])
    return tuple(levels)


def _recurrence(log_decay: Any, sequence: Any, time_axis: int) -> Any:
    """`h_t = exp(log_decay) * h_{t-1} + sequence_t`, from zero."""
    times = torch.arange(sequence.shape[time_axis], device=sequence.device)
    axes = [-1] + [1] * (sequence.dim() - 1 - time_axis)
    for step in (2**n for n in range(_PASSES)):
        earlier = sequence.index_select(time_axis, torch.clamp(times - step, min=0))
        inside = (times >= step).to(sequence.dtype).reshape(axes)
        sequence = sequence + inside * torch.exp(step * log_decay) * earlier
    return sequence


def straight_through(rates: Any, spikes: Any) -> Any:
    if torch.onnx.is_in_onnx_export():  # in which nothing trains
        return spikes
    return spikes + (rates - rates.detach()).nan_to_num(0.0)


def spike(
    rates: Any, voltage: Any, dt: Any, time_axis: int = 1, rectify: bool = False
) -> tuple[Any, Any]:
    rates = torch.relu(rates) if rectify else rates
    increments = rates.detach().to(voltage.dtype) * dt
    counts, final = integrate_and_fire(increments, voltage, time_axis)
    return straight_through(rates, to_dtype(counts * (1.0 / dt), rates.dtype)), final


def uniform(shape: Any, seed: Any, dtype: str) -> Any:
    recorder = "ONNX" if torch.onnx.is_in_onnx_export() else "torch.jit.trace"
    raise NotImplementedError(
        f"SpikingActivation: {recorder} has no random numbers that follow a seed, and so none for "
        'an initial voltage of "random_uniform". Use a copy of the model whose layers have a '
        "number or an array as `initial_voltage`."
    )
