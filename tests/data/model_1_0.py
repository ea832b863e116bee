"""Writes `model_1_0.keras` and `model_1_0.npz`: what every later version must load, and give.

They were written once, with keras_spiking 1.0 and Keras 3.15 on TensorFlow, and are never written
again. Whatever a later version adds to files goes into a file of that version, by another script.
"""

import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import keras_spiking
from keras_spiking import constraints, regularizers

HERE = Path(__file__).parent
BATCH, TIME, UNITS = 2, 6, 4

# Where backends may differ in the last digits. All other outputs are spikes, the same to the bit.
ROUNDED = ("lowpass", "lowpass_masked", "alpha", "alpha_last", "cells", "pooled", "filtered")


def make_inputs():
    """Rates that are eighths, so that sums of them are exact."""
    rng = np.random.default_rng(0)
    return {
        "signal": (rng.integers(-24, 48, size=(BATCH, TIME, UNITS)) / 8).astype("float32"),
        "pictures": (rng.integers(0, 8, size=(BATCH, TIME, 4, 4, 1)) / 8).astype("float32"),
        "vector": rng.integers(-2, 4, size=(BATCH, 3)).astype("float32"),
    }


def build():
    """A model of every layer and cell with many of their options; each output is named for one."""
    signal = keras.Input((None, UNITS), batch_size=BATCH, name="signal")
    pictures = keras.Input((None, 4, 4, 1), batch_size=BATCH, name="pictures")
    vector = keras.Input((3,), batch_size=BATCH, name="vector")
    outputs = {**spiking(signal), **filters(signal), **over_time(signal, pictures, vector)}
    model = keras.Model(
        {"signal": signal, "pictures": pictures, "vector": vector}, outputs, name="model_1_0"
    )
    # Powers of two, so that products are exact too.
    for weight in model.weights:
        if weight.name not in ("tau", "initial_level"):
            values = 2.0 ** (np.arange(np.prod(weight.shape)) % 3 - 1)
            weight.assign(values.reshape(weight.shape))
    return model


def spiking(signal):
    def layer(activation="relu", **kwargs):
        return keras_spiking.SpikingActivation(activation, **{"dt": 0.25, **kwargs})

    rates = layers.Rescaling(8.0)(signal)  # whole numbers: no voltage changes their spikes
    outputs, state = layer(
        initial_voltage=keras.initializers.Constant(0.125), return_state=True, unroll=True
    )(signal)
    return {
        "voltage": layer(initial_voltage=0.5)(signal),
        "voltage_per_unit": layer(
            initial_voltage=[0.0, 0.25, 0.5, 0.75], rate_scale=4.0, dt=keras.Variable(0.125)
        )(signal),
        "voltage_per_sample": layer(
            initial_voltage=np.array([[0.125], [0.625]]), spiking_aware_training=False
        )(signal),
        "sequence_and_state": outputs,
        "state": state,
        "seeded": layer(dt=1.0, seed=7)(rates),
        "random": layer("linear", dt=1.0)(rates),
        "stateful": layer(stateful=True, initial_voltage=0.25)(signal),
        "time_major": layer("elu", initial_voltage=[0.5], time_major=True)(ops.abs(signal)),
        "activation_layer": layer(layers.PReLU(), initial_voltage=0.0)(signal),
        "masked": layer(initial_voltage=0.75, return_sequences=False)(layers.Masking(0.5)(signal)),
        "half": layer(initial_voltage=0.25, dtype="mixed_float16")(signal),
        "regularized": layer(
            initial_voltage=0.0,
            activity_regularizer=regularizers.Percentile(50, axis=(0, 1), target=(1, 2), l1=0.5),
            name="regularized_layer",
        )(signal),
    }


def filters(signal):
    options = {
        "dt": 0.02,
        "level_initializer": keras.initializers.Constant(0.25),
        "initial_level_constraint": "non_neg",
        "tau_constraint": constraints.Mean(axis=(0, 1)),
    }
    return {
        "lowpass": keras_spiking.Lowpass(
            0.1,
            **options,
            activity_regularizer=regularizers.L1L2(0.01, 0.02, target=(-1, 1)),
            name="lowpass_layer",
        )(signal),
        "lowpass_masked": keras_spiking.Lowpass(0.3, stateful=True)(layers.Masking(0.5)(signal)),
        "alpha": keras_spiking.Alpha(
            keras.initializers.Constant(0.05),
            apply_during_training=False,
            activity_regularizer=regularizers.RangedRegularizer((0, np.inf), regularizers.L1(0.1)),
            name="alpha_layer",
        )(signal),
        "alpha_last": keras_spiking.Alpha(
            0.1,
            **options | {"tau_constraint": constraints.Mean()},
            return_sequences=False,
            activity_regularizer=regularizers.L2(0.1, target=0.5),
            name="alpha_last_layer",
        )(signal),
        "cells": layers.RNN(
            [
                keras_spiking.SpikingActivationCell(UNITS, "relu", dt=0.5, initial_voltage=0.5),
                keras_spiking.LowpassCell(UNITS, 0.1, dt=0.05),
                keras_spiking.AlphaCell(UNITS, 0.1, dt=0.05),
            ],
            return_sequences=True,
        )(signal),
    }


def over_time(signal, pictures, vector):
    maps = keras_spiking.TimeBatched(layers.Conv2D(2, 3))(pictures)
    maps = keras_spiking.SpikingActivation("relu", dt=0.5, initial_voltage=0.5)(maps)
    small = keras.Sequential([keras.Input((UNITS,)), layers.Dense(3), layers.ReLU()])

    def converted(name, **kwargs):
        dense = [keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2)]
        model = keras.Sequential(dense, name=name)
        return keras_spiking.convert(model, dt=1.0, integrate="activation", **kwargs)(vector)

    return {
        "pictures": keras_spiking.TimeBatched(layers.Flatten())(maps),
        "model_over_time": keras_spiking.TimeBatched(small)(signal),
        "pooled": keras_spiking.TemporalAvgPool()(signal),
        "repeated": keras_spiking.RepeatOverTime(3)(keras_spiking.LastStep()(signal)),
        "converted": converted("converted", num_steps=4, rate_scale=2.0, seed=1),
        "filtered": converted("filtered", num_steps=3, tau=2.0, rate_scale=2.0, readout="last"),
    }


def run(model, inputs):
    """All that the model gives, by name."""
    return {name: np.asarray(each) for name, each in model.predict_on_batch(inputs).items()}


def penalties(model, outputs):
    """What the regularizers of the layers that are named for their outputs make of these."""
    return [
        np.asarray(
            ops.convert_to_numpy(
                layer.activity_regularizer(outputs[layer.name.removesuffix("_layer")])
            )
        )
        for layer in model.layers
        if layer.activity_regularizer is not None
    ]


def write():
    model, inputs = build(), make_inputs()
    model.save(HERE / "model_1_0.keras")
    given = {f"input_{name}": each for name, each in inputs.items()}
    outputs = run(model, inputs)
    np.savez_compressed(
        HERE / "model_1_0.npz", **given, **outputs, penalties=penalties(model, outputs)
    )
    # Keras does not compress.
    with zipfile.ZipFile(HERE / "model_1_0.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(HERE / "model_1_0.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


if __name__ == "__main__":
    write()
