"""The code that the migration pages show runs, and carries weights over as they say."""

import pathlib
import re

import h5py
import keras
import numpy as np
import pytest

import keras_spiking

PAGES = pathlib.Path(__file__).parents[1] / "docs" / "migration"
SHAPES = {
    "dense": {"kernel:0": (16, 32), "bias:0": (32,)},
    "lowpass": {"initial_level:0": (1, 32), "tau:0": (1, 32)},
    "dense_1": {"kernel:0": (32, 2), "bias:0": (2,)},
}

SHAPES_WITH_DT = {
    "dense": SHAPES["dense"],
    "spiking_activation": {"Variable:0": ()},
    "lowpass": {**SHAPES["lowpass"], "Variable:0": ()},
    "dense_1": SHAPES["dense_1"],
}


def code_after(page, captions):
    """The blocks of a page that the library's users write now, in order."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.findall(
        r"^```\{code-block\} python\n:caption: ([^\n]*)\n\n(.*?)^```$", text, re.M | re.S
    )
    return [code for caption, code in found if caption in captions]


def run(code, names):
    exec(compile(code, "a migration page", "exec"), names)  # noqa: S102


def write_weights_as_keras_2(path, arrays, shapes=SHAPES, group_name=None):
    """An HDF5 file in the layout of `save_weights` in Keras 2; `save` has it within a group."""
    arrays = iter(arrays)
    with h5py.File(path, "w") as file:
        top = file.create_group(group_name) if group_name else file
        top.attrs["layer_names"] = [name.encode() for name in shapes]
        for layer, weights in shapes.items():
            group = top.create_group(layer)
            names = [f"{layer}/{weight}" for weight in weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group[name] = next(arrays)


def some_weights(rng, shapes=SHAPES):
    shapes = [shape for weights in shapes.values() for shape in weights.values()]
    return [rng.uniform(0.1, 1, size=shape).astype("float32") for shape in shapes]


def assert_all_equal(arrays, expected):
    for array, value in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, value)


def test_keras_code_runs_and_takes_weights_of_keras_2(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed, in_file = some_weights(rng), some_weights(rng)
    np.savez("weights.npz", *listed)
    write_weights_as_keras_2("weights.h5", in_file)
    names, loaded = {}, []
    for code in code_after("from_keras_spiking.md", ("Before and after", "After")):
        run(code, names)
        if "weights.npz" in code:
            assert_all_equal(names["model"].get_weights(), listed)
            loaded.append("list")
        if "weights.h5" in code:
            assert_all_equal(names["model"].get_weights(), in_file)
            loaded.append("file")
    assert loaded == ["list", "file"]
    assert_all_equal(names["model"].get_weights(), in_file)  # of the model saved and loaded last


def test_keras_code_takes_weights_with_the_dt_that_keras_2_counted(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"keras": keras, "keras_spiking": keras_spiking}
    (build,) = (
        code for code in code_after("from_keras_spiking.md", ("After",)) if "np.load" in code
    )
    np.savez("weights.npz", *some_weights(rng))
    run(build, names)

    # A list has a variable once, however many layers share it; a file has it for each of them.
    (code,) = code_after("from_keras_spiking.md", ("After (a list that has dt)",))
    dt, *listed = some_weights(rng, {"dt": {"Variable:0": ()}, **SHAPES})
    with_dt = [*listed[:2], dt, *listed[2:]]
    np.savez("weights.npz", *with_dt)
    with pytest.raises(ValueError, match="expecting 6 weights"):
        names["model"].set_weights(with_dt)
    run(code, names)
    assert_all_equal(names["model"].get_weights(), listed)

    (code,) = code_after("from_keras_spiking.md", ("After (a file that has dt)",))
    for group_name in (None, "model_weights"):
        in_file = some_weights(rng, SHAPES_WITH_DT)
        write_weights_as_keras_2("weights.h5", in_file, SHAPES_WITH_DT, group_name)
        with pytest.raises(ValueError, match="Layer count mismatch"):
            names["model"].load_weights("weights.h5")
        run(code, names)
        assert_all_equal(names["model"].get_weights(), [w for w in in_file if w.shape])


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="one backend is enough")
def test_pytorch_code_runs_and_takes_a_state_dict_of_pytorch_spiking(rng, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    shapes = {
        "0.weight": (64, 16),
        "0.bias": (64,),
        "2.level_var": (1, 64),
        "2.smoothing_var": (1, 64),
        "4.weight": (10, 64),
        "4.bias": (10,),
    }
    saved = {name: torch.tensor(rng.normal(size=shape)).float() for name, shape in shapes.items()}
    torch.save(saved, "model.pt")
    names = {}
    captions = ("Before and after", "After", "After (Keras on PyTorch)")
    for code in code_after("from_pytorch_spiking.md", captions):
        run(code, names)
    assert names["model"].state_dict().keys() == saved.keys()
    for name, value in names["model"].state_dict().items():
        assert torch.equal(value, saved[name]), name

    inputs = torch.tensor(rng.normal(size=(2, 9, 64))).float()
    with torch.no_grad():
        expected = names["lowpass"](inputs).numpy()
    outputs = keras.ops.convert_to_numpy(names["layer"](inputs))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
