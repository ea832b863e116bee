"""TemporalAvgPool: means over time."""

import numpy as np
import pytest
import torch

from keras_spiking.pytorch import TemporalAvgPool


@pytest.mark.parametrize("dim", [1, 2, 0, -1, -2])
@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 5, 3, 4)], ids=str)
def test_is_the_mean_along_an_axis(shape, dim, rng):
    inputs = rng.normal(size=shape)
    outputs = TemporalAvgPool(dim)(torch.tensor(inputs))
    np.testing.assert_allclose(outputs.numpy(), inputs.mean(dim), rtol=1e-12, atol=1e-15)


def test_gradient_is_shared_between_the_steps():
    inputs = torch.rand(2, 4, 3, requires_grad=True)
    TemporalAvgPool()(inputs).sum().backward()
    assert inputs.grad.unique().tolist() == [0.25]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_in_more_than_half_precision(dtype):
    # Summed in bfloat16, ones would stop at 256.
    inputs = torch.ones(1, 5000, 1, dtype=dtype)
    outputs = TemporalAvgPool()(inputs)
    assert outputs.dtype == dtype
    assert outputs.item() == 1


def test_mean_of_whole_numbers_is_a_fraction():
    assert TemporalAvgPool()(torch.tensor([[[1], [2]]])).tolist() == [[1.5]]
