"""Every backend's kernels against loops in float64 and in whole numbers."""

import functools

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import keras_spiking
from keras_spiking import kernels
from keras_spiking.kernels import portable
from keras_spiking.kernels.contract import Filter
from tests.compiled import BACKEND, MODES, QUICK, SETTINGS, finite_differences, gradients, run

every_mode = pytest.mark.parametrize("mode", MODES)
both_layouts = pytest.mark.parametrize("time_axis", [0, 1])
GRID = 2**23


def spikes_in_integers(increments, voltage, grid=GRID):
    """The definition on the grid, in Python's own integers: (batch, time, ...) arrays."""
    added, total = whole_numbers(increments * float(grid)), whole_numbers(voltage * float(grid))
    counts = np.zeros(increments.shape)
    for step in range(increments.shape[1]):
        total = total + added[:, step]
        counts[:, step] = total // grid
        total = total % grid
    return counts, total.astype("float64") / grid


whole_numbers = np.vectorize(lambda value: int(np.rint(np.float64(value))), otypes=[object])


def layout(array, time_axis):
    return array if time_axis == 1 else np.swapaxes(array, 0, 1)


@every_mode
@both_layouts
@pytest.mark.parametrize("features", [(5,), (2, 3)], ids=str)
@pytest.mark.parametrize("time", [1, 33, 1000])
def test_spikes_are_exact(mode, time_axis, features, time, rng):
    # Fractions near 1 make the integer sum wrap around many times in 1000 steps.
    increments = rng.uniform(0.9, 1.0, size=(2, time, *features)).astype("float32")
    increments[1] = rng.normal(scale=3.0, size=(time, *features))
    voltage = rng.uniform(size=(2, *features)).astype("float32")
    counts, final = spikes_in_integers(increments, voltage)

    got, end = run(
        lambda r, v: kernels.integrate_and_fire(r, v, time_axis),
        layout(increments, time_axis),
        voltage,
        mode=mode,
    )
    np.testing.assert_array_equal(layout(got, time_axis), counts)
    np.testing.assert_array_equal(end, final)


@settings(max_examples=50, deadline=None)
@given(
    scale=st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 7.0, 1e3, 1e6]),
    cut=st.sampled_from([1, 7, 20, 39]),  # few: JAX compiles anew for each shape
    seed=st.integers(0, 2**32 - 1),
)
def test_spikes_are_the_same_however_time_is_cut(scale, cut, seed):
    rng = np.random.default_rng(seed)
    increments = (rng.normal(size=(2, 40, 3)) * scale).astype("float32")
    voltage = np.floor(rng.uniform(size=(2, 3)) * GRID).astype("float32") / np.float32(GRID)
    whole, end = run(kernels.integrate_and_fire, increments, voltage)
    first, between = run(kernels.integrate_and_fire, increments[:, :cut], voltage)
    second, last = run(kernels.integrate_and_fire, increments[:, cut:], between)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    np.testing.assert_array_equal(last, end)
    assert np.all((end >= 0) & (end < 1))
    counts, final = spikes_in_integers(increments, voltage)
    np.testing.assert_array_equal(whole, counts)
    np.testing.assert_array_equal(end, final)


@every_mode
def test_one_sample_runs_where_the_batch_size_of_its_state_alone_is_known(mode, rng):
    increments = rng.normal(size=(1, 5, 3)).astype("float32")
    state = rng.uniform(size=(1, 3)).astype("float32")
    counts, final = spikes_in_integers(increments, state)
    got, end = run(lambda r, v: kernels.integrate_and_fire(r, v), increments, state, mode=mode)
    np.testing.assert_array_equal(got, counts)
    np.testing.assert_array_equal(end, final)

    weight = np.full((1, 3), -0.1, "float32")
    (levels,) = run(
        lambda x, a, level: kernels.linear_filter(Filter(a, a * 0, (-a,)), x, (level,)),
        increments,
        weight,
        state,
        mode=mode,
    )
    (expected,) = filters(weight, weight * 0, [-weight], increments, [state])
    np.testing.assert_allclose(levels, expected, rtol=1e-5, atol=1e-6)


