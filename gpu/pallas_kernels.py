"""The kernels of `keras_spiking/kernels/jax.py` in Pallas: a column of units each, all of time.

What `triton_kernels.py` is for PyTorch: every element is read once and written once. On a CPU they
run in Pallas's interpreter. Float64 is not for these kernels.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from keras_spiking.kernels import grid
from keras_spiking.kernels.constants import DIGITS, MOST_IN_STEP
from keras_spiking.kernels.contract import Filter, FilterGradients
from keras_spiking.kernels.filter_steps import AdjointSums, adjoint_step, filter_step, finish

BLOCK = 128
UNIT = 2.0 ** DIGITS["float32"]
LARGEST_IN_FLOAT16 = 65504.0


def _fire_kernel(rectify: bool, rates: Any, voltage: Any, dt: Any, spikes: Any, final: Any) -> None:
    seconds = dt[0, 0]
    per_second = dt[0, 1]
    most = MOST_IN_STEP["float32"]

    def step(time: Any, level: Any) -> Any:
        rate = rates[0, time, :].astype(jnp.float32)
        if rectify:
            rate = jnp.where(rate <= 0, 0.0, rate)  # NaN stays NaN.
        increment = rate * seconds
        within = jnp.abs(increment) < most
        rounded = _round(increment * UNIT) * (1.0 / UNIT)
        whole = jnp.floor(rounded)
        raised = level + jnp.where(within, rounded - whole, 0.0)
        limited = jnp.where(jnp.abs(increment) >= most, jnp.sign(increment) * most, increment)
        carry = jnp.floor(raised)
        count = (jnp.where(within, whole, limited) + carry) * per_second
        if spikes.dtype == jnp.float16:
            over = jnp.abs(count) > LARGEST_IN_FLOAT16
            count = jnp.where(over, jnp.sign(count) * LARGEST_IN_FLOAT16, count)
        spikes[0, time, :] = count.astype(spikes.dtype)
        return raised - carry

    final[0, :] = lax.fori_loop(0, rates.shape[1], step, voltage[0, :])


def _round(x: Any) -> Any:
    """`jnp.round`, which Pallas does not have on a GPU: from halfway to the even number."""
    below = jnp.floor(x)
    rest = x - below
    odd = below - 2.0 * jnp.floor(below * 0.5) == 1.0
    return jnp.where((rest > 0.5) | ((rest == 0.5) & odd), below + 1.0, below)


def _filter_kernel(order: int, inputs: Any, leak: Any, coupling: Any, *refs: Any) -> None:
    gains, initial, levels = (refs[order * n : order * (n + 1)] for n in range(3))
    filter_ = Filter(None, coupling[0, :], tuple(gain[0, :] for gain in gains))

    def step(time: Any, carry: Any) -> Any:
        now = inputs[0, time, :].astype(jnp.float32)
        new, compensations = filter_step(filter_, leak[0, :], now, *carry)
        for ref, level in zip(levels, new, strict=True):
            ref[0, time, :] = level
        return new, compensations

    start = [level[0, :] for level in initial]
    zeros = [jnp.zeros_like(level) for level in start]
    lax.fori_loop(0, inputs.shape[1], step, (start, zeros))


def _adjoint_kernel(order: int, inputs: Any, leak: Any, coupling: Any, *refs: Any) -> None:
    gains, initial, levels, upstream = (refs[order * n : order * (n + 1)] for n in range(4))
    grad_inputs, sums = refs[4 * order :]
    filter_ = Filter(None, coupling[0, :], tuple(gain[0, :] for gain in gains))
    start = [level[0, :] for level in initial]
    num_steps = inputs.shape[1]

    def step(back: Any, carry: Any) -> Any:
        time = num_steps - 1 - back
        now, *of_levels = (
            sequence[0, time, :].astype(jnp.float32) for sequence in (inputs, *upstream)
        )
        earlier = jnp.maximum(time - 1, 0)
        before = [
            jnp.where(time > 0, level[0, earlier, :], first)
            for level, first in zip(levels, start, strict=True)
        ]
        gradient, carry = adjoint_step(filter_, leak[0, :], now, before, of_levels, carry)
        grad_inputs[0, time, :] = gradient.astype(grad_inputs.dtype)
        return carry

    zeros = AdjointSums.zeros(jnp.zeros_like(start[0]), order)
    adjoints, _, log_decay, coupled, of_gains = lax.fori_loop(0, num_steps, step, zeros)
    for index, total in enumerate([log_decay, coupled, *of_gains, *adjoints]):
        sums[0, index, :] = total


def integrate_and_fire(
    rates: Any, voltage: Any, time_axis: int = 1, dt: Any = 1.0, rectify: bool = False
) -> tuple[Any, Any]:
    """Spikes in hertz of the rates' type, and the final voltage in float32."""
    columns = _columns(rates, time_axis)
    start = _columns(grid.to_grid(voltage), 1, columns.shape[0])
    seconds = jnp.stack([jnp.asarray(dt, jnp.float32), jnp.asarray(1.0 / dt, jnp.float32)])[None]
    run = _on_columns(functools.partial(_fire_kernel, rectify))
    spikes, final = run(columns, (start, seconds), (columns, start))
    return _back(spikes, rates.shape), _back(final, voltage.shape)


