"""`record` on Keras models: what it holds is what the layers put out in that very run."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking import record
from tests import reference

DT = 0.01
ALL = ("spikes", "inputs", "voltages", "outputs")
SAMPLES, STEPS, UNITS = 5, 12, 3


def spiking(activation="relu", **options):
    return keras_spiking.SpikingActivation(activation, dt=DT, **options)


def samples(rng, scale=100.0):
    return (scale * rng.normal(size=(SAMPLES, STEPS, UNITS))).astype("float32")


def quiet(model, data, **arguments):
    return record(model, data, verbose=0, **arguments)


class Branches(keras.layers.Layer):
    """A layer with layers in a list, two of the same name, which calls one of them twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [spiking(name="one"), spiking(name="one"), spiking(name="two")]

    def call(self, inputs):
        outputs = self.parts[0](inputs)
        return self.parts[1](outputs), self.parts[2](outputs), self.parts[2](inputs)


def test_every_layer_is_recorded_bit_for_bit(rng):
    inputs = keras.Input((STEPS, UNITS))
    masked = keras.layers.Masking()(inputs)
    outputs = {"random": spiking(name="random")(masked)}

    start = keras.Input((STEPS, UNITS))
    spikes = spiking("sigmoid", rate_scale=[1.0, 30.0, 99.0], name="spikes")(start)
    filtered = keras_spiking.Lowpass(0.1, dt=DT, name="filter")(spikes)
    block = keras.Model(start, [spikes, filtered], name="block")
    outputs["block/spikes"], outputs["block/filter"] = block(inputs)

    branches = Branches(name="branches")
    names = "branches/one#2", "branches/two", "branches/two#2"
    outputs.update(zip(names, branches(inputs), strict=True))
    both = keras.layers.Bidirectional(spiking(name="turn"), merge_mode=None, name="both")
    outputs["both/forward_turn"], outputs["both/backward_turn"] = both(inputs)
    by_time = spiking(time_major=True, name="by_time")(ops.swapaxes(inputs, 0, 1))
    outputs["by_time"] = ops.swapaxes(by_time, 0, 1)
    with keras.RematScope(mode="full"):
        outputs["last"] = spiking(return_sequences=False, name="last", seed=0)(inputs)
    smooth = keras_spiking.Alpha(0.1, dt=DT, return_sequences=False, name="smooth")
    outputs["smooth"] = smooth(inputs)
    with keras.RematScope(mode="full"):
        model = keras.Model(inputs, outputs)

    data = samples(rng)[:4]  # batches of the same size, which compile once
    data[1, 4:] = 0  # which is masked
    recording = quiet(model, data, quantities=ALL, batch_size=2)
    assert set(recording) == {*outputs, "branches/one"}
    names = list(recording)
    assert names.index("block/filter") == names.index("block/spikes") + 1
    for name, expected in recording.outputs.items():
        layer = recording[name]
        found = layer.spikes if layer.outputs is None else layer.outputs
        assert found.shape == data.shape
        found = found[:, -1] if name in ("last", "smooth") else found
        found = found[:, ::-1] if name == "both/backward_turn" else found
        np.testing.assert_array_equal(found, expected, name)

    np.testing.assert_array_equal(recording["random"].mask, np.any(data != 0, -1))
    assert not recording["random"].mask.all()
    assert recording["last"].mask is None
    np.testing.assert_array_equal(recording["last"].inputs, data)
    np.testing.assert_array_equal(recording["both/backward_turn"].inputs, data[:, ::-1])
    np.testing.assert_array_equal(recording["by_time"].inputs, data)
    np.testing.assert_array_equal(recording["block/spikes"].rate_scale, [1.0, 30.0, 99.0])
    assert recording["smooth"].rate_scale is None
    assert recording["smooth"].spikes is None
    for layer in recording.values():
        assert layer.dt == pytest.approx(DT)
        if layer.voltages is not None:
            # The voltage is what is left, whatever it was at first in this run.
            assert np.all((layer.voltages > -1e-5) & (layer.voltages < 1 + 1e-5)), layer.name
            assert len(np.unique(layer.voltages[:, 0])) > 5