def test_only_the_fractional_part_of_the_voltage_counts():
    increments = np.full((1, 4, 3), 0.25, "float32")
    voltage = np.array([[0.5, 2.5, -0.5]], "float32")
    counts, final = run(kernels.integrate_and_fire, increments, voltage)
    np.testing.assert_array_equal(counts, np.repeat(counts[..., :1], 3, axis=2))
    np.testing.assert_array_equal(final, [[0.5, 0.5, 0.5]])
    almost = np.full((1, 3), 1 - 2**-24, "float32")
    counts, final = run(kernels.integrate_and_fire, increments * 0, almost)
    np.testing.assert_array_equal(counts, increments * 0)
    assert final.max() < 1


def test_what_is_not_finite_stays_in_its_step_and_unit():
    increments = np.full((1, 6, 4), 0.5, "float32")
    increments[0, 2, :3] = np.nan, np.inf, -np.inf
    counts, final = run(kernels.integrate_and_fire, increments, np.zeros((1, 4), "float32"))
    np.testing.assert_array_equal(counts[0, 2, :3], [np.nan, 2.0**104, -(2.0**104)])
    np.testing.assert_array_equal(counts[0, :, 3], [0, 1, 0, 1, 0, 1])
    rest = np.delete(counts[0], 2, axis=0)
    np.testing.assert_array_equal(rest[:, :3], [[0] * 3, [1] * 3, [0] * 3, [1] * 3, [0] * 3])
    assert np.isfinite(final).all()


@pytest.mark.skipif(BACKEND == "jax", reason="JAX computes in float32 unless x64 mode is on")
@pytest.mark.parametrize("name", SETTINGS)
def test_float64_has_a_finer_grid(name, rng):
    keras_spiking.config.set_kernels(name)
    increments = rng.normal(size=(2, 100, 3))
    voltage = np.floor(rng.uniform(size=(2, 3)) * 2.0**52) * 2.0**-52
    counts, final = run(kernels.integrate_and_fire, increments, voltage)
    expected, end = spikes_in_integers(increments, voltage, 2**52)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(final, end)


def filters(log_decay, coupling, gains, inputs, initial):
    """The definition of one or two levels of filters in float64: inputs are (batch, time, ...)."""
    decay = np.exp(np.asarray(log_decay, "float64"))
    levels = [np.asarray(each, "float64") for each in initial]
    sequences = [np.zeros(inputs.shape) for _ in levels]
    for step in range(inputs.shape[1]):
        drives = [gain * np.asarray(inputs[:, step], "float64") for gain in gains]
        if len(levels) == 2:
            drives[1] = drives[1] + coupling * levels[0]
        levels = [decay * level + drive for level, drive in zip(levels, drives, strict=True)]
        for sequence, level in zip(sequences, levels, strict=True):
            sequence[:, step] = level
    return sequences


def filter_arguments(rng, order, time, features=(2, 3), batch=2):
    def draw(*shape):
        return rng.normal(size=shape).astype("float32")

    return [
        draw(batch, time, *features),
        -rng.uniform(0.01, 2.0, size=(1, *features)).astype("float32"),
        draw(1, *features),
        *(draw(1, *features) for _ in range(order)),
        *(draw(batch, *features) for _ in range(order)),
    ]


def as_kernel(module, order, time_axis=1):
    """The kernel as a function of arrays in the order of `filter_arguments`."""

    def kernel(inputs, log_decay, coupling, *rest):
        filter_ = Filter(log_decay, coupling, tuple(rest[:order]))
        return module.linear_filter(filter_, inputs, tuple(rest[order:]), time_axis)

    return kernel


