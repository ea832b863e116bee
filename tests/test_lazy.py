"""What importing the package does, in fresh processes: no Keras until needed, then all of it."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_spiking
from tests.compiled import BACKEND
from tests.processes import environment

PUBLIC = {
    "Alpha",
    "AlphaCell",
    "LastStep",
    "Lowpass",
    "LowpassCell",
    "ModelEnergy",
    "Recording",
    "RepeatOverTime",
    "RunningAverage",
    "SpikingActivation",
    "SpikingActivationCell",
    "TemporalAvgPool",
    "TimeBatched",
    "callbacks",
    "compare",
    "config",
    "constraints",
    "conversion",
    "convert",
    "retime",
    "default",
    "energy",
    "layers",
    "model_energy",
    "nir",
    "record",
    "recording",
    "regularizers",
    "reset_states",
    "version",
    "visualization",
}

# Uses nothing of keras_spiking but its import.
LOAD = """
import numpy as np

def check(load_model):
    saved = np.load("saved.npz")
    model = load_model("model.keras")
    outputs = model.predict(saved["inputs"], verbose=0)
    np.testing.assert_array_equal(outputs, saved["outputs"])
    assert type(model.layers[1]).__module__.startswith("keras_spiking.")
    assert type(model.layers[2].tau_constraint).__name__ == "Mean"
    assert type(model.layers[1].activity_regularizer).__name__ == "L2"
"""

# What each process does.
SCRIPTS = {
    "keras_spiking first": """
        import inspect
        import sys

        import keras_spiking
        import keras

        assert inspect.getsource(keras) and keras.__spec__.origin == keras.__file__
        check(keras.saving.load_model)
        assert not any("keras_spiking" in type(finder).__module__ for finder in sys.meta_path)
    """,
    "keras first": """
        import keras
        import keras_spiking

        check(keras.saving.load_model)
    """,
    "a name first": """
        import sys

        import keras_spiking

        keras_spiking.SpikingActivation("relu")
        assert "keras" in sys.modules
        import keras

        check(keras.saving.load_model)
    """,
    "tf.keras": """
        import keras_spiking
        import tensorflow as tf

        check(tf.keras.models.load_model)
    """,
}

# One is of TensorFlow. Of the others one backend is enough, and JAX starts soonest.
NAMES = {
    "tensorflow": ["tf.keras"],
    "jax": ["keras_spiking first", "keras first", "a name first"],
    "torch": [],
}[BACKEND]


def start(code, folder, alone=True):
    """Starts a fresh process in which every warning is an error."""
    ignored = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    return subprocess.Popen(
        [sys.executable, "-W", "error:::keras_spiking", "-W", ignored, "-c", code],
        cwd=folder,
        env=environment(alone=alone),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.skipif(BACKEND == "torch", reason="the others are enough, and start sooner")
def test_models_load_whatever_was_imported_first(tmp_path):
    inputs = keras.Input((None, 3))
    spikes = keras_spiking.SpikingActivation(
        "relu", dt=0.1, seed=0, activity_regularizer=keras_spiking.regularizers.L2(0.1, 10)
    )
    filtered = keras_spiking.Lowpass(0.1, tau_constraint=keras_spiking.constraints.Mean())
    model = keras.Model(inputs, filtered(spikes(inputs)))
    x = np.random.default_rng(0).uniform(0, 20, size=(2, 6, 3)).astype("float32")
    np.savez(tmp_path / "saved.npz", inputs=x, outputs=model.predict(x, verbose=0))
    model.save(tmp_path / "model.keras")

    # One test, and the processes side by side: each takes seconds to import a framework.
    scripts = {name: LOAD + textwrap.dedent(SCRIPTS[name]) for name in NAMES}
    running = {name: start(script, tmp_path) for name, script in scripts.items()}
    printed = {name: process.communicate(timeout=300)[0] for name, process in running.items()}
    for name, process in running.items():
        assert process.returncode == 0, f"{name}: {printed[name]}"


def test_the_import_imports_neither_keras_nor_a_framework():
    code = """
        import importlib.util
        import sys

        import keras_spiking

        heavy = {"keras", "nir", "tensorflow", "jax", "torch"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        assert keras_spiking.__version__
        assert "SpikingActivation" in dir(keras_spiking)
        assert not hasattr(keras_spiking, "no_such_name")
        assert importlib.util.find_spec("keras") is not None  # asked for, and not imported
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    process = start(textwrap.dedent(code), None, alone=False)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


def test_imports_where_there_is_no_keras():
    code = """
        import sys

        sys.modules["keras"] = None  # as where Keras is not installed
        import keras_spiking
        import keras_spiking.kernels
        import keras_spiking.visualization

        assert "matplotlib" not in sys.modules
        assert keras_spiking.__version__
        try:
            keras_spiking.SpikingActivation
        except ImportError as error:
            assert "keras" in str(error)
        else:
            raise AssertionError("SpikingActivation without Keras")
    """
    process = start(textwrap.dedent(code), None, alone=False)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


def test_all_names_are_public_and_exist():
    assert set(keras_spiking.__all__) == PUBLIC
    assert set(dir(keras_spiking)) >= PUBLIC | {"__version__"}
    namespace = {}
    exec("from keras_spiking import *", namespace)  # noqa: S102
    for name in PUBLIC:
        assert namespace[name] is getattr(keras_spiking, name)


def test_editors_see_every_name():
    """They do not run the package: they read what it imports for them."""
    tree = ast.parse(Path(keras_spiking.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    names = [alias for statement in block.body for alias in statement.names]
    assert {alias.name for alias in names} == PUBLIC
    assert all(alias.name == alias.asname for alias in names)  # which makes them public


def test_modules_have_their_names_in_keras_spiking_too():
    from keras_spiking.model_energy import ModelEnergy
    from keras_spiking.version import version

    assert ModelEnergy is keras_spiking.ModelEnergy is keras_spiking.model_energy.ModelEnergy
    assert version == keras_spiking.version.version == keras_spiking.__version__
    assert set(keras_spiking.model_energy.__all__) == set(keras_spiking.energy.__all__)


def test_names_are_the_objects_of_their_modules():
    for name in keras_spiking.layers.__all__:
        assert getattr(keras_spiking, name, None) in (None, getattr(keras_spiking.layers, name))
    assert keras_spiking.default is keras_spiking.config.default


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'keras_spiking' has no attribute 'Spiking'"):
        _ = keras_spiking.Spiking
    with pytest.raises(ImportError, match="cannot import name 'Spiking'"):
        from keras_spiking import Spiking  # noqa: F401


def test_version_is_one_of_pep_440():
    version = pytest.importorskip("packaging.version").Version(keras_spiking.__version__)
    assert version.release[0] >= 1


@pytest.mark.parametrize(
    "name",
    [
        "Alpha",
        "AlphaCell",
        "Lowpass",
        "LowpassCell",
        "SpikingActivation",
        "SpikingActivationCell",
        "TemporalAvgPool",
        "TimeBatched",
        "L1",
        "L2",
        "L1L2",
        "Percentile",
        "RangedRegularizer",
        "Mean",
    ],
)
def test_classes_are_registered_under_the_package(name):
    registered = keras.saving.get_registered_object(f"keras_spiking>{name}")
    assert registered.__name__ == name
    assert registered.__module__.startswith("keras_spiking.")
