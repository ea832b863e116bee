"""Neurons that integrate their input in what transforms, records, repeats or compiles modules."""

import io

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from tests.pytorch.cases import any_length
from tests.pytorch.neurons import assert_same_state, every_activation, every_option, neuron

# PyTorch calls what it deprecates when its forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated")


@every_option
@every_activation
def test_torch_func_transforms_spikes_with_the_same_gradients(activation, options, rng):
    inputs = torch.tensor(rng.normal(scale=3, size=(3, 2, 20, 5)).astype("float32"))
    module = neuron(activation, **options)
    expected = torch.stack([module(each) for each in inputs])
    assert torch.func.vmap(module)(inputs).equal(expected)
    _, state = neuron(activation, return_state=True, **options)(inputs[0])
    assert torch.func.vmap(module, (0, None))(inputs, state).equal(
        torch.stack([module(each, state) for each in inputs])
    )

    weights = torch.tensor(rng.normal(size=(2, 20, 5)).astype("float32"))

    def loss(inputs):
        return (module(inputs) * weights).sum()

    leaf = inputs[0].requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(leaf.detach()), gradient, rtol=1e-4, atol=1e-4)
    tangent = torch.tensor(rng.normal(size=(2, 20, 5)).astype("float32"))
    outputs, slope = torch.func.jvp(loss, (leaf.detach(),), (tangent,))
    torch.testing.assert_close(outputs, loss(leaf.detach()))
    torch.testing.assert_close(slope, (gradient * tangent).sum(), rtol=1e-4, atol=1e-3)

    if activation in ("relu", "tanh"):  # as much of a graph as the others
        compiled = torch.compile(torch.func.grad(loss), backend="aot_eager")
        torch.testing.assert_close(compiled(leaf.detach()), gradient, rtol=1e-4, atol=1e-4)


@every_option
def test_second_derivatives_are_those_of_what_spikes_stand_for(options, rng):
    inputs = torch.tensor(rng.normal(size=(2, 6, 5)), requires_grad=True)
    for activation in ("relu", "tanh"):
        results = []
        for aware in (True, False):
            module = neuron(activation, spiking_aware_training=aware, **options).train()
            factor = torch.tensor(2.0, requires_grad=True)
            outputs = (factor * module(inputs) * inputs.detach()).sum()
            (gradient,) = torch.autograd.grad(outputs, inputs, create_graph=True)
            results.append(torch.autograd.grad(gradient.square().sum(), factor)[0])
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_gradients_are_mapped_over_what_they_are_multiplied_by(rng):
    inputs = torch.tensor(rng.normal(size=(2, 6, 5)), requires_grad=True)
    outputs = neuron("relu")(inputs)
    upstream = torch.tensor(rng.normal(size=(3, *outputs.shape)))

    def gradients(upstream):
        return torch.autograd.grad(outputs, inputs, upstream, retain_graph=True)[0]

    expected = torch.stack([gradients(each) for each in upstream])
    torch.testing.assert_close(torch.func.vmap(gradients)(upstream), expected)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_forward_mode_outside_torch_func_says_what_to_use(activation):
    forward_ad, inputs = torch.autograd.forward_ad, torch.ones(2, 3, 5)
    with (
        forward_ad.dual_level(),
        pytest.raises(NotImplementedError, match=r"Use torch\.func\.jvp"),
    ):
        neuron(activation)(forward_ad.make_dual(inputs, inputs))


@pytest.mark.parametrize("use_reentrant", [True, False])
@every_option
@every_activation
def test_checkpoints_pass_the_state(activation, options, use_reentrant, rng):
    module = neuron(activation, return_state=True, **options)
    values = torch.tensor(rng.normal(size=(2, 30, 5)).astype("float32"))
    results = []
    for again in (False, True):
        inputs, state, outputs = values.clone().requires_grad_(), None, []
        for part in inputs.split(10, 1):
            given = (part, state)
            output, state = (
                checkpoint(module, *given, use_reentrant=use_reentrant) if again else module(*given)
            )
            outputs.append(output)
        torch.cat(outputs, 1).square().sum().backward()
        results.append(inputs.grad)
    torch.testing.assert_close(*results)


@every_option
@every_activation
def test_a_traced_module_passes_its_state_on(activation, options, rng):
    module = neuron(activation, return_state=True, **options)
    inputs = torch.tensor(rng.normal(scale=3, size=(2, 40, 5)).astype("float32"))
    _, state = module(inputs[:, :7])
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[1, 20:] = False
    traced = torch.jit.trace(module, (inputs[:, :5], state, mask[:, :5]))
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    expected, final = module(inputs, state, mask=mask)
    spikes, after = loaded(inputs, state, mask)
    assert spikes.equal(expected)
    assert_same_state(after, final)


def test_exports_with_its_state(rng):
    module = neuron("relu", return_state=True)
    inputs = torch.tensor(rng.normal(size=(2, 8, 5)).astype("float32"))
    _, state = module(inputs)
    program = torch.export.export(module, (inputs, state))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    spikes, after = torch.export.load(file).module()(inputs, state)
    expected, final = module(inputs, state)
    assert spikes.equal(expected)
    assert_same_state(after, final)


@pytest.mark.parametrize("integrate", ["input", "activation"])
def test_a_stateful_module_compiles_and_is_not_compiled_anew(integrate, rng):
    options = {"integrate": integrate, "negative_spikes": False}
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    module, other = (neuron("tanh", stateful=True, **options) for _ in range(2))
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    with torch.no_grad():
        for length in (20, 1, 1, 50, 50, 10, 30):
            inputs = torch.tensor(rng.normal(size=(2, length, 5)).astype("float32"))
            assert compiled(any_length(inputs)).equal(other(inputs))
    assert len(graphs) <= 4  # without a state, with one, and each for a single step
    module.reset_state()
    other.reset_state()
    inputs = torch.ones(2, 4, 5)
    assert compiled(inputs).equal(other(inputs))