@every_mode
@both_layouts
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("time", [1, 17, 129])
def test_filters_and_their_gradients(mode, time_axis, order, time, rng):
    arrays = filter_arguments(rng, order, time)
    weights = rng.normal(size=(order, *arrays[0].shape)).astype("float32")
    kernel = as_kernel(kernels, order, time_axis)

    def oracle(inputs, log_decay, coupling, *rest):
        return filters(log_decay, coupling, rest[:order], inputs, rest[order:])

    moved = [layout(arrays[0], time_axis), *arrays[1:]]
    for got, expected in zip(run(kernel, *moved, mode=mode), oracle(*arrays), strict=True):
        got = layout(got, time_axis)
        assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()

    factors = [ops.array(layout(each, time_axis)) for each in weights]
    got = gradients(
        lambda *args: sum(
            ops.sum(level * factor) for level, factor in zip(kernel(*args), factors, strict=True)
        ),
        *moved,
        mode=mode,
    )

    def loss(*args):
        return sum(np.sum(level * each) for level, each in zip(oracle(*args), weights, strict=True))

    for index in range(len(arrays)):
        if (index == 0 and time > 20) or (order == 1 and index == 2):
            continue  # Many inputs, checked at the smaller lengths; one level has no coupling.
        expected = finite_differences(loss, arrays, index, 1e-5)
        actual = layout(got[0], time_axis) if index == 0 else got[index]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("signal", ["noise", "constant"])
def test_filters_do_not_drift_over_10000_steps(tau, signal, rng):
    inputs = rng.uniform(size=(1, 10_000, 4)) if signal == "noise" else np.ones((1, 10_000, 4))
    log_decay = np.full((1, 4), -0.001 / tau)
    gain = -np.expm1(log_decay)
    arrays = [inputs, log_decay, np.zeros((1, 4)), gain, np.zeros((1, 4))]
    (expected,) = filters(log_decay, 0.0, [gain], inputs, [arrays[-1]])
    (got,) = run(as_kernel(kernels, 1), *(array.astype("float32") for array in arrays))
    assert np.abs(got - expected).max() < 1e-6 * np.abs(expected).max()


@every_mode
def test_straight_through_passes_gradients_to_the_rates(mode, rng):
    rates, spikes, weights = (rng.normal(size=(2, 3)).astype("float32") for _ in range(3))
    np.testing.assert_array_equal(run(kernels.straight_through, rates, spikes, mode=mode), spikes)
    (got,) = gradients(
        lambda rates: ops.sum(
            kernels.straight_through(rates, ops.array(spikes)) * ops.array(weights)
        ),
        rates,
        mode=mode,
    )
    np.testing.assert_array_equal(got, weights)


def loss_of_levels(kernel, upstream):
    """A scalar whose gradients are the levels' own, with `upstream` for each level."""

    def loss(*arguments):
        levels = kernel(*arguments)
        return sum(ops.sum(a * ops.array(b)) for a, b in zip(levels, upstream, strict=True))

    return loss


def assert_kernels_agree(rng, ours, shape, mode="eager", portable_mode=QUICK):
    """Holds a choice of `set_kernels` against the portable one, forwards and backwards."""
    modes = {ours: mode, "portable": portable_mode}
    increments = rng.normal(size=shape).astype("float32")
    voltage = rng.uniform(size=(shape[0], *shape[2:])).astype("float32")
    results = []
    for setting, mode in modes.items():
        keras_spiking.config.set_kernels(setting)
        fire = module_of(setting).integrate_and_fire
        results.append(run(fresh(fire), increments, voltage, mode=mode))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)

    for order in (1, 2):
        arrays = filter_arguments(rng, order, shape[1], shape[2:], shape[0])
        weights = rng.normal(size=(order, *shape)).astype("float32")
        results = []
        for setting, mode in modes.items():
            keras_spiking.config.set_kernels(setting)
            kernel = as_kernel(module_of(setting), order)
            loss = loss_of_levels(kernel, weights)
            levels = run(fresh(kernel), *arrays, mode=mode)
            results.append([*levels, *gradients(fresh(loss), *arrays, mode=mode)])
        for index, (one, other) in enumerate(zip(*results, strict=True)):
            if (order, index) == (1, 3):
                continue  # One level has no coupling.
            tolerance = 1e-6 if index < order else 1e-5
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def module_of(setting):
    """Where the kernels are. On torch, plain operations stand for the portable module."""
    return portable if BACKEND == "torch" and setting == "portable" else kernels


def fresh(function):
    """The same function, which a compiler has not seen."""
    return lambda *arguments: function(*arguments)


