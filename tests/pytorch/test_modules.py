"""What every module must do as a torch.nn.Module."""

import copy
import io
import pickle
import shutil
import sys

import pytest
import torch

import keras_spiking.pytorch
from tests.pytorch.cases import (
    MAKERS,
    SPIKING,
    UNITS,
    VOLTAGE,
    any_length,
    every_module,
    gradients,
    inputs_of,
    weighted_sum,
)

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
has_compiler = shutil.which("g++") or shutil.which("clang++")
needs_inductor = pytest.mark.skipif(
    not has_compiler or " " in torch.__file__,
    reason="there is no C++ compiler, or a space in PyTorch's path, at which it fails",
)


def model(**kwargs):
    """All of the modules in a row."""
    return torch.nn.Sequential(
        torch.nn.Linear(UNITS, UNITS),
        keras_spiking.pytorch.SpikingActivation(torch.nn.PReLU(), dt=0.013, **kwargs),
        keras_spiking.pytorch.Lowpass(0.1, UNITS, dt=0.013),
        keras_spiking.pytorch.Alpha(0.1, UNITS, dt=0.013),
        keras_spiking.pytorch.TemporalAvgPool(),
    )


def assert_same(actual, expected, exact):
    outputs, of = actual
    tolerance = {"rtol": 0, "atol": 0} if exact else {}
    torch.testing.assert_close(outputs, expected[0], **tolerance)
    for one, other in zip(of, expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@every_module
def test_compiles_whole_with_its_gradients(make):
    torch.compiler.reset()
    module = make()
    exact = isinstance(module, keras_spiking.pytorch.SpikingActivation)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for steps in (10, 37, 1000):
        inputs = inputs_of(steps)
        actual = gradients(module, inputs, lambda inputs: compiled(any_length(inputs)))
        assert_same(actual, gradients(module, inputs), exact)


class SideBySide(torch.nn.ModuleList):
    """Modules that compile as one, each for inputs of its own: (batch, time, module, units)."""

    def forward(self, inputs):
        return [module(each) for module, each in zip(self, inputs.unbind(2), strict=True)]


@needs_inductor
def test_inductor_gives_the_same_numbers_and_gradients():
    torch.compiler.reset()
    modules = SideBySide(make() for make in MAKERS.values())
    compiled = torch.compile(modules, fullgraph=True)
    for steps in (10, 600):  # of many more, PyTorch makes another program
        inputs = torch.stack([inputs_of(steps) for _ in modules], 2)
        results = []
        for run in (compiled, modules):
            leaf = any_length(inputs.clone().requires_grad_())
            outputs = run(leaf)
            loss = sum(map(weighted_sum, outputs))
            results.append((outputs, torch.autograd.grad(loss, [leaf, *modules.parameters()])))
        (outputs, of), (expected, of_expected) = results
        for name, one, other in zip(MAKERS, outputs, expected, strict=True):
            assert_same((one, []), (other, []), exact=name in SPIKING)
        for one, other in zip(of, of_expected, strict=True):  # it sums in another order
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def compilations(module, dynamic):
    """How many graphs PyTorch makes of a module for batches and lengths of many sizes."""
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend=backend)
    for batch, steps in ((2, 10), (3, 10), (3, 20), (4, 40), (5, 100), (6, 1000)):
        compiled(inputs_of(steps, batch))
    return len(graphs)


@pytest.mark.parametrize("name", MAKERS)
def test_compiles_once_for_all_lengths(name):
    module = MAKERS[name](**({"initial_state": None} if name in SPIKING else {}))
    assert compilations(module, dynamic=True) == 1


def test_compiles_thrice_where_pytorch_finds_out_what_changes():
    """It first takes batch and time for constants, and then each not."""
    assert 1 <= compilations(model(), dynamic=None) <= 3


