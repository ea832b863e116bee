"""What cannot be written or read, and in which words."""

import sys

import keras
import nir
import numpy as np
import pytest
from keras import layers

import keras_spiking
from keras_spiking.nir import from_nir, to_nir
from tests.nir_format.models import EXACT

pytestmark = pytest.mark.slow  # it looks at settings, which are the same on every backend


def spikes(**options):
    return keras_spiking.SpikingActivation("relu", **{**EXACT, **options}, name="x")


def batched(layer):
    return keras_spiking.TimeBatched(layer, name="x")


REFUSED = {
    "negative": ((4,), lambda: spikes(negative_spikes=True), "has negative spikes.*convert"),
    "before": ((4,), lambda: spikes(integrate="activation"), "before it integrates.*integrate="),
    "voltage": (
        (4,),
        lambda: spikes(initial_voltage="random_uniform"),
        r"draws its initial voltage.*initial_voltage=0\.0",
    ),
    "voltages": (
        (4,),
        lambda: spikes(dt=0.1, initial_voltage=np.full((2, 4), 0.5)),
        "has an initial voltage for each sample",
    ),
    "activation": (
        (4,),
        lambda: keras_spiking.SpikingActivation("gelu", **EXACT, name="x"),
        "has the activation gelu.*ReLU",
    ),
    "backwards": ((4,), lambda: spikes(go_backwards=True), "go_backwards=True"),
    "level": (
        (4,),
        lambda: keras_spiking.Lowpass(0.1, level_initializer="ones", name="x"),
        "starts from a level",
    ),
    "maximum": ((4, 4, 1), lambda: batched(layers.MaxPooling2D()), 'max_pooling="average"'),
    "same pooling": (
        (4, 4, 1),
        lambda: batched(layers.AveragePooling2D(2, padding="same")),
        'has padding="same"',
    ),
    "axis": ((4, 3), lambda: batched(layers.BatchNormalization(1)), "has axis=1"),
    "over time": ((4,), lambda: layers.Conv1D(2, 3, name="x"), "runs over time.*TimeBatched"),
    "mixing time": ((4,), lambda: layers.Flatten(name="x"), r"shape \(None, None\).*TimeBatched"),
    "unknown": ((4,), lambda: layers.LayerNormalization(name="x"), "has no node in NIR"),
    "tanh": ((4,), lambda: layers.Activation("tanh", name="x"), "applies tanh, and other layers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_layers_are_refused_with_the_remedy(case):
    shape, make, message = REFUSED[case]
    before, behind = spikes(dt=0.1), spikes(dt=0.1)
    before.name, behind.name = "before", "behind"
    stack = [keras.Input((None, *shape)), before, make()]
    if case != "mixing time":  # which leaves no time to neurons behind it
        stack += [layers.Dense(2), behind]
    model = keras.Sequential(stack)
    with pytest.raises(ValueError, match=rf"- 'x' \(\w+\) .*{message}"):
        to_nir(model)


def test_masks_and_integers_are_refused():
    inputs, mask = keras.Input((5, 4), name="a"), keras.Input((5,), dtype="bool", name="b")
    masked = keras.Model([inputs, mask], spikes()(inputs, mask=mask))
    with pytest.raises(ValueError, match=r"- 'x' .*is called with mask\. Call it on its inputs"):
        to_nir(masked)
    dense = layers.Dense(2, name="x")
    quantized = keras.Sequential([keras.Input((4,)), dense])
    dense.quantize("int8")
    with pytest.raises(ValueError, match=r"- 'x' \(Dense\) is quantized \(int8\)"):
        to_nir(quantized)


def test_all_layers_are_in_one_error():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(2, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(name="maximum"),
            layers.Flatten(),
            layers.Dense(4, activation="relu", name="dense"),
            layers.Dense(2, activation="softmax", name="classes"),
        ],
        name="cnn",
    )
    with pytest.raises(ValueError, match="these layers of model 'cnn'") as caught:
        to_nir(model)
    relu, maximum = str(caught.value).splitlines()[1:]
    assert relu.startswith("- 'conv' (Conv2D), 'dense' (Dense): each applies relu without spikes")
    assert 'integrate="input", negative_spikes=False' in relu
    assert maximum.startswith("- 'maximum' (MaxPooling2D) takes a maximum")


def test_a_target_refuses_what_it_cannot_read():
    conv = [keras.Input((None, 9, 2)), batched(layers.Conv1D(2, 3)), spikes(dt=0.1)]
    conv[-1].name = "spikes"
    with pytest.raises(ValueError, match=r"NIR for sinabs.*\n- 'x' .*runs over one axis"):
        to_nir(keras.Sequential(conv), target="sinabs")
    filtered = [keras.Input((None, 4)), keras_spiking.Lowpass(0.1, name="x")]
    with pytest.raises(ValueError, match=r"- 'x' \(Lowpass\).*does not read LI"):
        to_nir(keras.Sequential(filtered), target="norse")
    for layer, target in ((keras_spiking.Alpha, "generic"), (keras_spiking.Lowpass, "sinabs")):
        tau = keras.initializers.RandomUniform(0.1, 1.0)
        filtered = [keras.Input((None, 2, 2, 1)), layer(tau, name="x")]
        with pytest.raises(ValueError, match=r"- 'x' \(\w+\) has .*tau"):
            to_nir(keras.Sequential(filtered), target=target)
    with pytest.raises(ValueError, match=r'`target` must be one of "generic", .*received.*brian'):
        to_nir(keras.Sequential(filtered), target="brian")


def test_samples_of_different_shapes_are_not_added():
    inputs = keras.Input((None, 3, 2))
    x = keras_spiking.TimeBatched(layers.ZeroPadding1D((0, 0)))(inputs)
    small = keras_spiking.TimeBatched(layers.AveragePooling1D(3))(inputs)
    with pytest.raises(ValueError, match=r"\(Add\) adds samples of different shapes, \(2, 3\)"):
        to_nir(keras.Model(inputs, spikes()(layers.Add()([x, small]))))


def test_one_dt_and_known_sizes_are_needed():
    two = keras.Sequential([keras.Input((None, 4)), spikes(dt=0.1), keras_spiking.Lowpass(1, dt=1)])
    with pytest.raises(ValueError, match=r"'lowpass' .*has dt=1\.0, and layers before it 0\.1"):
        to_nir(two)
    unknown = keras.Input((None, None, None, 3), name="pictures")
    outputs = batched(layers.Conv2D(2, 3))(unknown)
    with pytest.raises(ValueError, match=r"'pictures' \(Input\) has samples of shape \(None, None"):
        to_nir(keras.Model(unknown, outputs))


def graph_of(node, shape=(2,), edges=()):
    shape = np.array(shape)
    nodes = {"input": nir.Input(shape), "x": node, "output": nir.Output(shape)}
    return nir.NIRGraph(nodes, [("input", "x"), ("x", "output"), *edges], type_check=False)


def test_nodes_are_refused_with_what_is_missing():
    ones = np.ones(2)
    graph = graph_of(nir.LIF(ones, ones, 0 * ones, ones))
    graph.nodes["y"] = nir.CubaLIF(ones, ones, ones, 0 * ones, ones)
    graph.nodes["z"] = nir.Delay(ones)
    with pytest.raises(ValueError, match="these nodes cannot be read") as caught:
        from_nir(graph)
    leaky, other = str(caught.value).splitlines()[1:]
    assert leaky.startswith("- 'x' (LIF), 'y' (CubaLIF): each leaks and fires")
    assert "SpikingActivation does not leak" in leaky
    assert other.startswith("- 'z' (Delay) has no counterpart")

    recurrent = graph_of(nir.Linear(np.eye(2)), edges=[("x", "x")])
    with pytest.raises(ValueError, match=r"'x' \(Linear\).*depends on its own output.*Recurrent"):
        from_nir(recurrent)
    with pytest.raises(ValueError, match=r"'x' \(IF\) resets its voltage to another than zero"):
        from_nir(graph_of(nir.IF(ones, ones, ones)), source="sinabs")
    with pytest.raises(ValueError, match=r"'x' \(LI\) leaks to another voltage"):
        from_nir(graph_of(nir.LI(ones, ones, ones)), source="generic")
    with pytest.raises(ValueError, match=r"'x' \(NIRGraph\) is a graph within the graph"):
        from_nir(graph_of(graph))


def test_values_that_do_not_fit_are_refused():
    ones = np.ones(2)
    with pytest.raises(ValueError, match=r"'x' \(Affine\) has a weight of shape \(2, 3\), and"):
        from_nir(graph_of(nir.Affine(np.ones((2, 3)), ones)))
    with pytest.raises(ValueError, match=r"'x' \(Conv1d\) has a weight .* must have 3 channels"):
        from_nir(graph_of(nir.Conv1d(2, np.ones((2, 3, 1)), 1, 0, 1, 1, ones)))
    with pytest.raises(ValueError, match=r"'x' \(LI\) has a tau below dt"):
        from_nir(graph_of(nir.LI(0.01 * ones, ones, 0 * ones)), source="generic", dt=0.1)
    with pytest.raises(ValueError, match=r"'x' \(Flatten\) flattens axes 0 to 1 of 3"):
        from_nir(graph_of(nir.Flatten(np.array([2, 1, 1]), 0, 1), (2, 1, 1)))
    lonely = graph_of(nir.Affine(np.eye(2), ones))
    lonely.edges.remove(("input", "x"))
    with pytest.raises(ValueError, match=r"'x' \(Affine\) has no input"):
        from_nir(lonely)
    with pytest.raises(ValueError, match="`source` must say for which simulator"):
        from_nir(graph_of(nir.IF(ones, ones)))
    with pytest.raises(TypeError, match=r"`graph` must be a nir\.NIRGraph or the path"):
        from_nir([graph_of(nir.IF(ones, ones))])


def test_without_the_package_nir_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    model = keras.Sequential([keras.Input((None, 4)), spikes()])
    for function in (to_nir, from_nir):
        with pytest.raises(ImportError, match=r'pip install "keras-spiking\[nir\]"'):
            function(model)
