"""What runs over time, as pure functions of tensors; the one folder that names a framework.

`contract.py` says what each function here computes; `portable.py` defines what is correct.

`setting.py` decides which kernels run. On a CPU they are loops that Numba compiles, where it is
installed: `loops_spikes.py` and `loops_filters.py` hold them, `cpu.py` calls them, and each
backend's module leads there. Else they are the backend's own, or the portable ones. Only plain
operations will do in three places: on PyTorch, in export to ONNX (`torch_onnx.py`) and in the
transformations of `torch.func` (`torch_plain.py`); on JAX, in forward mode, which the gradient of
the filters' own kernel excludes.

Neither this module nor `torch.py` imports Keras when it is loaded: PyTorch users need none.
"""

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any, cast

from keras_spiking._types import Tensor
from keras_spiking.kernels import cpu, setting
from keras_spiking.kernels.contract import Filter, Kernels

__all__ = [
    "Filter",
    "accumulate_and_fire",
    "alpha_gain",
    "expm1",
    "filter_end",
    "in_backward",
    "in_use",
    "integrate",
    "integrate_and_fire",
    "linear_filter",
    "spike",
    "spike_by_channel",
    "straight_through",
    "uniform",
]

_NATIVE = ("tensorflow", "jax", "torch")


def in_use() -> str:
    """The name of the kernels that run now, as `keras_spiking.config.kernels` returns it."""
    if setting.name in ("native", "portable"):
        return setting.name
    # PyTorch's modules run where there is no Keras.
    name = _name() if importlib.util.find_spec("keras") else "torch"
    if name == "portable" or not _module(name).runs_on_cpu():
        return "portable"
    can_run = name != "jax" or _module("jax_numba").can_run()
    return "numba" if cpu.is_available() and can_run else "native"


@functools.cache
def _name() -> str:
    """The module for Keras's backend; Keras fixes its backend once per process."""
    import keras

    backend = keras.backend.backend()
    return backend if backend in _NATIVE else "portable"


def _implementation() -> Kernels:
    name = _name()
    if name == "torch":
        import torch

        if torch.jit.is_tracing():
            name = "torch_onnx"
    return cast(Kernels, _module(name))


def _sums() -> Any:
    """Where the neurons that remember their sums are."""
    name = _name()
    if name == "torch":
        import torch

        if torch.jit.is_tracing() or _module("torch_plain").transforms_are_active():
            return _module("running")
    return _module("running" if name == "portable" else f"{name}_sums")


@functools.cache
def _module(name: str) -> Any:
    return importlib.import_module(f"keras_spiking.kernels.{name}")


def in_backward() -> bool:
    """Whether this runs in a backward pass of PyTorch, as what checkpointing runs again does."""
    if _name() != "torch":
        return False
    from keras_spiking.kernels import torch_backward

    return torch_backward.in_backward()


def integrate_and_fire(
    increments: Tensor, voltage: Tensor, time_axis: int = 1
) -> tuple[Tensor, Tensor]:
    """Counts the spikes of each step; see `contract.Kernels`."""
    return _implementation().integrate_and_fire(increments, voltage, time_axis)


def integrate(increments: Tensor, voltage: Tensor, time_axis: int = 1) -> tuple[Tensor, Tensor]:
    """Counts the spikes of each step, and keeps the voltages; see `contract.Kernels`."""
    return _implementation().integrate(increments, voltage, time_axis)


def accumulate_and_fire(
    rates: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    dt: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Spikes, in hertz, of neurons that remember what they integrated and emitted.

    So they may take spikes back: before each step they owe
    `floor(sum of rates * dt + origin) - emitted` spikes.

    Args:
        rates: (batch, time, ...), of the type to compute in.
        state: `(floor, voltage, emitted, origin)`, each (batch, ...). The sum and the origin
            together are `floor + voltage`.
        dt: Seconds of a step, a number or a scalar tensor.
        time_axis: The axis of time, 0 or 1.
        rectify: Whether what they owe in all is at least 0.
        negative_spikes: Whether spikes are taken back. If not, neurons that owe less than nothing
            emit nothing.

    Returns:
        The spikes, and the final floor, voltage and emitted spikes. The gradient of a step is that
        of the sum, or of its relu, less the one before.
    """
    run = _sums().accumulate_and_fire
    return run(rates, state, dt, time_axis, rectify, negative_spikes)


def linear_filter(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> tuple[Tensor, ...]:
    """Runs one or two levels of filters over time; see `contract.Kernels`."""
    return _implementation().linear_filter(filter_, inputs, initial, time_axis)


def filter_end(
    filter_: Filter, inputs: Tensor, initial: Sequence[Tensor], time_axis: int = 1
) -> Tensor:
    """Gives the last step of a filtered sequence; see `contract.Kernels`."""
    return _implementation().filter_end(filter_, inputs, initial, time_axis)


def straight_through(rates: Tensor, spikes: Tensor) -> Tensor:
    """Gives spikes forwards, and the gradient of the rates backwards; see `contract.Kernels`."""
    return _implementation().straight_through(rates, spikes)


def spike(
    rates: Tensor, voltage: Tensor, dt: Tensor, time_axis: int = 1, rectify: bool = False
) -> tuple[Tensor, Tensor]:
    """Turns rates into spikes in hertz; see `contract.Kernels`."""
    return _implementation().spike(rates, voltage, dt, time_axis, rectify)


def spike_by_channel(
    rates: Tensor,
    voltage: Tensor,
    seconds: Tensor,
    heights: Tensor,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Tensor, Tensor]:
    """`spike` where `dt` differs between channels; see `contract.Kernels`."""
    run = _implementation().spike_by_channel
    return run(rates, voltage, seconds, heights, time_axis, rectify)


def uniform(shape: Sequence[int], seed: Any, dtype: str) -> Tensor:
    """Draws random voltages; see `contract.Kernels`."""
    return _implementation().uniform(shape, seed, dtype)


def expm1(x: Tensor) -> Tensor:
    """`exp(x) - 1`; see `contract.Kernels`."""
    return _implementation().expm1(x)


def alpha_gain(ratio: Tensor) -> Tensor:
    """`1 - (1 + ratio) * exp(-ratio)`; see `contract.Kernels`."""
    return _implementation().alpha_gain(ratio)