def linear_filter(filter_: Filter, inputs: Any, initial: Any, time_axis: int = 1) -> Any:
    """The levels, in float32."""
    columns = _columns(inputs, time_axis)
    arguments = _for_columns(*filter_, initial, columns, inputs, time_axis)
    level = jax.ShapeDtypeStruct(columns.shape, jnp.float32)
    run = _on_columns(functools.partial(_filter_kernel, len(initial)))
    levels = run(columns, arguments, (level,) * len(initial))
    return tuple(_back(level, inputs.shape) for level in levels)


def linear_filter_gradients(
    filter_: Filter, inputs: Any, initial: Any, levels: Any, upstream: Any, time_axis: int = 1
) -> FilterGradients:
    """Gradients in all but the levels."""
    order = len(initial)
    columns = _columns(inputs, time_axis)
    arguments = _for_columns(*filter_, initial, columns, inputs, time_axis)
    sequences = tuple(_columns(sequence, time_axis) for sequence in (*levels, *upstream))
    sums = jax.ShapeDtypeStruct((columns.shape[0], 2 + 2 * order, columns.shape[2]), jnp.float32)
    run = _on_columns(functools.partial(_adjoint_kernel, order))
    grad_inputs, sums = run(columns, (*arguments, *sequences), (columns, sums))
    log_decay, coupling, *rest = (
        _back(sums[:, index], initial[0].shape) for index in range(sums.shape[1])
    )
    return finish(
        filter_,
        jnp.exp(filter_.log_decay),
        AdjointSums(rest[order:], [], log_decay, coupling, rest[:order]),
        _back(grad_inputs, inputs.shape),
        functools.partial(jnp.sum, axis=0, keepdims=True),
    )


def _columns(array: Any, time_axis: int, samples: int | None = None) -> Any:
    """As (samples, time, units), or without time where `samples` is given; whole blocks of units.

    Time-major is one sample of more units.
    """
    if samples is None:
        samples = math.prod(array.shape[:time_axis])
        array = jnp.reshape(array, (samples, array.shape[time_axis], -1))
    else:
        array = jnp.reshape(array, (samples, -1))
    missing = -array.shape[-1] % BLOCK
    return jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)]) if missing else array


def _back(columns: Any, shape: tuple[int, ...]) -> Any:
    """The inverse of `_columns`."""
    units = math.prod(shape) // math.prod(columns.shape[:-1])
    return jnp.reshape(columns[..., :units], shape)


def _for_columns(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    initial: Any,
    columns: Any,
    inputs: Any,
    time_axis: int,
) -> tuple[Any, ...]:
    """Leak, coupling and gains of each unit, and the levels of each column."""
    repeats = inputs.shape[1] if time_axis == 0 else 1
    weights = (-jnp.expm1(log_decay), coupling, *gains)
    tiled = (jnp.tile(jnp.reshape(each, (1, -1)), (1, repeats)) for each in weights)
    return (
        *(_columns(each, 1, 1) for each in tiled),
        *(_columns(each, 1, columns.shape[0]) for each in initial),
    )


def _on_columns(kernel: Any) -> Any:
    """The kernel as a function of columns, what else it reads, and the shapes of what it writes."""

    def block(array: Any) -> Any:
        if array.shape[-1] % BLOCK:  # no units: every program reads all of it
            return pl.BlockSpec(array.shape, lambda sample, units: (0,) * array.ndim)
        if array.ndim == 3:
            shape = (1, array.shape[1], BLOCK)
            return pl.BlockSpec(shape, lambda sample, units: (sample, 0, units))
        if array.shape[0] == 1:  # weights, which all samples share
            return pl.BlockSpec((1, BLOCK), lambda sample, units: (0, units))
        return pl.BlockSpec((1, BLOCK), lambda sample, units: (sample, units))

    def run(columns: Any, others: tuple[Any, ...], outputs: tuple[Any, ...]) -> Any:
        shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in outputs]
        return pl.pallas_call(
            kernel,
            out_shape=shapes,
            grid=(columns.shape[0], columns.shape[2] // BLOCK),
            in_specs=[block(each) for each in (columns, *others)],
            out_specs=[
                pl.BlockSpec((1, *each.shape[1:-1], BLOCK), _index(len(each.shape)))
                for each in shapes
            ],
            interpret=_interpreted(),
            compiler_params=triton.CompilerParams(num_warps=BLOCK // 32),
        )(columns, *others)

    return run


def _index(ndim: int) -> Any:
    return (lambda s, u: (s, 0, u)) if ndim == 3 else (lambda s, u: (s, u))


def _interpreted() -> bool:
    return bool(jax.default_backend() == "cpu")