@every_mode
@pytest.mark.parametrize("setting", SETTINGS[:-1] if BACKEND == "torch" else ["native"])
def test_every_kernel_agrees_with_the_portable_one(setting, mode, rng):
    # Of Numba on the others, `test_numba_jax.py` and `test_numba_tensorflow.py`.
    time = 50 if BACKEND == "torch" else 7  # which on PyTorch is several blocks of steps
    assert_kernels_agree(rng, setting, (2, time, 2, 3), mode, portable_mode=mode)


def test_the_portable_kernel_has_the_gradients_of_its_operations(rng):
    # The hand-written adjoint, in every implementation, against the backend's own.
    for order in (1, 2):
        arrays = filter_arguments(rng, order, 15)
        upstream = rng.normal(size=(order, *arrays[0].shape)).astype("float32")
        got = gradients(loss_of_levels(as_kernel(kernels, order), upstream), *arrays)
        loss = loss_of_levels(as_kernel(portable, order), upstream)
        expected = gradients(loss, *arrays, mode=QUICK)
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            if (order, index) != (1, 2):
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


@every_mode
@both_layouts
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("time", [1, 129])
def test_the_end_of_a_filter_is_its_last_step(mode, time_axis, order, time, rng):
    arrays = filter_arguments(rng, order, time)
    moved = [layout(arrays[0], time_axis), *arrays[1:]]
    upstream = rng.normal(size=arrays[0][:, :1].shape).astype("float32")

    def end(inputs, log_decay, coupling, *rest):
        gains, initial = rest[:order], rest[order:]
        filter_ = Filter(log_decay, coupling, gains)
        return kernels.filter_end(filter_, inputs, initial, time_axis)

    def end_of_the_sequence(*tensors):
        last = as_kernel(kernels, order, time_axis)(*tensors)[-1]
        return last[:, -1:] if time_axis == 1 else last[-1:]

    def loss(function):
        return lambda *tensors: ops.sum(function(*tensors) * ops.array(layout(upstream, time_axis)))

    expected = filters(*arrays[1:3], arrays[3 : 3 + order], arrays[0], arrays[3 + order :])[-1]
    got = layout(run(end, *moved, mode=mode), time_axis)
    assert np.abs(got - expected[:, -1:]).max() <= 1e-6 * np.abs(expected).max()
    each = zip(
        gradients(loss(end), *moved, mode=mode),
        gradients(loss(end_of_the_sequence), *moved),
        strict=True,
    )
    for index, (one, other) in enumerate(each):
        if (order, index) != (1, 2):  # One level has no coupling.
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


@every_mode
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_gain_of_alpha_is_exact(mode, setting):
    keras_spiking.config.set_kernels(setting)
    ratio = np.logspace(-12, 4, 1001, dtype="float32")[None]
    exact = ratio.astype("float64")
    expected = scipy.special.gammainc(2.0, exact)
    np.testing.assert_allclose(run(kernels.alpha_gain, ratio, mode=mode), expected, rtol=1e-6)
    (got,) = gradients(lambda ratio: ops.sum(kernels.alpha_gain(ratio)), ratio, mode=mode)
    expected = exact * np.exp(-exact)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(got[exact < 1], expected[exact < 1], rtol=1e-5)


@every_mode
@both_layouts
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rectify", [False, True])
def test_spikes_in_hertz_have_the_gradient_of_the_rates(mode, time_axis, dtype, rectify, rng):
    inputs = rng.normal(scale=100, size=(3, 50, 4)).astype(dtype)
    inputs[0, 1] = [np.nan, np.inf, 6e4, -6e4]
    voltage = rng.uniform(size=(3, 4)).astype("float32")
    weights = rng.normal(size=inputs.shape).astype(dtype)
    rates = np.maximum(inputs, 0).astype(dtype) if rectify else inputs
    dt = 2.0**-10

    def spike(inputs, voltage):
        return kernels.spike(inputs, voltage, dt, time_axis, rectify)

    def in_steps(rates, voltage):
        counts, final = kernels.integrate_and_fire(rates * dt, voltage, time_axis)
        return counts * (1 / dt), final

    spikes, final = run(spike, layout(inputs, time_axis), voltage, mode=mode)
    expected, end = run(in_steps, layout(rates, time_axis).astype("float32"), voltage, mode=mode)
    assert spikes.dtype == dtype
    limit = np.finfo(dtype).max
    np.testing.assert_array_equal(spikes, np.clip(expected, -limit, limit).astype(dtype))
    np.testing.assert_array_equal(final, end)

    (got, _) = gradients(
        lambda inputs, voltage: ops.sum(
            spike(inputs, voltage)[0] * ops.array(layout(weights, time_axis))
        ),
        layout(inputs, time_axis),
        voltage,
        mode=mode,
    )
    passed = layout(~(inputs <= 0) if rectify else np.full(inputs.shape, True), time_axis)
    finite = layout(np.isfinite(inputs), time_axis)
    expected = np.where(passed, layout(weights, time_axis), 0)
    np.testing.assert_array_equal(got[finite], expected[finite])


