"""Models for these tests, with numbers of few binary digits, of which all sums are exact."""

import keras
import numpy as np
from keras import layers

import keras_spiking

DT = 0.125  # seconds
NUM_STEPS = 6
EXACT = {"integrate": "input", "negative_spikes": False, "initial_voltage": 0.0}


def give_weights(model, digits, seed=18):
    """Gives all layers weights with this number of binary digits behind the point."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            channels = layer.gamma.shape[0]
            # The root of the variance and epsilon is 1/2, 1 or 2.
            variance = 4.0 ** rng.integers(-1, 2, channels) - layer.epsilon
            gamma = rng.choice([-1.0, 0.5, 1.0, 2.0], channels)
            beta, mean = rng.integers(-4, 5, (2, channels)) / 4
            layer.set_weights([gamma, beta, mean, variance])
        else:
            shapes = [weight.shape for weight in layer.get_weights()]
            layer.set_weights([rng.integers(-4, 5, shape) / 2**digits for shape in shapes])
    return model


def convolutional():
    """A CNN with everything that is hard to write: see `images` for its inputs."""
    inputs = keras.Input((8, 10, 2), name="pictures")
    x = layers.Rescaling(0.5)(inputs)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="strided")(x)
    x = layers.BatchNormalization(epsilon=2.0**-10, name="behind_spikes")(x)
    first = layers.Conv2D(4, (2, 3), padding="same", groups=2, name="grouped")(x)
    first = layers.BatchNormalization(epsilon=2.0**-10, name="before_spikes")(first)
    other = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1, name="depthwise")(x)
    x = layers.ReLU(name="merged")(layers.Add()([first, other]))
    x = layers.BatchNormalization(epsilon=2.0**-10, name="before_pooling")(x)
    x = layers.AveragePooling2D(2, name="pooled")(x)
    x = layers.ZeroPadding2D(((0, 1), (1, 0)), name="padded")(x)
    x = layers.Conv2D(3, 2, dilation_rate=1, activation="relu", name="valid")(x)
    x = layers.Dropout(0.5)(layers.Flatten(name="flat")(x))
    x = layers.Dense(6, activation="relu", name="dense")(x)
    classes = layers.Dense(3, activation="softmax", name="classes")(x)
    return give_weights(keras.Model(inputs, classes, name="cnn"), digits=3)


def images(rng, count=3):
    """Inputs for `convolutional`."""
    return (rng.integers(0, 16, (count, 8, 10, 2)) / 8).astype("float32")


def spiking_cnn():
    """The same with spikes. A spike in each channel has its own height, a power of two."""
    scales = {name: [16.0, 8.0, 32.0, 8.0] for name in ("strided", "merged")}
    scales |= {"valid": [8.0, 16.0, 4.0], "dense": 8.0}
    return keras_spiking.convert(
        convolutional(), num_steps=NUM_STEPS, dt=DT, rate_scale=scales, **EXACT
    )


def over_time():
    """A model over time without BatchNormalization, with random weights."""
    neurons = {"dt": DT, **EXACT}
    inputs = keras.Input((None, 8, 7, 2))
    conv = layers.Conv2D(4, 3, strides=2, padding="same")
    x = keras_spiking.TimeBatched(conv, name="conv")(inputs)
    x = keras_spiking.SpikingActivation("relu", rate_scale=[16.0, 64.0, 32.0, 16.0], **neurons)(x)
    x = keras_spiking.TimeBatched(layers.DepthwiseConv2D(3, padding="same"), name="depth")(x)
    x = keras_spiking.SpikingActivation("relu", rate_scale=64.0, **neurons)(x)
    x = keras_spiking.TimeBatched(layers.AveragePooling2D(2))(x)
    x = keras_spiking.TimeBatched(layers.Flatten())(x)
    x = layers.Dense(5)(x)
    x = keras_spiking.SpikingActivation("relu", rate_scale=64.0, **neurons)(x)
    x = keras_spiking.Lowpass(keras.initializers.RandomUniform(0.1, 1.0), dt=DT)(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def channels_first(values):
    """`(batch, time, ..., channels)` as NIR has it."""
    return np.moveaxis(np.asarray(keras.ops.convert_to_numpy(values), "float64"), -1, 2)
