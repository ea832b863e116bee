"""The PyTorch modules and the Keras layers, on any backend, give the same."""

import numpy as np
import pytest

import keras_spiking
from tests.layers.cases import run

torch = pytest.importorskip("torch")

import keras_spiking.pytorch  # noqa: E402  (only where there is torch)

# Every backend's kernels are held against one definition, in tests/kernels.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dt", [0.001, 0.013, 1.0])
@pytest.mark.parametrize("features", [(5,), (2, 3)], ids=str)
@pytest.mark.parametrize("steps", [1, 300])
def test_spikes_are_the_same_bit_for_bit(dt, features, steps, rng):
    rates = rng.normal(scale=1.5 / dt, size=(3, steps, *features)).astype("float32")
    voltage = rng.uniform(size=(3, *features)).astype("float32")
    layer = keras_spiking.SpikingActivation("linear", dt=dt)
    expected = run(layer, rates, initial_state=voltage)
    module = keras_spiking.pytorch.SpikingActivation(
        torch.nn.Identity(), dt=dt, initial_state=torch.tensor(voltage)
    )
    np.testing.assert_array_equal(module(torch.tensor(rates)).numpy(), expected)
    assert len(np.unique(expected)) > 3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("negative_spikes", [False, True])
@pytest.mark.parametrize("integrate", ["activation", "input"])
@pytest.mark.parametrize("name", ["relu", "linear", "leaky_relu"])
def test_neurons_of_every_kind_have_the_same_bits(name, integrate, negative_spikes, masked, rng):
    activation = {
        "relu": torch.relu,
        "linear": torch.nn.Identity(),
        "leaky_relu": torch.nn.LeakyReLU(0.2),
    }[name]
    voltage = rng.uniform(size=(3, 4)).astype("float32")
    mask = rng.random((3, 50)) < 0.7 if masked else None
    options = {"integrate": integrate, "negative_spikes": negative_spikes, "return_state": True}
    for dt in (0.37, 0.013):
        inputs = rng.normal(0.2, 2 / dt, size=(3, 50, 4)).astype("float32")
        layer = keras_spiking.SpikingActivation(name, dt=dt, initial_voltage=voltage, **options)
        module = keras_spiking.pytorch.SpikingActivation(
            activation, dt=dt, initial_state=torch.tensor(voltage), **options
        )
        expected, *states = run(layer, inputs, mask=mask)
        of_module = None if mask is None else torch.tensor(mask)
        outputs, state = module(torch.tensor(inputs), mask=of_module)
        np.testing.assert_array_equal(outputs.numpy(), expected)
        state = state if isinstance(state, tuple) else (state,)
        for one, other in zip(state, states, strict=True):
            np.testing.assert_array_equal(one.numpy(), other)
        # And from there on, either of them from the other's state.
        expected, *_ = run(layer, inputs, initial_state=[each.numpy() for each in state])
        given = [torch.tensor(each) for each in states]
        outputs, _ = module(torch.tensor(inputs), given if len(given) > 1 else given[0])
        np.testing.assert_array_equal(outputs.numpy(), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_spikes_are_the_same_in_half_precision(dtype, rng):
    rates = rng.normal(scale=30, size=(2, 200, 5)).astype("float16")
    voltage = rng.uniform(size=(2, 5)).astype("float32")
    layer = keras_spiking.SpikingActivation("linear", dt=0.0625, dtype=f"mixed_{dtype}")
    expected = run(layer, rates, initial_state=voltage)
    module = keras_spiking.pytorch.SpikingActivation(
        torch.nn.Identity(), dt=0.0625, initial_state=torch.tensor(voltage)
    )
    spikes = module(torch.tensor(rates).to(getattr(torch, dtype)))
    np.testing.assert_array_equal(spikes.float().numpy(), expected.astype("float32"))


@pytest.mark.parametrize("name", ["Lowpass", "Alpha"])
@pytest.mark.parametrize(("tau", "dt"), [(0.1, 0.001), (0.02, 0.013), (10.0, 0.001)])
def test_filters_are_the_same_to_a_millionth(name, tau, dt, rng):
    inputs = rng.normal(size=(2, 200, 2, 3)).astype("float32")
    level = rng.normal(size=(1, 2, 3)).astype("float32")
    layer = getattr(keras_spiking, name)(tau, dt=dt)
    layer.build(inputs.shape)
    shape = tuple(layer.weights[0].shape)
    layer.set_weights([level.reshape(shape), np.full(shape, tau)])
    expected = run(layer, inputs)
    module = getattr(keras_spiking.pytorch, name)(
        tau, (2, 3), dt=dt, initial_level=torch.tensor(level)
    )
    outputs = module(torch.tensor(inputs)).detach().numpy()
    assert np.abs(outputs - expected).max() <= 2e-6 * np.abs(expected).max()


def test_means_are_the_same(rng):
    inputs = rng.normal(size=(2, 20, 3)).astype("float32")
    expected = run(keras_spiking.TemporalAvgPool(), inputs)
    outputs = keras_spiking.pytorch.TemporalAvgPool()(torch.tensor(inputs)).numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
