"""Gradient penalties through every layer, beside finite differences in float64."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests import reference
from tests.compiled import MODES, QUICK, SETTINGS, finite_differences, gradients, slope

DT = 0.02
STEP = 1e-5  # of the differences
TAU = np.array([0.02, 0.05, 0.4], "float32")
LEVEL = np.array([0.5, -1.0, 2.0], "float32")
FILTERS = {
    "lowpass": (keras_spiking.Lowpass, reference.lowpass, (1, 3)),
    "alpha": (keras_spiking.Alpha, reference.alpha, (3,)),
}
every_mode = pytest.mark.parametrize("mode", MODES)


def penalty_of_a_filter(oracle, weights):
    """Squares of the slopes in the inputs of the weighted squares of a filter's outputs."""

    def penalty(x, level, tau):
        outputs, _ = oracle(x, DT, tau, level)
        impulses = np.broadcast_to(np.eye(x.shape[1])[..., None], (*x.shape[1:2] * 2, 3))
        responses, _ = oracle(impulses, DT, tau, 0 * level)
        slopes = np.einsum("btu,stu->bsu", 2 * weights * outputs, responses)
        return np.sum(slopes**2)

    return penalty


@pytest.mark.parametrize(
    ("mode", "kernels"),
    [
        *((mode, "native") for mode in MODES),
        *((QUICK, each) for each in SETTINGS if each != "native"),
    ],
)
@pytest.mark.parametrize("sequences", [True, False], ids=["sequence", "last output"])
@pytest.mark.parametrize("name", FILTERS)
def test_a_penalty_on_a_filter_trains_its_weights(name, sequences, kernels, mode, rng):
    keras_spiking.config.set_kernels(kernels)
    layer_class, oracle, shape = FILTERS[name]
    layer = layer_class(0.1, dt=DT, return_sequences=sequences)
    x = rng.normal(size=(2, 4, 3)).astype("float32")
    layer.build(x.shape)
    weights = rng.uniform(size=x.shape).astype("float32")
    if not sequences:
        weights[:, :-1] = 0
    factors = ops.array(weights if sequences else weights[:, -1])

    def loss(x, level, tau):
        pairs = list(zip(layer.trainable_variables, [level, tau], strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            return ops.sum(factors * layer(x, training=True) ** 2)

    def penalty(*tensors):
        return ops.sum(slope(loss, tensors) ** 2)

    def both(*tensors):
        return penalty(*tensors) + loss(*tensors)

    def expected_loss(x, level, tau):
        return np.sum(weights * oracle(x, DT, tau, level)[0] ** 2)

    arrays = [x, LEVEL.reshape(shape), TAU.reshape(shape)]
    expected_penalty = penalty_of_a_filter(oracle, weights)
    alone, together = (gradients(each, *arrays, mode=mode) for each in (penalty, both))
    for index in range(3):
        expected = finite_differences(expected_penalty, arrays, index, STEP)
        close(alone[index], expected)
        close(together[index], expected + finite_differences(expected_loss, arrays, index, STEP))


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@every_mode
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_second_derivatives_of_spikes_are_those_of_the_activation(activation, mode, rng):
    layer = keras_spiking.SpikingActivation(activation, dt=0.1, initial_voltage=0.5)
    inputs = rng.normal(size=(2, 5, 3)).astype("float32")
    layer.build(inputs.shape)

    def penalty(function):
        def slopes(inputs, factors):
            weighted = slope(lambda x: ops.sum(factors * function(x)), [inputs])
            return ops.sum(weighted**2)

        return slopes

    factors = rng.normal(size=inputs.shape).astype("float32")
    got = gradients(penalty(layer), inputs, factors, mode=mode)
    expected = gradients(penalty(keras.activations.get(activation)), inputs, factors, mode=mode)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.abs(expected[1]).max() > 0
