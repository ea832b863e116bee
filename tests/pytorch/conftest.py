"""Settings for the tests of the PyTorch modules, which also run where there is no Keras."""

import os

import numpy as np
import pytest
import torch

from keras_spiking import config

# Small tensors; and threads of several test processes would wait for each other.
torch.set_num_threads(1)
# Else PyTorch's compiler starts processes of its own, which import PyTorch again.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


def pytest_addoption(parser):
    parser.addoption("--kernels", default="auto", help="native: as where Numba is not installed")


@pytest.fixture(autouse=True)
def same_start(pytestconfig):
    """Starts each test from the same seed, with the kernels that were asked for."""
    torch.manual_seed(0)
    config.set_kernels(pytestconfig.getoption("--kernels"))


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator for test data."""
    return np.random.default_rng(0)