def test_voltages_are_those_of_the_loop(rng):
    data = samples(rng, 200.0)
    mask = rng.uniform(size=(SAMPLES, STEPS)) < 0.8
    mask[0, 0] = False  # where no step has counted yet
    first = rng.uniform(size=UNITS)
    cases = {
        "relu": {},
        "softplus": {"activation": "softplus", "rate_scale": [0.5, 1.0, 2.0]},
        "positive": {"activation": "linear", "negative_spikes": False},
        "by_input": {"integrate": "input"},
        "by_input_positive": {"integrate": "input", "negative_spikes": False, "rate_scale": 3.0},
        "by_input_soft": {"activation": "softplus", "integrate": "input"},
    }
    inputs, given = keras.Input((STEPS, UNITS)), keras.Input((STEPS,), dtype="bool")
    outputs = [
        spiking(initial_voltage=first, name=name, **options)(inputs, mask=given)
        for name, options in cases.items()
    ]
    model = keras.Model([inputs, given], outputs)
    recording = quiet(model, [data, mask], quantities=["voltages"])
    for found, alone in zip(recording.outputs, model.predict([data, mask], verbose=0), strict=True):
        np.testing.assert_array_equal(found, alone)  # recording changes nothing
    for name, options in cases.items():
        assert recording[name].spikes is None
        assert recording[name].inputs is None
        expected = loop(data, mask, first, **options)
        np.testing.assert_allclose(recording[name].voltages, expected, atol=1e-5, err_msg=name)
    assert recording["positive"].voltages.min() < -1  # which is what it owes


def loop(
    inputs,
    mask,
    first,
    activation="relu",
    rate_scale=1.0,
    integrate="activation",
    negative_spikes=True,
):
    """The voltage after each step in float64."""
    functions = {
        "relu": lambda x: np.maximum(x, 0),
        "linear": lambda x: x,
        "softplus": lambda x: np.logaddexp(x, 0),
    }
    function, per_step = functions[activation], DT * np.asarray(rate_scale)
    inputs = np.where(mask[..., None], inputs, 0.0).astype("float64")
    used = np.cumsum(mask, 1)[..., None]
    if integrate == "input":
        spikes = reference.accumulate_and_fire(
            inputs, per_step, first, function, mask, negative_spikes
        )
        summed = reference.sum_of_mean(np.cumsum(inputs, 1), used, function)
        return first + per_step * (summed - np.cumsum(spikes, 1))
    rates = np.where(mask[..., None], function(inputs), 0.0)
    if not negative_spikes:
        emitted = np.floor(first + per_step * np.cumsum(rates, 1))
        emitted = np.maximum(np.maximum.accumulate(emitted, 1), 0)
        return first + per_step * np.cumsum(rates, 1) - emitted
    voltage = np.broadcast_to(first, inputs[:, 0].shape)
    steps = range(STEPS)
    return np.stack(
        [
            reference.integrate_and_fire(rates[:, : step + 1], per_step, voltage)[1]
            for step in steps
        ],
        1,
    )


