"""convert: any layer that is a function of its sample runs, on the mean of its inputs."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_spiking
from tests.conversion.models import sequential


@keras.saving.register_keras_serializable("tests.any")
class Own(layers.Layer):
    """A layer of the user's, which nobody told `convert` about."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="random_normal")

    def call(self, inputs):
        return ops.tanh(inputs * self.scale) + inputs


class Subclassed(keras.Model):
    """A model whose graph cannot be read."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def call(self, inputs):
        return ops.relu(self.dense(inputs))


def heads(**kwargs):
    return layers.MultiHeadAttention(2, 3, name="x", **kwargs)


# In the middle of a model, with inputs of shape (5, 4).
MIDDLES = {
    "attention to itself": lambda x: heads()(x, x),
    "by keywords": lambda x: heads()(query=x, value=x, use_causal_mask=True),
    "attention to another": lambda x: heads()(x, layers.Dense(4, activation="tanh")(x)),
    "in a list": lambda x: layers.Attention(name="x")([x, x]),
    "LSTM": lambda x: layers.LSTM(4, return_sequences=True, name="x")(x),
    "GRU": lambda x: layers.GRU(4, name="x")(x),
    "two ways": lambda x: layers.Bidirectional(layers.LSTM(3), name="x")(x),
    "distributed": lambda x: layers.TimeDistributed(layers.Dense(3), name="x")(x),
    "own": lambda x: Own(name="x")(x),
    "subclassed": lambda x: Subclassed(name="x")(x),
    "softmax": lambda x: layers.Softmax(name="x")(x),
    "fused softmax": lambda x: layers.Dense(4, activation="softmax", name="x")(x),
    "lambda": lambda x: layers.Lambda(lambda y: y**2, name="x")(x),
}
NO_FILE = ("lambda", "subclassed")


def model_with(middle):
    inputs = keras.Input((5, 4))
    x = middle(layers.Dense(4, activation="relu")(inputs))
    x = layers.Flatten()(layers.Dense(4, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # raised again by pytest.warns
@pytest.mark.parametrize("name", MIDDLES)
def test_it_runs_on_means_and_is_named(name, rng, tmp_path):
    model = model_with(MIDDLES[name])
    data = rng.normal(size=(6, 5, 4)).astype("float32")
    expected = model.predict_on_batch(data)
    with pytest.warns(UserWarning, match=r"run on the mean .* do not spike: x\."):
        spiking = keras_spiking.convert(model, num_steps=3, dt=1e4, rate_scale=1.0)
    np.testing.assert_allclose(spiking.predict_on_batch(data), expected, atol=1e-4)
    (result,) = keras_spiking.compare(model, spiking, data).results
    assert result.not_spiking == ("x",)
    if name not in NO_FILE:
        spiking.save(tmp_path / "spiking.keras")
        loaded = keras.saving.load_model(tmp_path / "spiking.keras")
        np.testing.assert_array_equal(loaded.predict_on_batch(data), spiking.predict_on_batch(data))


@pytest.mark.parametrize(
    "middle",
    [
        lambda x: ops.where(x > 0.3, x, 2 * x),
        lambda x: x * layers.Dense(4, activation="sigmoid")(x),
        lambda x: ops.concatenate([x, ops.relu(x - 0.5)], axis=-1),
        lambda x: 1 / (1 + x),
        lambda x: ops.max(x, axis=1),
    ],
)
def test_operations_keep_means_too(middle, rng):
    model = model_with(middle)
    data = rng.normal(size=(6, 5, 4)).astype("float32")
    # Few steps, in which spikes are noisy: what does not keep means would be off. Not one: there
    # TensorFlow 2.18 corrupts memory, in ReLU and Dense of Keras too.
    few, many = (
        keras_spiking.convert(model, num_steps=steps, dt=8.0 / steps, rate_scale=1.0)
        for steps in (2, 8)
    )
    np.testing.assert_allclose(
        many.predict_on_batch(data), few.predict_on_batch(data), rtol=0, atol=1e-4
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # raised again by pytest.warns
def test_inputs_by_keyword_keep_their_names(rng):
    query, value, key = (keras.Input((5, 4), name=name) for name in ("query", "value", "key"))
    x = layers.Dense(4, activation="relu")(heads()(query, value=value, key=key))
    model = keras.Model([query, value, key], layers.Dense(3)(x))
    data = list(rng.normal(size=(3, 6, 5, 4)).astype("float32"))
    with pytest.warns(UserWarning, match="do not spike"):
        spiking = keras_spiking.convert(model, num_steps=3, dt=1e4)
    np.testing.assert_allclose(
        spiking.predict_on_batch(data), model.predict_on_batch(data), atol=1e-3
    )


MASKED = {
    "before spikes": lambda: [layers.LSTM(3), layers.Dense(4, activation="relu")],
    "behind spikes": lambda: [layers.Dense(4, activation="relu"), layers.LSTM(3)],
    "averaged": lambda: [layers.Dense(4, activation="relu"), layers.GlobalAveragePooling1D()],
}


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # raised again by pytest.warns
@pytest.mark.parametrize("ends", MASKED.values(), ids=MASKED)
def test_masks_of_words_are_used(ends, rng):
    words = rng.integers(0, 5, size=(6, 5))
    words[:, :2] = 0  # to leave out
    model = sequential((5,), layers.Embedding(5, 4, mask_zero=True), *ends(), layers.Dense(2))
    with pytest.warns(UserWarning, match="do not spike"):
        spiking = keras_spiking.convert(model, num_steps=3, dt=1e4)
    np.testing.assert_allclose(
        spiking.predict_on_batch(words), model.predict_on_batch(words), atol=1e-4
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # raised again by pytest.warns
@pytest.mark.parametrize("ends", MASKED.values(), ids=MASKED)
def test_masks_of_vectors_are_used(ends, rng):
    data = rng.normal(size=(6, 5, 3)).astype("float32")
    data[:, 3:] = 0  # to leave out
    model = sequential((5, 3), layers.Masking(), *ends(), layers.Dense(2))
    with pytest.warns(UserWarning, match="do not spike"):
        spiking = keras_spiking.convert(model, num_steps=3, dt=1e4)
    np.testing.assert_allclose(
        spiking.predict_on_batch(data), model.predict_on_batch(data), atol=1e-4
    )


class Counting(layers.Layer):
    """Keeps a state between calls."""

    def build(self, input_shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.calls.assign(self.calls + 1)
        return inputs * self.calls


class Mixing(layers.Layer):
    """Mixes samples."""

    def call(self, inputs):
        return inputs - ops.mean(inputs, axis=0, keepdims=True)


class WithoutConfig(layers.Layer):
    """Cannot be made again."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Counting, "Counting.* another result when it is called again"),
        (Mixing, "Mixing.* mixes samples"),
        (lambda: WithoutConfig(ops.abs), "WithoutConfig.* cannot be copied.* `get_config`"),
        (lambda: layers.LSTM(3, stateful=True), "LSTM.* keeps a state.* stateful=False"),
        (lambda: keras_spiking.Lowpass(0.1), "Lowpass.* runs over time itself"),
    ],
    ids=["counting", "mixing", "without config", "stateful", "over time"],
)
def test_what_is_no_function_of_its_sample_is_refused(layer, words):
    inputs = keras.Input((5, 4), batch_size=6)
    x = layer()(layers.Dense(4, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(ValueError, match=rf"(?s)^convert: `model` must consist of .*{words}"):
        keras_spiking.convert(model, num_steps=3, dt=1.0)
