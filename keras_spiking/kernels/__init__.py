r"""What runs over time, as pure functions of tensors; the one folder that names a framework.

Every backend's module offers the functions below with the signatures of `portable.py`, which
defines what is correct: the others give its spikes bit for bit and its filters to 1e-6
relative. Time is axis 1, or axis 0 with `time_axis=0`, whatever the number of feature axes.

`integrate_and_fire(increments, voltage, time_axis=1)` -> `(counts, final_voltage)`
    Spikes that a neuron emits in each step. `increments` is `rate * dt` (batch, time, ...) in
    float32 or float64; of `voltage` (batch, ...) the fractional part counts. Not differentiable.
    In float32 a step counts 2^104 spikes at most, for infinite increments too; not a number
    counts as that, and leaves the voltage as it was.

`integrate(increments, voltage, time_axis=1)` -> `(counts, voltages)`
    The same with the voltages after every step.

`accumulate_and_fire(rates, state, dt, time_axis=1, rectify=False, negative_spikes=True)`
-> `(spikes, final_state)`
    Spikes, in hertz, of neurons that remember what they integrated and emitted, and so may take
    spikes back: before each step they owe `floor(sum of rates * dt + origin) - emitted`. With
    `rectify` the floor is at least 0; without negative spikes, they emit nothing where they owe
    less. `state` is `(floor, voltage, emitted, origin)`, each (batch, ...): the sum and the origin
    together are `floor + voltage`. The final state is the first three of them. `rates` have the
    type to compute in. The gradient is that of the sum, or of its relu, less the one before.

`linear_filter(log_decay, coupling, gains, inputs, initial, time_axis=1)` -> `levels`
    One or two levels of first-order filters with the same decay, each fed by the inputs and by
    the level before it: with `a = exp(log_decay)`,
    `h1_t = a * h1_{t-1} + gains[0] * inputs_t` and
    `h2_t = a * h2_{t-1} + coupling * h1_{t-1} + gains[1] * inputs_t`, from `h_0 = initial`, a tuple
    of (batch, ...). There are as many levels, a tuple of sequences, as `gains`, a tuple.
    `log_decay` (at most 0), `coupling` and gains are (1, ...): one value per unit. The decay comes
    as its logarithm because float32 rounds a decay near 1 so coarsely that slow filters would be
    wrong in the fourth digit. Differentiable in everything, to any order.

`filter_end(log_decay, coupling, gains, inputs, initial, time_axis=1)` -> `end`
    The last level's last step alone, as a sequence of one step: a weighted sum of the inputs.

`straight_through(rates, spikes)` -> `outputs`
    `spikes` forwards; backwards, the gradient goes to `rates` unchanged.

`spike(rates, voltage, dt, time_axis=1, rectify=False)` -> `(spikes, final_voltage)`
    Both in one: from rates, of any float type, to spikes in hertz of that type, with the gradient
    of the rates. `dt` is a number or a scalar tensor; `voltage` has the type to compute in. With
    `rectify` the rates are `relu(rates)`.

`spike_by_channel(rates, voltage, seconds, heights, time_axis=1, rectify=False)`
-> `(spikes, final_voltage)`
    The same where `dt` differs between channels, the last axis: tensors of it and of `1 / dt`.

`uniform(shape, seed, dtype)` -> `values`
    Random voltages in [0, 1), on the grid. `seed` is an integer, for the same numbers at every
    call, compiled or not, or a `keras.random.SeedGenerator`, for others at every call.

`expm1(x)` -> `values`
    `exp(x) - 1` for `x` of at most 0, as exact near zero as anywhere, with `exp(x)` as its
    derivative. Of the backends' own, some have `expm1(x) + 1`, which cancels far below zero.

`alpha_gain(ratio)` -> `values`
    `1 - (1 + ratio) * exp(-ratio)`, as exact near zero as anywhere, with its derivative.

On a CPU, loops that Numba compiles run on every core, where it is installed and `numba_is_chosen`:
`loops.py` holds their arithmetic, `cpu.py` calls it, and each backend's module leads there. Else
`native_is_chosen` alone decides which kernel runs, with three exceptions, where only plain
operations will do: on PyTorch, export to ONNX (`torch_onnx.py`) and the transformations of
`torch.func` (`torch_plain.py`); on JAX, filters with portable kernels, whose own gradient would
exclude forward mode.

Neither this module nor `torch.py` imports Keras when it is loaded: PyTorch users need none.
"""

import functools
import importlib
import importlib.util
from types import ModuleType
from typing import Any

from keras_spiking.kernels import cpu, setting

_NATIVE = ("tensorflow", "jax", "torch")

# By the voltage's binary digits, the largest increment on their grid: the largest power of two of
# their type of floats, so that no product overflows.
LARGEST = {23: 2.0**127, 52: 2.0**1023}


