"""Time constants stay where a filter can learn, whatever steps an optimizer takes."""

import keras
import numpy as np
import pytest

import keras_spiking
from tests import reference
from tests.compiled import BACKEND

DT = 0.001
FILTERS = {
    "lowpass": (keras_spiking.Lowpass, keras_spiking.LowpassCell, reference.lowpass),
    "alpha": (keras_spiking.Alpha, keras_spiking.AlphaCell, reference.alpha),
}
UNITS = 3
# How `fit` may run.
MODES = {
    "tensorflow": [{"jit_compile": False}, {"jit_compile": True}, {"run_eagerly": True}],
    "jax": [{"jit_compile": True}, {"run_eagerly": True}],
    "torch": [{}],
}[BACKEND]

every_filter = pytest.mark.parametrize("name", FILTERS)


def weights_of(name, value):
    return np.full((UNITS,) if name == "alpha" else (1, UNITS), value, "float32")


def filtered(name, inputs, tau):
    level, tau = weights_of(name, 0.0), weights_of(name, tau)
    return FILTERS[name][2](inputs, DT, tau, level)[0].astype("float32")


def noise(steps=50):
    return np.random.default_rng(1).normal(size=(8, steps, UNITS)).astype("float32")


def model_of(layer, optimizer=None, **mode):
    model = keras.Sequential([keras.Input((None, UNITS)), layer])
    model.compile(optimizer or keras.optimizers.Adam(), "mse", **mode)
    return model


def train(model, inputs, targets, steps):
    """Takes that many steps, all on the same batch, and returns tau."""
    repeat = [np.tile(each, (steps, 1, 1)) for each in (inputs, targets)]
    model.fit(*repeat, batch_size=len(inputs), shuffle=False, verbose=0)
    return tau_of(model)


def tau_of(model):
    (tau,) = (weight for weight in model.weights if weight.name == "tau")
    return keras.ops.convert_to_numpy(tau)


def set_tau(model, value):
    (tau,) = (weight for weight in model.weights if weight.name == "tau")
    tau.assign(np.full(tau.shape, value))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=str)
@every_filter
def test_a_filter_that_learned_to_do_nothing_learns_again(name, mode):
    inputs = noise()
    model = model_of(FILTERS[name][0](0.005, dt=DT), **mode)
    steps = 20 if name == "lowpass" else 40
    np.testing.assert_allclose(train(model, inputs, inputs, steps), DT / 10, rtol=1e-6)
    targets = filtered(name, inputs, 0.02)
    assert train(model, inputs, targets, 40).min() > 0.006
    if "run_eagerly" not in mode:
        # Adam itself is slow for long after gradients as steep as those at short time constants.
        model.compile(keras.optimizers.Adam(), "mse", **mode)
        np.testing.assert_allclose(train(model, inputs, targets, 200), 0.02, rtol=0.05)


@pytest.mark.slow
@every_filter
def test_a_cell_in_keras_rnn_learns_again(name):
    inputs = noise(20)
    rnn = keras.layers.RNN(FILTERS[name][1](UNITS, 0.005, dt=DT), return_sequences=True)
    model = model_of(rnn, keras.optimizers.Adam(0.002))
    np.testing.assert_allclose(train(model, inputs, inputs, 20), DT / 10, rtol=1e-6)
    tau = train(model, inputs, filtered(name, inputs, 0.02), 20)
    assert tau.min() > 0.005


@every_filter
def test_the_shortest_trained_filter_passes_its_input_through(name):
    inputs = noise()
    error = np.abs(filtered(name, inputs, DT / 10) - inputs).max()
    error /= np.ptp(inputs)
    assert error < (5e-5 if name == "lowpass" else 5e-4)


