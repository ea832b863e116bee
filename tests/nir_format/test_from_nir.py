"""What `from_nir` makes computes what the graph says, and gives back what `to_nir` wrote."""

import keras
import nir
import numpy as np
import pytest

import keras_spiking
from keras_spiking.nir import from_nir, to_nir
from tests.nir_format import interpreter, models
from tests.nir_format.models import DT, channels_first


def outputs_of(model, inputs):
    return model.predict(inputs, verbose=0)


def test_a_round_trip_gives_the_same_bits(rng, tmp_path):
    model = models.over_time()
    inputs = rng.normal(size=(2, 9, 8, 7, 2)).astype("float32")
    expected = outputs_of(model, inputs)
    assert len(np.unique(expected)) > 20
    nir.write(tmp_path / "model.nir", to_nir(model))
    again = from_nir(str(tmp_path / "model.nir"))
    np.testing.assert_array_equal(outputs_of(again, inputs), expected)


@pytest.mark.slow
def test_a_graph_comes_back_as_it_was():
    graph = to_nir(models.spiking_cnn())
    again = to_nir(from_nir(graph))
    assert set(again.nodes) == set(graph.nodes)
    assert set(again.edges) == set(graph.edges)
    for name, node in graph.nodes.items():
        for field, value in vars(node).items():
            if field not in ("metadata", "input_type", "output_type"):
                np.testing.assert_array_equal(getattr(again.nodes[name], field), value, name)


@pytest.mark.slow
def test_the_initial_voltage_comes_back(rng):
    neurons = keras_spiking.SpikingActivation(
        "linear",
        dt=DT,
        rate_scale=8.0,
        negative_spikes=False,
        initial_voltage=[[[0.25, 0.5, 0.75], [0.5, 0.25, 0.0]]],
    )
    model = keras.Sequential([keras.Input((None, 4, 2, 3)), neurons])
    with pytest.warns(UserWarning, match="start from a voltage"):
        graph = to_nir(model)
    inputs = rng.uniform(0, 1.5, (2, 9, 4, 2, 3)).astype("float32")
    np.testing.assert_array_equal(outputs_of(from_nir(graph), inputs), outputs_of(model, inputs))


def nodes_by_hand(rng):
    """Every node that can be read, in a graph with branches, in units of the target "generic"."""

    def few(*shape):
        return (rng.integers(-4, 5, shape) / 4).astype("float32")

    positive = rng.choice([0.5, 1.0, 2.0], (4, 6, 5)).astype("float32")
    return {
        "pictures": nir.Input(np.array([2, 6, 5])),
        "numbers": nir.Input(np.array([2])),
        "conv": nir.Conv2d((6, 5), few(4, 2, 3, 2), 1, "same", 1, 1, few(4)),
        "skip": nir.Conv2d((6, 5), few(4, 1, 1, 3), (1, 1), (0, 1), (1, 1), 2, few(4)),
        "fire": nir.IF(np.full((4, 6, 5), 8.0), positive),
        "scale": nir.Scale(positive),
        "step": nir.Threshold(positive / 2),
        "sum": nir.SumPool2d(np.array([2, 1]), np.array([2, 1]), np.array([1, 0])),
        "mean": nir.AvgPool2d(np.array([1, 2]), np.array([1, 2]), np.array([0, 0])),
        "flat": nir.Flatten(np.array([4, 4, 2]), 0, -1),
        "weigh": nir.Scale(few(32)),
        "more": nir.Affine(few(32, 2), few(32)),
        "linear": nir.Linear(few(3, 32)),
        "leak": nir.LI(np.array([0.125, 1.0, 4.0]), np.array([1.0, 2.0, 0.5]), np.zeros(3)),
        "affine": nir.Affine(few(2, 3), few(2)),
        "classes": nir.Output(np.array([2])),
        "flattened": nir.Output(np.array([32])),
    }


EDGES = [
    *zip(["pictures", "conv", "fire", "scale"], ["conv", "fire", "scale", "step"], strict=True),
    *zip(["sum", "mean", "flat", "weigh"], ["mean", "flat", "weigh", "linear"], strict=True),
    *[("pictures", "skip"), ("skip", "fire"), ("step", "sum"), ("scale", "sum")],
    *[
        ("numbers", "more"),
        ("more", "linear"),
        ("linear", "leak"),
        ("leak", "affine"),
        ("affine", "classes"),
        ("flat", "flattened"),
    ],
]


@pytest.mark.slow
def test_every_node_computes_what_the_oracle_does(rng, tmp_path):
    nodes = nodes_by_hand(rng)
    graph = nir.NIRGraph(nodes, EDGES, {"dt": 0.125, "target": "generic"}, type_check=False)
    inputs = rng.integers(-4, 5, (2, 8, 6, 5, 2)).astype("float32") / 4
    numbers = rng.integers(-4, 5, (2, 8, 2)).astype("float32") / 4
    oracle = nir.NIRGraph(nodes, EDGES, graph.metadata, type_check=False)
    # What "same" means for a stride of 1: Keras and PyTorch both pad more behind.
    weight = np.pad(nodes["conv"].weight, [(0, 0), (0, 0), (0, 0), (1, 0)])
    conv = nir.Conv2d((6, 5), weight, 1, 1, 1, 1, nodes["conv"].bias)
    oracle.nodes = {**nodes, "conv": conv}
    values = interpreter.run(oracle, {"pictures": channels_first(inputs), "numbers": numbers})

    model = from_nir(graph)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        outputs = outputs_of(each, {"pictures": inputs, "numbers": numbers})
        assert set(outputs) == {"classes", "flattened"}
        for name, output in outputs.items():
            np.testing.assert_allclose(output, values[name], rtol=1e-5, atol=1e-5)
    assert {"conv", "fire", "scale", "flat", "leak"} <= {layer.name for layer in model.layers}


@pytest.mark.slow
def test_units_are_those_of_the_source(rng):
    inputs = (rng.integers(0, 9, (1, 9, 2)) / 8).astype("float32")
    ones = np.ones(2)

    def read(node, source):
        nodes = {"input": nir.Input(np.array([2])), "x": node, "output": nir.Output(np.array([2]))}
        graph = nir.NIRGraph(nodes, [("input", "x"), ("x", "output")], type_check=False)
        return outputs_of(from_nir(graph, source=source, dt=0.25), inputs)

    spikes = read(nir.IF(4 * ones, 0.5 * ones), "generic")
    expected = np.floor(np.cumsum(inputs, axis=1) * 2)
    np.testing.assert_array_equal(np.cumsum(spikes, axis=1), expected)
    for source, resistance in (("spikingjelly", 4), ("sinabs", 1), ("snntorch", 1)):
        np.testing.assert_array_equal(read(nir.IF(resistance * ones, 0.5 * ones), source), spikes)

    voltage, steps = np.zeros((1, 2)), []
    for step in range(9):
        voltage = np.exp(-1 / 3) * voltage + inputs[:, step]
        steps.append(voltage)
    leaked = read(nir.LI(3 * ones, ones, 0 * ones), "sinabs")
    np.testing.assert_allclose(leaked[0], np.concatenate(steps), rtol=1e-5)
