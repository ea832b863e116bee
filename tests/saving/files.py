"""Files for the tests: a small model, and the same with a changed config."""

import json
import zipfile

import keras

import keras_spiking


def small_model(units=4, activation="relu"):
    """Layers: 1 dense, 2 spikes, 3 lowpass, 4 over_time, 5 repeat."""
    return keras.Sequential(
        [
            keras.Input((None, 4)),
            keras.layers.Dense(units, name="dense"),
            keras_spiking.SpikingActivation(activation, dt=0.3, seed=1, name="spikes"),
            keras_spiking.Lowpass(0.1, name="lowpass"),
            keras_spiking.TimeBatched(keras.layers.Dense(3, name="inner"), name="over_time"),
            keras_spiking.LastStep(name="last"),
            keras_spiking.RepeatOverTime(2, name="repeat"),
        ]
    )


def rewritten(source, target, change=None, weights=None):
    """Copies a `.keras` file with a changed config, or other weights."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    if change is not None:
        change(config)
    parts["config.json"] = json.dumps(config)
    if weights is not None:
        parts["model.weights.h5"] = weights
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return target


def set_in(layer, /, **values):
    """A change of some entries in the config of a layer."""

    def change(config):
        for each in config["config"]["layers"]:
            if each["config"]["name"] == layer:
                each["config"].update(values)

    return change
