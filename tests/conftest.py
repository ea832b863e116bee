"""Settings for the whole suite, which runs once per Keras backend (`KERAS_BACKEND`)."""

import contextlib
import importlib.metadata
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Torch crashes if TensorFlow is imported first.
with contextlib.suppress(ImportError):
    import torch  # noqa: F401

import keras
import numpy as np
import pytest

import keras_spiking

keras.config.disable_traceback_filtering()


def pytest_report_header():
    """The versions that a run is about: `make test-oldest` runs on others."""
    names = ("keras", "numpy", "tensorflow", "tensorflow_cpu", "jax", "torch")
    found = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
    versions = [f"{name} {found[name]}" for name in names if name in found]
    return f"{keras.backend.backend()}: {', '.join(versions)}"


@pytest.fixture(autouse=True)
def fresh_session():
    """Starts each test from the same seeds and settings."""
    keras.utils.set_random_seed(0)
    yield
    keras_spiking.default.dt = 0.001
    keras_spiking.config.set_kernels("auto")
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator for test data."""
    return np.random.default_rng(0)
