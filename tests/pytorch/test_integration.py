"""Neurons that integrate their input, and neurons that take no spike back."""

import copy

import numpy as np
import pytest
import torch

from keras_spiking.pytorch import SpikingActivation
from tests import reference
from tests.pytorch.neurons import (
    ACTIVATIONS,
    EXACT,
    OPTIONS,
    assert_same_state,
    every_activation,
    every_option,
    neuron,
    on_grid,
)

RELUS = [torch.relu, torch.nn.functional.relu, torch.nn.ReLU(), torch.nn.ReLU(inplace=True)]


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("negative_spikes", [True, False])
@every_activation
def test_equals_a_float64_loop(activation, negative_spikes, compiles, rng):
    inputs = on_grid(rng, (2, 60, 5), scale=3) + 0.5
    module = neuron(activation, negative_spikes=negative_spikes)
    if compiles:
        torch.compiler.reset()
        module = torch.compile(module, backend="aot_eager", fullgraph=True)
    spikes = module(inputs).detach().numpy()
    expected = reference.accumulate_and_fire(
        inputs.numpy(), 0.25, 0.5, ACTIVATIONS[activation][1], negative_spikes=negative_spikes
    )
    if activation in EXACT:
        np.testing.assert_array_equal(spikes, expected)
    else:  # Rounding may move a spike by one step where the mean comes near enough.
        assert np.mean(spikes != expected) < 0.01
    assert (spikes.min() >= 0) != negative_spikes


def test_neurons_without_negative_spikes_make_up_for_negative_rates(rng):
    inputs = on_grid(rng, (2, 80, 5), scale=8) + 0.25
    module = neuron("linear", **OPTIONS["no negative"])
    due = np.floor(0.5 + 0.25 * np.cumsum(inputs.numpy(), axis=1, dtype="float64"))
    due = np.maximum(np.maximum.accumulate(due, axis=1), 0)
    np.testing.assert_array_equal(module(inputs).numpy(), 4 * np.diff(due, axis=1, prepend=0.0))


@pytest.mark.parametrize("activation", RELUS, ids=["built-in", "functional", "module", "in place"])
def test_every_relu_is_done_in_whole_numbers(activation, rng):
    inputs = on_grid(rng, (2, 300, 5), scale=3)
    before = inputs.clone()
    expected = reference.accumulate_and_fire(inputs.numpy(), 0.25, 0.5, ACTIVATIONS["relu"][1])
    np.testing.assert_array_equal(neuron(activation)(inputs).numpy(), expected)
    assert inputs.equal(before)
    without = neuron(activation, **OPTIONS["no negative"])(inputs.clone())
    assert without.equal(neuron(torch.relu, integrate="activation")(inputs))


@pytest.mark.parametrize("num_steps", [1, 7, 32])
def test_two_layers_average_to_the_network_of_rounded_activations(num_steps, rng):
    """Weights of few digits, so that no sum is rounded: ties are ties for both."""
    first, second = (np.rint(rng.normal(size=(5, 5)) * 4) / 8 for _ in range(2))
    inputs = np.rint(rng.normal(size=(2, 5)) * 16) / 8
    total = num_steps * inputs
    spikes = torch.tensor(inputs, dtype=torch.float32)[:, None].expand(2, num_steps, 5)
    for kernel in (first, second):
        total = np.floor(0.5 + 0.25 * np.maximum(total @ kernel, 0)) / 0.25
        spikes = neuron("relu")(spikes @ torch.tensor(kernel, dtype=torch.float32))
    np.testing.assert_allclose(spikes.mean(1).numpy(), total / num_steps, rtol=1e-6, atol=1e-6)


@every_option
@every_activation
def test_time_may_be_cut_anywhere_off_the_grid_too(activation, options, rng):
    inputs = torch.tensor(rng.normal(size=(2, 300, 5)).astype("float32"))
    voltage = torch.tensor(rng.random((2, 5)).astype("float32"))
    each = {"dt": 0.0173, "initial_state": voltage, **options}
    whole, final = neuron(activation, return_state=True, **each)(inputs)
    for cut in (1, 13, 150, 299):
        passed = neuron(activation, return_state=True, **each)
        kept = neuron(activation, stateful=True, **each)
        state, pieces, others = None, [], []
        for part in inputs.split((cut, 300 - cut), 1):
            outputs, state = passed(part, state)
            pieces.append(outputs)
            others.append(kept(part))
        assert torch.cat(pieces, 1).equal(whole)
        assert torch.cat(others, 1).equal(whole)
        assert_same_state(state, final)
        assert copy.deepcopy(kept)(inputs).equal(kept(inputs))


