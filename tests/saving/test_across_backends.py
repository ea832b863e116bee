"""A file written on one backend loads on the others, and gives the same there."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.data import model_1_0
from tests.processes import ROOT, environment

BACKEND = keras.backend.backend()
DATA = Path(model_1_0.__file__).parent

# Loads a file, and a model built anew its weights, in a process of another backend.
PROGRAM = """
import sys
import keras
import numpy as np
from tests.data import model_1_0

folder = sys.argv[1]
inputs = model_1_0.make_inputs()
loaded = keras.saving.load_model(f"{folder}/model.keras")
np.savez(f"{folder}/{keras.backend.backend()}.npz", **model_1_0.run(loaded, inputs))
built = model_1_0.build()
built.load_weights(f"{folder}/model.weights.h5")
np.savez(f"{folder}/{keras.backend.backend()}_weights.npz", *built.get_weights())
"""


def assert_same(actual, expected):
    """Asserts equal outputs: bit for bit where nothing is rounded."""
    for name in expected:
        if name in model_1_0.ROUNDED:
            np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
        assert actual[name].dtype == expected[name].dtype


@pytest.mark.skipif(
    keras.version().startswith("3.14."), reason="Keras 3.15 wrote it, with arguments of its own"
)
def test_the_file_of_version_1_0_loads_and_gives_what_it_gave():
    stored = dict(np.load(DATA / "model_1_0.npz"))
    penalties = stored.pop("penalties")
    inputs = {name: stored.pop(f"input_{name}") for name in ("signal", "pictures", "vector")}
    model = keras.saving.load_model(DATA / "model_1_0.keras")
    assert_same(model_1_0.run(model, inputs), stored)
    np.testing.assert_allclose(model_1_0.penalties(model, stored), penalties, rtol=1e-5)
    assert len(penalties) == 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model of this backend, its weights, and what it gives."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("written")
    model = model_1_0.build()
    # Other weights than a new model has, so that those that were lost would show.
    model.set_weights([2 * weight for weight in model.get_weights()])
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    np.savez(folder / f"{BACKEND}.npz", **model_1_0.run(model, model_1_0.make_inputs()))
    np.savez(folder / f"{BACKEND}_weights.npz", *model.get_weights())
    return folder


# Each backend reads what one other wrote, and nothing in a file says which.
AFTER = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}


def test_a_file_loads_on_another_backend(folder):
    backend = AFTER[BACKEND]
    pytest.importorskip(backend)
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    subprocess.run(command, env=environment(backend), cwd=ROOT, check=True)
    assert_same(np.load(folder / f"{backend}.npz"), np.load(folder / f"{BACKEND}.npz"))
    weights = [np.load(folder / f"{each}_weights.npz") for each in (backend, BACKEND)]
    assert len(weights[0]) == len(weights[1]) > 20
    for name in weights[1]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name])
