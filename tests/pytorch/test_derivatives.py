"""Second derivatives, and the transformations of `torch.func`, of every module."""

import functools

import pytest
import torch

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation

# PyTorch calls what it deprecates when its forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

FILTERS = [Lowpass, Alpha]
every_filter = pytest.mark.parametrize("module_class", FILTERS)
both_outputs = pytest.mark.parametrize("sequences", [True, False], ids=["sequence", "last output"])


def problem(module_class, sequences=True):
    """A function of float64 tensors, and the tensors: inputs, initial level, smoothing."""
    module = module_class(0.1, (2,), return_sequences=sequences).double()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 7, 2, generator=generator, dtype=torch.float64)
    level = torch.randn(1, 2, generator=generator, dtype=torch.float64)
    smoothing = torch.tensor([[-2.0, 1.5]], dtype=torch.float64)

    def run(inputs, level, smoothing):
        weights = {"level_var": level, "smoothing_var": smoothing}
        return torch.func.functional_call(module, weights, (inputs,))

    return run, [each.requires_grad_() for each in (inputs, level, smoothing)]


@both_outputs
@every_filter
def test_second_derivatives_are_those_of_finite_differences(module_class, sequences):
    run, tensors = problem(module_class, sequences)
    assert torch.autograd.gradgradcheck(run, tensors)


@both_outputs
@every_filter
def test_third_derivatives_are_those_of_finite_differences(module_class, sequences):
    run, (inputs, level, smoothing) = problem(module_class, sequences)

    def slope(level, smoothing):
        outputs = run(inputs, level, smoothing).square().sum()
        return torch.autograd.grad(outputs, smoothing, create_graph=True)[0]

    assert torch.autograd.gradgradcheck(slope, (level, smoothing))


def penalty(gradient):
    return gradient.square().sum()


@both_outputs
@every_filter
def test_a_gradient_penalty_counts_beside_another_loss(module_class, sequences):
    run, tensors = problem(module_class, sequences)

    def loss(*tensors, alone=True):
        outputs = run(*tensors)
        (gradient,) = torch.autograd.grad(outputs.square().sum(), tensors[0], create_graph=True)
        return penalty(gradient) if alone else penalty(gradient) + outputs.sum()

    alone = torch.autograd.grad(loss(*tensors), tensors)
    other = torch.autograd.grad(run(*tensors).sum(), tensors)
    both = torch.autograd.grad(loss(*tensors, alone=False), tensors)
    for total, one, another in zip(both, alone, other, strict=True):
        torch.testing.assert_close(total, one + another)
    assert torch.autograd.gradcheck(loss, tensors)


@both_outputs
@every_filter
def test_torch_func_transforms_filters(module_class, sequences):
    run, tensors = problem(module_class, sequences)

    def loss(*tensors):
        return run(*tensors).square().sum()

    detached = [each.detach() for each in tensors]
    expected = torch.autograd.grad(loss(*tensors), tensors)
    for got, each in zip(torch.func.grad(loss, (0, 1, 2))(*detached), expected, strict=True):
        torch.testing.assert_close(got, each)

    jacobian = torch.autograd.functional.jacobian(run, tuple(detached))
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        for got, each in zip(transform(run, (0, 1, 2))(*detached), jacobian, strict=True):
            torch.testing.assert_close(got, each)

    of_smoothing = functools.partial(loss, *detached[:2])
    hessian = torch.autograd.functional.hessian(of_smoothing, detached[2])
    torch.testing.assert_close(torch.func.hessian(of_smoothing)(detached[2]), hessian)

    batches = torch.stack([detached[0], 2 * detached[0]])
    mapped = torch.func.vmap(run, (0, None, None))(batches, *detached[1:])
    torch.testing.assert_close(mapped, torch.stack([run(each, *detached[1:]) for each in batches]))
    smoothings = torch.stack([detached[2], detached[2] + 1])
    mapped = torch.func.vmap(run, (None, None, 0))(*detached[:2], smoothings)
    each = [run(*detached[:2], smoothing) for smoothing in smoothings]
    torch.testing.assert_close(mapped, torch.stack(each))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("activation", [torch.relu, torch.sigmoid])
