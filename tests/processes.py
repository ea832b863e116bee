"""For processes that tests start: each finds one backend, and so starts in half the time."""

import os
from pathlib import Path

from tests.compiled import BACKEND

ROOT = Path(__file__).resolve().parents[1]


def environment(backend=BACKEND, alone=True, **variables):
    """The variables of a process of a backend that has the package and the tests at hand."""
    path = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    path = [ROOT / "tests" / "alone", *path] if alone else path
    variables = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **variables}