def test_a_stateful_model_goes_on_from_its_states_and_keeps_them(rng):
    inputs = keras.Input((STEPS, UNITS), batch_size=2)
    spikes = spiking(stateful=True, name="spikes")(inputs)
    model = keras.Model(inputs, spiking(name="random")(spikes))
    data = np.abs(samples(rng)[:4])
    before = [ops.convert_to_numpy(variable).copy() for variable in model.variables]
    whole = quiet(model, data, quantities=["spikes", "voltages"])
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    assert not any("_run_once" in vars(layer) for layer in model.layers)  # nothing stays behind
    # The second batch went on where the first ended.
    (start,) = model.layers[1].states
    rates = np.concatenate([data[:2], data[2:]], 1)
    expected, _ = reference.integrate_and_fire(rates, DT, ops.convert_to_numpy(start))
    found = np.concatenate([whole["spikes"].spikes[:2], whole["spikes"].spikes[2:]], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.all((whole["spikes"].voltages >= 0) & (whole["spikes"].voltages < 1))
    with pytest.raises(ValueError, match="record: `data` must hold a multiple of 2 samples"):
        quiet(model, data[:3])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_kept_in_float32(rng, policy):
    model = keras.Sequential([keras.Input((STEPS, UNITS)), spiking(dtype=policy, name="spikes")])
    recording = quiet(model, np.abs(samples(rng)), quantities=ALL)
    layer = recording["spikes"]
    assert layer.spikes.dtype == layer.inputs.dtype == layer.voltages.dtype == np.float32
    np.testing.assert_array_equal(layer.spikes, recording.outputs)
    np.testing.assert_allclose(layer.counts, layer.spikes * DT, atol=0.01)
    assert np.all((layer.voltages > -1e-5) & (layer.voltages < 1 + 1e-5))


class Unbuilt(keras.Model):
    """A model whose layers are not built, and which takes its inputs by name."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(UNITS)
        self.spikes = spiking(name="spikes")
        self.filter = keras_spiking.Lowpass(0.1, dt=DT, name="filter")

    def call(self, inputs):
        return [self.filter(self.spikes(self.dense(inputs["a"]))), inputs["b"]]


def test_layers_and_quantities_are_chosen(rng, capsys):
    model, data = Unbuilt(), {"a": samples(rng), "b": np.arange(SAMPLES)}
    recording = record(model, data, layers=[model.spikes], batch_size=4)
    printed = capsys.readouterr().out
    assert printed.startswith("Recording 1 layer for 5 samples: less than 1 MB of memory\n")
    assert list(recording) == ["spikes"]
    assert recording["spikes"].inputs is None
    np.testing.assert_array_equal(recording.outputs[1], np.arange(SAMPLES))
    recording = quiet(model, data, layers=["filter"], quantities=["outputs"])
    assert list(recording) == ["filter"]
    np.testing.assert_array_equal(recording["filter"].outputs, recording.outputs[0])
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_memory_is_known_before_it_runs(rng):
    model = keras.Sequential([keras.Input((None, UNITS)), spiking(name="spikes")])
    model.add(keras.layers.GlobalAveragePooling1D())
    data = np.zeros((70, 50, UNITS), "float32")
    size = 70 * 50 * UNITS * 4 * 3 + 70 * UNITS * 4
    needed = size / 1e9
    arguments = {"quantities": ["spikes", "inputs", "voltages"]}
    recording = quiet(model, data, memory_limit=1.001 * needed, **arguments)
    arrays = vars(recording["spikes"]).values()
    arrays = [array for array in arrays if isinstance(array, np.ndarray)]
    assert sum(array.nbytes for array in arrays) + recording.outputs.nbytes == size
    with pytest.raises(ValueError, match=r"record: .* would take 0\.000127 GB of"):
        quiet(model, data, memory_limit=0.999 * needed, **arguments)


def test_refuses_what_it_cannot_record(rng):
    model = keras.Sequential([keras.Input((STEPS, UNITS)), spiking(name="spikes")])
    model.add(keras_spiking.Lowpass(0.1, dt=DT, name="filter"))
    data = samples(rng)
    refused = [
        (
            r"`layers` must be .*names, which are \['spikes', 'filter'\]; received 'x'",
            {"layers": ["x"]},
        ),
        (
            r"the layers \['filter'\] have none of the `quantities` \['spikes'\]",
            {"layers": ["filter"]},
        ),
        (r"`quantities` must be .*received quantities=\['rates'\]", {"quantities": ["rates"]}),
        ("`memory_limit`. Record fewer samples, `layers`", {"memory_limit": 1e-6}),
        ("`batch_size` must be a positive integer", {"batch_size": 0}),
        ('`verbose` must be "auto", 0 or 1; received verbose=2', {"verbose": 2}),
    ]
    for message, arguments in refused:
        with pytest.raises(ValueError, match=f"record: .*{message}"):
            record(model, data, **{"verbose": 0, **arguments})
    with pytest.raises(TypeError, match="`layers` must be None or a list"):
        quiet(model, data, layers="spikes")
    with pytest.raises(ValueError, match=r"record: `data` must be .*received arrays of shape \(5,"):
        quiet(model, data[:, :, :2])
    with pytest.raises(TypeError, match=r"record: `data` must be an array, .*of a dataset, take"):
        quiet(model, iter([data]))
    with pytest.raises(TypeError, match=r"record: `model` must be a keras\.Model or a torch"):
        quiet(spiking(), data)
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="record: `model` must have a layer that spikes"):
        quiet(plain, np.zeros((1, 3)))
