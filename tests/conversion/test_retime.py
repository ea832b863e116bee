"""retime: another dt or number of steps, on the same weights."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_spiking
from tests.conversion.models import sequential


def trained(rng):
    model = sequential(
        (8, 8, 2),
        layers.Conv2D(4, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(8, activation="relu"),
        layers.Dense(3, activation="softmax"),
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model, rng.normal(size=(40, 8, 8, 2)).astype("float32")


@pytest.mark.parametrize("num_steps", [2, 8])
def test_steps_say_what_one_long_step_says(num_steps, rng):
    model, data = trained(rng)
    one = keras_spiking.convert(model, num_steps=1, dt=0.01 * num_steps, example_data=data)
    many = keras_spiking.retime(one, dt=0.01, num_steps=num_steps)
    np.testing.assert_allclose(
        many.predict_on_batch(data), one.predict_on_batch(data), rtol=0, atol=1e-5
    )


def test_training_at_one_step_trains_the_model_of_many(rng):
    model, data = trained(rng)
    labels = rng.integers(0, 3, 40)
    one = keras_spiking.convert(model, num_steps=1, dt=0.04, example_data=data)
    many = keras_spiking.retime(one, dt=0.01, num_steps=4)
    before = many.evaluate(data, labels, verbose=0)
    one.fit(data, labels, epochs=5, verbose=0)
    assert many.evaluate(data, labels, verbose=0) < before
    np.testing.assert_allclose(
        many.predict_on_batch(data), one.predict_on_batch(data), rtol=0, atol=1e-5
    )
    assert [id(each) for each in many.weights] == [id(each) for each in one.weights]


def test_the_model_stays_as_it_is_and_files_keep_the_result(rng, tmp_path):
    model, data = trained(rng)
    spiking = keras_spiking.convert(model, num_steps=4, dt=0.1, example_data=data)
    expected = spiking.predict_on_batch(data)
    other = keras_spiking.retime(spiking, num_steps=9)
    assert [layer.name for layer in other.layers] == [layer.name for layer in spiking.layers]
    np.testing.assert_array_equal(spiking.predict_on_batch(data), expected)
    other.save(tmp_path / "other.keras")
    loaded = keras.saving.load_model(tmp_path / "other.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(data), other.predict_on_batch(data))


def test_filters_share_their_time_constants(rng):
    inputs = keras.Input((5, 3))
    x = keras_spiking.SpikingActivation(layers.PReLU(), dt=0.1, seed=0)(inputs)
    x = keras_spiking.Lowpass(0.2, dt=0.1)(x)
    model = keras.Model(inputs, keras_spiking.Alpha(0.3, dt=0.1)(x))
    other = keras_spiking.retime(model, dt=0.05)
    assert {id(each) for each in other.weights} == {id(each) for each in model.weights}
    model.layers[2].cell.tau.assign(np.full((1, 3), 0.7, "float32"))
    np.testing.assert_array_equal(
        other.layers[2].get_weights()[1], model.layers[2].get_weights()[1]
    )
    # That of a model made for this dt, with these weights.
    x = keras_spiking.SpikingActivation(layers.PReLU(), dt=0.05, seed=0)(inputs)
    x = keras_spiking.Lowpass(0.2, dt=0.05)(x)
    by_hand = keras.Model(inputs, keras_spiking.Alpha(0.3, dt=0.05)(x))
    by_hand.set_weights(model.get_weights())
    data = rng.normal(size=(2, 5, 3)).astype("float32")
    np.testing.assert_allclose(
        other.predict_on_batch(data), by_hand.predict_on_batch(data), rtol=0, atol=1e-6
    )


def test_wrong_arguments_are_named(rng):
    model, data = trained(rng)
    spiking = keras_spiking.convert(model, num_steps=4, dt=0.1, example_data=data)
    plain = keras.Model(*[keras.Input((3,), name="x")] * 2)
    cases = [
        (("model",), {"dt": 1}, TypeError, "`model` must be a Keras model; received model='model'"),
        ((spiking,), {}, ValueError, "`dt` or `num_steps` must be given; received None for both"),
        ((spiking,), {"num_steps": 0}, ValueError, "`num_steps` must be a positive integer"),
        ((spiking,), {"dt": -1}, ValueError, "`dt` must be a positive, finite number of seconds"),
        ((plain,), {"dt": 1.0}, ValueError, "`dt` must be None .* without KerasSpikingLayer"),
        ((plain,), {"num_steps": 2}, ValueError, "`num_steps` must be None .* RepeatOverTime"),
        (
            (keras.Sequential([layers.Dense(3)]),),
            {"dt": 1.0},
            ValueError,
            "`model` must be a Seq.* that is built",
        ),
    ]
    for arguments, keywords, error, words in cases:
        with pytest.raises(error, match=rf"^\w+: {words}"):
            keras_spiking.retime(*arguments, **keywords)
    nested = keras.Sequential([keras.Input((8, 8, 2)), spiking])
    with pytest.raises(ValueError, match="KerasSpikingLayer"):
        keras_spiking.retime(nested, dt=0.2)
