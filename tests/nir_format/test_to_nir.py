"""What `to_nir` writes is what the Keras model computes, spike by spike."""

import keras
import nir
import numpy as np
import pytest
from keras import layers

import keras_spiking
from keras_spiking.nir import from_nir, to_nir
from keras_spiking.nir.dialects import DIALECTS
from tests import reference
from tests.nir_format import interpreter, models
from tests.nir_format.models import DT, EXACT, NUM_STEPS, channels_first


@pytest.fixture(scope="module")
def cnn():
    """A spiking CNN, its inputs, and the spikes of each of its layers as whole numbers."""
    model = models.spiking_cnn()
    images = models.images(np.random.default_rng(0))
    spiking = [x for x in model.layers if isinstance(x, keras_spiking.SpikingActivation)]
    readout = model.get_layer("classes_over_time")
    probe = keras.Model(model.input, [layer.output for layer in [*spiking, readout]])
    *outputs, currents = map(channels_first, probe.predict(images, verbose=0))
    counts = {
        layer.name: output * channels_first(np.reshape(layer.rate_scale * DT, (1, 1, 1, 1, -1)))
        if output.ndim > 3
        else output * layer.rate_scale * DT
        for layer, output in zip(spiking, outputs, strict=True)
    }
    repeated = np.repeat(channels_first(images[:, None]), NUM_STEPS, axis=1)
    return model, repeated, counts, currents


@pytest.mark.parametrize("target", [target for target in DIALECTS if target != "spyx"])
def test_every_spike_is_the_same(cnn, target):
    model, images, counts, currents = cnn
    graph = to_nir(model, target=target)
    values = interpreter.run(graph, {"input": images}, DIALECTS[target].flatten_from)
    for name, expected in counts.items():
        assert len(np.unique(expected)) > 2, "several spikes in a step"
        np.testing.assert_array_equal(values[name], expected, err_msg=name)
    np.testing.assert_array_equal(values["output"], currents)
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    assert ("AvgPool2d" in kinds) == (target == "generic")
    groups = {node.groups for node in graph.nodes.values() if isinstance(node, nir.Conv2d)}
    assert groups == ({1, 2, 4} if target == "generic" else {1})
    for node in graph.nodes.values():
        if isinstance(node, nir.IF):
            assert (node.v_threshold == 1).all()
            unit = 1 / DT if target in ("generic", "spikingjelly") else 1
            assert (node.r == unit).all()


def test_nodes_have_the_names_of_layers_and_metadata_say_what_is_left_out(cnn, tmp_path):
    nir.write(tmp_path / "cnn.nir", to_nir(cnn[0]))
    graph = nir.read(tmp_path / "cnn.nir", type_check=False)
    layers_of_model = {layer.name for layer in cnn[0].layers}
    others = set(graph.nodes) - layers_of_model
    # The padding of convolutions comes behind what BatchNormalization adds.
    scaled = {"strided_spikes_scaled", "strided_spikes_scaled_2", "pooled_scaled"}
    assert others == {"input", "output"} | scaled
    assert graph.metadata["dt"] == DT
    assert graph.metadata["num_steps"] == NUM_STEPS
    assert graph.metadata["target"] == "generic"
    assert graph.metadata["keras_spiking"] == keras_spiking.__version__
    for part in (f"show the inputs in each of {NUM_STEPS} steps", "mean over time", "softmax"):
        assert part in graph.metadata["left_out"]
    assert "subtracted" in graph.nodes["dense_spikes"].metadata["reset"]


@pytest.mark.slow
def test_spyx_gets_a_chain_in_the_order_of_keras(rng):
    inputs = keras.Input((None, 2, 3, 2))
    x = keras_spiking.TimeBatched(layers.Flatten())(inputs)
    dense = layers.Dense(4)
    model = keras.Model(inputs, dense(x))
    kernel = np.asarray(keras.ops.convert_to_numpy(dense.kernel))
    np.testing.assert_array_equal(to_nir(model, target="spyx").nodes["dense"].weight, kernel.T)
    data = rng.integers(0, 9, (2, 1, 2, 3, 2)).astype("float32")
    values = interpreter.run(to_nir(model), {"input": channels_first(data)})
    np.testing.assert_allclose(values["output"], channels_first(model(data)), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"'merged' .*adds several inputs.*another target"):
        to_nir(models.spiking_cnn(), target="spyx")


