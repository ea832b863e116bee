"""Settings for the tests of the PyTorch modules, which also run where there is no Keras."""

import numpy as np
import pytest
import torch

# Small tensors; and threads of several test processes would wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Starts each test from the same seed."""
    torch.manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator for test data."""
    return np.random.default_rng(0)
