"""Small spiking networks whose sums are exact in float32, in any order."""

import keras
import numpy as np
from keras import layers

import keras_spiking

# Weights are whole numbers times this, over a power of two, and inputs are small whole numbers. So
# no voltage is ever exactly at a threshold, where simulators differ.
UNIT = 127 / 1024
DT = 0.5  # seconds


def mlp():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="first"),
            layers.Dense(8, activation="relu", name="second"),
            layers.Dense(3, name="outputs"),
        ]
    )


def cnn():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="first"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise"),
            layers.Conv2D(4, 1, groups=2, activation="relu", name="grouped"),
            layers.AveragePooling2D(2, name="pooled"),
            layers.Flatten(name="flat"),
            layers.Dense(5, activation="relu", name="dense"),
            layers.Dense(3, name="outputs"),
        ]
    )


def residual():
    inputs = keras.Input((6,))
    first = layers.Dense(6, activation="relu", name="first")(inputs)
    added = layers.Add(name="added")([first, layers.Dense(6, name="inner")(first)])
    outputs = layers.Dense(3, name="outputs")(layers.ReLU(name="second")(added))
    return keras.Model(inputs, outputs)


def filtered():
    """Spikes behind filters; what filters return is rounded, so it is not in `NETWORKS`."""
    neurons = {"integrate": "input", "negative_spikes": False, "initial_voltage": 0.0}
    network = keras.Sequential(
        [
            keras.Input((None, 6)),
            layers.Dense(8),
            keras_spiking.SpikingActivation("relu", dt=DT, **neurons),
            keras_spiking.Lowpass(2.0, dt=DT),
            layers.Dense(8),
            keras_spiking.Alpha(1.0, dt=DT),
            layers.Dense(3, name="outputs"),
        ]
    )
    draw = np.random.default_rng(0).normal
    for layer in network.layers:
        if isinstance(layer, layers.Dense):
            layer.set_weights([draw(size=weight.shape) for weight in layer.get_weights()])
    return network


NETWORKS = {"mlp": mlp, "cnn": cnn, "residual": residual}


def spiking(name, scales, initial_voltage):
    """A network with weights, made to spike.

    Args:
        name: One of `NETWORKS`.
        scales: What the weights are multiplied by, for each layer that has any.
        initial_voltage: Voltage of all neurons before the first step, as a part of a spike.
    """
    network = NETWORKS[name]()
    draw = np.random.default_rng(0).integers
    weighted = [layer for layer in network.layers if layer.weights]
    for number, (layer, scale) in enumerate(zip(weighted, scales, strict=True)):
        kernel, bias = layer.get_weights()
        # In spyx, where spikes come late, biases of later layers act before them.
        bias = draw(-1, 3, bias.shape) * (number == 0 or name == "mlp")
        layer.set_weights([draw(-1, 4, kernel.shape) * UNIT * scale, bias * UNIT * scale])
    channels = network.get_layer("first").get_weights()[1].size
    return keras_spiking.convert(
        network,
        dt=DT,
        rate_scale={"first": np.resize([1.0, 2.0, 4.0], channels)},
        integrate="input",
        negative_spikes=False,
        initial_voltage=initial_voltage,
        readout="sequence",
    )