def native_is_chosen(faster: bool) -> bool:
    """Whether a backend's own kernel runs, and not the portable one.

    Args:
        faster: Whether it is the faster one on the device in use.
    """
    return faster if setting.name in ("auto", "numba") else setting.name == "native"


def numba_is_chosen() -> bool:
    """Whether loops that Numba compiles run, wherever they can."""
    return setting.name in ("auto", "numba") and cpu.is_available()


def fastest() -> str:
    """The name of the kernels that run on the device in use, unless others are set."""
    # PyTorch's modules run where there is no Keras.
    name = _name() if importlib.util.find_spec("keras") else "torch"
    if name == "portable" or not _module(name).runs_on_cpu():
        return "portable"
    return "numba" if cpu.is_available() else "native"


@functools.cache
def _name() -> str:
    """The module for Keras's backend; Keras fixes its backend once per process."""
    import keras

    backend = keras.backend.backend()
    return backend if backend in _NATIVE else "portable"


def _implementation() -> ModuleType:
    name = _name()
    if name == "torch":
        import torch

        if torch.jit.is_tracing():
            name = "torch_onnx"
    return _module(name)


def _sums() -> ModuleType:
    """Where the neurons that remember their sums are."""
    name = _name()
    if name == "torch":
        import torch

        plain = _module("torch_plain").transforms_are_active() or torch.jit.is_tracing()
        if plain or not native_is_chosen(faster=True):
            return _module("running")
    return _module("running" if name == "portable" else f"{name}_sums")


@functools.cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(f"keras_spiking.kernels.{name}")


def in_backward() -> bool:
    """Whether this runs in a backward pass of PyTorch, as what checkpointing runs again does."""
    if _name() != "torch":
        return False
    from keras_spiking.kernels import torch_backward

    return torch_backward.in_backward()


def integrate_and_fire(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    """Counts the spikes of each step; see the module's docstring."""
    return _implementation().integrate_and_fire(increments, voltage, time_axis)


def integrate(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    """Counts the spikes of each step, and keeps the voltages; see the module's docstring."""
    # On torch, `keras.ops` sums integers in 32 bits.
    name = _name()
    return _module(name if name in ("tensorflow", "torch") else "portable").integrate(
        increments, voltage, time_axis
    )


def accumulate_and_fire(
    rates: Any,
    state: tuple[Any, Any, Any, Any],
    dt: Any,
    time_axis: int = 1,
    rectify: bool = False,
    negative_spikes: bool = True,
) -> tuple[Any, tuple[Any, Any, Any]]:
    """Fires what the sum so far asks for; see the module's docstring."""
    run = _sums().accumulate_and_fire
    return run(rates, state, dt, time_axis, rectify, negative_spikes)


def linear_filter(
    log_decay: Any,
    coupling: Any,
    gains: tuple[Any, ...],
    inputs: Any,
    initial: tuple[Any, ...],
    time_axis: int = 1,
) -> tuple[Any, ...]:
    """Runs one or two levels of filters over time; see the module's docstring."""
    return _implementation().linear_filter(log_decay, coupling, gains, inputs, initial, time_axis)


def filter_end(
    log_decay: Any,
    coupling: Any,
    gains: tuple[Any, ...],
    inputs: Any,
    initial: tuple[Any, ...],
    time_axis: int = 1,
) -> Any:
    """Gives the end of a filtered sequence; see the module's docstring."""
    return _implementation().filter_end(log_decay, coupling, gains, inputs, initial, time_axis)


def straight_through(rates: Any, spikes: Any) -> Any:
    """Gives spikes forwards and the gradient of the rates backwards."""
    return _implementation().straight_through(rates, spikes)


def spike(
    rates: Any, voltage: Any, dt: Any, time_axis: int = 1, rectify: bool = False
) -> tuple[Any, Any]:
    """Turns rates into spikes in hertz; see the module's docstring."""
    return _implementation().spike(rates, voltage, dt, time_axis, rectify)


def spike_by_channel(
    rates: Any,
    voltage: Any,
    seconds: Any,
    heights: Any,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Any, Any]:
    """The same where `dt` differs between channels; see the module's docstring."""
    if _name() == "torch":  # whose kernel saves passes through memory
        return _implementation().spike(rates, voltage, seconds, time_axis, rectify, heights)
    run = _module("tensorflow" if _name() == "tensorflow" else "running").spike_by_channel
    return run(rates, voltage, seconds, heights, time_axis, rectify)


def uniform(shape: Any, seed: Any, dtype: str) -> Any:
    """Draws random voltages; see the module's docstring."""
    return _implementation().uniform(shape, seed, dtype)


def expm1(x: Any) -> Any:
    """`exp(x) - 1`; see the module's docstring."""
    return _implementation().expm1(x)


def alpha_gain(ratio: Any) -> Any:
    """`1 - (1 + ratio) * exp(-ratio)`; see the module's docstring."""
    return _implementation().alpha_gain(ratio)