def test_torch_func_transforms_spikes(activation, dtype):
    inputs = torch.linspace(-300, 300, 3 * 40 * 2).reshape(2, 3, 20, 2).to(dtype)
    inputs[0, 0, 1:4, 0] = torch.tensor([torch.inf, -torch.inf, torch.nan], dtype=dtype)
    module = SpikingActivation(activation, dt=0.01, initial_state=torch.full((3, 2), 0.5))
    expected = torch.stack([module(each) for each in inputs])
    mapped = torch.func.vmap(module)(inputs)
    torch.testing.assert_close(mapped, expected, rtol=0, atol=0, equal_nan=True)

    inputs = inputs[1]

    def loss(inputs):
        return (module(inputs) * inputs.detach()).sum()

    leaf = inputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(inputs), expected, rtol=0, atol=0)
    tangent = torch.linspace(-1, 1, inputs.numel()).reshape(inputs.shape).to(dtype)
    outputs, slope = torch.func.jvp(module, (inputs,), (tangent,))
    torch.testing.assert_close(outputs, module(inputs), rtol=0, atol=0)
    rates = activation(leaf)
    (derivative,) = torch.autograd.grad(rates.sum(), leaf)
    torch.testing.assert_close(slope, tangent * derivative)


def test_second_derivatives_of_spikes_are_those_of_the_activation():
    module = SpikingActivation(torch.tanh, dt=0.1, initial_state=torch.zeros(1, 3))
    inputs = torch.linspace(-1, 1, 12).reshape(1, 4, 3).requires_grad_()
    weights = torch.linspace(1, 2, 12).reshape(1, 4, 3)
    results = []
    for function in (module, torch.tanh):
        outputs = (function(inputs) * weights).sum()
        (gradient,) = torch.autograd.grad(outputs, inputs, create_graph=True)
        results += torch.autograd.grad(penalty(gradient), inputs)
    torch.testing.assert_close(*results)

    # relu's second derivative is 0; the derivative itself goes on to what multiplies it.
    module = SpikingActivation(torch.relu, dt=0.1, initial_state=torch.zeros(1, 3))
    factor = torch.tensor(2.0, requires_grad=True)
    (gradient,) = torch.autograd.grad((factor * module(inputs)).sum(), inputs, create_graph=True)
    (got,) = torch.autograd.grad(penalty(gradient), factor)
    assert got == 2 * factor * (inputs > 0).sum()


@pytest.mark.parametrize(
    "module",
    [
        SpikingActivation(torch.relu, initial_state=torch.zeros(1, 1)),
        Lowpass(0.1, 1),
        Alpha(0.1, 1, return_sequences=False),
    ],
    ids=["spikes", "lowpass", "alpha's end"],
)
def test_forward_mode_outside_torch_func_says_what_to_use(module):
    forward_ad = torch.autograd.forward_ad
    inputs = torch.ones(1, 3, 1)
    with (
        forward_ad.dual_level(),
        pytest.raises(NotImplementedError, match=r"Use torch\.func\.jvp"),
    ):
        module(forward_ad.make_dual(inputs, inputs))


@every_filter
def test_gradients_are_mapped_over_what_they_are_multiplied_by(module_class):
    run, tensors = problem(module_class)
    outputs = run(*tensors)
    upstream = torch.stack([torch.ones_like(outputs), outputs.detach()])

    def gradients(upstream):
        return torch.autograd.grad(outputs, tensors, upstream, retain_graph=True)

    expected = [torch.stack(each) for each in zip(*map(gradients, upstream), strict=True)]
    for got, each in zip(torch.func.vmap(gradients)(upstream), expected, strict=True):
        torch.testing.assert_close(got, each)


@every_filter
def test_torch_compile_takes_torch_func(module_class):
    run, (inputs, level, smoothing) = problem(module_class)
    weights = level.detach(), smoothing.detach()

    def loss(inputs):
        return run(inputs, *weights).square().sum()

    (expected,) = torch.autograd.grad(loss(inputs), inputs)
    slope = torch.compile(torch.func.grad(loss), backend="aot_eager")
    torch.testing.assert_close(slope(inputs.detach()), expected)
