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

BACKENDS = [BACKEND, "modules"] if BACKEND == "torch" else [BACKEND]


@pytest.mark.parametrize("backend", BACKENDS)
def test_streams_what_the_whole_signal_gives_and_says_how_fast(backend, capsys):
    assert np.abs(streaming.whole(backend, 4, streaming.make_signal(100))).max() > 10
    streaming.main(["--backend", backend, "--steps", "100", "--units", "4"])
    printed = capsys.readouterr().out
    assert f"{backend}: 16 inputs, 4 neurons, 100 steps" in printed
    rows = [line for line in printed.splitlines() if "a call" in line and "after" not in line]
    assert len(rows) == (2 if backend == "modules" else 3)
    for row in rows:
        microseconds, per_second, difference = (
            float(each.replace(",", "")) for each in row.split()[-3:]
        )
        assert per_second == pytest.approx(1e6 / microseconds, rel=0.06)
        assert difference < 1e-5


def test_ends_where_outputs_differ(monkeypatch):
    monkeypatch.setattr(streaming, "whole", lambda *_: np.full((1, 100, 4), 7.0))
    stream = (lambda inputs: np.ones((1, 1, 4)), 1)
    monkeypatch.setattr(streaming, "ways", lambda *_: {"wrong": stream})
    with pytest.raises(SystemExit, match="wrong: the outputs are not those of the whole signal"):
        streaming.main(["--backend", BACKEND, "--steps", "100", "--units", "4"])


@pytest.mark.slow
def test_says_what_it_does():
    command = [sys.executable, EXAMPLES / "streaming.py", "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for option in ("--backend", "--steps", "--units", "--quick"):
        assert option in shown
