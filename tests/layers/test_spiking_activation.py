"""SpikingActivation: what its spikes are, where they start, how they train, what it refuses."""

import json
import pathlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import keras_spiking
from keras_spiking import SpikingActivation, SpikingActivationCell
from tests import reference
from tests.compiled import MODES, QUICK, gradients
from tests.compiled import run as run_function
from tests.layers.cases import run

DATA = np.load(pathlib.Path(__file__).parents[1] / "data" / "spiking_activation.npz")
CASES = list(enumerate(json.loads(str(DATA["cases"]))))

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "tanh": np.tanh,
    "linear": lambda x: x,
}


@pytest.mark.parametrize(("index", "options"), CASES, ids=[str(options) for _, options in CASES])
def test_equals_the_old_library(index, options):
    layer = SpikingActivation(options["activation"], dt=options["dt"], return_state=True)
    inputs, voltage = DATA[f"{index}.inputs"], DATA[f"{index}.voltage"]
    spikes, final = run(layer, inputs, initial_state=voltage)
    np.testing.assert_allclose(spikes, DATA[f"{index}.spikes"], rtol=1e-6)
    np.testing.assert_allclose(final, DATA[f"{index}.final_voltage"], atol=1e-5)

    weights = ops.array(DATA[f"{index}.loss_weights"])
    layer = SpikingActivation(options["activation"], dt=options["dt"])
    (gradient,) = gradients(
        lambda x: ops.sum(layer(x, initial_state=ops.array(voltage), training=True) * weights),
        inputs,
        mode=QUICK,
    )
    expected = DATA[f"{index}.grad_inputs"]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dt", [0.001, 0.013, 1.0])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equals_a_float64_loop(activation, dt, mode, rng):
    inputs = rng.normal(scale=1.5 / dt, size=(2, 200, 5)).astype("float32")
    voltage = rng.uniform(size=(2, 5)).astype("float32")
    layer = SpikingActivation(activation, dt=dt)
    layer.build(inputs.shape)
    spikes = run_function(
        lambda x, v: layer(x, initial_state=v, training=False), inputs, voltage, mode=mode
    )
    expected, _ = reference.integrate_and_fire(ACTIVATIONS[activation](inputs), dt, voltage)
    # Rounding may move a spike by one step where the sum comes within it of a whole number.
    assert np.mean(np.abs(spikes - expected) > 1e-5 * np.abs(expected)) < 0.01
    drift = np.cumsum(spikes - expected, axis=1) * dt
    assert np.abs(drift).max() < 1.001


def test_long_runs_keep_to_the_float64_loop(rng):
    rates = rng.uniform(0, 100, size=(2, 10_000, 10)).astype("float32")
    voltage = rng.uniform(size=(2, 10)).astype("float32")
    layer = SpikingActivation("linear", dt=0.001, return_state=True)
    spikes, final = run(layer, rates, initial_state=voltage)
    expected, end = reference.integrate_and_fire(rates, np.float64(np.float32(0.001)), voltage)
    moved = np.abs(final - end)
    assert np.minimum(moved, 1 - moved).max() < 1e-5
    assert np.mean(spikes.round() != expected.round()) < 1e-4
    assert np.abs(spikes.sum(axis=1) - expected.sum(axis=1)).max() <= 1000.01


