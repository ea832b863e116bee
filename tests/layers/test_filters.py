"""Lowpass and Alpha: what they compute, how they train, what they refuse."""

import json
import pathlib

import keras
import numpy as np
import pytest
import scipy.signal
from keras import ops

from keras_spiking import Alpha, AlphaCell, Lowpass, LowpassCell
from tests import reference
from tests.compiled import MODES, QUICK, finite_differences, gradients
from tests.layers.cases import run

FOLDER = pathlib.Path(__file__).parents[1] / "data"
FILTERS = {"lowpass": (Lowpass, LowpassCell), "alpha": (Alpha, AlphaCell)}
ORACLES = {"lowpass": reference.lowpass, "alpha": reference.alpha}
OLD = [
    (name, index, options)
    for name in FILTERS
    for index, options in enumerate(
        json.loads(str(np.load(FOLDER / f"{name}.npz")["cases"])),
    )
]

every_filter = pytest.mark.parametrize("name", FILTERS)


def make(name, *args, **kwargs):
    return FILTERS[name][0](*args, **kwargs)


def close(actual, expected, tolerance=1e-5):
    scale = np.abs(expected).max()
    assert np.abs(np.asarray(actual, "float64") - expected).max() <= tolerance * scale


def trainable_function(layer):
    """The layer as a function of its inputs, initial level and tau."""

    def function(x, level, tau):
        pairs = list(zip(layer.trainable_variables, [level, tau], strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            return layer(x, training=True)

    return function


@pytest.mark.parametrize(("name", "index", "options"), OLD, ids=str)
def test_equals_the_old_library(name, index, options):
    data = {
        key.partition(".")[2]: value
        for key, value in np.load(FOLDER / f"{name}.npz").items()
        if key.startswith(f"{index}.")
    }
    layer = make(name, 0.1, dt=options["dt"], return_state=True)
    layer.build(data["inputs"].shape)
    layer.set_weights([data["initial_level"], data["tau"]])
    outputs, state = run(layer, data["inputs"])
    close(outputs, data["outputs"])
    close(state, data["final_state"])

    layer = make(name, 0.1, dt=options["dt"])
    layer.build(data["inputs"].shape)
    function, weights = trainable_function(layer), ops.array(data["loss_weights"])
    got = gradients(
        lambda *args: ops.sum(function(*args) * weights),
        data["inputs"],
        data["initial_level"],
        data["tau"],
        mode=QUICK,
    )
    for gradient, key in zip(got, ["inputs", "initial_level", "tau"], strict=True):
        close(gradient, data[f"grad_{key}"], 2e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dt", [0.001, 0.02, 3.0])
@every_filter
def test_equals_a_float64_loop_with_its_gradients(name, dt, mode, rng):
    layer = make(name, 0.1, dt=dt)
    inputs = rng.normal(size=(2, 20, 2, 2)).astype("float32")
    layer.build(inputs.shape)
    level_shape, tau_shape = (tuple(weight.shape) for weight in layer.weights)
    level = rng.normal(size=level_shape).astype("float32")
    tau = rng.uniform(0.01, 0.5, size=tau_shape).astype("float32")
    weights = rng.normal(size=inputs.shape).astype("float32")
    layer.set_weights([level, tau])
    close(run(layer, inputs), ORACLES[name](inputs, dt, tau, level)[0], 2e-6)

    function, factors = trainable_function(layer), ops.array(weights)
    arrays = [inputs, level, tau]
    got = gradients(lambda *args: ops.sum(function(*args) * factors), *arrays, mode=mode)

    def loss(inputs, level, tau):
        return np.sum(ORACLES[name](inputs, dt, tau, level)[0] * weights)

    for index in (1, 2):
        close(got[index], finite_differences(loss, arrays, index, 1e-5), 1e-3)
    if mode == MODES[0]:
        close(got[0], finite_differences(loss, arrays, 0, 1e-4), 1e-3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("time_major", [False, True])
@every_filter
def test_the_last_output_alone_equals_a_float64_loop_with_its_gradients(
    name, time_major, mode, rng
):
    # One time constant is so short that its decay's reciprocal would be infinite.
    inputs = rng.normal(size=(2, 5, 2)).astype("float32")
    tau, level = np.array([1e-3, 0.3]), np.array([0.5, -0.2])
    layer = make(name, 0.1, dt=0.1, return_sequences=False, return_state=True)
    layer = make(
        name, 0.1, dt=0.1, return_sequences=False, return_state=True, time_major=time_major
    )
    swapped = np.swapaxes(inputs, 0, 1) if time_major else inputs
    layer.build(swapped.shape)
    shape = tuple(layer.weights[0].shape)
    level, tau = (each.reshape(shape).astype("float32") for each in (level, tau))
    layer.set_weights([level, tau])
    expected, final = ORACLES[name](inputs, 0.1, tau, level)
    outputs, state = run(layer, swapped)
    close(outputs, expected[:, -1], 2e-6)
    close(state, final, 2e-6)

    function, weights = trainable_function(layer), rng.normal(size=outputs.shape)
    factors = ops.array(weights.astype("float32"))
    for_inputs, *for_weights = gradients(
        lambda *args: ops.sum(function(*args)[0] * factors), swapped, level, tau, mode=mode
    )
    got = [np.swapaxes(for_inputs, 0, 1) if time_major else for_inputs, *for_weights]

    def loss(inputs, level, tau):
        return np.sum(ORACLES[name](inputs, 0.1, tau, level)[0][:, -1] * weights)

    for index in range(3):
        close(got[index], finite_differences(loss, [inputs, level, tau], index, 1e-5), 1e-3)


@every_filter
def test_impulse_response_is_that_of_the_transfer_function(name):
    tau, dt, steps = 0.05, 0.001, 400
    system = {"lowpass": ([1], [tau, 1]), "alpha": ([1], [tau**2, 2 * tau, 1])}[name]
    impulse = np.zeros((1, steps, 1))
    impulse[0, 0] = 1
    step_response = run(make(name, tau, dt=dt), np.ones((1, steps, 1)))[0, :, 0]
    _, expected = scipy.signal.step(system, T=np.arange(1, steps + 1) * dt)
    # scipy starts at its first time point, ours one step earlier, at zero.
    _, expected = scipy.signal.step(system, T=np.arange(steps + 1) * dt)
    close(step_response, expected[1:], 1e-5)
    response = run(make(name, tau, dt=dt), impulse)[0, :, 0]
    close(response, np.diff(expected), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0, 10.0])
@every_filter
def test_error_stays_small_over_10000_steps(name, tau, rng):
    inputs = rng.uniform(size=(1, 10_000, 2)).astype("float32")
    outputs = run(make(name, tau, dt=0.001), inputs)
    last = run(make(name, tau, dt=0.001, return_sequences=False), inputs)
    decay = np.exp(-0.001 / tau)
    expected = inputs.astype("float64")
    if name == "lowpass":
        expected = scipy.signal.lfilter([1 - decay], [1, -decay], expected, axis=1)
    else:
        ratio = 0.001 / tau
        gain, other = 1 - decay * (1 + ratio), decay * (decay + ratio - 1)
        expected = scipy.signal.lfilter([gain, other], [1, -2 * decay, decay**2], expected, axis=1)
    close(outputs, expected, 1e-5)
    close(last, expected[:, -1], 1e-5)


@pytest.mark.slow
@every_filter
def test_unit_gain_and_linear(name, rng):
    layer = make(name, 0.02, dt=0.001)
    x, y = rng.normal(size=(2, 2, 30, 3)).astype("float32")
    close(run(layer, 2 * x - 3 * y), 2 * run(layer, x) - 3 * run(layer, y), 1e-5)
    close(run(layer, np.ones((1, 2000, 3)))[:, -1], np.ones((1, 3)), 1e-6)


@pytest.mark.parametrize("tau", [1e-12, 1e-8, 1e-4, 1e4, 1e12])
@pytest.mark.parametrize("dt", [1e-9, 1e-3, 1e9])
@every_filter
def test_extreme_time_constants_stay_finite(name, dt, tau, rng):
    inputs = rng.normal(size=(2, 20, 3)).astype("float32")
    layer = make(name, tau, dt=dt, return_state=True, level_initializer=0.5)
    outputs, state = run(layer, inputs)
    assert np.isfinite(outputs).all()
    assert np.isfinite(state).all()
    assert np.abs(outputs).max() <= np.abs(inputs).max() * 1.001
    if dt > 1e3 * tau:
        close(outputs, inputs, 1e-5)


@every_filter
def test_tau_below_the_shortest_passes_the_input_through(name, rng):
    inputs = rng.normal(size=(2, 5, 3)).astype("float32")
    layer = make(name, keras.initializers.Constant(-1.0), dt=0.001)
    close(run(layer, inputs), inputs, 1e-6)


def test_weights_are_initial_level_and_tau():
    layer = Lowpass(0.1)
    layer.build((None, None, 2, 3))
    assert [weight.name for weight in layer.weights] == ["initial_level", "tau"]
    assert [tuple(weight.shape) for weight in layer.weights] == [(1, 2, 3)] * 2
    layer = Alpha(0.1)
    layer.build((None, None, 2, 3))
    assert [weight.name for weight in layer.weights] == ["initial_level", "tau"]
    assert [tuple(weight.shape) for weight in layer.weights] == [(6,)] * 2
    assert [tuple(shape) for shape in layer.cell.state_shapes] == [(2, 6)]


@every_filter
def test_weights_train_only_if_the_filter_works_in_training(name, rng):
    inputs = rng.normal(size=(2, 9, 3)).astype("float32")
    applied = make(name, 0.1, dt=0.1)
    bypassed = make(name, 0.1, dt=0.1, apply_during_training=False)
    for layer in (applied, bypassed):
        layer.build(inputs.shape)
    assert len(applied.trainable_weights) == 2
    assert len(bypassed.trainable_weights) == 0
    assert len(bypassed.non_trainable_weights) == 2
    np.testing.assert_array_equal(run(bypassed, inputs, training=True), inputs)
    expected = run(applied, inputs, training=True)
    np.testing.assert_array_equal(run(bypassed, inputs, training=False), expected)
    np.testing.assert_array_equal(run(applied, inputs, training=False), expected)


@every_filter
def test_bypassed_filter_keeps_state_and_repeats_masked_steps(name, rng):
    inputs = rng.normal(size=(1, 4, 3)).astype("float32")
    mask = np.array([[False, True, False, True]])
    layer = make(name, 0.1, apply_during_training=False, level_initializer=0.25, return_state=True)
    layer.build(inputs.shape)
    outputs, state = run(layer, inputs, mask=mask, training=True)
    expected = np.stack([np.full(3, 0.25), inputs[0, 1], inputs[0, 1], inputs[0, 3]])
    np.testing.assert_array_equal(outputs[0], expected.astype("float32"))
    (start,) = layer.cell.get_initial_state(batch_size=1)
    np.testing.assert_array_equal(state, ops.convert_to_numpy(start))


@pytest.mark.slow
@every_filter
def test_initializers_and_constraints_are_used_and_saved(name, rng):
    layer = make(
        name,
        keras.initializers.RandomUniform(0.01, 0.2, seed=1),
        level_initializer="ones",
        initial_level_constraint=keras.constraints.MaxNorm(0.5, axis=None),
        tau_constraint="non_neg",
        dt=0.1,
    )
    inputs = rng.normal(size=(4, 9, 30)).astype("float32")
    model = keras.Sequential([keras.Input((None, 30)), layer])
    level, tau = model.get_weights()
    np.testing.assert_array_equal(level, np.ones_like(level))
    assert tau.min() >= 0.01
    assert tau.max() <= 0.2
    assert tau.std() > 0.01
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(inputs, np.zeros_like(inputs), verbose=0)
    level, tau = model.get_weights()
    assert np.linalg.norm(level) <= 0.5001
    assert tau.min() >= 0
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert isinstance(copy.tau_constraint, keras.constraints.NonNeg)
    assert copy.tau_initializer.seed == 1


BAD_ARGUMENTS = [
    ({"tau_initializer": 0}, ValueError, "`tau_initializer` must be .*, positive .*=0"),
    ({"tau_initializer": -0.1}, ValueError, "`tau_initializer` must be .*, positive .*=-0.1"),
    ({"tau_initializer": np.inf}, ValueError, "`tau_initializer` must be finite"),
    ({"tau_initializer": "slow"}, ValueError, "`tau_initializer` must be .*='slow'"),
    ({"tau_initializer": None}, TypeError, "`tau_initializer` must be .* of type NoneType"),
    ({"dt": -1}, ValueError, "`dt` must be a positive, finite number of seconds .* dt=-1"),
    ({"apply_during_training": "no"}, TypeError, "`apply_during_training` must be True or False"),
    ({"level_initializer": "high"}, ValueError, "`level_initializer` must be .*='high'"),
    ({"level_initializer": np.nan}, ValueError, "`level_initializer` must be finite"),
    ({"tau_constraint": "none"}, ValueError, "`tau_constraint` must be .*='none'"),
    ({"initial_level_constraint": 3}, ValueError, "`initial_level_constraint` must be .*=3"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), BAD_ARGUMENTS, ids=str)
@every_filter
def test_wrong_arguments_raise_where_they_are_given(name, arguments, error, words):
    layer, cell = FILTERS[name]
    arguments = {"tau_initializer": 0.1, **arguments}
    with pytest.raises(error, match=f"^{layer.__name__}: {words}"):
        layer(**arguments)
    with pytest.raises(error, match=f"^{cell.__name__}: {words}"):
        cell(3, **arguments)
