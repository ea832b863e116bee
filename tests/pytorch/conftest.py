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

# What these say does not depend on which kernels run, so once is enough.
FOR_ANY_KERNELS = """
    test_checkpointing test_distributed test_errors test_import test_record
    test_spiking_fashion_mnist_torch test_temporal_avg_pool
""".split()


def pytest_addoption(parser):
    parser.addoption("--kernels", default="auto", help="native: as where Numba is not installed")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--kernels") != "auto":
        left_out = [item for item in items if item.path.stem in FOR_ANY_KERNELS]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.path.stem not in FOR_ANY_KERNELS]


@pytest.fixture(autouse=True)
def same_start(pytestconfig):
    """Starts each test from the same seed, with the kernels that were asked for."""
    torch.manual_seed(0)
    config.set_kernels(pytestconfig.getoption("--kernels"))


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator for test data."""
    return np.random.default_rng(0)
