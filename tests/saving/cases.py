"""What is saved and loaded: every layer, cell, regularizer and constraint, with many options."""

import keras
import numpy as np
from keras import ops

import keras_spiking
from keras_spiking import constraints, regularizers

BATCH, TIME, UNITS = 2, 5, 4


@keras.saving.register_keras_serializable("tests")
def squared(x):
    return x * x


def backend_relu():
    """The function that the backend calls relu."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.relu
    if keras.backend.backend() == "jax":
        import jax

        return jax.nn.relu
    import torch

    return torch.nn.functional.relu


def spiking(activation="softplus", **kwargs):
    return keras_spiking.SpikingActivation(activation, **{"dt": 0.25, "seed": 1, **kwargs})


FILTER = {
    "dt": 0.02,
    "level_initializer": keras.initializers.RandomNormal(seed=3),
    "initial_level_constraint": "non_neg",
    "tau_constraint": constraints.Mean(axis=0),
}
RANDOM_TAU = keras.initializers.RandomUniform(0.05, 0.2, seed=4)


def trained():
    model = keras.Sequential(
        [
            keras.Input((TIME, UNITS)),
            keras.layers.Conv1D(3, 2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    return keras_spiking.convert(
        model,
        num_steps=6,
        dt=0.5,
        seed=2,
        tau=0.5,
        integrate="activation",
        rate_scale=3.0,
        spiking_aware_training=False,
    )


LAYERS = {
    "activation by name": spiking,
    "function of the backend": lambda: spiking(backend_relu()),
    "function of the user": lambda: spiking(squared),
    "layer as activation": lambda: spiking(keras.layers.PReLU(alpha_initializer="uniform")),
    "voltage": lambda: spiking(seed=None, initial_voltage=0.3),
    "voltage per unit": lambda: spiking(
        initial_voltage=np.linspace(0, 0.9, UNITS), return_sequences=False
    ),
    "voltage per sample": lambda: spiking(initial_voltage=[[0.1], [0.7]]),
    "voltage by initializer": lambda: spiking(
        initial_voltage=keras.initializers.RandomUniform(0, 1, seed=5)
    ),
    "rate_scale": lambda: spiking(rate_scale=3.7),
    "not spiking aware": lambda: spiking(spiking_aware_training=False),
    "input integrated": lambda: spiking(integrate="input", negative_spikes=False),
    "no negative spikes": lambda: spiking("linear", negative_spikes=False),
    "shared dt": lambda: spiking(dt=keras.Variable(0.4)),
    "stateful": lambda: spiking(stateful=True),
    "state": lambda: spiking(return_state=True, unroll=True),
    "half precision": lambda: spiking(dtype="mixed_float16"),
    "regularized": lambda: spiking(
        activity_regularizer=regularizers.Percentile(75, axis=(0, 1), target=(0.1, 0.2), l1=0.5)
    ),
    "lowpass": lambda: keras_spiking.Lowpass(RANDOM_TAU, **FILTER),
    "lowpass with options": lambda: keras_spiking.Lowpass(
        0.1, apply_during_training=False, time_major=True, return_state=True, name="named"
    ),
    "lowpass, stateful": lambda: keras_spiking.Lowpass(0.1, stateful=True, **FILTER),
    "alpha": lambda: keras_spiking.Alpha(RANDOM_TAU, return_state=True, **FILTER),
    "alpha, not in training": lambda: keras_spiking.Alpha(0.1, apply_during_training=False),
    "layer in TimeBatched": lambda: keras_spiking.TimeBatched(
        keras.layers.Dense(3, kernel_regularizer=regularizers.L2(0.1, target=1.0))
    ),
    "model in TimeBatched": lambda: keras_spiking.TimeBatched(
        keras.Sequential([keras.Input((UNITS,)), keras.layers.Dense(3), keras.layers.PReLU()])
    ),
    "TemporalAvgPool": keras_spiking.TemporalAvgPool,
    "RunningAverage": lambda: keras_spiking.RunningAverage(keras.layers.Softmax()),
    "RepeatOverTime": lambda: keras_spiking.RepeatOverTime(3),
    "LastStep": keras_spiking.LastStep,
    "cells in RNN": lambda: keras.layers.RNN(list(CELLS.values()), return_sequences=True),
    "converted": trained,
}


class _Cells(dict):
    """New cells whenever they are asked for: one cell works in one layer."""

    def values(self):
        return [make() for make in super().values()]


CELLS = _Cells(
    spiking=lambda: keras_spiking.SpikingActivationCell(
        UNITS, "relu", dt=0.2, seed=1, rate_scale=2.0, spiking_aware_training=False
    ),
    lowpass=lambda: keras_spiking.LowpassCell(UNITS, RANDOM_TAU, **FILTER),
    alpha=lambda: keras_spiking.AlphaCell(UNITS, 0.1, apply_during_training=False),
)

# Functions of a tensor that are neither layers nor cells.
PENALTIES = {
    "RangedRegularizer": lambda: regularizers.RangedRegularizer((1, np.inf), "l1"),
    "L1L2": lambda: regularizers.L1L2(0.1, 0.2, target=(-0.5, 0.5)),
    "L1": lambda: regularizers.L1(0.3, target=1),
    "L2": lambda: regularizers.L2(0.3, target=(0, 1)),
    "Percentile": lambda: regularizers.Percentile(30, axis=(0, 1), target=2, l1=0.1, l2=0.2),
    "Mean": lambda: constraints.Mean(axis=(0, -1)),
}


def inputs():
    """Where spikes are, more than one in some steps."""
    return np.random.default_rng(0).normal(scale=6, size=(BATCH, TIME, UNITS)).astype("float32")


def model_with(layer):
    """A model of one layer, of which no weight is as it was made."""
    if isinstance(layer, keras.Model):
        model = layer
    else:
        given = keras.Input(batch_shape=(BATCH, TIME, UNITS))
        model = keras.Model(given, layer(given))
    change_weights(model)
    return model


def change_weights(layer):
    """Moves all weights, so that those of a new copy are others."""
    layer.set_weights([weight + 0.125 for weight in layer.get_weights()])


def run(model):
    """Everything that a model gives: outputs as used and as trained, and losses."""
    results = []
    for training in (False, True):
        outputs = keras.tree.flatten(model(inputs(), training=training))
        results += [ops.convert_to_numpy(each) for each in [*outputs, *model.losses]]
    return results


def settings(thing):
    """The config of a layer, without what it was built on; of a model, those of its layers."""
    if isinstance(thing, keras.Model):  # of which a clone has inputs of other names
        return [settings(layer) for layer in thing.layers[1:]]

    def kept(value):
        if isinstance(value, dict):
            return {key: kept(value[key]) for key in value if key != "build_config"}
        return [kept(each) for each in value] if isinstance(value, (list, tuple)) else value

    return kept(thing.get_config())


def assert_equal(actual, expected):
    """Asserts that two lists of arrays are equal to the bit."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)
