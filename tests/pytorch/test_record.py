"""`record` on modules: what it holds is what they put out in that very run."""

import numpy as np
import pytest
import torch

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation, record

DT = 0.01
ALL = ("spikes", "inputs", "voltages", "outputs")
SAMPLES, STEPS, UNITS = 5, 12, 3


class Model(torch.nn.Module):
    """Every kind of module; it returns what each put out."""

    def __init__(self):
        super().__init__()
        self.random = SpikingActivation(torch.relu, dt=DT)
        self.block = torch.nn.Sequential(
            SpikingActivation(torch.sigmoid, dt=DT), Lowpass(0.1, UNITS, dt=DT)
        )
        self.kept = SpikingActivation(torch.relu, dt=DT, stateful=True, return_state=True)
        self.last = SpikingActivation(torch.relu, dt=DT, return_sequences=False)
        self.smooth = Alpha(0.1, UNITS, dt=DT, return_sequences=False)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, inputs, mask):
        outputs = {"random": self.random(inputs, mask=mask)}
        outputs["random#2"] = self.random(self.dropout(inputs))
        outputs["block.0"] = self.block[0](inputs)
        outputs["block.1"] = self.block[1](outputs["block.0"])
        outputs["kept"], _ = self.kept(inputs)
        outputs["ends"] = [self.last(inputs), self.smooth(inputs)]
        return outputs


def test_every_module_is_recorded_bit_for_bit_and_is_as_before(rng):
    model = Model()
    data = (100 * rng.normal(size=(SAMPLES, STEPS, UNITS))).astype("float32")
    mask = rng.uniform(size=(SAMPLES, STEPS)) < 0.8
    random = torch.get_rng_state()
    recording = record(model, (data, mask), quantities=ALL, verbose=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.kept._kept is None
    assert model.training
    assert model.block.training

    outputs = dict(recording.outputs)
    last, smooth = outputs.pop("ends")
    assert list(recording) == [*outputs, "last", "smooth"]
    for name, expected in outputs.items():
        layer = recording[name]
        found = layer.spikes if layer.outputs is None else layer.outputs
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(recording["last"].spikes[:, -1], last)
    np.testing.assert_array_equal(recording["smooth"].outputs[:, -1], smooth)
    np.testing.assert_array_equal(recording["random"].mask, mask)
    np.testing.assert_array_equal(recording["random#2"].inputs, data)  # without dropout
    for layer in recording.values():
        assert layer.dt == DT
        if layer.voltages is not None:
            assert np.all((layer.voltages > -1e-5) & (layer.voltages < 1 + 1e-5)), layer.name


def test_voltages_are_those_of_the_loop(rng):
    data = 200 * rng.normal(size=(SAMPLES, STEPS, UNITS))
    first = rng.uniform(size=(SAMPLES, UNITS))
    cases = {
        "0": (torch.relu, lambda x: np.maximum(x, 0), {}),
        "1": (torch.nn.Identity(), lambda x: x, {"negative_spikes": False}),
        "2": (torch.nn.functional.softplus, lambda x: np.logaddexp(x, 0), {"integrate": "input"}),
    }
    modules = [
        SpikingActivation(function, dt=DT, initial_state=torch.from_numpy(first), **options)
        for function, _, options in cases.values()
    ]
    model = Parallel(*modules).double()
    tensors = torch.from_numpy(data)
    recording = record(model, tensors, quantities=["voltages"], verbose=0)
    for name, (_, function, options) in cases.items():
        by_input = options.get("integrate") == "input"
        steps = np.arange(1, STEPS + 1)[:, None]
        summed = np.cumsum(data if by_input else function(data), 1)
        level = first[:, None] + DT * (steps * function(summed / steps) if by_input else summed)
        emitted = np.floor(level)
        if not options.get("negative_spikes", True):
            emitted = np.maximum(np.maximum.accumulate(emitted, 1), 0)
        np.testing.assert_allclose(recording[name].voltages, level - emitted, atol=1e-5)
        assert recording[name].voltages.dtype == np.float64


class Parallel(torch.nn.ModuleList):
    """Modules that are all called on the same inputs."""

    def __init__(self, *modules):
        super().__init__(modules)

    def forward(self, inputs):
        return [module(inputs) for module in self]


def test_refuses_what_it_cannot_record(rng):
    model = torch.nn.Sequential(SpikingActivation(torch.relu), Lowpass(0.1, UNITS))
    data = torch.ones(SAMPLES, STEPS, UNITS)
    refused = [
        (r"`layers` must be .*names, which are \['0', '1'\]; received '2'", {"layers": ["2"]}),
        (r"the layers \['1'\] have none of the `quantities`", {"layers": [model[1]]}),
        ("`memory_limit`. Record fewer samples", {"memory_limit": 1.2e-6}),
    ]
    for message, arguments in refused:
        with pytest.raises(ValueError, match=f"record: .*{message}"):
            record(model, data, verbose=0, **arguments)
    assert "_run" not in vars(model[0])
    with pytest.raises(ValueError, match="record: `data` must hold one or more samples, as many"):
        record(model, (data, data[:2]))
    with pytest.raises(TypeError, match="record: `data` must be an array or a tensor"):
        record(model, iter([data]))
    with pytest.raises(ValueError, match="record: `model` must have a layer that spikes"):
        record(torch.nn.Linear(2, 2), data)


def test_says_how_much_memory_it_takes_and_works_alone(capsys):
    module = SpikingActivation(torch.relu, initial_state=torch.zeros(2, 1))
    recording = record(module, torch.ones(4, 3, 1, dtype=torch.bfloat16), batch_size=2)
    assert "Recording 1 layer for 4 samples: less than 1 MB of memory" in capsys.readouterr().out
    assert recording["SpikingActivation"].spikes.dtype == np.float32
    compiled = torch.compile(module)
    assert list(record(compiled, torch.ones(2, 3, 1), verbose=0)) == ["SpikingActivation"]
