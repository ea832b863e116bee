import sys
from pathlib import Path

import keras
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import export_nir  # noqa: E402  (the line above finds it)
import fashion_mnist  # noqa: E402


def test_help_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as stopped:
        export_nir.main(["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--data", "--epochs", "--quick", "--output", "--seed", "--backend"):
        assert option in printed


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="it is the same on every backend, and long"
)
def test_example_writes_a_graph_that_spikes_the_same_and_a_figure(tmp_path, capsys, monkeypatch):
    subset = fashion_mnist.read_directory(fashion_mnist.SUBSET_DIRECTORY, "subset").first(64, 8)
    monkeypatch.setattr(fashion_mnist, "load", lambda directory: subset)
    monkeypatch.setattr(export_nir, "NUM_STEPS", 4)
    monkeypatch.setattr(export_nir, "find_spec", lambda name: None)  # without sinabs
    export_nir.main(["--quick", "--epochs", "1", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for number in range(1, 5):
        assert f"[{number}/4]" in printed
    converted, read = printed.rsplit("not spiking", 1)[1].splitlines()[1:3]
    assert converted.startswith("Keras, converted")
    assert read.startswith("Keras, read from NIR")
    spikes, different = (int(part.replace(",", "")) for part in read.split()[-2:])
    assert spikes > 1000
    assert different < spikes / 1000  # rounding of weights
    assert (tmp_path / "cnn.nir").stat().st_size > 10_000
    assert (tmp_path / "rasters.png").stat().st_size > 10_000
