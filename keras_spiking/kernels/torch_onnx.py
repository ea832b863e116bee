"""The kernels on PyTorch while `torch.jit.trace` runs, which is how Keras exports a model to ONNX.

The modules of `keras_spiking.pytorch` are traced with these too, where there is no Keras.

What is traced must not depend on the length of time, which the exported model may find to be
another. So spikes are one sum over all steps, and filters double as `portable.py` has it, but for
as many passes as any length may need: those that reach back beyond the first step change nothing.
"""

import functools
from typing import Any

import torch

from keras_spiking.kernels import torch_plain
from keras_spiking.kernels.torch import to_dtype

integrate_and_fire = torch_plain.integrate_and_fire

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


def _recurrence(log_decay: Any, drive: Any, start: Any, time_axis: int) -> Any:
    """`h_t = exp(log_decay) * h_{t-1} + drive_t`, from `start`."""
    log_decay = log_decay.unsqueeze(time_axis)
    sequence = torch.cat([start.unsqueeze(time_axis), drive], time_axis)
    times = torch.arange(sequence.shape[time_axis], device=sequence.device)
    axes = [-1] + [1] * (sequence.dim() - 1 - time_axis)
    for step in (2**n for n in range(_PASSES)):
        earlier = sequence.index_select(time_axis, torch.clamp(times - step, min=0))
        inside = (times >= step).to(sequence.dtype).reshape(axes)
        sequence = sequence + inside * torch.exp(step * log_decay) * earlier
    return sequence.narrow(time_axis, 1, drive.shape[time_axis])


linear_filter = functools.partial(torch_plain.linear_filter, recurrence=_recurrence)


def straight_through(rates: Any, spikes: Any) -> Any:
    if torch.onnx.is_in_onnx_export():  # in which nothing trains
        return spikes
    return torch_plain.straight_through(rates, spikes)


def spike(
    rates: Any,
    voltage: Any,
    dt: Any,
    time_axis: int = 1,
    rectify: bool = False,
    height: Any = None,
) -> tuple[Any, Any]:
    rates = torch.relu(rates) if rectify else rates
    increments = rates.detach().to(voltage.dtype) * dt
    counts, final = integrate_and_fire(increments, voltage, time_axis)
    height = 1.0 / dt if height is None else height
    return straight_through(rates, to_dtype(counts * height, rates.dtype)), final


def uniform(shape: Any, seed: Any, dtype: str) -> Any:
    recorder = "ONNX" if torch.onnx.is_in_onnx_export() else "torch.jit.trace"
    raise NotImplementedError(
        f"SpikingActivation: {recorder} has no random numbers that follow a seed, and so none for "
        'an initial voltage of "random_uniform". Use a copy of the model whose layers have a '
        "number or an array as `initial_voltage`."
    )
