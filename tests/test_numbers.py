"""Where numbers end: nothing at all, huge, tiny, not finite, half and double precision."""

import contextlib
import re

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking import Alpha, Lowpass, SpikingActivation, kernels
from tests import reference
from tests.compiled import BACKEND, MODES, QUICK, SETTINGS, double_precision, gradients
from tests.compiled import run as run_function
from tests.kernels.test_kernels import spikes_in_integers
from tests.layers.cases import MAKERS, every_layer, run

every_kernel = pytest.mark.parametrize("kernel", SETTINGS)
every_filter = pytest.mark.parametrize("make", [Lowpass, Alpha])


@every_kernel
@every_layer
@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3)], ids=str)
def test_runs_on_no_steps_and_on_no_samples(shape, make, kernel):
    keras_spiking.config.set_kernels(kernel)
    layer = make(return_state=True)
    layer.build(shape)
    inputs = np.ones(shape, "float32")
    outputs, *states = run_function(layer, inputs, mode=QUICK)
    assert outputs.shape == shape
    start = layer.cell.get_initial_state(batch_size=shape[0])
    for state, expected in zip(states, start, strict=True):
        # Alpha's own state is of levels, divided by its time constant and multiplied again.
        np.testing.assert_allclose(state, ops.convert_to_numpy(expected), rtol=1e-6)
    if make is not MAKERS["custom"]:  # whose gradient, of nothing, is None
        (gradient,) = gradients(lambda x: ops.sum(layer(x, training=True)[0]), inputs, mode=QUICK)
        assert gradient.shape == shape


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the other backends know every length")
@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("name", ["spiking", "lowpass", "alpha"])
def test_a_graph_of_unknown_lengths_runs_on_nothing_too(name, shape):
    layer = MAKERS[name](return_state=True)
    layer.build(shape)
    outputs, *states = run_function(layer, np.ones(shape, "float32"), mode="graph of unknown shape")
    assert outputs.shape == shape
    assert all(state.shape[0] == shape[0] for state in states)


@every_layer
def test_no_step_has_no_last_step(make):
    with pytest.raises(ValueError, match=r"at least one time step, .* received shape \(2, 0, 3\)"):
        make(return_sequences=False)(np.ones((2, 0, 3), "float32"))


@every_layer
def test_one_unit_of_one_sample_is_like_many(make, rng):
    inputs = rng.normal(size=(3, 20, 4)).astype("float32")
    if make is MAKERS["spiking"]:  # whose voltages are drawn at random
        voltage = rng.uniform(size=(3, 4)).astype("float32")
        whole = run(make(), inputs, initial_state=voltage)
        one = run(make(), inputs[1:2, :, 2:3], initial_state=voltage[1:2, 2:3])
        np.testing.assert_array_equal(one, whole[1:2, :, 2:3])
    else:
        one, many = make(), make()
        one.build((1, 20, 1))
        many.build((3, 20, 4))
        np.testing.assert_allclose(
            run_function(one, inputs[1:2, :, 2:3], mode=QUICK),
            run_function(many, inputs, mode=QUICK)[1:2, :, 2:3],
            rtol=1e-6,
        )


LARGE = [2.0**22 + 0.5, 2.0**24 + 2, 1e9, 1e17, 2.0**31, 2.0**63, 1e30, 1e35, 3.4e38]


@every_kernel
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_counts_are_whole_numbers_of_the_right_sign(dtype, kernel):
    keras_spiking.config.set_kernels(kernel)
    large = np.array([*LARGE, *(-np.array(LARGE)), 0.75], dtype)
    increments = np.stack([large, large[::-1], large])[None]
    voltage = np.full((1, len(large)), 0.5, dtype)
    grid, most = (2**23, 2.0**104) if dtype == "float32" else (2**52, 2.0**971)
    counts, final = spikes_in_integers(
        np.clip(increments.astype("float64"), -most, most), voltage, grid
    )
    with double_precision() if dtype == "float64" else contextlib.nullcontext():
        got, end = run_function(kernels.integrate_and_fire, increments, voltage)
    np.testing.assert_array_equal(got, counts)
    np.testing.assert_array_equal(end, final)


@pytest.mark.parametrize(("rate", "dt"), [(1e9, 1e8), (1e9, 1e-9), (-1e9, 1.0), (1e20, 1e8)])
def test_spikes_of_large_rates_are_the_rates(rate, dt):
    layer = SpikingActivation("linear", dt=dt)
    spikes = run(layer, np.full((1, 5, 2), rate, "float32"))
    np.testing.assert_allclose(spikes, rate, rtol=1e-6, atol=1 / dt if dt < 1 else 0)


@every_kernel
@pytest.mark.parametrize(
    ("voltage", "fraction"),
    [(1e30, 0), (-1e30, 0), (2.0**22 + 0.5, 0.5), (-(2.0**-30), 1), (np.nan, 1), (-np.inf, 1)],
)
def test_any_initial_voltage_starts_between_0_and_1(voltage, fraction, kernel):
    keras_spiking.config.set_kernels(kernel)
    layer = SpikingActivation("linear", dt=1.0, return_state=True)
    state = np.full((1, 1), voltage, "float32")
    spikes, (final,) = run(layer, np.zeros((1, 2, 1), "float32"), initial_state=state)
    assert not spikes.any()
    assert final == min(fraction, 1 - 2.0**-23)
    _, (of_cell,) = layer.cell(np.zeros((1, 1), "float32"), [state])
    assert ops.convert_to_numpy(of_cell) == final


