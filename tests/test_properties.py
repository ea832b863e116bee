"""What holds for any numbers and options: the promises, held by hypothesis.

What holds for spikes alone is in layers/test_spiking_activation.py and kernels/test_kernels.py.
Shapes are few, because compiled backends compile anew for each.
"""

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keras import ops

from keras_spiking import Alpha, Lowpass, SpikingActivation
from tests.compiled import BACKEND, MODES
from tests.compiled import run as run_function
from tests.layers.cases import assert_same, run

BATCH, TIME = 4, 12

few = settings(max_examples=10 if BACKEND == "jax" else 20, deadline=None)
fewer = settings(max_examples=5, deadline=None)  # where every example compiles
every_filter = pytest.mark.parametrize("make", [Lowpass, Alpha])


def powers(low, high):
    """Numbers from 10^low to 10^high, of any order of magnitude alike."""
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


seeds = st.integers(0, 2**32 - 1)
time_constants, time_steps = powers(-12, 12), powers(-9, 9)
float32 = st.floats(-(2.0**126), 2.0**126, width=32)
not_finite = st.sampled_from([np.nan, np.inf, -np.inf])


@st.composite
def layers(draw):
    """A function that makes a layer of drawn options, and whether it must be exact."""
    dtype = draw(st.sampled_from(["float32", "float32", "mixed_float16", "mixed_bfloat16"]))
    kind = draw(st.sampled_from([SpikingActivation, Lowpass, Alpha]))
    options = {"dt": draw(powers(-3, 0)), "dtype": dtype}
    if kind is SpikingActivation:
        # Those that round nothing: the last bit of others depends on the compiler and, on torch, on
        # the layout in memory, and the spikes are the same only where the rates are.
        options["activation"] = draw(st.sampled_from(["relu", "relu6", "linear"]))
        options["rate_scale"] = draw(powers(-1, 2))
        options["seed"] = draw(st.integers(0, 9))
    else:
        options["tau_initializer"] = draw(powers(-2, 1))
        options["level_initializer"] = draw(st.floats(-2, 2))
    return lambda **more: kind(**options, **more), kind is SpikingActivation


def data(seed, features=(3,)):
    return np.random.default_rng(seed).normal(size=(BATCH, TIME, *features)).astype("float32")


def as_float32(tensors):
    return keras.tree.map_structure(
        lambda each: ops.convert_to_numpy(ops.cast(each, "float32")), tensors
    )


def assert_close(actual, expected, exact, dtype):
    """Spikes to the bit, filters to the rounding of what they put out."""
    actual, expected = as_float32(actual), as_float32(expected)
    if exact or "16" not in dtype:
        assert_same(actual, expected, exact)
    else:
        for one, other in zip(
            keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=0, atol=2.0**-7 * np.abs(other).max())


def in_levels(layer, states):
    """States as voltages and levels: the first one of `Alpha` is a difference of levels over tau.

    So the rounding of a level counts alike whatever the time constant.
    """
    if not isinstance(layer, Alpha):
        return list(states)
    (state,) = as_float32(list(states))
    tau = ops.convert_to_numpy(layer.cell.tau)
    return [np.stack([tau * state[:, 0], state[:, 1]], axis=1)]


@few
@given(made=layers(), features=st.sampled_from([(3,), (2, 2)]), seed=seeds)
def test_layer_cell_layout_and_pieces_agree(made, features, seed):
    make, exact = made
    inputs = data(seed, features)
    layer = make(return_state=True)
    outputs, *states = layer(inputs)
    dtype = layer.dtype_policy.name
    levels = in_levels(layer, states)

    state, steps = layer.cell.get_initial_state(batch_size=BATCH), []
    for time in range(TIME):
        step, state = layer.cell(inputs[:, time], state)
        steps.append(step)
    ends = in_levels(layer, state)
    assert_close([ops.stack(steps, axis=1), *ends], [outputs, *levels], exact, dtype)

    by_time, *same = make(return_state=True, time_major=True)(np.swapaxes(inputs, 0, 1))
    ends = in_levels(layer, same)
    assert_close([ops.swapaxes(by_time, 0, 1), *ends], [outputs, *levels], exact, dtype)

    kept = make(stateful=True)
    pieces = [kept(piece) for piece in np.split(inputs, [1, 6, 7], axis=1)]
    assert_close(ops.concatenate(pieces, axis=1), outputs, exact, dtype)
    assert_close(in_levels(layer, kept.states), levels, exact, "float32")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "eager"])
@fewer
@given(made=layers(), seed=seeds)
def test_compiled_layers_agree_with_eager_ones(mode, made, seed):
    make, exact = made
    inputs, layer = data(seed), make(return_state=True)
    layer.build(inputs.shape)
    compiled = run_function(
        lambda x: [ops.cast(each, "float32") for each in layer(x)], inputs, mode=mode
    )
    outputs, *states = layer(inputs)
    actual = [compiled[0], *in_levels(layer, compiled[1:])]
    assert_close(actual, [outputs, *in_levels(layer, states)], exact, layer.dtype_policy.name)