CONVOLUTIONS = {
    "even": ((9, 6, 1), lambda: layers.Conv2D(2, 4, strides=3, padding="same")),
    "dilated": ((7, 9, 1), lambda: layers.Conv2D(2, (2, 3), dilation_rate=3, padding="same")),
    "depthwise": ((6, 6, 3), lambda: layers.DepthwiseConv2D(2, 2, "same", depth_multiplier=2)),
    "padded": ((3, 4, 2), lambda: layers.BatchNormalization(epsilon=2.0**-10)),
    "dense": ((4, 5, 3), lambda: layers.Dense(2)),
    "causal": ((9, 2), lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2, groups=2)),
    "pool": ((9, 2), lambda: layers.AveragePooling1D(4, 2)),
    "depthwise of one axis": ((9, 2), lambda: layers.DepthwiseConv1D(3, 2, "same")),
    "global of one axis": ((5, 2), lambda: layers.GlobalAveragePooling1D()),
    "global": ((2, 6, 2), lambda: layers.GlobalAveragePooling2D()),
    "kept": ((2, 6, 2), lambda: layers.GlobalAveragePooling2D(keepdims=True)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_positions_and_padding_are_those_of_keras(case, rng):
    shape, make = CONVOLUTIONS[case]
    padding = layers.ZeroPadding1D((2, 1)) if len(shape) == 2 else layers.ZeroPadding2D(1)
    # The offset is in what the convolution sees, and not in the zeros that are padded.
    before = layers.BatchNormalization(epsilon=2.0**-10)
    model = keras.Sequential([keras.Input(shape), before, padding, make()])
    models.give_weights(model, digits=2)
    data = rng.integers(-8, 9, (2, *shape)).astype("float32")
    for target in ("generic", "snntorch"):
        graph = to_nir(model, target=target)
        flat_from = DIALECTS[target].flatten_from
        values = interpreter.run(graph, {"input": channels_first(data[:, None])}, flat_from)
        expected = channels_first(keras.ops.expand_dims(model(data), 1))
        np.testing.assert_array_equal(values["output"], expected)
        read = from_nir(graph, source=target)(data[:, None])
        np.testing.assert_array_equal(channels_first(read), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lowpass", "alpha"])
def test_filters_are_exact_by_steps_of_euler(name, rng):
    tau = np.array([0.05, 0.4, 2.0, 30.0], "float32")
    layer = keras_spiking.Lowpass if name == "lowpass" else keras_spiking.Alpha
    spikes = keras_spiking.SpikingActivation("relu", dt=DT, rate_scale=4.0, **EXACT)
    filtered = layer(keras.initializers.Constant(0.1), dt=DT, name="filter")
    model = keras.Sequential([keras.Input((None, 4)), spikes, filtered])
    level, shape = np.zeros(tau.shape), [weight.shape for weight in filtered.get_weights()][1]
    filtered.set_weights([level.reshape(shape), tau.reshape(shape)])
    data = rng.integers(0, 9, (2, 50, 4)).astype("float32")
    graph = to_nir(model)
    scale = graph.nodes["output"].metadata.get("scale", 1.0)
    outputs = interpreter.run(graph, {"input": data})["output"] * scale
    inputs = np.asarray(keras.ops.convert_to_numpy(spikes(data)))
    expected, _ = getattr(reference, name)(inputs, DT, tau, level)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds.count("LI") == (1 if name == "lowpass" else 2)

    # In sinabs: v = exp(-1 / tau) v + I.
    graph = to_nir(model, target="sinabs")
    np.testing.assert_allclose(graph.nodes["filter"].tau, tau / DT, rtol=1e-6)
    outputs = from_nir(graph).predict(data, verbose=0) * graph.nodes["output"].metadata["scale"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_final_spike_and_a_sum_of_unequal_heights_get_their_scale(rng):
    inputs = keras.Input((None, 3))
    high, low = (
        keras_spiking.SpikingActivation("relu", dt=DT, rate_scale=scale, **EXACT, name=name)
        for name, scale in (("high", 8.0), ("low", 32.0))
    )
    # Neurons right behind spikes have another threshold than 1.
    behind = keras_spiking.SpikingActivation("relu", dt=DT, rate_scale=2.0, **EXACT)
    total = high(inputs) + low(inputs)
    twice = layers.Add()([total, total])
    model = keras.Model(
        inputs, [high.output, layers.Dense(2, name="dense")(twice), behind(high.output)]
    )
    models.give_weights(model, digits=2)
    data = rng.integers(-4, 9, (2, 7, 3)).astype("float32") / 8
    graph = to_nir(model)
    assert list(graph.inputs) == ["input"]
    values = interpreter.run(graph, {"input": data})
    for output, expected in zip(graph.outputs, model(data), strict=True):
        scale = graph.nodes[output].metadata.get("scale", 1.0)
        expected = keras.ops.convert_to_numpy(expected)
        np.testing.assert_array_equal(values[output] * scale, expected)


@pytest.mark.slow
def test_nested_models_and_readouts_become_one_graph(rng):
    inner = keras.Sequential([keras.Input((3, 3, 2)), layers.Conv2D(4, 2), layers.Flatten()])
    pictures, numbers = keras.Input((5, 3, 3, 2), name="a"), keras.Input((5, 6), name="b")
    shared = layers.Dense(16, name="shared")
    x = keras_spiking.TimeBatched(inner, name="inner")(pictures) + shared(numbers)
    fire = keras_spiking.SpikingActivation("relu", dt=DT, rate_scale=2.0, **EXACT)
    x = layers.Add()([x, fire(shared(numbers))])
    spikes = keras_spiking.SpikingActivation(
        layers.ReLU(), dt=DT, rate_scale=8.0, **EXACT, return_sequences=False, name="spikes"
    )
    means = layers.GlobalAveragePooling1D(name="means")(layers.Dense(2, name="dense")(x))
    model = keras.Model({"a": pictures, "b": numbers}, [spikes(x), layers.Softmax()(means)])
    models.give_weights(model, digits=2)
    models.give_weights(inner, digits=2)
    data = {"a": rng.integers(0, 9, (2, 5, 3, 3, 2)), "b": rng.integers(0, 9, (2, 5, 6))}
    data = {name: values.astype("float32") / 8 for name, values in data.items()}
    graph = to_nir(model)
    assert set(graph.inputs) == {"a", "b"}
    assert {"inner_conv2d", "shared", "shared_2", "spikes", "dense"} <= set(graph.nodes)
    for part in ("spikes: take the last step", "means: take the mean", "softmax"):
        assert part in graph.metadata["left_out"]
    given = {name: channels_first(values) for name, values in data.items()}
    values = interpreter.run(graph, given)
    expected, classes = map(keras.ops.convert_to_numpy, model(data))
    assert "flattens in another order" in graph.metadata["left_out"]
    expected = np.moveaxis(expected.reshape(2, 2, 2, 4), -1, 1).reshape(2, 16)
    np.testing.assert_array_equal(values["spikes"][:, -1], expected)
    means = np.exp(values["dense"].mean(axis=1))
    np.testing.assert_allclose(classes, means / means.sum(axis=-1, keepdims=True), rtol=1e-5)


def test_initial_voltages_are_in_metadata_with_a_warning(tmp_path):
    neurons = keras_spiking.SpikingActivation(
        "linear", dt=DT, negative_spikes=False, initial_voltage=0.25, name="neurons"
    )
    model = keras.Sequential([keras.Input((None, 3)), neurons])
    with pytest.warns(UserWarning, match=r"start from a voltage.*neurons.*initial_voltage=0\.0"):
        graph = to_nir(model)
    nir.write(tmp_path / "model.nir", graph)
    graph = nir.read(tmp_path / "model.nir")
    assert graph.nodes["neurons"].metadata["initial_voltage"] == 0.25