@every_option
@every_activation
def test_masked_steps_count_for_nothing(activation, options, rng):
    inputs = on_grid(rng, (3, 20, 4), scale=4)
    mask = torch.tensor(rng.random((3, 20)) < 0.6)
    mask[0, :5] = False
    hidden = torch.where(mask[..., None], inputs, torch.nan)
    spikes, state = neuron(activation, 3, 4, return_state=True, **options)(hidden, mask=mask)
    alone = neuron(activation, 1, 4, return_state=True, **options)
    for sample in range(3):
        expected, final = alone(inputs[sample : sample + 1, mask[sample]])
        assert spikes[sample, mask[sample]].equal(expected[0])
        assert not spikes[sample, ~mask[sample]].any()
        assert_same_state([each[sample : sample + 1] for each in state], final)


def test_leading_masked_steps_may_have_an_activation_that_is_no_number():
    inputs = torch.full((1, 6, 1), 3.0, requires_grad=True)
    mask = torch.tensor([[False, False, True, True, True, True]])
    for training in (True, False):
        module = neuron(torch.log, 1, 1, spiking_aware_training=False).train(training)
        outputs = module(inputs, mask=mask)
        expected = module(inputs[:, 2:])
        torch.testing.assert_close(outputs[:, 2:], expected)
        assert outputs.isfinite().all()
        (slope,) = torch.autograd.grad(outputs.sum(), inputs)
        assert slope.isfinite().all()


@pytest.mark.parametrize("later", [False, True], ids=["at first", "after other steps"])
@pytest.mark.parametrize("masked", [False, True])
@every_activation
def test_gradient_is_that_of_the_change_of_the_sum(activation, masked, later, rng):
    inputs = torch.tensor(rng.normal(size=(2, 7, 5)), requires_grad=True)
    weights = torch.tensor(rng.normal(size=inputs.shape))
    mask = torch.tensor(rng.random((2, 7)) < 0.7) if masked else None
    earlier = torch.tensor(rng.normal(size=(2, 4, 5)))
    state = neuron(activation, return_state=True)(earlier)[1] if later else None
    summed = earlier.sum(1, keepdim=True) if later else 0.0
    count = 4 if later else 0
    function = ACTIVATIONS[activation][1]

    def loss(given):
        used = np.ones((2, 7, 1)) if mask is None else mask[..., None].numpy()
        total, steps = np.cumsum(given * used, axis=1), np.cumsum(used, axis=1)
        total, steps = total + np.asarray(summed), steps + count
        level = reference.sum_of_mean(total, steps, function)
        start = count * function(np.asarray(summed) / max(count, 1)) * np.ones((2, 1, 5))
        return np.sum(weights.numpy() * np.diff(level, axis=1, prepend=start))

    values = inputs.detach().numpy()
    expected = np.zeros(values.shape)
    for index in np.ndindex(*values.shape):
        step = np.zeros(values.shape)
        step[index] = 1e-6
        expected[index] = (loss(values + step) - loss(values - step)) / 2e-6
    for aware in (True, False):
        module = neuron(activation, spiking_aware_training=aware).train()
        outputs = module(inputs, state, mask=mask)
        (gradient,) = torch.autograd.grad((outputs * weights).sum(), inputs)
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose((outputs * weights).sum().item(), loss(values), rtol=1e-6)


def test_gradient_reaches_the_parameters_of_the_activation(rng):
    inputs = torch.tensor(rng.normal(size=(2, 9, 5)))
    weights = rng.normal(size=inputs.shape)
    module = neuron(torch.nn.PReLU(dtype=torch.float64))
    (module(inputs) * torch.tensor(weights)).sum().backward()
    negative = np.minimum(np.cumsum(inputs.numpy(), axis=1), 0)  # what the slope multiplies
    expected = np.sum(weights * np.diff(negative, axis=1, prepend=0.0))
    np.testing.assert_allclose(module.activation.weight.grad.item(), expected)


