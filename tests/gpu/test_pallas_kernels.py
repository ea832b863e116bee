"""The Pallas kernels against those of the package: in Pallas's interpreter, or on a GPU."""

import os

import numpy as np
import pytest

if os.environ.get("KERAS_BACKEND") != "jax":
    pytest.skip("for jax", allow_module_level=True)

import jax
import jax.numpy as jnp

from gpu import pallas_kernels
from keras_spiking.kernels import jax as kernels
from keras_spiking.kernels.contract import Filter, to_row

both_layouts = pytest.mark.parametrize("time_axis", [0, 1])
shapes = pytest.mark.parametrize(
    ("time", "features"), [(1, (5,)), (70, (2, 3)), (33, (300,))], ids=str
)


def layout(array, time_axis):
    return array if time_axis == 1 else np.swapaxes(array, 0, 1)


def filters(rng, order, time, features, time_axis):
    """Arguments of `linear_filter`, but for the layout."""

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), "float32")

    log_decay = -2 * jnp.asarray(rng.random((1, *features)), "float32")
    gains = tuple(draw(1, *features) for _ in range(order))
    initial = tuple(draw(3, *features) for _ in range(order))
    inputs = jnp.asarray(layout(rng.normal(size=(3, time, *features)), time_axis), "float32")
    return Filter(log_decay, draw(1, *features), gains), inputs, initial


def assert_close(got, expected, tolerance):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


@shapes
@both_layouts
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("rectify", [False, True])
def test_spikes_are_the_same_bit_for_bit(time, features, time_axis, dtype, rectify, rng):
    rates = rng.normal(scale=1e3, size=(3, time, *features))
    rates.flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
    rates = jnp.asarray(layout(rates, time_axis), dtype)
    voltage = jnp.asarray(rng.normal(size=(3, *features)), "float32")
    got = pallas_kernels.integrate_and_fire(rates, voltage, time_axis, 1 / 1024, rectify)
    expected = kernels.spike(rates, voltage, 1 / 1024, time_axis, rectify)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one.astype("float32"), other.astype("float32"))


@shapes
@both_layouts
@pytest.mark.parametrize("order", [1, 2])
def test_filters_and_their_gradients_agree(time, features, time_axis, order, rng):
    each = filters(rng, order, time, features, time_axis)
    levels = pallas_kernels.linear_filter(*each, time_axis)
    assert_close(levels, kernels._filter_loop(*each, time_axis), 1e-6)
    upstream = tuple(jnp.asarray(rng.normal(size=level.shape), "float32") for level in levels)
    got = pallas_kernels.linear_filter_gradients(*each, levels, upstream, time_axis)
    expected = kernels._gradient_loop(*each, levels, upstream, time_axis)
    got, expected = (list(to_row(*gradients)) for gradients in (got, expected))
    if order == 1:  # One level has no coupling.
        del got[1], expected[1]
    assert_close(got, expected, 1e-5)


def test_every_kernel_is_lowered_to_triton_for_a_gpu(monkeypatch, rng):
    monkeypatch.setattr(pallas_kernels, "_interpreted", lambda: False)

    def lowered(function, *arguments):
        traced = jax.jit(function).trace(*arguments)
        return traced.lower(lowering_platforms=("cuda",)).as_text()

    rates, voltage = jnp.ones((2, 9, 300), "float16"), jnp.zeros((2, 300))
    programs = [lowered(pallas_kernels.integrate_and_fire, rates, voltage)]
    for order in (1, 2):
        each = filters(rng, order, 9, (300,), 1)
        levels = (each[1],) * order
        programs.append(lowered(pallas_kernels.linear_filter, *each))
        programs.append(lowered(pallas_kernels.linear_filter_gradients, *each, levels, levels))
    for program in programs:
        assert program.count("__gpu$xla.gpu.triton") == 1