@settings(max_examples=25, deadline=None)
@given(
    dt=st.floats(1e-4, 10),
    scale=st.sampled_from([0.01, 0.5, 1.0, 30.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_spikes_add_up_to_the_activation_within_one_spike(dt, scale, seed):
    rng = np.random.default_rng(seed)
    rates = (rng.normal(size=(2, 50, 3)) * scale / dt).astype("float32")
    layer = SpikingActivation("relu", dt=dt)
    counts = run(layer, rates) * dt
    np.testing.assert_allclose(counts, np.round(counts), rtol=1e-5)
    total = np.cumsum(np.maximum(rates, 0).astype("float64") * dt - counts, axis=1)
    assert np.abs(total).max() <= 1 + 1e-5 * max(scale * 50, 1)


@settings(max_examples=25, deadline=None)
@given(power=st.integers(-60, 60), seed=st.integers(0, 2**32 - 1))
def test_scaling_dt_against_the_rate_leaves_counts_unchanged(power, seed):
    rng = np.random.default_rng(seed)
    rates = rng.normal(size=(2, 30, 3)).astype("float32")
    voltage = rng.uniform(size=(2, 3)).astype("float32")
    plain = run(SpikingActivation("linear", dt=0.5), rates, initial_state=voltage) * 0.5
    factor = 2.0**power
    scaled = run(
        SpikingActivation("linear", dt=0.5 / factor), rates * factor, initial_state=voltage
    )
    np.testing.assert_array_equal(scaled * (0.5 / factor), plain)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_batch_order_and_whole_spikes_change_nothing_else(seed):
    rng = np.random.default_rng(seed)
    # On the grid of voltages, so that adding a whole number is exact.
    rates = (np.rint(rng.normal(size=(4, 30, 3)) * 2**15) / 2**15).astype("float32")
    voltage = rng.uniform(size=(4, 3)).astype("float32")
    order = rng.permutation(4)
    layer = SpikingActivation("linear", dt=1.0)
    spikes = run(layer, rates, initial_state=voltage)
    np.testing.assert_array_equal(
        run(layer, rates[order], initial_state=voltage[order]), spikes[order]
    )
    np.testing.assert_array_equal(run(layer, rates + 5, initial_state=voltage), spikes + 5)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "eager"])
def test_compiled_spikes_are_those_of_eager_calls(mode, rng):
    inputs = rng.normal(scale=100, size=(3, 64, 7)).astype("float32")
    for dt in (0.001, 0.0173):
        layer = SpikingActivation("relu", dt=dt, seed=3, return_state=True)
        layer.build(inputs.shape)
        for one, other in zip(
            run_function(layer, inputs, mode=mode), run_function(layer, inputs), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_more_than_one_and_negative_spikes_in_a_step():
    layer = SpikingActivation("linear", dt=1.0, initial_voltage=0.25)
    inputs = np.array([[[3.5], [-2.0], [0.3], [-0.1]]])
    np.testing.assert_array_equal(run(layer, inputs).ravel(), [3, -2, 1, -1])


def test_output_approaches_the_activation_as_dt_grows(rng):
    inputs = rng.normal(size=(2, 20, 4)).astype("float32")
    errors = []
    for dt in (0.1, 1.0, 10.0, 100.0, 1000.0):
        spikes = run(SpikingActivation("tanh", dt=dt), inputs)
        errors.append(np.abs(spikes - np.tanh(inputs)).max())
        assert errors[-1] <= 1.01 / dt
    assert errors == sorted(errors, reverse=True)


def test_every_spike_has_the_height_of_one_over_dt():
    for dt in (0.001, 0.01, 0.02, 0.1, 0.25):
        spikes = run(SpikingActivation("linear", dt=dt), np.full((1, 50, 3), 0.7 / dt))
        np.testing.assert_array_equal(np.unique(spikes), np.float32([0, 1 / dt]))


def test_training_without_spikes_sees_the_activation_and_leaves_the_voltage(rng):
    inputs = rng.normal(size=(2, 6, 3)).astype("float32")
    layer = SpikingActivation("tanh", spiking_aware_training=False, stateful=True, seed=0)
    layer.build(inputs.shape)
    voltage = ops.convert_to_numpy(layer.states[0])
    trained = run(layer, inputs, training=True)
    np.testing.assert_allclose(trained, np.tanh(inputs), rtol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.states[0]), voltage)
    assert set(np.unique(run(layer, inputs, training=False))) <= {-1000.0, 0.0, 1000.0}
    assert not np.array_equal(ops.convert_to_numpy(layer.states[0]), voltage)


def test_spiking_aware_training_sees_spikes(rng):
    inputs = rng.normal(size=(2, 6, 3)).astype("float32")
    layer = SpikingActivation("relu", dt=0.5, seed=0)
    np.testing.assert_array_equal(
        run(layer, inputs, training=True), run(layer, inputs, training=False)
    )


@pytest.mark.parametrize("spiking_aware_training", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_gradient_is_that_of_the_activation(mode, spiking_aware_training, rng):
    inputs = rng.normal(size=(2, 6, 3)).astype("float32")
    weights = ops.array(rng.normal(size=(2, 6, 3)).astype("float32"))
    layer = SpikingActivation("tanh", spiking_aware_training=spiking_aware_training)
    layer.build(inputs.shape)
    (gradient,) = gradients(lambda x: ops.sum(layer(x, training=True) * weights), inputs, mode=mode)
    expected = ops.convert_to_numpy(weights) * (1 - np.tanh(inputs) ** 2)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_no_gradient_reaches_the_voltage(rng):
    inputs = rng.normal(size=(2, 6, 3)).astype("float32")
    voltage = rng.uniform(size=(2, 3)).astype("float32")
    layer = SpikingActivation("relu", dt=0.5, return_state=True)
    layer.build(inputs.shape)

    def loss(x, v):
        spikes, final = layer(x, initial_state=v)
        return ops.sum(spikes) + 0 * ops.sum(x) + 0 * ops.sum(v) + ops.sum(final)

    _, gradient = gradients(loss, inputs, voltage)
    np.testing.assert_array_equal(gradient, np.zeros_like(voltage))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_voltage_is_never_in_half_precision(dtype):
    # A thousandth of a spike per step would never move a voltage of 0.5 in bfloat16.
    layer = SpikingActivation("linear", dt=0.001, initial_voltage=0.0, dtype=f"mixed_{dtype}")
    inputs = np.ones((1, 1005, 1))
    counts = ops.convert_to_numpy(ops.cast(layer(inputs), "float32")) / 1000
    assert counts.sum() == 1

    layer = SpikingActivation("linear", dt=0.001, return_state=True, dtype=f"mixed_{dtype}")
    whole, final = layer(inputs, initial_state=np.full((1, 1), 0.1234567))
    first, between = layer(inputs[:, :500], initial_state=np.full((1, 1), 0.1234567))
    second, end = layer(inputs[:, 500:], initial_state=between)
    np.testing.assert_array_equal(ops.convert_to_numpy(final), ops.convert_to_numpy(end))
    pieces = [ops.convert_to_numpy(ops.cast(each, "float32")) for each in (first, second)]
    np.testing.assert_array_equal(
        np.concatenate(pieces, axis=1), ops.convert_to_numpy(ops.cast(whole, "float32"))
    )


def test_half_precision_rates_are_summed_as_they_are(rng):
    rates = ops.cast(rng.uniform(0, 300, size=(2, 100, 4)), "bfloat16")
    voltage = rng.uniform(size=(2, 4)).astype("float32")
    layer = SpikingActivation("linear", dt=0.01, dtype="mixed_bfloat16")
    exact = ops.convert_to_numpy(ops.cast(rates, "float32"))
    spikes = ops.convert_to_numpy(ops.cast(layer(rates, initial_state=voltage), "float32"))
    expected, _ = reference.integrate_and_fire(exact, 0.01, voltage)
    assert np.mean(np.abs(spikes - expected) > 0.005 * expected) < 0.01


def voltages(layer, shape=(4, 3, 50), calls=2):
    layer.build(shape)
    found = []
    for _ in range(calls):
        (voltage,) = layer.cell.get_initial_state(batch_size=shape[0])
        found.append(ops.convert_to_numpy(voltage))
    return found


def test_random_initial_voltage_is_fresh_or_seeded():
    fresh = voltages(SpikingActivation("relu"))
    assert not np.array_equal(*fresh)
    seeded = voltages(SpikingActivation("relu", seed=7))
    np.testing.assert_array_equal(*seeded)
    np.testing.assert_array_equal(voltages(SpikingActivation("relu", seed=7))[0], seeded[0])
    assert not np.array_equal(voltages(SpikingActivation("relu", seed=8))[0], seeded[0])
    for voltage in (*fresh, seeded[0]):
        assert voltage.min() >= 0
        assert voltage.max() < 1
        assert 0.4 < voltage.mean() < 0.6
        np.testing.assert_array_equal(voltage * 2**23, np.round(voltage * 2**23))


def test_unseeded_layers_repeat_under_the_same_global_seed(rng):
    inputs = rng.normal(size=(2, 9, 3)).astype("float32")
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((9, 3)), SpikingActivation("relu", dt=0.3)])
        found.append([model.predict(inputs, verbose=0) for _ in range(2)])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0][0], found[0][1])


