import sys
from pathlib import Path

import keras
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import convert_cnn  # noqa: E402  (the line above finds it)
import fashion_mnist  # noqa: E402


def test_help_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as stopped:
        convert_cnn.main(["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--data", "--epochs", "--quick", "--output", "--seed", "--backend"):
        assert option in printed


def test_wrong_data_ends_at_once(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        convert_cnn.main(["--data", str(tmp_path), "--output", str(tmp_path)])
    assert stopped.value.code == 2
    assert "argument --data" in capsys.readouterr().err


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="it is the same on every backend, and long"
)
def test_example_runs_and_writes_reports_and_a_figure(tmp_path, capsys, monkeypatch):
    subset = fashion_mnist.read_directory(fashion_mnist.SUBSET_DIRECTORY, "subset").first(128, 20)
    monkeypatch.setattr(fashion_mnist, "load", lambda directory: subset)
    monkeypatch.setattr(convert_cnn, "NUM_STEPS", 3)
    monkeypatch.setattr(convert_cnn, "FEW_STEPS", 1)
    convert_cnn.main(["--quick", "--epochs", "1", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for number in range(1, 6):
        assert f"[{number}/5]" in printed
    table = printed.rsplit("rate * dt\n", 1)[1].splitlines()
    accuracies = [float(line[40:].split()[0]) for line in table[:5]]
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    reports = (tmp_path / "reports.txt").read_text(encoding="utf-8")
    assert "Neurons that integrate their input" in reports
    assert "parts at" in reports
    assert (tmp_path / "conversion.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_penalty_is_that_of_the_spikes(rng):
    import keras_spiking

    dense = keras.layers.Dense(8, activation="relu")
    model = keras.Sequential([keras.Input((4,)), dense, keras.layers.Dense(2)])
    spiking = keras_spiking.convert(model, num_steps=6, dt=0.5, rate_scale=4.0, seed=0)
    convert_cnn.penalize_spikes(spiking)
    data = rng.normal(size=(3, 4)).astype("float32")
    spiking(data)
    (result,) = keras_spiking.compare(model, spiking, data, batch_size=3).results
    (loss,) = spiking.losses
    expected = convert_cnn.SPIKE_PENALTY * result.spikes
    assert float(keras.ops.convert_to_numpy(loss)) == pytest.approx(expected, rel=1e-3)
    assert np.isfinite(expected)
