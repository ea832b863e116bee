"""What pyproject.toml says of versions, for `make test-oldest` and for users."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import warnings

import pytest
from packaging.version import Version

from tests import oldest


def test_every_package_has_a_lower_bound():
    assert set(oldest.oldest_versions()) == {"keras", "numpy", *oldest.BACKENDS}


def test_pip_gets_one_version_of_each():
    command = [sys.executable, oldest.__file__]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert dict(line.split("==") for line in lines).keys() == {
        *oldest.oldest_versions(),
        "tensorflow-cpu",
        "onnx",
    }


def test_a_requirement_without_a_lower_bound_is_refused(tmp_path, monkeypatch):
    text = oldest.PROJECT.read_text(encoding="utf-8")
    changed = tmp_path / "pyproject.toml"
    changed.write_text(text.replace('torch = ["torch>=', 'torch = ["torch", "torch>='))
    monkeypatch.setattr(oldest, "PROJECT", changed)
    with pytest.raises(ValueError, match="received 'torch'"):
        oldest.oldest_versions()


@pytest.mark.parametrize("name", oldest.oldest_versions())
def test_what_runs_here_is_not_older_than_what_is_claimed(name):
    builds = [name, "tensorflow_cpu"] if name == "tensorflow" else [name]
    installed = [each for each in builds if importlib.util.find_spec(name) and _version(each)]
    if not installed:
        pytest.skip(f"{name} is not installed")
    for each in installed:
        assert Version(_version(each)) >= Version(oldest.oldest_versions()[name])


@pytest.mark.parametrize(
    "category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning, UserWarning]
)
def test_a_warning_of_ours_fails_the_test_that_raised_it(category):
    with pytest.raises(category, match="use the other"):
        warnings.warn("use the other", category, stacklevel=1)


def test_only_named_warnings_of_others_are_let_through(pytestconfig):
    everything, *exceptions = pytestconfig.getini("filterwarnings")
    assert everything == "error"
    for exception in exceptions:
        action, message, category, module = exception.split(":")
        assert (action, category) == ("ignore", "DeprecationWarning")
        assert message
        assert module.startswith(("keras\\.", "torch\\."))


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
