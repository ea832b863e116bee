"""The example that streams: its chunks give what the whole signal gives, and it says how fast."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import streaming  # noqa: E402  (the line above finds it)

from tests.compiled import BACKEND  # noqa: E402

UNITS, STEPS = 8, 300
BACKENDS = [BACKEND, "modules"] if BACKEND == "torch" else [BACKEND]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_way_gives_what_the_whole_signal_gives(backend, capsys):
    signal = streaming.make_signal(STEPS)
    expected = streaming.whole(backend, UNITS, signal)
    assert np.abs(expected).max() > 10
    for name, (stream, chunk) in streaming.ways(backend, UNITS).items():
        outputs, microseconds = streaming.feed(stream, signal, chunk, name)
        np.testing.assert_allclose(outputs, expected, atol=1e-5 * np.abs(expected).max())
        assert microseconds > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_reports_microseconds_per_step(backend, capsys):
    streaming.main(["--backend", backend, "--steps", "100", "--units", "4"])
    printed = capsys.readouterr().out
    assert f"{backend}: 16 inputs, 4 neurons, 100 steps" in printed
    rows = [line for line in printed.splitlines() if "a call" in line and "after" not in line]
    assert len(rows) == (2 if backend == "modules" else 3)
    for row in rows:
        microseconds, per_second = (float(each.replace(",", "")) for each in row.split()[-3:-1])
        assert per_second == pytest.approx(1e6 / microseconds, rel=0.05)


def test_ends_where_outputs_differ(monkeypatch):
    monkeypatch.setattr(streaming, "whole", lambda *_: np.full((1, 100, 4), 7.0))
    with pytest.raises(SystemExit, match="not those of the whole signal"):
        streaming.main(["--backend", BACKEND, "--steps", "100", "--units", "4"])


def test_says_what_it_does():
    command = [sys.executable, EXAMPLES / "streaming.py", "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for option in ("--backend", "--steps", "--units", "--quick"):
        assert option in shown