def test_initial_voltage_may_be_a_number_an_array_or_an_initializer(tmp_path):
    per_unit = np.linspace(0, 0.9, 50)
    per_sample = np.tile(per_unit, (4, 1)) * np.linspace(0.1, 1, 4)[:, None]
    given_voltages = {
        "number": (0.25, 0.25),
        "array": (per_unit, per_unit),
        "list": (per_unit.tolist(), per_unit),
        "per sample": (per_sample, per_sample),
        "initializer": (keras.initializers.Constant(0.75), 0.75),
        "name": ("zeros", 0.0),
    }
    for name, (given_voltage, expected) in given_voltages.items():
        layer = SpikingActivation("relu", initial_voltage=given_voltage)
        (voltage,) = voltages(layer, calls=1)
        np.testing.assert_allclose(voltage, np.broadcast_to(expected, (4, 50)), rtol=1e-6)
        config = json.loads(json.dumps(layer.get_config()))
        (again,) = voltages(SpikingActivation.from_config(config), calls=1)
        np.testing.assert_array_equal(again, voltage, err_msg=name)


def test_activation_sees_each_step_on_its_own(rng):
    inputs = rng.normal(size=(2, 5, 3, 4)).astype("float32")

    @keras.saving.register_keras_serializable("tests")
    def over_first_feature_axis(x):
        return ops.softmax(x, axis=1)

    layer = SpikingActivation(over_first_feature_axis, dt=1000.0)
    shifted = np.exp(inputs - inputs.max(axis=2, keepdims=True))
    expected = shifted / shifted.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(run(layer, inputs), expected, atol=2e-3)


