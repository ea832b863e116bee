"""rate_scale="calibrate": the strongest activations of each layer fire at the target rate."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import keras_spiking
from keras_spiking.conversion.calibrate import TopValues
from tests.conversion.models import sequential


def outputs_of(model, names, data):
    """What layers of a model return, as NumPy arrays."""
    part = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])
    return part.predict_on_batch(data)


def test_the_percentile_of_each_activation_fires_at_the_target(rng):
    model = sequential(
        (8, 8, 1),
        layers.Conv2D(3, 3, activation="relu", name="conv"),
        layers.Flatten(),
        layers.Dense(20, name="dense"),
        layers.Activation("tanh", name="tanh"),
        layers.Dense(2, name="out"),
    )
    data = rng.normal(size=(70, 8, 8, 1)).astype("float32")  # more than a batch
    spiking = keras_spiking.convert(
        model, num_steps=4, dt=0.01, rate_scale="calibrate", example_data=data, target_rate=80
    )
    conv, tanh = outputs_of(model, ["conv", "tanh"], data)
    for name, activity in (("conv_spikes", conv), ("tanh", tanh)):
        values = np.abs(activity).astype("float64").reshape(-1, activity.shape[-1])
        strongest = np.percentile(values, 99.9, axis=0)
        # Channels that are hardly ever active count as a hundredth of the strongest.
        strongest = np.maximum(strongest, strongest.max() / 100)
        np.testing.assert_allclose(spiking.get_layer(name).rate_scale, 80 / strongest, rtol=1e-4)


def test_a_layer_called_twice_has_one_scale(rng):
    inputs = keras.Input((4,))
    shared = layers.Dense(4, activation="relu", name="shared")
    once = shared(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([once, shared(once)])))
    data = rng.normal(size=(50, 4)).astype("float32")
    kernel, bias = shared.get_weights()
    first = np.maximum(data @ kernel + bias, 0)
    second = np.maximum(first @ kernel + bias, 0)
    spiking = keras_spiking.convert(model, num_steps=2, example_data=data, target_rate=10)
    strongest = np.percentile(np.concatenate([first, second]).astype("float64"), 99.9, axis=0)
    strongest = np.where(strongest > 0, strongest, np.median(strongest[strongest > 0]))
    strongest = np.maximum(strongest, strongest.max() / 100)
    scales = spiking.get_layer("shared_spikes").rate_scale
    np.testing.assert_allclose(scales, 10 / strongest, rtol=1e-4)


def test_outputs_are_expected_to_stay(rng):
    model = sequential((4,), layers.Dense(30, activation="relu"), layers.Dense(2))
    data = rng.normal(size=(5, 4)).astype("float32")
    expected = model.predict_on_batch(data)
    for target_rate in (50, 5000):
        spiking = keras_spiking.convert(
            model,
            num_steps=2000,
            dt=0.01,
            rate_scale="calibrate",
            example_data=data,
            target_rate=target_rate,
        )
        np.testing.assert_allclose(spiking.predict_on_batch(data), expected, atol=0.02)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # raised again by pytest.warns
def test_a_silent_layer_keeps_its_scale_and_warns(rng):
    model = sequential((4,), layers.Dense(3, activation="relu", name="dead"), layers.Dense(2))
    model.layers[0].set_weights([np.zeros((4, 3)), -np.ones(3)])
    with pytest.warns(UserWarning, match=r"layer 'dead' is zero on `example_data`.*stays 1"):
        spiking = keras_spiking.convert(
            model, rate_scale="calibrate", example_data=np.ones((2, 4)), target_rate=10
        )
    assert spiking.get_layer("dead_spikes").rate_scale == 1


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_percentile_in_parts_is_that_of_numpy(sizes, seed):
    values = np.random.default_rng(seed).normal(size=(sum(sizes), 3)).astype("float32")
    top = TopValues(len(values), num_channels=3)
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        top.add(part)
    expected = np.percentile(values.astype("float64"), 99.9, axis=0)
    np.testing.assert_allclose(top.percentiles(), expected, rtol=1e-6, atol=1e-9)


def test_energy_counts_spikes_whatever_their_height(rng):
    model = sequential((4,), layers.Dense(9, activation="relu"), layers.Dense(2, name="out"))
    data = rng.normal(size=(20, 4)).astype("float32")
    spiking = keras_spiking.convert(model, num_steps=10, dt=0.01, rate_scale=40.0, seed=0)
    (result,) = keras_spiking.compare(model, spiking, data).results
    energy = keras_spiking.ModelEnergy(spiking, data)
    rate = energy.layer_rates[spiking.get_layer("out_over_time")]
    assert rate == pytest.approx(result.mean_rate, rel=1e-4)
    assert result.mean_rate > 1
