"""Gradients of every layer in float64 beside finite differences of the oracle, on every kernel."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import erf

import keras_spiking
from tests import reference
from tests.compiled import QUICK, SETTINGS, double_precision, finite_differences, gradients

DT = 0.02
STEP = 3e-6  # of the differences
TAU = np.array([0.02, 0.05, 0.4])
LEVEL = np.array([0.5, -1.0, 2.0])
MASK = np.array([[True, True, False, True, True, False], [False, True, True, True, False, True]])
FILTERS = {
    "lowpass": (keras_spiking.Lowpass, reference.lowpass, (1, 3)),
    "alpha": (keras_spiking.Alpha, reference.alpha, (3,)),
}


@pytest.fixture(autouse=True)
def in_float64():
    with double_precision():
        yield


def close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert np.asarray(one).dtype == "float64"
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7 * np.abs(other).max())


@pytest.mark.parametrize("masked", [False, True], ids=["all steps", "masked"])
@pytest.mark.parametrize("sequences", [True, False], ids=["sequence", "last output"])
@pytest.mark.parametrize("name", FILTERS)
def test_filter_from_its_initial_level(name, sequences, masked, rng):
    layer_class, oracle, shape = FILTERS[name]
    mask = MASK if masked else None
    layer = layer_class(0.1, dt=DT, return_sequences=sequences, return_state=True, dtype="float64")
    x = rng.normal(size=(2, 6, 3))
    layer.build(x.shape)
    level, tau = LEVEL.reshape(shape), TAU.reshape(shape)
    expected, final = oracle(x, DT, tau, level, mask)
    expected = expected if sequences else expected[:, -1]
    weights, state_weights = rng.normal(size=expected.shape), rng.normal(size=final.shape)

    def loss(x, level, tau):
        pairs = list(zip(layer.trainable_variables, [level, tau], strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            outputs, state = layer(x, training=True, mask=mask)
        return ops.sum(outputs * ops.array(weights)) + ops.sum(state * ops.array(state_weights))

    def expected_loss(x, level, tau):
        outputs, state = oracle(x, DT, tau, level, mask)
        outputs = outputs if sequences else outputs[:, -1]
        return np.sum(outputs * weights) + np.sum(state * state_weights)

    arrays = [x, level, tau]
    expected = [finite_differences(expected_loss, arrays, index, STEP) for index in range(3)]
    for kernels in SETTINGS:
        keras_spiking.config.set_kernels(kernels)
        close(gradients(loss, *arrays, mode=QUICK), expected)


def oracle_from_state(name, x, tau, state):
    if name == "lowpass":
        return reference.lowpass(x, DT, tau, state)
    return reference.alpha(x, DT, tau, None, state=state)


@pytest.mark.parametrize("name", FILTERS)
def test_filter_from_a_given_state(name, rng):
    layer_class, _, shape = FILTERS[name]
    layer = layer_class(0.1, dt=DT, dtype="float64")
    x, tau = rng.normal(size=(2, 6, 3)), TAU.reshape(shape)
    layer.build(x.shape)
    state = rng.normal(size=(2, *layer.cell.state_shapes[0]))
    weights = rng.normal(size=x.shape)

    def loss(x, level, tau, state):
        pairs = list(zip(layer.trainable_variables, [level, tau], strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            outputs = layer(x, initial_state=state, training=True)
        return ops.sum(outputs * ops.array(weights))

    def expected_loss(x, tau, state):
        return np.sum(oracle_from_state(name, x, tau, state)[0] * weights)

    arrays = [x, tau, state]
    expected = [finite_differences(expected_loss, arrays, index, STEP) for index in range(3)]
    for kernels in SETTINGS:
        keras_spiking.config.set_kernels(kernels)
        for_x, for_level, *others = gradients(loss, x, LEVEL.reshape(shape), tau, state, mode=QUICK)
        close([for_x, *others], expected)
        np.testing.assert_array_equal(for_level, np.zeros(shape))


def exact_gelu(x):
    return keras.activations.gelu(x, approximate=False)


ACTIVATIONS = {
    "softplus": (keras.activations.softplus, lambda x: np.log1p(np.exp(x))),
    "gelu": (exact_gelu, lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))),
}


@pytest.mark.parametrize("masked", [False, True], ids=["all steps", "masked"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_spikes_pass_the_gradient_of_the_activation(name, masked, rng):
    # Not that of the spikes, a staircase, whose gradient is zero wherever it has one.
    activation, oracle = ACTIVATIONS[name]
    mask = MASK if masked else None
    layer = keras_spiking.SpikingActivation(
        activation, dt=0.3, rate_scale=2.0, return_state=True, dtype="float64"
    )
    x = rng.normal(size=(2, 6, 3))
    weights, voltage = rng.normal(size=x.shape), rng.uniform(size=(2, 3))
    layer.build(x.shape)

    def loss(x, voltage):
        spikes, final = layer(x, initial_state=voltage, training=True, mask=mask)
        return ops.sum(spikes * ops.array(weights)) + ops.sum(final)

    def expected_loss(x):
        return np.sum(oracle(x) * weights * (1.0 if mask is None else mask[..., None]))

    expected = finite_differences(expected_loss, [x], 0, STEP)
    for kernels in SETTINGS:
        keras_spiking.config.set_kernels(kernels)
        for_x, for_voltage = gradients(loss, x, voltage, mode=QUICK)
        close([for_x], [expected])
        np.testing.assert_array_equal(for_voltage, np.zeros_like(voltage))
