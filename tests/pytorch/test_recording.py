"""The modules in `torch.fx` and `torch.jit`."""

import io

import pytest
import torch

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation, TemporalAvgPool
from tests.pytorch.cases import MAKERS, UNITS, VOLTAGE, every_module, gradients, inputs_of

deprecated = pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated:DeprecationWarning")


class Masked(torch.nn.Module):
    """A module that passes a state and a mask on."""

    def __init__(self):
        super().__init__()
        self.filter, self.mean = Lowpass(0.1, UNITS, return_state=True), TemporalAvgPool()

    def forward(self, inputs, state, mask):
        outputs, state = self.filter(inputs, state, mask=mask)
        return self.mean(outputs, mask), state


def model(**kwargs):
    return torch.nn.Sequential(
        SpikingActivation(torch.relu, dt=0.013, **kwargs),
        Lowpass(0.1, UNITS, dt=0.013),
        Alpha(0.1, UNITS, dt=0.013),
        Alpha(0.1, UNITS, dt=0.013, return_sequences=False),
    )


@every_module
def test_fx_sees_a_module_as_one_node(make):
    whole = torch.nn.Sequential(torch.nn.Linear(UNITS, UNITS), make())
    recorded = torch.fx.symbolic_trace(whole)
    nodes = [node.target for node in recorded.graph.nodes if node.op == "call_module"]
    assert nodes == ["0", "1"]
    inputs = inputs_of(17)
    assert recorded(inputs).equal(whole(inputs))


def test_fx_passes_states_and_masks_on():
    module, inputs = Masked(), inputs_of()
    given = (inputs, torch.ones(2, UNITS), torch.rand(2, 10) > 0.5)
    for one, other in zip(torch.fx.symbolic_trace(module)(*given), module(*given), strict=True):
        assert one.equal(other)


@every_module
def test_fx_refuses_a_module_alone_and_says_what_to_do(make):
    with pytest.raises(TypeError, match=r"received it alone. Put it .* torch.nn.Sequential"):
        torch.fx.symbolic_trace(make())


@deprecated
@every_module
def test_script_is_refused_and_the_error_says_what_to_use(make):
    for module in (make(), torch.nn.Sequential(torch.nn.Linear(UNITS, UNITS), make())):
        with pytest.raises(TypeError, match=r"torch.jit.script does not .* torch.export.export"):
            torch.jit.script(module)


@deprecated
@every_module
def test_a_traced_module_takes_any_length_with_its_gradients(make):
    module = make()
    traced = torch.jit.trace(module, (inputs_of(5),))
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for steps in (1, 5, 300):
        inputs = inputs_of(steps)
        outputs, of = gradients(module, inputs)
        for other in (traced, loaded):
            from_traced, of_traced = gradients(other, inputs)
            if isinstance(module, SpikingActivation):
                assert from_traced.equal(outputs)
            torch.testing.assert_close(from_traced, outputs, rtol=1e-5, atol=1e-4)
            for one, another in zip(of_traced, of, strict=True):
                torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-3)


@deprecated
def test_a_traced_model_takes_any_batch_without_a_warning():
    traced = torch.jit.trace(model(), (inputs_of(5),), check_trace=False)
    assert traced(inputs_of(40, batch=7)).shape == (7, UNITS)
    fixed = model(initial_state=VOLTAGE)
    inputs = inputs_of(60)
    traced = torch.jit.trace(fixed, (inputs_of(5),))
    torch.testing.assert_close(traced(inputs), fixed(inputs), rtol=1e-5, atol=1e-5)


@deprecated
def test_a_traced_module_takes_states_and_masks():
    module, inputs = Masked(), inputs_of()
    traced = torch.jit.trace(module, (inputs, torch.ones(2, UNITS), torch.rand(2, 10) > 0.5))
    given = inputs_of(30), torch.zeros(2, UNITS), torch.rand(2, 30) > 0.5
    for one, other in zip(traced(*given), module(*given), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@deprecated
@pytest.mark.parametrize("name", ["spiking", "lowpass", "alpha"])
def test_trace_refuses_a_kept_state_and_says_what_to_do(name):
    with pytest.raises(RuntimeError, match=r"torch.jit.trace does not .* Use return_state=True"):
        torch.jit.trace(MAKERS[name](stateful=True), (inputs_of(),))
