"""What a file of a stranger can do: load, or be refused. It runs nothing and fills no memory."""

import builtins
import json
import os
import subprocess
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking import callbacks, constraints, regularizers
from tests.saving.files import rewritten, set_in, small_model

# What Keras refuses depends on its version alone. CI runs the oldest one on TensorFlow.
pytestmark = [pytest.mark.slow] if keras.backend.backend() == "jax" else []


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A file with nothing wrong in it."""
    path = tmp_path_factory.mktemp("original") / "model.keras"
    small_model().save(path)
    # The kernels are loaded when they first run, which is not the file's doing.
    keras_spiking.SpikingActivation("relu")(np.zeros((1, 1, 1), "float32"))
    return path


@pytest.fixture
def load_changed(original, tmp_path):
    """Loads the file with a changed config."""
    return lambda change: keras.saving.load_model(
        rewritten(original, tmp_path / "model.keras", change)
    )


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """Fails if anything runs that the files below name."""

    def fail(*args, **kwargs):
        pytest.fail(f"the file ran it, with {args}")

    monkeypatch.setattr(os, "system", fail)
    monkeypatch.setattr(builtins, "eval", fail)
    monkeypatch.setattr(subprocess, "Popen", fail)


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def instance(module, name, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


LAMBDA = {
    "class_name": "__lambda__",
    "config": {"code": "4wEAAAAA", "defaults": None, "closure": None},
}

# None of these is an activation, initializer, constraint or regularizer.
CALLABLES = {
    "function of a module": function("os", "system"),
    "builtin": function("builtins", "eval"),
    "builtin, dotted": function("builtins", "builtins.eval"),
    "import": function("builtins", "__import__"),
    "lambda": LAMBDA,
    "layer of a lambda": instance("keras.layers", "Lambda", function=LAMBDA),
    "download": function("keras.datasets.mnist", "load_data"),
    "file": function("keras.utils", "get_file"),
    "loading of models": function("keras.saving", "load_model"),
    "settings": function("keras.config", "set_floatx"),
    "unsafe mode": function("keras.config", "enable_unsafe_deserialization"),
    "class as a function": function("keras.utils", "Progbar"),
    "class of a module": instance("subprocess", "Popen", args="true"),
    "object": instance("keras.optimizers", "Adam"),
    "metric": instance("keras.metrics", "Mean"),
    "no name": function("os", ["system"]),
    "array": {"class_name": "__numpy__", "config": {"value": [0.5], "dtype": "float32"}},
}

PLACES = {
    "activation": ("spikes", "activation"),
    "voltage": ("spikes", "initial_voltage"),
    "tau": ("lowpass", "tau_initializer"),
    "level": ("lowpass", "level_initializer"),
    "tau constraint": ("lowpass", "tau_constraint"),
    "level constraint": ("lowpass", "initial_level_constraint"),
}


def test_the_original_loads(load_changed):
    model = load_changed(lambda config: None)
    assert model.predict(np.ones((1, 3, 4)), verbose=0).shape == (1, 2, 3)


@pytest.mark.parametrize("config", CALLABLES.values(), ids=CALLABLES)
def test_a_file_cannot_name_any_callable(config, load_changed):
    for layer, argument in PLACES.values():
        with pytest.raises((TypeError, ValueError), match=f"`{argument}` must be"):
            load_changed(set_in(layer, **{argument: config}))


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "keras.saving.load_model", "subprocess:Popen", "eval"]
)
def test_a_file_cannot_name_any_callable_in_one_word(name, load_changed):
    for layer, argument in PLACES.values():
        with pytest.raises((TypeError, ValueError), match=f"`{argument}` must be"):
            load_changed(set_in(layer, **{argument: name}))


@pytest.mark.parametrize("config", CALLABLES.values(), ids=CALLABLES)
def test_a_regularizer_cannot_name_any_callable(config, load_changed):
    ranged = {
        "module": "keras_spiking.regularizers",
        "class_name": "RangedRegularizer",
        "config": {"target": 0.0, "regularizer": config},
        "registered_name": "keras_spiking>RangedRegularizer",
    }
    with pytest.raises((TypeError, ValueError), match="`regularizer` must be a Keras regularizer"):
        load_changed(set_in("spikes", activity_regularizer=ranged))
    if config is not LAMBDA:  # Keras takes that for a function at once
        with pytest.raises((TypeError, ValueError)):
            load_changed(set_in("over_time", layer=config))


@pytest.mark.parametrize(
    ("layer", "argument", "value"),
    [
        ("spikes", "dt", "0.1"),
        ("spikes", "dt", -1.0),
        ("spikes", "dt", float("inf")),
        ("spikes", "dt", {"class_name": "__tensor__", "config": {"value": 1, "dtype": "float32"}}),
        ("spikes", "seed", 2**70),
        ("spikes", "seed", [1]),
        ("spikes", "rate_scale", None),
        ("spikes", "spiking_aware_training", "yes"),
        ("spikes", "initial_voltage", [[0.1], [0.1, 0.2]]),
        ("spikes", "initial_voltage", ["0.1"]),
        ("spikes", "initial_voltage", [0.5] * 3),
        ("spikes", "initial_voltage", [[0.5] * 100] * 100),
        ("spikes", "initial_voltage", None),
        ("spikes", "activation", 3),
        ("spikes", "stateful", 1),
        ("lowpass", "tau_initializer", float("nan")),
        ("lowpass", "tau_initializer", [0.1]),
        ("lowpass", "apply_during_training", []),
        ("lowpass", "tau_constraint", 3),
        ("lowpass", "return_sequences", "False"),
        ("over_time", "layer", "dense"),
        ("over_time", "layer", 3),
        ("repeat", "num_steps", -2),
        ("repeat", "num_steps", "2"),
        ("repeat", "num_steps", 1e9),
    ],
)
def test_wrong_types_and_values_are_refused(layer, argument, value, load_changed):
    with pytest.raises((TypeError, ValueError), match=rf"`{argument}`|Cannot interpret|deserial"):
        load_changed(set_in(layer, **{argument: value}))


def test_huge_sizes_are_refused_before_memory_is_taken(load_changed):
    huge = 10**12
    for layer in ("lowpass", "spikes"):

        def change(config, layer=layer):
            for each in config["config"]["layers"]:
                if each["config"]["name"] == layer:
                    each["build_config"]["input_shape"] = [None, None, huge]

        with pytest.raises((TypeError, ValueError), match=r"`size` must be fewer than 2\*\*31"):
            load_changed(change)
    with pytest.raises((TypeError, ValueError), match=r"`num_steps` must be below 2\*\*31"):
        load_changed(set_in("repeat", num_steps=huge))
    with pytest.raises(ValueError, match=r"`state` must be fewer than 2\*\*31 units"):
        keras_spiking.Lowpass(0.1, stateful=True)(keras.Input((5, 1000), batch_size=10**9))


@pytest.mark.parametrize("name", ["SpikingActivation", "Lowpass", "Alpha"])
def test_huge_cells_are_refused(name):
    cell = getattr(keras_spiking, f"{name}Cell")
    config = cell(3, "relu" if name == "SpikingActivation" else 0.1).get_config()
    for size in (10**12, [2**20, 2**20], 2**31):
        with pytest.raises((TypeError, ValueError), match=r"`size` must be fewer than 2\*\*31"):
            cell.from_config({**config, "size": size})
    assert cell.from_config({**config, "size": 2**31 - 1}).size == 2**31 - 1


def test_what_a_user_registered_may_be_named(load_changed, original, tmp_path):
    def halved(x):
        return x / 2

    def constant(shape, dtype=None):
        return ops.full(shape, 0.3, dtype=dtype)

    def in_scope(config):
        set_in("spikes", activation=function("__main__", "halved"))(config)
        set_in("lowpass", tau_initializer=function("__main__", "constant"))(config)

    with pytest.raises((TypeError, ValueError), match="'halved', which is not registered"):
        load_changed(in_scope)
    objects = {"halved": halved, "constant": constant}
    path = rewritten(original, tmp_path / "model.keras", in_scope)
    model = keras.saving.load_model(path, custom_objects=objects)
    assert model.get_layer("spikes").activation is halved
    assert model.get_layer("lowpass").tau_initializer is constant


def test_files_hold_no_code_and_no_callbacks(original, tmp_path):
    """What is in them is JSON, and arrays in HDF5."""
    dt = keras.Variable(0.1)
    model = small_model()
    model.compile("sgd", "mse")
    schedule = callbacks.DtScheduler(dt, lambda step: 0.1)
    model.fit(np.ones((2, 3, 4)), np.ones((2, 2, 3)), callbacks=[schedule], verbose=0)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        names = archive.namelist()
        assert sorted(names) == ["config.json", "metadata.json", "model.weights.h5"]
        text = archive.read("config.json").decode()
        assert archive.read("model.weights.h5").startswith(b"\x89HDF")
    assert "lambda" not in text
    assert "DtScheduler" not in text
    for penalty in (regularizers.Percentile(50, l1=0.1), constraints.Mean()):
        json.dumps(penalty.get_config())
