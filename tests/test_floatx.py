"""Counts and numbers of steps are exact where `floatx` has 16 bits: no layer counts in it."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests import reference
from tests.compiled import BACKEND

STEPS = 40_000  # more than 16 bits count


@pytest.fixture(autouse=True, params=["float16", "bfloat16"])
def floatx(request):
    """Sets the type of floats that Keras takes where none is said."""
    before = keras.config.floatx()
    keras.config.set_floatx(request.param)
    keras.config.set_dtype_policy("float32")  # not what this is about
    yield request.param
    keras.config.set_floatx(before)


@pytest.mark.parametrize("kernels", ["auto", "portable"])
@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_a_filter_counts_its_steps(masked, return_sequences, kernels):
    keras_spiking.config.set_kernels(kernels)
    mask = np.ones((1, STEPS + 100), bool)
    mask[:, 5:105] = not masked
    inputs = np.ones((1, STEPS + 100, 1), "float32")
    for name, layer in {
        "lowpass": keras_spiking.Lowpass(20.0, dt=0.001, return_sequences=return_sequences),
        "alpha": keras_spiking.Alpha(20.0, dt=0.001, return_sequences=return_sequences),
    }.items():
        outputs = ops.convert_to_numpy(layer(inputs, mask=mask if masked else None))
        seconds = (STEPS + 100 * (not masked)) * 0.001
        ratio = seconds / 20.0
        expected = 1 - np.exp(-ratio) * (1 if name == "lowpass" else 1 + ratio)
        last = outputs[0, -1, 0] if return_sequences else outputs[0, 0]
        np.testing.assert_allclose(last, expected, rtol=1e-4)


def test_a_mask_with_many_gaps_leaves_out_the_right_steps(rng):
    inputs = rng.normal(size=(1, STEPS, 1)).astype("float32")
    mask = rng.random((1, STEPS)) < 0.5
    outputs = keras_spiking.Lowpass(0.005, dt=0.001)(inputs, mask=mask)
    zero = np.zeros((1, 1))
    expected, _ = reference.lowpass(inputs, 0.001, np.full((1, 1), 0.005), zero, mask)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), expected, atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only its graphs have unknown lengths")
def test_the_portable_filter_counts_steps_that_the_graph_does_not_know():
    import tensorflow as tf

    keras_spiking.config.set_kernels("portable")
    layer = keras_spiking.Lowpass(20.0, dt=0.001)
    layer.build((None, None, 1))
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, 1])])
    outputs = ops.convert_to_numpy(run(np.ones((1, STEPS, 1), "float32")))
    np.testing.assert_allclose(outputs[0, -1, 0], 1 - np.exp(-2.0), rtol=1e-4)


def test_an_average_counts_its_steps():
    inputs = np.full((1, STEPS, 2), 3.0, "float32")
    average = keras_spiking.TemporalAvgPool()
    np.testing.assert_allclose(ops.convert_to_numpy(average(inputs)), 3.0, rtol=1e-5)
    mask = np.ones((1, STEPS), bool)
    np.testing.assert_allclose(ops.convert_to_numpy(average(inputs, mask=mask)), 3.0, rtol=1e-5)


def test_a_percentile_counts_its_values(rng):
    values = rng.permutation(STEPS + 1).astype("float32")[:, None]
    penalty = keras_spiking.regularizers.Percentile(90, l1=1.0)(ops.array(values))
    np.testing.assert_allclose(ops.convert_to_numpy(penalty), 0.9 * STEPS, rtol=1e-6)


def test_energy_counts_its_inputs():
    model = keras.Sequential([keras.Input((STEPS,)), keras.layers.Dense(1)])
    inputs = np.full((2, STEPS), 0.5, "float32")
    energy = keras_spiking.ModelEnergy(model, example_data=inputs)
    np.testing.assert_allclose(energy.layer_rates[model.layers[0]], 0.5, rtol=1e-5)


def test_spikes_count_themselves():
    layer = keras_spiking.SpikingActivation("relu", dt=0.001, initial_voltage=0.0)
    outputs = ops.convert_to_numpy(layer(np.full((1, STEPS, 1), 500.0, "float32")))
    assert np.count_nonzero(outputs) == STEPS // 2
