"""The door from PyTorch to the loops for CPUs: tensors as arrays of the same memory; see `cpu.py`.

What is here is not differentiable: the other modules make it so.
"""

from typing import Any

import torch

from keras_spiking.kernels import cpu, numba_is_chosen, torch_plain

# Not their subclasses, of which some have no memory of their own.
_TENSORS = (torch.Tensor, torch.nn.Parameter)
_DTYPES = (torch.float32, torch.float64)


def runs_on(tensor: Any) -> bool:
    """Whether the loops run on a sequence like this one."""
    return (
        numba_is_chosen()
        and tensor.dtype in _DTYPES
        and tensor.device.type == "cpu"
        and type(tensor) in _TENSORS
        and not torch_plain.transforms_are_active()
        and not torch.jit.is_tracing()
    )


def fire(
    rates: Any, voltage: Any, dt: Any, height: Any, rectify: bool, time_axis: int
) -> tuple[Any, Any]:
    """Spikes of `height`, and the final voltage."""
    spikes, final = _like(rates), _state(rates, time_axis)
    now, start, out, end = _arrays(rates, voltage, spikes, final)
    dt, height = (_array(each) if isinstance(each, torch.Tensor) else each for each in (dt, height))
    cpu.fire(now, start, dt, height, out, end, rectify=rectify, **_options(time_axis))
    return spikes, final


def integrate(increments: Any, voltage: Any, time_axis: int) -> tuple[Any, Any]:
    counts, voltages = _like(increments), _like(increments)
    now, start, out, each = _arrays(increments, voltage, counts, voltages)
    end = _array(_state(increments, time_axis))
    cpu.fire(now, start, 1.0, 1.0, out, end, voltages=each, **_options(time_axis))
    return counts, voltages


def accumulate(
    rates: Any,
    state: Any,
    dt: Any,
    height: Any,
    time_axis: int,
    rectify: bool,
    negative_spikes: bool,
) -> tuple[Any, list[Any], Any]:
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


def gradient_of_sums(upstream: Any, active: Any, time_axis: int) -> Any:
    gradients = _like(upstream)
    each = (upstream, active.view(torch.uint8), gradients)
    cpu.accumulate_gradient(*map(_array, each), **_options(time_axis))
    return gradients


def linear_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int
) -> tuple[Any, ...]:
    levels = tuple(_like(inputs) for _ in gains)
    each = _arrays(log_decay, coupling, gains, inputs, initial, levels)
    cpu.linear_filter(*each, **_options(time_axis))
    return levels


def filter_gradients(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    levels: Any,
    upstream: Any,
    time_axis: int,
) -> tuple[Any, Any, list[Any], Any, list[Any]]:
    for_inputs = _like(inputs)
    each = _arrays(log_decay, coupling, gains, inputs, initial, levels, upstream, for_inputs)
    found = cpu.linear_filter_gradients(*each, **_options(time_axis))
    for_log_decay, for_coupling = map(torch.from_numpy, found[:2])
    for_gains, for_initial = (list(map(torch.from_numpy, each)) for each in found[2:])
    return for_log_decay, for_coupling, for_gains, for_inputs, for_initial


def _like(sequence: Any) -> Any:
    return torch.empty_like(sequence, memory_format=torch.contiguous_format)


def _state(sequence: Any, time_axis: int) -> Any:
    """Memory for a state of each sample."""
    shape = list(sequence.shape)
    del shape[time_axis]
    return sequence.new_empty(shape)


def _array(tensor: Any) -> Any:
    """A tensor as an array, of the same memory where it is contiguous."""
    return tensor.contiguous().numpy(force=True)


def _arrays(*tensors: Any) -> list[Any]:
    return [
        _array(each) if isinstance(each, torch.Tensor) else list(map(_array, each))
        for each in tensors
    ]


def _options(time_axis: int) -> dict[str, Any]:
    return {"time_axis": time_axis, "threads": torch.get_num_threads()}
