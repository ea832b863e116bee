"""The door from PyTorch to the loops for CPUs: tensors as arrays of the same memory; see `cpu.py`.

What is here is not differentiable: the other modules make it so.
"""

from collections.abc import Sequence
from typing import Any

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels import cpu, setting, torch_plain
from keras_spiking.kernels.contract import Filter, FilterGradients, from_row, to_row

# Not their subclasses: some have no memory of their own.
_TENSORS = (torch.Tensor, torch.nn.Parameter)
_DTYPES = (torch.float32, torch.float64)


def runs_on(tensor: Tensor) -> bool:
    """Whether the loops run on a sequence like this one."""
    return (
        setting.numba_is_chosen()
        and tensor.dtype in _DTYPES
        and tensor.device.type == "cpu"
        and type(tensor) in _TENSORS
        and not torch_plain.transforms_are_active()
        and not torch.jit.is_tracing()
    )


def fire(
    rates: Tensor, voltage: Tensor, dt: Tensor, height: Tensor, rectify: bool, time_axis: int
) -> tuple[Tensor, Tensor]:
    """Spikes of `height`, and the final voltage."""
    spikes, final = _like(rates), _state(rates, time_axis)
    now, start, out, end = _arrays(rates, voltage, spikes, final)
    dt, height = (
        _array(scale) if isinstance(scale, torch.Tensor) else scale for scale in (dt, height)
    )
    cpu.fire(now, start, dt, height, out, end, rectify=rectify, **_options(time_axis))
    return spikes, final


def integrate(increments: Tensor, voltage: Tensor, time_axis: int) -> tuple[Tensor, Tensor]:
    counts, voltages = _like(increments), _like(increments)
    now, start, out, kept = _arrays(increments, voltage, counts, voltages)
    end = _array(_state(increments, time_axis))
    cpu.fire(now, start, 1.0, 1.0, out, end, voltages=kept, **_options(time_axis))
    return counts, voltages


def accumulate(
    rates: Tensor,
    state: Any,
    dt: Tensor,
    height: Tensor,
    time_axis: int,
    rectify: bool,
    negative_spikes: bool,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """As `torch_plain.accumulate`."""
    spikes, final = _like(rates), [_state(rates, time_axis) for _ in range(3)]
    active = torch.empty(rates.shape if rectify else (0,), dtype=torch.bool)
    cpu.accumulate(
        _array(rates),
        list(map(_array, state)),
        float(dt),
        float(height),
        _array(spikes),
        _array(active.view(torch.uint8)),
        list(map(_array, final)),
        rectify=rectify,
        negative_spikes=negative_spikes,
        **_options(time_axis),
    )
    return spikes, final, active


def gradient_of_sums(upstream: Tensor, active: Tensor, time_axis: int) -> Any:
    gradients = _like(upstream)
    arrays = _arrays(upstream, active.view(torch.uint8), gradients)
    cpu.accumulate_gradient(*arrays, **_options(time_axis))
    return gradients


def linear_filter(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int
) -> tuple[Tensor, ...]:
    levels = tuple(_like(inputs) for _ in initial)
    row = _arrays(*to_row(filter_, inputs, initial))
    cpu.linear_filter(*from_row(row), _arrays(*levels), **_options(time_axis))
    return levels


def filter_gradients(
    arguments: FilterGradients,
    levels: Sequence[Tensor],
    upstream: Sequence[Tensor],
    time_axis: int,
) -> FilterGradients:
    grad_inputs = _array(_like(arguments.inputs))
    sequences = _arrays(*levels), _arrays(*upstream), grad_inputs
    row = from_row(_arrays(*to_row(*arguments)))
    found = cpu.linear_filter_gradients(*row, *sequences, **_options(time_axis))
    return from_row([torch.from_numpy(gradient) for gradient in to_row(*found)])


def _like(sequence: Tensor) -> Any:
    return torch.empty_like(sequence, memory_format=torch.contiguous_format)


def _state(sequence: Tensor, time_axis: int) -> Any:
    """Memory for a state of each sample."""
    shape = list(sequence.shape)
    del shape[time_axis]
    return sequence.new_empty(shape)


def _array(tensor: Tensor) -> Any:
    """A tensor as an array, of the same memory where it is contiguous."""
    return tensor.contiguous().numpy(force=True)


def _arrays(*tensors: Tensor) -> list[Any]:
    return [_array(tensor) for tensor in tensors]


def _options(time_axis: int) -> dict[str, Any]:
    return {"time_axis": time_axis, "threads": torch.get_num_threads()}