def test_activation_may_be_a_layer_whose_weights_train(rng, tmp_path):
    inputs = rng.normal(size=(8, 6, 3)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            SpikingActivation(keras.layers.PReLU(alpha_initializer="ones"), dt=0.1, seed=0),
        ]
    )
    assert [tuple(weight.shape) for weight in model.trainable_weights] == [(3,)]
    model.compile("sgd", "mse")
    model.fit(inputs, np.zeros_like(inputs), verbose=0)
    slope = model.get_weights()[0]
    assert not np.array_equal(slope, np.ones(3))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], slope)
    np.testing.assert_array_equal(
        loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    )


def test_frozen_layer_does_not_train(rng):
    inputs = rng.normal(size=(2, 6, 3)).astype("float32")
    layer = SpikingActivation(keras.layers.PReLU(), trainable=False)
    layer.build(inputs.shape)
    assert layer.trainable_weights == []


BAD_ARGUMENTS = [
    ({"activation": "rleu"}, ValueError, "`activation` must be the name of a Keras activation"),
    ({"activation": 3}, ValueError, "`activation` must be .* received activation=3"),
    ({"dt": 0}, ValueError, "`dt` must be a positive, finite number of seconds .* dt=0"),
    ({"dt": -1}, ValueError, "`dt` must be a positive, finite number of seconds .* dt=-1"),
    ({"dt": float("nan")}, ValueError, "`dt` must be finite; received dt=nan"),
    ({"dt": float("inf")}, ValueError, "`dt` must be finite; received dt=inf"),
    ({"dt": "0.1"}, TypeError, "`dt` must be .* received dt='0.1' of type str"),
    ({"dt": True}, TypeError, "`dt` must be .* of type bool"),
    ({"dt": np.ones(2)}, TypeError, "`dt` must be .* of type ndarray"),
    ({"seed": 1.5}, TypeError, "`seed` must be an integer or None; received seed=1.5"),
    ({"seed": -1}, ValueError, r"`seed` must be at least 0 and below 2\*\*32; received seed=-1"),
    ({"seed": True}, TypeError, "`seed` must be an integer or None"),
    ({"spiking_aware_training": 1}, TypeError, "`spiking_aware_training` must be True or False"),
    ({"initial_voltage": 1.0}, ValueError, "`initial_voltage` must be at least 0 and less than 1"),
    ({"initial_voltage": [0.5, -0.1]}, ValueError, "`initial_voltage` must be at least 0"),
    ({"initial_voltage": np.nan}, ValueError, "`initial_voltage` must be at least 0"),
    ({"initial_voltage": "random"}, ValueError, "`initial_voltage` must be .*Keras initializer"),
    ({"initial_voltage": True}, TypeError, "`initial_voltage` must be .* of type bool"),
    ({"initial_voltage": None}, TypeError, "`initial_voltage` must be .* of type NoneType"),
    ({"rate_scale": 0}, ValueError, "`rate_scale` must be a number, positive and .* rate_scale=0"),
    ({"rate_scale": np.inf}, ValueError, "`rate_scale` must be finite; received rate_scale=inf"),
    ({"dt": 1e-20, "rate_scale": 1e-20}, ValueError, r"`dt \* rate_scale` must be .* received"),
    ({"rate_scale": [1, None]}, TypeError, "`rate_scale` must be a number; received .* NoneType"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), BAD_ARGUMENTS, ids=str)
