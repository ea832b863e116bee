"""Keras models on PyTorch in `torch.jit.trace`: any length of time, with gradients."""

import keras
import numpy as np
import pytest

import keras_spiking

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="for torch alone"),
    pytest.mark.filterwarnings("ignore"),  # the tracer's own, and that it is deprecated
]


def model(**kwargs):
    return keras.Sequential(
        [
            keras.Input((None, 3)),
            keras.layers.Dense(3),
            keras_spiking.SpikingActivation("softplus", dt=0.1, **kwargs),
            keras_spiking.Lowpass(0.3, dt=0.1),
            keras_spiking.Alpha(0.3, dt=0.1),
        ]
    )


def test_a_traced_model_gives_the_same_and_the_same_gradients(rng):
    original = model(initial_voltage=0.25)
    traced = torch.jit.trace(original, (torch.zeros(2, 5, 3),), check_trace=False)
    for steps in (5, 1, 40):
        results = []
        inputs = rng.normal(scale=5, size=(3, steps, 3)).astype("float32")
        for each in (traced, original):
            given = torch.tensor(inputs, requires_grad=True)
            outputs = each(given)
            outputs.square().sum().backward()
            results.append((outputs.detach().numpy(), given.grad.numpy()))
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        assert np.abs(other).max() > 0


def test_a_random_voltage_cannot_be_traced_and_the_error_says_what_to_do():
    with pytest.raises(NotImplementedError, match=r"trace has no random .* `initial_voltage`"):
        torch.jit.trace(model(), (torch.zeros(2, 5, 3),), check_trace=False)