@few
@given(made=layers(), seed=seeds)
def test_the_order_of_samples_changes_nothing(made, seed):
    make, _ = made
    inputs, order = data(seed), np.random.default_rng(seed).permutation(BATCH)
    layer = make(return_state=True)
    layer.build(inputs.shape)
    start = as_float32(layer.cell.get_initial_state(batch_size=BATCH))
    expected = as_float32(layer(inputs, initial_state=start))
    moved = layer(inputs[order], initial_state=[each[order] for each in start])
    assert_same(as_float32(moved), keras.tree.map_structure(lambda each: each[order], expected))


@few
@given(rate=float32, other=float32, dt=powers(-9, 8), voltage=st.floats(0, 1, exclude_max=True))
@example(rate=3e37, other=-1e38, dt=1e-9, voltage=0.5)
def test_finite_rates_give_finite_spikes_of_their_size(rate, other, dt, voltage):
    rates = np.array([rate, other, rate], "float32").reshape(1, 3, 1)
    layer = SpikingActivation("linear", dt=dt, return_state=True)
    spikes, final = run(layer, rates, initial_state=np.full((1, 1), voltage, "float32"))
    assert np.isfinite(spikes).all()
    assert 0 <= final.item() < 1
    # As large as the rate, to within one spike; a step counts 2**104 of them at most.
    largest = 2.0**104 / np.float64(dt)
    expected = np.clip(rates.astype("float64"), -largest, largest)
    assert np.all(np.abs(spikes - expected) <= 1.001 / dt + 1e-6 * np.abs(expected))


@every_filter
@few
@given(tau=time_constants, dt=time_steps, scale=powers(-20, 20), seed=seeds)
@example(tau=1e-12, dt=1e9, scale=1e20, seed=0)
@example(tau=1e12, dt=1e-9, scale=1e20, seed=0)
def test_filters_stay_within_their_inputs(make, tau, dt, scale, seed):
    inputs = (data(seed) * scale).astype("float32")
    layer = make(tau, dt=dt, return_state=True)
    outputs, state = run(layer, inputs)
    assert np.isfinite(state).all()
    # From level 0, an output is a mean of inputs with weights that are positive and sum up to 1.
    low = np.minimum(np.minimum.accumulate(inputs, axis=1), 0)
    high = np.maximum(np.maximum.accumulate(inputs, axis=1), 0)
    slack = 1e-5 * np.abs(inputs).max()
    assert np.all(outputs >= low - slack)
    assert np.all(outputs <= high + slack)


@every_filter
@few
@given(
    tau=time_constants, dt=time_steps, level=st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
)
def test_a_constant_passes_unchanged(make, tau, dt, level):
    layer = make(tau, dt=dt, level_initializer=level)
    outputs = run(layer, np.full((BATCH, TIME, 3), level, "float32"))
    assert np.abs(outputs - np.float32(level)).max() <= 2e-6 * abs(level)


@every_filter
@few
@given(tau=time_constants, dt=time_steps, one=st.floats(-9, 9), other=st.floats(-9, 9), seed=seeds)
def test_filters_are_linear(make, tau, dt, one, other, seed):
    x, y = data(seed), data(seed + 1)
    layer = make(tau, dt=dt)
    together = run(layer, (one * x + other * y).astype("float32"))
    apart = one * run(layer, x).astype("float64") + other * run(layer, y)
    scale = abs(one) * np.abs(x).max() + abs(other) * np.abs(y).max()
    assert np.abs(together - apart).max() <= 3e-6 * scale + 1e-30


@few
@given(
    made=layers(),
    value=not_finite,
    sample=st.integers(0, BATCH - 1),
    time=st.integers(0, TIME - 1),
    unit=st.integers(0, 2),
    seed=seeds,
)
def test_what_is_not_finite_stays_in_its_unit_and_sample(made, value, sample, time, unit, seed):
    make, _ = made
    inputs, layer = data(seed), make(return_state=True)
    layer.build(inputs.shape)
    start = as_float32(layer.cell.get_initial_state(batch_size=BATCH))
    expected, *_ = as_float32(layer(inputs, initial_state=start))
    inputs[sample, time, unit] = value
    outputs, *_ = as_float32(layer(inputs, initial_state=start))
    if np.isnan(value):
        assert np.isnan(outputs[sample, time, unit])  # not hidden, in any precision
    # Nor does it go back in time; spikes go on as if that step had been left out.
    outputs[sample, time:, unit] = expected[sample, time:, unit]
    np.testing.assert_array_equal(outputs, expected)
