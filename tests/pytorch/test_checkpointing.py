"""Modules that `torch.utils.checkpoint` runs again in the backward pass."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation

UNITS = 3

MAKERS = {
    "spiking": lambda **kwargs: SpikingActivation(torch.nn.PReLU(), dt=0.1, **kwargs),
    "mean": lambda **kwargs: SpikingActivation(
        torch.nn.PReLU(), dt=0.1, integrate="input", **kwargs
    ),
    "lowpass": lambda **kwargs: Lowpass(0.2, UNITS, dt=0.1, **kwargs),
    "alpha": lambda **kwargs: Alpha(0.2, UNITS, dt=0.1, **kwargs),
}
every_module = pytest.mark.parametrize("name", MAKERS)
both_kinds = pytest.mark.parametrize("use_reentrant", [True, False])


def body(name, **kwargs):
    torch.manual_seed(0)
    first, last = (torch.nn.Linear(UNITS, units) for units in (UNITS, 1))
    return torch.nn.Sequential(first, MAKERS[name](**kwargs), last)


def trained(model, run, inputs):
    """Gradients of the squares of the outputs, the initial voltage from the same seed."""
    inputs = inputs.clone().requires_grad_()
    torch.manual_seed(1)
    run(model, inputs).square().sum().backward()
    return [inputs.grad, *(parameter.grad for parameter in model.parameters())]


@both_kinds
@every_module
def test_gradients_are_the_same_where_a_module_runs_again(name, use_reentrant):
    """With a random initial voltage, too: PyTorch gives the same numbers again."""

    def again(model, inputs):
        return checkpoint(model, inputs, use_reentrant=use_reentrant)

    inputs = 5 * torch.randn(2, 50, UNITS)
    plain = trained(body(name), lambda model, inputs: model(inputs), inputs)
    for one, other in zip(trained(body(name), again, inputs), plain, strict=True):
        torch.testing.assert_close(one, other)
        assert other.any()


@both_kinds
@every_module
def test_a_state_that_is_passed_is_right_where_chunks_run_again(name, use_reentrant):
    """PyTorch runs them again from the last to the first."""

    def chunks(model, inputs, run):
        outputs, state = [], None
        for part in inputs.split(10, 1):
            output, state = run(lambda *given: model[1](*given), model[0](part), state)
            outputs.append(model[2](output))
        return torch.cat(outputs, 1)

    def again(function, *given):
        return checkpoint(function, *given, use_reentrant=use_reentrant)

    def plainly(function, *given):
        return function(*given)

    inputs, passed = 5 * torch.randn(2, 50, UNITS), body(name, return_state=True)
    plain = trained(passed, lambda model, each: chunks(model, each, plainly), inputs)
    passed = body(name, return_state=True)
    others = trained(passed, lambda model, each: chunks(model, each, again), inputs)
    for one, other in zip(others, plain, strict=True):
        torch.testing.assert_close(one, other)


@both_kinds
@every_module
def test_a_kept_state_is_refused_where_a_module_runs_again(name, use_reentrant):
    model, inputs = body(name, stateful=True), torch.randn(2, 5, UNITS, requires_grad=True)
    outputs = checkpoint(model, inputs, use_reentrant=use_reentrant)
    with pytest.raises(RuntimeError, match=r"stateful=True runs again .* Use return_state=True"):
        outputs.sum().backward()


@pytest.mark.parametrize(
    ("name", "use_reentrant"),
    [("spiking", True), ("spiking", False), ("mean", False), ("alpha", False)],
)
def test_a_kept_state_is_refused_in_compiled_modules_too(name, use_reentrant):
    torch.compiler.reset()
    model = body(name, stateful=True)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    inputs = torch.randn(2, 5, UNITS, requires_grad=True)
    outputs = checkpoint(compiled, inputs, use_reentrant=use_reentrant)
    with pytest.raises(RuntimeError, match=r"stateful=True runs again .* Use return_state=True"):
        outputs.sum().backward()


@every_module
def test_a_state_that_is_given_is_used_and_not_kept_again(name):
    model, inputs = MAKERS[name](stateful=True), torch.randn(2, 5, UNITS, requires_grad=True)
    with torch.no_grad():
        _, state = MAKERS[name](return_state=True)(torch.randn(2, 5, UNITS))
    outputs = checkpoint(model, inputs, state, use_reentrant=False)
    model(inputs.detach())
    kept = model._kept
    outputs.square().sum().backward()
    assert model._kept is kept
    gradient, inputs.grad = inputs.grad, None
    MAKERS[name]()(inputs, state).square().sum().backward()
    torch.testing.assert_close(gradient, inputs.grad)
