"""A broken or foreign file is an error, never a wrong model."""

import keras
import numpy as np
import pytest

import keras_spiking
from tests.saving.files import rewritten, set_in, small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    model = small_model()
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    return folder


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_does_not_load(folder, tmp_path, part):
    data = (folder / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(data[: int(part * len(data))])
    with pytest.raises(ValueError, match=r"ensure the file is an accessible `.keras` zip file"):
        keras.saving.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_truncated_weights_do_not_load(folder, tmp_path, part):
    data = (folder / "model.weights.h5").read_bytes()
    (tmp_path / "model.weights.h5").write_bytes(data[: int(part * len(data))])
    with pytest.raises(OSError, match="nable to synchronously open file"):
        small_model().load_weights(tmp_path / "model.weights.h5")
    rewritten(folder / "model.keras", tmp_path / "model.keras", weights=data[: len(data) // 2])
    with pytest.raises((OSError, ValueError)):
        keras.saving.load_model(tmp_path / "model.keras")


def test_a_file_of_something_else_does_not_load(tmp_path):
    noise = np.random.default_rng(0).bytes(20_000)
    (tmp_path / "model.keras").write_bytes(noise)
    (tmp_path / "model.weights.h5").write_bytes(noise)
    with pytest.raises(ValueError, match=r"ensure the file is an accessible `.keras` zip file"):
        keras.saving.load_model(tmp_path / "model.keras")
    with pytest.raises(OSError, match="file signature not found"):
        small_model().load_weights(tmp_path / "model.weights.h5")


OTHERS = {
    "another number of units": lambda: small_model(units=5),
    "another filter": lambda: keras.Sequential(
        [
            keras_spiking.Alpha(0.1, name="lowpass") if layer.name == "lowpass" else layer
            for layer in small_model().layers
        ]
    ),
    "no filter": lambda: keras.Sequential(
        [layer for layer in small_model().layers if layer.name != "lowpass"]
    ),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_weights_of_another_model_do_not_load(make, folder, tmp_path):
    other = make()
    other.build((None, None, 4))
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match="objects could not be loaded"):
        small_model().load_weights(tmp_path / "other.weights.h5")
    weights = (tmp_path / "other.weights.h5").read_bytes()
    rewritten(folder / "model.keras", tmp_path / "model.keras", weights=weights)
    with pytest.raises(ValueError, match="objects could not be loaded"):
        keras.saving.load_model(tmp_path / "model.keras")


def test_weights_without_those_of_the_activation_do_not_load(folder):
    with pytest.raises(ValueError, match=r"Layer 'alpha' expected 1 variables|could not be loaded"):
        small_model(activation=keras.layers.PReLU(name="alpha")).load_weights(
            folder / "model.weights.h5"
        )


def test_an_option_of_a_later_version_is_an_error(folder, tmp_path):
    for name in ("spikes", "lowpass", "over_time", "last", "repeat"):
        change = set_in(name, later_option=3)
        rewritten(folder / "model.keras", tmp_path / "model.keras", change)
        with pytest.raises((TypeError, ValueError), match="later_option"):
            keras.saving.load_model(tmp_path / "model.keras")


def test_a_file_with_an_unknown_class_names_it(folder, tmp_path):
    def change(config):
        config["config"]["layers"][2]["registered_name"] = "keras_spiking>Unknown"
        config["config"]["layers"][2]["class_name"] = "Unknown"

    rewritten(folder / "model.keras", tmp_path / "model.keras", change)
    with pytest.raises(TypeError, match="Could not locate class 'Unknown'"):
        keras.saving.load_model(tmp_path / "model.keras")