@pytest.mark.parametrize("mode", MODES)
def test_spikes_that_float16_cannot_hold_are_its_largest_number(mode):
    layer = SpikingActivation("linear", dt=1e-5, initial_voltage=0.5, dtype="mixed_float16")
    layer.build((1, 4, 2))
    inputs = np.full((1, 4, 2), 6e4, "float32") * [[1, -1]]
    outputs = run_function(
        lambda x: ops.cast(layer(x), "float32"), inputs.astype("float32"), mode=mode
    )
    np.testing.assert_array_equal(np.unique(outputs), [-65504, 0, 65504])
    (gradient,) = gradients(
        lambda x: ops.sum(ops.cast(layer(x), "float32")), inputs.astype("float32"), mode=mode
    )
    np.testing.assert_array_equal(gradient, np.ones_like(inputs))


@pytest.mark.parametrize("make", [MAKERS[name] for name in ("spiking", "lowpass", "alpha")])
def test_what_enters_float16_saturates_too(make):
    large = np.array([1e6, -1e6, 3e38], "float32")
    for inputs in (large, large[:2].astype("int32")):
        outputs = make(dtype="mixed_float16", return_state=True)(inputs.reshape(1, -1, 1))
        assert all(np.isfinite(ops.convert_to_numpy(each)).all() for each in outputs)


@every_filter
def test_levels_that_float16_cannot_hold_are_its_largest_number(make):
    layer = make(1.0, dt=0.001, level_initializer=1e6, dtype="mixed_float16", return_state=True)
    outputs, state = run(layer, np.zeros((1, 3, 1), "float32"))
    np.testing.assert_array_equal(outputs, np.full((1, 3, 1), 65504))
    assert np.abs(state).max() > 9e5


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # 1e5 s in a float16 weight
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("dt", [1e-9, 1e9])
@every_filter
def test_filters_are_finite_in_every_precision(make, dt, dtype):
    tau = np.array([1e-12, 1e-5, 1e5, 1e12])
    inputs = np.linspace(-100, 100, 16, dtype="float32").reshape(1, 4, 4)
    layer = make(1.0, dt=dt, level_initializer=0.5, dtype=dtype, return_state=True)
    layer.build(inputs.shape)
    level, ones = layer.get_weights()
    layer.set_weights([level, (tau * ones.astype("float64")).astype(ones.dtype)])
    outputs, state = run_function(
        lambda x: [ops.cast(each, "float32") for each in layer(x)], inputs, mode=QUICK
    )
    assert np.isfinite(outputs).all()
    assert np.isfinite(state).all()
    if dt > 1:
        # Follows its input: all but the slowest, and what float16 takes for endless.
        fast = tau < (6e4 if dtype == "float16" else 1e6)
        np.testing.assert_allclose(outputs[..., fast], inputs[..., fast], rtol=0.01)
    else:
        slow = tau >= 1e5
        np.testing.assert_array_equal(outputs[..., slow], np.full_like(inputs[..., slow], 0.5))


@every_layer
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_a_mask_leaves_out_reaches_no_gradient(make, value, rng):
    inputs, mask = rng.normal(size=(2, 6, 3)).astype("float32"), np.ones((2, 6), bool)
    mask[0, 4:] = False
    if make is MAKERS["spiking"]:
        layer = SpikingActivation(keras.layers.PReLU(alpha_initializer="ones"), dt=0.3, seed=0)
    elif make is MAKERS["custom"]:
        pytest.skip("a cell that is stepped sees every step")
    else:
        layer = make()
    layer.build(inputs.shape)

    def loss(x, *weights):
        pairs = list(zip(layer.trainable_variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            return ops.sum(layer(x, mask=ops.array(mask), training=True) ** 2)

    weights = [ops.convert_to_numpy(each) for each in layer.trainable_variables]
    expected = gradients(loss, inputs, *weights, mode=QUICK)
    inputs[0, 4:] = value
    found = gradients(loss, inputs, *weights, mode=QUICK)
    for got, each in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, each)


@pytest.mark.parametrize("name", ["spiking", "lowpass", "alpha"])
def test_double_precision_is_that(name, rng):
    inputs = rng.normal(size=(2, 200, 3))
    with double_precision():
        if name == "spiking":
            layer = SpikingActivation("linear", dt=0.3, dtype="float64", return_state=True)
            voltage = rng.uniform(size=(2, 3))
            outputs, state = run(layer, inputs, initial_state=voltage)
            expected, end = reference.integrate_and_fire(inputs, 0.3, voltage)
        else:
            layer = MAKERS[name](dtype="float64", return_state=True)
            outputs, state = run(layer, inputs)
            oracle = {"lowpass": reference.lowpass, "alpha": reference.alpha}[name]
            # On TensorFlow, Keras rounds a constant initializer to float32.
            level, tau = (ops.convert_to_numpy(weight) for weight in layer.weights)
            expected, end = oracle(inputs, 0.03, tau, level)
    np.testing.assert_allclose(outputs, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(state, end, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("value", [1e-40, 1e300])
def test_numbers_that_float32_cannot_compute_with_are_refused(value):
    words, text = "must be .* from 1e-30 to 1e30, .*; received {}={}", re.escape(str(value))
    with pytest.raises(ValueError, match=words.format("dt", text)):
        SpikingActivation("relu", dt=value)
    with pytest.raises(ValueError, match=words.format("tau_initializer", text)):
        Alpha(value)