@pytest.mark.slow
@every_filter
def test_the_users_constraint_comes_first_and_is_what_shows(name):
    mean = keras_spiking.constraints.Mean()
    layer = FILTERS[name][0](0.005, dt=DT, tau_constraint=mean)
    model = model_of(layer, keras.optimizers.SGD(0.0))
    assert layer.cell.tau_constraint is mean
    level, tau = model.get_weights()
    tau[...] = [0.001, 0.002, 0.006]
    model.set_weights([level, tau])
    inputs = noise()
    np.testing.assert_allclose(train(model, inputs, inputs, 1), 0.003, rtol=1e-6)
    tau[...] = [0.01, -0.04, -0.06]
    model.set_weights([level, tau])
    np.testing.assert_allclose(train(model, inputs, inputs, 1), DT / 10, rtol=1e-6)

    plain = FILTERS[name][0](0.005, dt=DT)
    model_of(plain)
    assert plain.tau_constraint is None
    assert plain.cell.tau_constraint is None
    assert plain.get_config()["tau_constraint"] is None


@pytest.mark.slow
@every_filter
def test_with_a_variable_dt_only_what_is_not_positive_is_put_back(name):
    dt = keras.Variable(0.01)
    model = model_of(FILTERS[name][0](0.005, dt=dt), keras.optimizers.SGD(0.0))
    inputs = noise()
    dt.assign(1.0)
    for tau in (1e-6, 0.005, 0.5):
        set_tau(model, tau)
        np.testing.assert_allclose(train(model, inputs, inputs, 1), tau, rtol=1e-6)
    # The optimizer cannot see a variable that changes on JAX: it takes what it was at first.
    expected = 0.001 if BACKEND == "jax" else 0.1
    for tau in (0.0, -0.5):
        set_tau(model, tau)
        np.testing.assert_allclose(train(model, inputs, inputs, 1), expected, rtol=1e-6)


@pytest.mark.slow
@every_filter
def test_a_schedule_of_dt_does_not_move_the_time_constants_that_are_short_beside_it(name):
    dt = keras.Variable(1.0)
    model = model_of(FILTERS[name][0](0.005, dt=dt), keras.optimizers.SGD(0.0))
    inputs = np.tile(noise(), (4, 1, 1))
    schedule = keras_spiking.callbacks.DtScheduler(dt, lambda step: 0.1**step)
    model.fit(inputs, inputs, batch_size=8, callbacks=[schedule], verbose=0)
    np.testing.assert_allclose(tau_of(model), 0.005, rtol=1e-6)


@pytest.mark.slow
@every_filter
def test_what_does_not_train_keeps_any_tau(name):
    dense = keras.layers.Dense(UNITS)
    for argument in ({"trainable": False}, {"apply_during_training": False}):
        layer = FILTERS[name][0](0.005, dt=DT, **argument)
        model = keras.Sequential([keras.Input((None, UNITS)), dense, layer])
        model.compile(keras.optimizers.Adam(), "mse")
        set_tau(model, -1.0)
        inputs = noise()
        np.testing.assert_array_equal(train(model, inputs, inputs, 2), weights_of(name, -1.0))


@pytest.mark.slow
@every_filter
def test_what_is_no_number_is_not_hidden(name):
    model = model_of(FILTERS[name][0](0.005, dt=DT), keras.optimizers.SGD(0.1))
    inputs = noise()
    inputs[0, 0, 0] = np.nan
    assert np.isnan(train(model, inputs, inputs, 1)).any()


@pytest.mark.slow
@pytest.mark.parametrize("dt", [1e-9, 1.0])
@every_filter
def test_where_tau_is_put_back_it_has_a_gradient(name, dt):
    model = model_of(FILTERS[name][0](dt, dt=dt), keras.optimizers.SGD(0.0))
    set_tau(model, -1.0)
    inputs = noise()
    train(model, inputs, inputs, 1)
    before = tau_of(model)
    model.compile(keras.optimizers.Adam(dt / 100, epsilon=1e-30), "mse")
    assert (train(model, inputs, np.zeros_like(inputs), 2) > before).all()