@pytest.mark.parametrize("setting", SETTINGS[:-1])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e30])
@pytest.mark.parametrize("units", [3, 17, 1024])
@both_layouts
def test_any_increments_and_widths_are_exact(scale, units, time_axis, setting, rng):
    increments = (rng.normal(size=(2, 70, units)) * scale).astype("float32")
    voltage = rng.uniform(size=(2, units)).astype("float32")
    assert_spikes_as_portable(setting, increments, voltage, time_axis)


@pytest.mark.parametrize("setting", SETTINGS[:-1])
@pytest.mark.parametrize("units", [17, 1100])
@pytest.mark.parametrize("dtype", ["float32", "float64"][: 1 if BACKEND == "jax" else 2])
def test_edges_of_the_grid_are_exact(dtype, units, setting, rng):
    step = 2.0 ** -{"float32": 23, "float64": 52}[dtype]
    edges = [0.0, -0.0, step / 2, step, 1.5 * step, 2.5 * step, 0.5 - step, 0.5]
    edges += [1 - 2 * step, 1 - step, 1 - step / 2, 1.0, -step / 2, -0.75 * step, 1 + step]
    edges += [-step, -0.5, -1.0, 254.5, 1e30, -1e30, np.nan, np.inf, -np.inf]
    chosen = rng.choice(edges, size=(2, 90, units)).astype(dtype)
    voltage = rng.choice([0.0, step, 0.5, 1 - step, 0.25], size=(2, units)).astype(dtype)
    assert_spikes_as_portable(setting, chosen, voltage, time_axis=1)


def assert_spikes_as_portable(setting, increments, voltage, time_axis):
    results = []
    arrays = layout(increments, time_axis), voltage
    for each, mode in ((setting, "eager"), ("portable", QUICK)):
        keras_spiking.config.set_kernels(each)
        fire = fresh(functools.partial(kernels.integrate_and_fire, time_axis=time_axis))
        results.append(run(fire, *arrays, mode=mode))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow builds a graph to count")
@pytest.mark.parametrize("kernel", ["integrate_and_fire", "linear_filter"])
def test_graph_does_not_grow_with_time(kernel):
    import tensorflow as tf

    def graph(time):
        inputs, state, unit = (tf.TensorSpec(shape) for shape in ((2, time, 3), (2, 3), (1, 3)))
        if kernel == "integrate_and_fire":
            function = tf.function(kernels.integrate_and_fire)
            return function.get_concrete_function(inputs, state).graph
        function = tf.function(as_kernel(kernels, 2))
        return function.get_concrete_function(inputs, *[unit] * 4, *[state] * 2).graph

    assert len(graph(10_000).get_operations()) == len(graph(10).get_operations())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the other backends know every length")
def test_unknown_length_is_summed_the_same_way(rng):
    arrays = filter_arguments(rng, 2, 13)
    kernel = as_kernel(portable, 2)
    known = run(kernel, *arrays, mode="graph")
    unknown = run(kernel, *arrays, mode="graph of unknown shape")
    for one, other in zip(known, unknown, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_kernels_import_without_keras():
    import subprocess
    import sys

    code = "import sys, keras_spiking.kernels; assert 'keras' not in sys.modules; "
    # Keras, once imported, loads the layers, which need the kernels: that may be in the middle.
    code += "import keras_spiking.kernels.portable, keras_spiking.layers"
    subprocess.run([sys.executable, "-c", code], check=True)