def test_wrong_arguments_raise_where_they_are_given(arguments, error, words):
    arguments = {"activation": "relu", **arguments}
    with pytest.raises(error, match=f"^SpikingActivation: {words}"):
        SpikingActivation(**arguments)
    with pytest.raises(error, match=f"^SpikingActivationCell: {words}"):
        SpikingActivationCell(3, **arguments)


def test_a_dt_variable_must_be_one_positive_float():
    with pytest.raises(ValueError, match=r"`dt` must be .* variable of shape \(2,\)"):
        SpikingActivation("relu", dt=keras.Variable([0.1, 0.2]))
    with pytest.raises(TypeError, match=r"`dt` must be .* of a float type; .* dtype int32"):
        SpikingActivation("relu", dt=keras.Variable(1, dtype="int32", trainable=False))
    for value in (0.0, -0.5):
        with pytest.raises(ValueError, match="`dt` must be a positive, finite number"):
            SpikingActivation("relu", dt=keras.Variable(value))


def test_initial_voltage_must_fit_the_inputs(rng):
    words = r"`initial_voltage` must broadcast to one step of the inputs, \(2, 4\); .* \(3,\)"
    with pytest.raises(ValueError, match=words):
        SpikingActivation("relu", initial_voltage=[0.1, 0.2, 0.3]).build((2, 5, 4))
    words = r"`initial_voltage` must broadcast .*, \(2, 4\); received shape \(3, 4\)"
    with pytest.raises(ValueError, match=words):
        SpikingActivation("relu", initial_voltage=np.zeros((3, 4)))(np.zeros((2, 5, 4)))


def test_activation_must_keep_the_shape():
    with pytest.raises(ValueError, match="`activation` must keep the shape of its input"):
        SpikingActivation(keras.layers.Dense(7))(np.zeros((2, 5, 4)))


def test_arguments_are_keywords():
    with pytest.raises(TypeError, match="positional argument"):
        SpikingActivation("relu", 0.1)


def test_names_are_those_of_the_old_library():
    layer = SpikingActivation("relu", dt=0.01, seed=1, spiking_aware_training=False)
    assert (layer.dt, layer.seed, layer.spiking_aware_training) == (0.01, 1, False)
    assert isinstance(layer, keras_spiking.layers.KerasSpikingLayer)
    assert layer.activation is keras.activations.relu


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"integrate": "input"}, {"negative_spikes": False}], ids=str
)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_features_of_unknown_size_may_have_any(activation, options, rng, tmp_path):
    def layer():
        return SpikingActivation(activation, dt=0.3, initial_voltage=0.25, **options)

    unknown = keras.Input((None, None, None, 2))
    model = keras.Model(unknown, layer()(unknown))
    assert model.output_shape == (None, None, None, None, 2)
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        for shape in ((2, 7, 4, 3, 2), (1, 5, 1, 6, 2)):
            inputs = (rng.normal(size=shape) * 4).astype("float32")
            np.testing.assert_array_equal(each.predict(inputs, verbose=0), run(layer(), inputs))
    convolution = keras_spiking.TimeBatched(keras.layers.Conv2D(2, 1))
    trained = keras.Model(unknown, layer()(convolution(unknown)))
    trained.compile("sgd", "mse")
    assert np.isfinite(trained.fit(inputs, inputs, verbose=0).history["loss"]).all()


def test_voltages_that_fit_no_features_are_refused_when_these_are_known():
    layer = SpikingActivation("relu", initial_voltage=[0.1, 0.2, 0.3])
    layer.build((None, None, None))
    assert run(layer, np.zeros((2, 4, 3), "float32")).shape == (2, 4, 3)
    with pytest.raises(ValueError, match=r"must broadcast to one step of the inputs, \(2, 4\)"):
        layer(np.zeros((2, 4, 4), "float32"))