@every_option
def test_training_without_spikes_leaves_the_state(options, rng):
    inputs = torch.tensor(rng.normal(size=(2, 9, 5)).astype("float32"))
    module = neuron("tanh", spiking_aware_training=False, return_state=True, **options)
    _, state = module.eval()(inputs)
    outputs, after = module.train()(inputs, state)
    assert_same_state(after, state)
    outputs, fresh = module(inputs)
    assert len(fresh) == len(state)
    if options["integrate"] == "activation":
        assert outputs.equal(torch.tanh(inputs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
@every_option
def test_the_state_is_in_float32_at_least(dtype, options, rng):
    inputs = torch.tensor(rng.normal(scale=5, size=(2, 30, 5))).to(dtype)
    of = dtype if dtype.is_floating_point else torch.float32
    for activation in ACTIVATIONS:
        if activation == "leaky" and not dtype.is_floating_point:
            continue  # PyTorch has it for floats only
        spikes, state = neuron(activation, return_state=True, **options)(inputs)
        assert spikes.dtype == of
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        assert {each.dtype for each in state} == {wide}
        if activation == "linear":
            same = neuron(activation, **options)(inputs.to(wide))
            assert spikes.equal(same.to(of))


def test_a_module_in_half_precision_sees_means_in_it(rng):
    module = neuron(torch.nn.PReLU()).half()
    inputs = torch.tensor(rng.normal(scale=3, size=(2, 30, 5))).half()
    outputs = module(inputs)
    assert outputs.dtype == torch.float16
    outputs.sum().backward()
    assert module.activation.weight.grad.dtype == torch.float16


@pytest.mark.parametrize("negative_spikes", [True, False])
@every_activation
def test_a_million_steps_and_spikes_are_exact(activation, negative_spikes, rng):
    before, steps = 1_000_003.0, 1_000_000.0
    module = neuron(activation, 1, 2, negative_spikes=negative_spikes, return_state=True)
    inputs = torch.tensor(np.rint(rng.normal(1, 3, size=(1, 20_000, 2)) * 2**10) / 2**10)
    one = torch.ones(1, 2)
    state = (before * one, 0 * one, torch.full((1, 1), steps), before * one, 0.5 * one)
    spikes, state = module(inputs.float(), state)
    assert state[2].item() == steps + 20_000
    if activation not in EXACT:
        assert spikes.isfinite().all()
        return
    due = before + np.floor(0.5 + 0.25 * np.cumsum(inputs.numpy(), axis=1))
    due = due if negative_spikes else np.maximum(np.maximum.accumulate(due, axis=1), before)
    np.testing.assert_array_equal(spikes / 4, np.diff(due, axis=1, prepend=before))
    np.testing.assert_array_equal(state[3], due[:, -1])


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("activation", ["relu", "leaky"])
def test_sums_and_spikes_stop_at_2_to_the_24(activation, plain):
    module = neuron(activation, 1, 1, dt=1.0, return_state=True)
    run = torch.func.vmap(module) if plain else module

    def spikes_of(values):
        values = torch.tensor(values).reshape(1, -1, 1)
        outputs, state = run(values[None]) if plain else run(values)
        return outputs.flatten().tolist(), [each.flatten().tolist() for each in state]

    spikes, state = spikes_of([1e7] * 4)
    assert spikes == [1e7, 2**24 - 1e7, 0, 0]
    assert state[3] == [2**24]
    assert spikes_of([1.0, np.inf])[0] == [1, 2**24 - 1]


@pytest.mark.parametrize("activation", ["relu", "leaky"])
def test_what_is_not_a_number_spoils_its_own_step_alone(activation):
    inputs = torch.tensor([[[3.0], [np.nan], [2.5]]])
    spikes, state = neuron(activation, 1, 1, dt=4.0, return_state=True)(inputs)
    assert spikes.isnan().flatten().tolist() == [False, True, False]
    assert all(each.isfinite().all() for each in state)


@every_option
def test_the_initial_state_is_a_voltage_and_random_by_default(options):
    inputs = torch.full((2, 3, 5), 0.7)
    first, second = (
        neuron("relu", initial_state=None, return_state=True, **options)(inputs)[1]
        for _ in range(2)
    )
    index = -1 if options["integrate"] == "input" else 0
    assert not first[index].equal(second[index])
    shifted = neuron("linear", initial_state=torch.full((2, 5), 3.5), **options)
    assert shifted(inputs).equal(neuron("linear", **options)(inputs))


def test_whatever_the_batch_it_may_be_empty():
    for options in OPTIONS.values():
        module = neuron("tanh", initial_state=None, **options)
        assert module(torch.zeros(0, 4, 5)).shape == (0, 4, 5)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match='`integrate` must be one of "activation", "input"; rec'):
        SpikingActivation(torch.relu, integrate="inputs")
    with pytest.raises(TypeError, match="`negative_spikes` must be True or False; received"):
        SpikingActivation(torch.relu, negative_spikes="no")


def test_other_states_are_refused():
    inputs, voltage, steps = torch.ones(2, 4, 5), torch.zeros(2, 5), torch.zeros(2, 1)
    words = r"`state` must be a tuple of 5 tensors, of shapes .*\(2, 1\).*; received "
    for state, received in ((voltage, "Tensor"), ((voltage,) * 4, "4 of them")):
        with pytest.raises(TypeError, match=f"{words}{received}.*return_state=True"):
            neuron()(inputs, state)
    words = r"`state\[2\]` must have shape \(2, 1\) for these inputs; received shape \(2, 5\)"
    with pytest.raises(ValueError, match=words):
        neuron()(inputs, (voltage,) * 5)
    with pytest.raises(TypeError, match=r"`state\[3\]` must be a torch.Tensor .* received float"):
        neuron()(inputs, (voltage, voltage, steps, 0.5, voltage))
    with pytest.raises(TypeError, match=r"a tuple of 2 tensors, of shapes \(2, 5\), \(2, 5\);"):
        neuron(**OPTIONS["no negative"])(inputs, voltage)
    with pytest.raises(TypeError, match=r"`state` must be a torch.Tensor .* received tuple"):
        neuron(integrate="activation")(inputs, (voltage,))
