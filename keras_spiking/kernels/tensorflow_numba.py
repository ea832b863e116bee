"""The kernels on TensorFlow by loops that Numba compiles (`cpu.py`): Python functions in a graph.

Nothing is copied on the way: TensorFlow takes over the memory of an array if its address is a
multiple of 64, as those of its own tensors are.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_spiking._types import Tensor
from keras_spiking.kernels import cpu
from keras_spiking.kernels.contract import Filter, FilterGradients, from_row, to_row

_ALIGNMENT = 64


def integrate(increments: Tensor, voltage: Tensor, time_axis: int) -> tuple[Any, Any]:
    """The counts of spikes, and the voltages after every step."""
    run = functools.partial(_fire, time_axis, False, True)
    one = tf.ones((), increments.dtype)
    like = [increments, increments, voltage]
    counts, voltages, _ = _call(run, [increments, voltage, one, one], like)
    return counts, voltages


def fire(tensors: Any, time_axis: int, rectify: bool) -> tuple[Any, Any]:
    """Spikes, and the final voltage, of rates, voltage, dt and height. Not differentiable."""
    run = functools.partial(_fire, time_axis, rectify, False)
    spikes, final = _call(run, tensors, tensors[:2])
    return spikes, final


def _fire(
    time_axis: int,
    rectify: bool,
    keep: bool,
    rates: Tensor,
    voltage: Tensor,
    dt: Tensor,
    height: Tensor,
) -> list[Any]:
    spikes, final = _empty_like(rates), _empty_state(rates, time_axis)
    voltages = _empty_like(rates) if keep else None
    cpu.fire(
        rates,
        voltage,
        dt,
        height,
        spikes,
        final,
        voltages=voltages,
        rectify=rectify,
        time_axis=time_axis,
        threads=_threads(),
    )
    return [spikes, voltages, final] if keep else [spikes, final]


@functools.cache
def accumulate(
    time_axis: int, rectify: bool, negative_spikes: bool
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """As in `tensorflow_sums.py`: the spikes, and the gradient of rates."""
    options: dict[str, Any] = {"rectify": rectify, "negative_spikes": negative_spikes}

    def run(rates: Tensor, *others: Any) -> list[Any]:
        *state, dt, height = others
        spikes = _empty_like(rates)
        active = _empty(rates.shape if rectify else (0,), "uint8")
        final = [_empty_state(rates, time_axis) for _ in range(3)]
        arguments = rates, state, dt, height, spikes, active, final
        cpu.accumulate(*arguments, **options, time_axis=time_axis, threads=_threads())
        return [spikes, *final, active]

    def forward(rates: Tensor, *others: Any) -> tuple[Any, list[Any], Any]:
        active = tf.TensorSpec(rates.shape if rectify else (0,), "uint8")
        spikes, *final, active = _call(run, [rates, *others], [rates, *others[:3], active])
        return spikes, final, active

    def run_back(upstream: Tensor, active: Tensor) -> list[Any]:
        gradients = _empty_like(upstream)
        cpu.accumulate_gradient(
            upstream, active, gradients, time_axis=time_axis, threads=_threads()
        )
        return [gradients]

    def backward(upstream: Tensor, active: Tensor) -> Any:
        return _call(run_back, [upstream, active], [upstream])[0]

    return forward, backward


@functools.cache
def linear_filter(time_axis: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The filter and its gradients."""

    def run(*row: Any) -> list[Any]:
        arguments = from_row(row)
        levels = [_empty_like(arguments.inputs) for _ in arguments.initial]
        cpu.linear_filter(*arguments, levels, time_axis=time_axis, threads=_threads())
        return levels

    def forward(filter_: Filter, inputs: Tensor, initial: Sequence[Tensor]) -> tuple[Tensor, ...]:
        row = to_row(filter_, inputs, initial)
        return tuple(_call(run, row, [inputs] * len(initial)))

    def run_back(*tensors: Any) -> list[Any]:
        # The arguments in a row, the levels, and the gradients in the levels.
        order = (len(tensors) - 3) // 4
        row, levels, upstream = (
            tensors[: -2 * order],
            tensors[-2 * order : -order],
            tensors[-order:],
        )
        arguments = from_row(row)
        found = cpu.linear_filter_gradients(
            *arguments,
            levels,
            upstream,
            _empty_like(arguments.inputs),
            time_axis=time_axis,
            threads=_threads(),
        )
        return list(to_row(*found))

    def backward(
        filter_: Filter,
        inputs: Tensor,
        initial: Sequence[Tensor],
        levels: Sequence[Tensor],
        upstream: Sequence[Tensor],
    ) -> FilterGradients:
        row = to_row(filter_, inputs, initial)
        return from_row(_call(run_back, [*row, *levels, *upstream], row))

    return forward, backward


def _threads() -> int:
    return tf.config.threading.get_intra_op_parallelism_threads() or cpu.cores()


def _call(function: Callable[..., Any], tensors: Any, like: Any) -> Any:
    """Calls a function of arrays, now or when the graph runs.

    Args:
        function: Returns a list of arrays.
        tensors: What it is called with.
        like: For each of its results, something of the same type and shape.
    """
    if tf.executing_eagerly():
        arrays = [_writable(np.asarray(tensor)) for tensor in tensors]
        return [_as_tensor(result) for result in function(*arrays)]
    types = [model.dtype for model in like]
    results = tf.numpy_function(function, tensors, types, stateful=False)
    for result, model in zip(results, like, strict=True):
        result.set_shape(model.shape)
    return results


class _Memory:
    """The memory of an array, as memory that NumPy may write to. It keeps the array alive."""

    def __init__(self, array: Any):
        self._array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _writable(array: Any) -> Any:
    """A writable view: Numba would compile once more for arrays that are not writable."""
    return array if array.flags.writeable else np.asarray(_Memory(array))


def _as_tensor(array: Any) -> Any:
    """The array as a tensor, without the copy that `tf.convert_to_tensor` makes."""
    if _address(array) % _ALIGNMENT or not array.size:
        return tf.convert_to_tensor(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _empty_like(array: Any) -> Any:
    return _empty(array.shape, array.dtype)


def _empty_state(sequence: Tensor, time_axis: int) -> Any:
    """An array with one number for each sample and unit."""
    return _empty((sequence.shape[1 - time_axis], *sequence.shape[2:]), sequence.dtype)


def _empty(shape: Any, dtype: Any) -> Any:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, "uint8")
    first = -_address(memory) % _ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)