@pytest.mark.parametrize("strict", [True, False])
def test_exports_for_any_batch_and_length_with_its_gradients(strict):
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    module = model()
    program = torch.export.export(
        module, (inputs_of(5),), dynamic_shapes=({0: batch, 1: time},), strict=strict
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()

    inputs = inputs_of(37, batch=3)
    results = []
    for each in (module, loaded):
        torch.manual_seed(1)  # of the initial voltage
        outputs = each(inputs)
        outputs.square().sum().backward()
        results.append((outputs, {key: one.grad for key, one in each.named_parameters()}))
    (outputs, of_module), (from_program, of_program) = results
    assert from_program.equal(outputs)
    assert of_program.keys() == of_module.keys()
    for key, gradient in of_module.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(of_program[key], gradient)


@every_module
def test_copies_and_pickles_are_the_same_module(make):
    module, inputs = make(), inputs_of()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1
    expected = module(inputs)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301
        assert other(inputs).equal(expected)
        assert repr(other) == repr(module)
        assert not {id(each) for each in other.parameters()} & {
            id(each) for each in module.parameters()
        }


@every_module
def test_state_dict_moves_the_parameters(make):
    module, other, inputs = make(), make(), inputs_of()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1
    if list(module.parameters()):
        assert not other(inputs).equal(module(inputs))
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert other(inputs).equal(module(inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_trains_under_autocast(dtype):
    module, inputs = model(initial_state=VOLTAGE), inputs_of(50)
    seen = {}
    for each in module:
        each.register_forward_hook(
            lambda module, _, outputs: seen.update({type(module).__name__: outputs.dtype})
        )
    with torch.autocast("cpu", dtype):
        outputs = module(inputs)
    assert set(seen.values()) == {dtype}
    outputs.float().sum().backward()
    for parameter in module.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()

    with torch.autocast("cpu", dtype):
        potential = module[0](inputs)
        counts = (module[1](potential).float() * 0.013).round()
        rates = module[1].activation(potential)
    left = (rates.float() * 0.013 - counts).cumsum(1)
    assert left.abs().max() < 1.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@every_module
def test_converts_to_other_types(make, dtype):
    module = make().to(dtype)
    outputs, of = gradients(module, inputs_of(dtype=dtype))
    assert outputs.dtype == dtype
    assert all(each.dtype == dtype and each.isfinite().all() for each in of)


@every_module
def test_runs_in_data_parallel(make):
    module, inputs = make(), inputs_of()
    assert torch.nn.DataParallel(module)(inputs).equal(module(inputs))


@every_module
def test_does_not_change_its_inputs(make):
    inputs = inputs_of(40)
    before = inputs.clone()
    gradients(make(), inputs)
    assert inputs.equal(before)


@every_module
def test_takes_inputs_of_any_layout(make):
    inputs = inputs_of(40)
    module = make()
    for strided in (inputs.mT.contiguous().mT, inputs.transpose(0, 1), inputs[:, ::3]):
        strided = strided[:2, :2] if len(strided) > 2 else strided
        torch.testing.assert_close(module(strided), module(strided.contiguous()))


def test_voltage_is_drawn_on_the_device_of_the_inputs(monkeypatch):
    devices = []

    def record(rates, voltage, *_, **__):
        devices.append(voltage.device.type)
        return rates, voltage

    module = sys.modules[keras_spiking.pytorch.SpikingActivation.__module__]
    monkeypatch.setattr(module, "spike", record)
    for device in ("cpu", "meta"):  # the latter has shapes only, and is there on every machine
        keras_spiking.pytorch.SpikingActivation(torch.relu)(torch.empty(2, 5, 3, device=device))
    assert devices == ["cpu", "meta"]


@on_cuda
@every_module
def test_cuda_gives_what_the_cpu_gives(make):
    module, inputs = make(), inputs_of(1000)
    exact = isinstance(module, keras_spiking.pytorch.SpikingActivation)
    expected = gradients(module, inputs)
    outputs, of = gradients(module.cuda(), inputs.cuda())
    assert outputs.device.type == "cuda"
    assert_same((outputs.cpu(), [each.cpu() for each in of]), expected, exact)


@on_cuda
def test_trains_on_cuda_under_autocast():
    module = model().cuda()
    with torch.autocast("cuda"):
        outputs = module(inputs_of(50).cuda())
    outputs.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
