"""Settings for the whole suite, which runs once per Keras backend (`KERAS_BACKEND`)."""

import collections
import contextlib
import gc
import importlib.metadata
import itertools
import os

import numpy as np
import pytest

BACKEND = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_IN_PAIRS = "tests/kernels", "tests/test_numbers", "tests/test_floatx"
# What these test is made of Keras's operations and of our layers, which are tested everywhere.
_ON_PYTORCH = "tests/conversion", "tests/energy"


def pytest_sessionstart(session):
    has_workers = session.config.getoption("dist", "no") != "no"
    if has_workers and "PYTEST_XDIST_WORKER" not in os.environ:
        return  # This process runs no test, so it waits for no import.
    # Torch crashes if TensorFlow is imported first.
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401
    import keras

    keras.config.disable_traceback_filtering()


def pytest_addoption(parser):
    parser.addoption("--whole", action="store_true", help="leave out nothing on any backend")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: compiles for long; runs on PyTorch, or with --whole")
    config.addinivalue_line(
        "markers", "every_backend: runs everywhere, unlike others in its folder"
    )


def pytest_collection_modifyitems(config, items):
    """Leaves out what would only compile longer on TensorFlow and JAX. PyTorch runs everything.

    Tests that are marked `slow` are left out, those of some folders unless they are marked
    `every_backend`, and most combinations of parameters. For kernels and types of numbers, every
    pair of two parameters' values remains, and elsewhere every value.
    Only PyTorch measures the coverage of everything, for that takes time; the others, of kernels.
    """
    if BACKEND == "torch":
        return
    for item in items:
        if not item.nodeid.startswith("tests/kernels"):
            item.add_marker("no_cover")
    if config.getoption("whole"):
        return
    tests = collections.defaultdict(list)
    for item in items:
        if runs_everywhere(item):
            tests[item.nodeid.partition("[")[0]].append(item)
    kept = set()
    for name, cases in tests.items():
        kept.update(covering(cases, 2 if name.startswith(_IN_PAIRS) else 1))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def runs_everywhere(item):
    if item.nodeid.startswith(_ON_PYTORCH):
        return item.get_closest_marker("every_backend")
    return not item.get_closest_marker("slow")


def covering(cases, number):
    """Of all cases of one test, a few that have every combination of that number of parameters."""
    if len(parameters(cases[0])) <= number:
        return cases
    has = {case: set(itertools.combinations(parameters(case), number)) for case in cases}
    kept, left = [], set().union(*has.values())
    while left:
        best = max(cases, key=lambda case: len(has[case] & left))
        left -= has[best]
        kept.append(best)
    return kept


def parameters(case):
    """What each `parametrize`, and each fixture, gives a case: names and identities of objects."""
    if not hasattr(case, "callspec"):
        return []
    left = {name: id(value) for name, value in case.callspec.params.items()}
    given = []
    for mark in case.iter_markers("parametrize"):
        names = mark.args[0].split(",") if isinstance(mark.args[0], str) else mark.args[0]
        given.append(tuple((name.strip(), left.pop(name.strip())) for name in names))
    return given + list(left.items())


def pytest_report_header():
    """The versions that a run is about: `make test-oldest` runs on others."""
    names = ("keras", "numpy", "tensorflow", "tensorflow_cpu", "jax", "torch")
    found = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
    versions = [f"{name} {found[name]}" for name in names if name in found]
    return f"{BACKEND}: {', '.join(versions)}"


@pytest.fixture(autouse=True)
def fresh_session():
    """Starts each test from the same seeds and settings."""
    import keras

    import keras_spiking

    keras.utils.set_random_seed(0)
    yield
    keras_spiking.default.dt = 0.001
    keras_spiking.config.set_kernels("auto")
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def fit_fails():
    """For tests in which `fit` raises: its data are collected at once.

    Whatever collects them later, on TensorFlow, waits for them as long as they lay there.
    """
    yield
    if BACKEND == "tensorflow":
        gc.collect()


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator for test data."""
    return np.random.default_rng(0)
