"""The example for PyTorch: from data to table and figures, without Keras."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import command_line  # noqa: E402  (the line above finds it)
import fashion_mnist  # noqa: E402
import results_table  # noqa: E402
import spiking_fashion_mnist_torch  # noqa: E402

SCRIPT = EXAMPLES / "spiking_fashion_mnist_torch.py"
FIGURES = ("images.png", "spikes.png", "probabilities.png", "dt.png")


def write_data(directory, num_train=64, num_test=32):
    """Writes a few images of the subset."""
    subset = fashion_mnist.read_directory(fashion_mnist.SUBSET_DIRECTORY, "subset")
    data = subset.first(num_train, num_test)
    arrays = {
        "train": (data.train_images, data.train_labels),
        "test": (data.test_images, data.test_labels),
    }
    for part, names in fashion_mnist.FILE_NAMES.items():
        for name, array in zip(names, arrays[part], strict=True):
            fashion_mnist.write_idx(directory / name, array)


def test_runs_from_data_to_table_and_figures_without_keras(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    data, output = tmp_path / "the data", tmp_path / "the output"
    data.mkdir()
    write_data(data)
    for name in ("keras", "tensorflow", "jax", "torchvision"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it is an error
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setattr("figures.DOTS_PER_INCH", 30)  # drawn in half the time
    arguments = "--data", data, "--epochs", "1", "--output", output
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    table = (output / "results.txt").read_text(encoding="utf-8")
    assert table in printed
    assert f"64 training and 32 test images, from {data}" in table
    assert results_table.NOT_FULL_DATA in table
    assert "by a slip tests on its training" in table
    rows = table[: table.index("data:")].splitlines()
    for (name, dt), published in results_table.PYTORCH_SPIKING.published.items():
        title = name if dt is None else f"{name}, dt {dt:g} s "
        (row,) = [row for row in rows if row.startswith(title)]
        accuracy, least, mean, greatest, step_ms, _, *others = row[len(title) :].split()
        assert 0 <= float(accuracy) <= 1
        assert float(step_ms) > 0
        if dt is None:
            assert (least, mean, greatest) == ("-", "-", "-")
        else:
            assert 0 <= float(least) <= float(mean) <= float(greatest)
        rate = "-" if published.rate is None else f"{published.rate:.2f}"
        assert others == [f"{published.accuracy:.4f}", rate, "-"]
    for name in FIGURES:
        assert (output / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "0"], "--epochs: expected a whole number from 1 to 10000, received '0'"),
        (["--data", "nowhere"], "--data: nowhere has no train-images"),
        (["--backend", "torch"], "unrecognized arguments: --backend"),
    ],
)
def test_names_a_wrong_argument(arguments, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(SystemExit) as stopped:
        spiking_fashion_mnist_torch.main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("missing", spiking_fashion_mnist_torch.PACKAGES)
def test_says_what_to_install(missing, capsys, monkeypatch):
    monkeypatch.setattr(command_line, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(SystemExit):
        spiking_fashion_mnist_torch.main([])
    requirement = spiking_fashion_mnist_torch.PACKAGES[missing]
    words = f"{missing} is not installed: pip install {requirement}\n"
    assert words in capsys.readouterr().err


def test_models_learn_and_filters_answer_at_each_step(monkeypatch):
    pytest.importorskip("tqdm")
    import spiking_models_torch as models

    subset = fashion_mnist.read_directory(fashion_mnist.SUBSET_DIRECTORY, "subset")
    data = subset.first(1500, 500)
    aware, regularized = models.EXPERIMENTS[1:3]
    assert (aware.name, regularized.name) == ("spiking-aware", "regularized")
    trained, _ = models.train(aware, data, epochs=2, seed=0)
    result = models.measure("spiking-aware", trained, models.DT, data, 1.0)
    assert result.accuracy > 0.4
    trained, _ = models.train(regularized, data, epochs=2, seed=0)
    kept = models.measure("regularized", trained, models.DT, data, 1.0)
    assert abs(kept.rates.mean - models.TARGET_RATE) < abs(result.rates.mean - models.TARGET_RATE)

    build = models.EXPERIMENTS[3].build
    recording = models.over_time(build(), build, data.test_images[:2])
    assert recording["spikes"].counts.shape == (2, models.NUM_STEPS, models.NUM_HIDDEN)
    assert recording.outputs.shape == (2, models.NUM_STEPS, models.NUM_CLASSES)
