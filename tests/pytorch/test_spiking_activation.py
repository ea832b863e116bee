"""SpikingActivation: its spikes, where they start, how they train, in which precision."""

import json
import pathlib

import numpy as np
import pytest
import torch

from keras_spiking.pytorch import SpikingActivation
from tests import reference

DATA = np.load(pathlib.Path(__file__).parents[1] / "data" / "spiking_activation.npz")
CASES = list(enumerate(json.loads(str(DATA["cases"]))))

ACTIVATIONS = {
    "relu": (torch.relu, lambda x: np.maximum(x, 0)),
    "tanh": (torch.nn.Tanh(), np.tanh),
    "linear": (torch.nn.Identity(), lambda x: x),
}


def leaky_relu(x):
    return torch.nn.functional.leaky_relu(x, 0.2)  # Keras's slope, of which the data are


@pytest.mark.parametrize(("index", "options"), CASES, ids=[str(options) for _, options in CASES])
def test_equals_the_old_keras_library(index, options):
    case = {
        name: torch.tensor(DATA[f"{index}.{name}"])
        for name in ("inputs", "voltage", "loss_weights", "spikes", "grad_inputs")
    }
    name = options["activation"]
    activation = leaky_relu if name == "leaky_relu" else getattr(torch.nn.functional, name)
    module = SpikingActivation(activation, dt=options["dt"], initial_state=case["voltage"])
    inputs = case["inputs"].requires_grad_()
    spikes = module(inputs)
    torch.testing.assert_close(spikes, case["spikes"], rtol=1e-6, atol=0)
    (spikes * case["loss_weights"]).sum().backward()
    torch.testing.assert_close(inputs.grad, case["grad_inputs"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("features", [(5,), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("dt", [0.001, 0.013, 1.0])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_equals_a_float64_loop(name, dt, features, rng):
    activation, in_numpy = ACTIVATIONS[name]
    inputs = rng.normal(scale=1.5 / dt, size=(2, 200, *features)).astype("float32")
    voltage = rng.uniform(size=(2, *features)).astype("float32")
    module = SpikingActivation(activation, dt=dt, initial_state=torch.tensor(voltage))
    spikes = module(torch.tensor(inputs)).numpy()
    expected, _ = reference.integrate_and_fire(in_numpy(inputs), dt, voltage)
    # Rounding may move a spike by one step where the sum comes within it of a whole number.
    assert np.mean(np.abs(spikes - expected) > 1e-5 * np.abs(expected)) < 0.01
    assert np.abs(np.cumsum(spikes - expected, axis=1) * dt).max() < 1.001

    last = SpikingActivation(
        activation, dt=dt, initial_state=torch.tensor(voltage), return_sequences=False
    )
    np.testing.assert_array_equal(last(torch.tensor(inputs)).numpy(), spikes[:, -1])


def test_gradient_is_that_of_the_activation_with_its_parameters(rng):
    inputs = torch.tensor(rng.normal(size=(2, 30, 4)), requires_grad=True)
    weights = torch.tensor(rng.normal(size=inputs.shape))
    spiking = SpikingActivation(torch.nn.PReLU(dtype=torch.float64), dt=0.3)
    (spiking(inputs) * weights).sum().backward()
    values, factors = inputs.detach().numpy(), weights.numpy()
    np.testing.assert_array_equal(inputs.grad, np.where(values > 0, 1.0, 0.25) * factors)
    expected = np.sum(np.minimum(values, 0) * factors)
    np.testing.assert_allclose(spiking.activation.weight.grad.item(), expected)


def test_gradient_of_the_last_step_reaches_that_step_only():
    inputs = torch.rand(2, 5, 3, requires_grad=True)
    SpikingActivation(torch.relu, dt=0.1, return_sequences=False)(inputs).sum().backward()
    assert inputs.grad[:, :-1].abs().sum() == 0
    assert (inputs.grad[:, -1] == 1).all()


@pytest.mark.parametrize("return_sequences", [True, False])
def test_without_spiking_aware_training_spikes_come_in_eval_only(return_sequences, rng):
    inputs = torch.tensor(rng.normal(scale=10, size=(2, 20, 4)).astype("float32"))
    module = SpikingActivation(
        torch.relu,
        dt=0.1,
        initial_state=torch.full((2, 4), 0.5),
        spiking_aware_training=False,
        return_sequences=return_sequences,
    )
    aware = SpikingActivation(
        torch.relu,
        dt=0.1,
        initial_state=torch.full((2, 4), 0.5),
        return_sequences=return_sequences,
    )
    expected = torch.relu(inputs if return_sequences else inputs[:, -1])
    assert module.train()(inputs).equal(expected)
    spikes = aware.train()(inputs)
    assert (spikes * 0.1).round().mul(10).sub(spikes).abs().max() < 1e-5
    assert not spikes.equal(expected)
    assert module.eval()(inputs).equal(spikes)
    assert aware.eval()(inputs).equal(spikes)


def test_initial_voltage_is_uniform_and_drawn_anew_in_each_call():
    rates = torch.full((4, 4, 50_000), 25.0)  # a quarter of a spike per step, at dt 0.01
    spiking = SpikingActivation(torch.relu, dt=0.01)
    first, second = spiking(rates) * 0.01, spiking(rates) * 0.01
    assert not first.equal(second)
    # Each unit spikes once in the four steps, a quarter of the units in each of them.
    torch.testing.assert_close(first.sum(1), torch.ones(4, 50_000))
    spread = 5 * (0.25 * 0.75 / 200_000) ** 0.5
    torch.testing.assert_close(first.mean((0, 2)), torch.full((4,), 0.25), atol=spread, rtol=0)
    torch.manual_seed(5)
    again = spiking(rates)
    torch.manual_seed(5)
    assert spiking(rates).equal(again)


@pytest.mark.parametrize("shift", [1.0, -3.0])
def test_whole_numbers_in_the_initial_state_change_nothing(shift):
    inputs, voltage = 10 * torch.rand(2, 9, 3), torch.tensor([[0.25, 0.5, 0.75]]).repeat(2, 1)
    spikes = SpikingActivation(torch.relu, dt=0.1, initial_state=voltage)(inputs)
    shifted = SpikingActivation(torch.relu, dt=0.1, initial_state=voltage + shift)(inputs)
    assert shifted.equal(spikes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_voltage_is_never_in_half_precision(dtype):
    # In bfloat16, 0.5 + 2**-10 is 0.5, so that such a voltage would never reach 1.
    rates = torch.tensor([1.0, 2.0, -1.0], dtype=dtype).expand(2, 4096, 3)
    module = SpikingActivation(torch.nn.Identity(), dt=2.0**-10, initial_state=torch.zeros(2, 3))
    for each in (module, module.half()):
        spikes = each(rates)
        assert spikes.dtype == dtype
        counts = spikes.double().sum(1) * 2.0**-10
        assert counts.tolist() == [[4.0, 8.0, -4.0]] * 2
    assert module.initial_state.dtype == torch.float32


def test_float64_has_a_voltage_of_52_digits():
    # Three steps of 2**-40 from 2**-39 below 1: the second reaches it, in float64 only.
    rates = torch.full((1, 3, 1), 2.0**-40, dtype=torch.float64)
    start = torch.full((1, 1), 1 - 2.0**-39, dtype=torch.float64)
    module = SpikingActivation(torch.nn.Identity(), dt=1, initial_state=start).double()
    spikes = module(rates)
    assert spikes.dtype == torch.float64
    assert spikes[0, :, 0].tolist() == [0.0, 1.0, 0.0]


def test_whole_numbers_and_booleans_are_inputs_too():
    module = SpikingActivation(torch.relu, dt=1, initial_state=torch.zeros(1, 1))
    for values in (torch.tensor([[[3], [-2]]]), torch.tensor([[[True], [False]]])):
        spikes = SpikingActivation(torch.nn.Identity(), dt=1)(values)
        assert spikes.dtype == torch.float32
        assert spikes.tolist() == values.float().tolist()
    assert module(torch.tensor([[[3], [-2]]])).tolist() == [[[3.0], [0.0]]]


def test_no_gradient_flows_to_the_initial_state():
    start = torch.full((1, 2), 0.5, requires_grad=True)
    module = SpikingActivation(torch.relu, initial_state=start)
    assert not module.initial_state.requires_grad
    assert not module.state_dict()


def test_batch_may_be_empty():
    assert SpikingActivation(torch.relu)(torch.zeros(0, 5, 3)).shape == (0, 5, 3)
