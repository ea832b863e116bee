"""The theorem: the mean output of a converted network is that of the network that rounds."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import keras_spiking
from tests.compiled import BACKEND

# How close, in spikes, an integral may come to a whole number: float32 leaves open where it goes.
_TIE = 2e-3
FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "linear_unit": lambda x: np.where(x > 0, x, 0.2 * x),
    "tanh": np.tanh,
}
ACTIVATIONS = {"relu": "relu", "linear_unit": layers.LeakyReLU(0.2), "tanh": "tanh"}


class Rounded:
    """A network of NumPy, in float64, whose activations are rounded as spikes round them."""

    def __init__(self, scales, duration):
        self.scales = iter(scales)
        self.duration = duration
        self.ties = False  # for each sample, whether a value lies on a tie

    def round(self, values):
        per_unit = np.asarray(next(self.scales), "float64") * self.duration
        integral = 0.5 + values * per_unit
        near = np.abs(integral - np.rint(integral)) < _TIE
        self.ties = self.ties | near.reshape(len(values), -1).any(axis=1)
        return np.floor(integral) / per_unit


def convolve(images, kernel, bias):
    """A convolution of 3 x 3 with zeros around."""
    height, width = images.shape[1:3]
    around = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return bias + sum(
        around[:, row : row + height, column : column + width] @ kernel[row, column]
        for row in range(3)
        for column in range(3)
    )


def network(first, second, merge):
    """A network with BatchNormalization, a merge, max pooling, and normalization of samples."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    one = layers.Activation(ACTIVATIONS[first], name="one")(x)
    x = layers.Conv2D(3, 3, padding="same", name="next")(one)
    two = layers.Activation(ACTIVATIONS[second], name="two")(x)
    x = {"add": one + two, "multiply": one * two, "maximum": layers.Maximum()([one, two])}[merge]
    x = layers.LayerNormalization(epsilon=0.1, name="sample")(layers.MaxPooling2D(2)(x))
    x = layers.Dense(5, activation="relu", name="three")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


def rounded(model, data, first, second, merge, scales, duration):
    """What the network gives with rounded activations, and which samples lie on a tie."""
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    weights = {name: [w.astype("float64") for w in each] for name, each in weights.items()}
    numbers = Rounded(scales, duration)
    gamma, beta, mean, variance = weights["norm"]
    x = convolve(data.astype("float64"), *weights["conv"])
    x = gamma * (x - mean) / np.sqrt(variance + model.get_layer("norm").epsilon) + beta
    one = numbers.round(FUNCTIONS[first](x))
    two = numbers.round(FUNCTIONS[second](convolve(one, *weights["next"])))
    x = {"add": one + two, "multiply": one * two, "maximum": np.maximum(one, two)}[merge]
    x = x.reshape(len(x), 2, 2, 2, 2, 3).max(axis=(2, 4))
    gamma, beta = weights["sample"]
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + 0.1)
    x = gamma * (x - x.mean(axis=-1, keepdims=True)) / deviation + beta
    kernel, bias = weights["three"]
    x = numbers.round(np.maximum(x.reshape(len(x), -1) @ kernel + bias, 0))
    kernel, bias = weights["out"]
    return x @ kernel + bias, numbers.ties


def randomized(model, rng):
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def outputs(model, data, scales, **options):
    names = ["one", "two", "three"]
    spiking = keras_spiking.convert(
        model, rate_scale=dict(zip(names, scales, strict=True)), **options
    )
    return spiking.predict_on_batch(data)


# JAX and TensorFlow compile each of the networks.
@settings(max_examples={"jax": 4, "tensorflow": 4, "torch": 25}[BACKEND], deadline=None)
@given(
    first=st.sampled_from(sorted(FUNCTIONS)),
    second=st.sampled_from(sorted(FUNCTIONS)),
    merge=st.sampled_from(["add", "multiply", "maximum"]),
    num_steps=st.integers(1, 16),
    dt=st.sampled_from([0.01, 0.1, 1.0]),
    per_channel=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_means_are_those_of_the_network_that_rounds(
    first, second, merge, num_steps, dt, per_channel, seed
):
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = randomized(network(first, second, merge), rng)
    scales = rng.uniform(0.5, 2, 3) / dt
    if per_channel:
        scales = [rng.uniform(0.5, 2, size) / dt for size in (3, 3, 5)]
    data = rng.normal(size=(40, 4, 4, 2)).astype("float32")
    expected, ties = rounded(model, data, first, second, merge, scales, num_steps * dt)
    assert ties.mean() < 0.8
    received = outputs(model, data, scales, num_steps=num_steps, dt=dt)
    np.testing.assert_allclose(received[~ties], expected[~ties], rtol=1e-5, atol=1e-5)
    # Only the product counts.
    at_once = outputs(model, data, scales, num_steps=1, dt=num_steps * dt)
    np.testing.assert_allclose(at_once[~ties], received[~ties], rtol=1e-5, atol=1e-5)


def test_to_integrate_the_activation_does_not_converge(rng):
    keras.utils.set_random_seed(0)
    model = randomized(network("relu", "relu", "maximum"), rng)
    data = rng.normal(size=(40, 4, 4, 2)).astype("float32")
    scales, options = [1.0] * 3, {"num_steps": 400, "dt": 1.0}
    expected = model.predict_on_batch(data)
    error = {
        integrate: np.abs(
            outputs(model, data, scales, integrate=integrate, seed=0, **options) - expected
        ).max()
        for integrate in ("input", "activation")
    }
    assert error["input"] < 0.02
    assert error["activation"] > 10 * error["input"]


@pytest.mark.parametrize("integrate", ["input", "activation"])
def test_without_negative_spikes_there_are_none(integrate, rng):
    keras.utils.set_random_seed(0)
    model = randomized(network("relu", "relu", "add"), rng)
    data = rng.normal(size=(5, 4, 4, 2)).astype("float32")
    spiking = keras_spiking.convert(
        model, num_steps=8, example_data=data, integrate=integrate, negative_spikes=False
    )
    spikes = keras.Model(spiking.input, [spiking.get_layer(n).output for n in ("one", "two")])
    for each in spikes.predict_on_batch(data):
        assert each.min() == 0
        assert each.max() > 0
