import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import fashion_mnist  # noqa: E402  (the line above finds it)
import model_energy  # noqa: E402


@pytest.fixture
def data():
    subset = fashion_mnist.read_directory(fashion_mnist.SUBSET_DIRECTORY, "subset")
    return subset.first(64, 16)


@pytest.mark.slow
def test_prints_and_draws_what_energy_depends_on(data, tmp_path, capsys):
    model_energy.show_convolutional_model(data.test_images[:4] / 255, tmp_path)
    printed = capsys.readouterr().out
    assert f"{22 * 22 * 2 * 49:,}" in printed
    assert f"{22 * 22 * 2 * 128:,}" in printed
    lines = [line for line in printed.splitlines() if line.startswith("  ")]
    synops = {line[:28].strip(): float(line.split()[-2]) for line in lines if line[28:].strip()}
    once = synops["one step of 1 ms"]
    for name, factor in [
        ("inputs 10 times as large", 10),
        ("100 steps", 100),
        ("one step of 10 ms", 10),
    ]:
        assert synops[name] == pytest.approx(factor * once, rel=0.01)
    assert (tmp_path / "energy_layers.png").stat().st_size > 10_000


@pytest.mark.slow
def test_compares_models_with_and_without_spikes(data, tmp_path, capsys):
    results = model_energy.compare_trained_models(data, epochs=1)
    without, as_trained, encoded = (result.energy for result in results)
    connections = [energy.table(("connections",)) for energy in (without, as_trained, encoded)]
    assert len({sum(row["connections"] for row in rows) for rows in connections}) == 1
    # The first weights see a hundred times the rate, in spikes that add up to it.
    rates = [
        max(row["rate"] for row in energy.table(("name", "rate")) if "dense" in row["name"])
        for energy in (as_trained, encoded)
    ]
    assert rates[1] == pytest.approx(100 * rates[0], rel=0.05)
    model_energy.show_comparison(results, tmp_path)
    printed = capsys.readouterr().out
    for result in results:
        assert f"{result.name}: test accuracy {result.accuracy:.3f}" in printed
    assert (tmp_path / "energy_comparison.png").stat().st_size > 10_000


@pytest.mark.slow
def test_says_what_it_does():
    command = [sys.executable, EXAMPLES / "model_energy.py", "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for option in ("--data", "--backend", "--output", "--quick"):
        assert option in shown
