"""Whole models: the old library's figures, rates against NumPy, and what stays undisturbed."""

import json
import pathlib

import keras
import numpy as np
import pytest
import scipy.sparse
from keras import layers, ops

import keras_spiking
from keras_spiking import ModelEnergy

REFERENCE = json.loads(
    (pathlib.Path(__file__).parents[1] / "data" / "energy.json").read_text(encoding="utf-8")
)


def cnn():
    inputs = keras.Input((20, 18, 3))
    x = layers.Conv2D(4, (3, 5), strides=2, activation="relu", name="conv_a")(inputs)
    x = layers.Conv2D(6, 3, padding="same", name="conv_b")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.ReLU(name="relu_b")(x))
    return keras.Model(inputs, layers.Dense(10, name="out")(x))


def timed():
    inputs = keras.Input((None, 12))
    x = layers.TimeDistributed(layers.Dense(9, activation="relu"), name="td")(inputs)
    x = keras_spiking.SpikingActivation("relu", dt=0.01, seed=1, name="spikes")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, activation="tanh", name="out")(x))


def skip():
    inputs = keras.Input((16,))
    shared = layers.Dense(16, activation="relu", name="shared")
    once = shared(inputs)
    return keras.Model(inputs, layers.Add(name="add")([once, shared(once)]))


@pytest.mark.parametrize("make", [cnn, timed, skip])
def test_figures_are_those_of_the_old_library(make):
    reference = REFERENCE[make.__name__]
    model = make()
    model.set_weights([np.array(weight) for weight in reference["weights"]])
    energy = ModelEnergy(model, np.array(reference["data"]))
    after_spikes = False
    for layer, expected in zip(model.layers, reference["layers"].values(), strict=True):
        rate = expected.pop("rate")
        assert energy.layer_stats[layer] == expected, layer.name
        if not after_spikes:
            assert energy.layer_rates[layer] == pytest.approx(rate, rel=1e-5), layer.name
        after_spikes = after_spikes or layer.name == "spikes"
    # Rates after spikes depend on the initial voltage, which each library draws in its own way.
    tolerance = 0.1 if after_spikes else 1e-5
    for device, joules in reference["joules"].items():
        for settings, expected in joules.items():
            steps, dt = settings.split("steps_dt")
            total = energy.total_energy(device, int(steps), float(dt))
            spiking = device in ("loihi", "spinnaker", "spinnaker2")
            assert total == pytest.approx(expected, rel=tolerance if spiking else 1e-5)


def dense_stack(names=("first", "second")):
    return [layers.Dense(5, activation="relu", name=name) for name in names]


def test_rates_are_means_over_all_elements_and_batches(rng):
    data = rng.normal(size=(70, 4)).astype("float32")  # two batches, and a smaller one
    model = keras.Sequential([keras.Input((4,)), *dense_stack()])
    weights, bias, *_ = model.get_weights()
    rates = ModelEnergy(model, data).layer_rates
    assert rates[model.layers[0]] == pytest.approx(np.abs(data).mean(), rel=1e-5)
    hidden = np.maximum(data @ weights + bias, 0)
    assert rates[model.layers[1]] == pytest.approx(hidden.mean(), rel=1e-5)


def test_sequential_functional_and_nested_models_cost_the_same(rng):
    data = rng.normal(size=(6, 4)).astype("float32")
    first, second = dense_stack()
    sequential = keras.Sequential([keras.Input((4,)), first, second])
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((5,)), second], name="inner")
    nested = keras.Model(inputs, keras.Sequential([inner], name="outer")(first(inputs)))
    energy = ModelEnergy(nested, data)
    rows = energy.table(("name", "connections", "neurons", "rate", "energy loihi"))
    assert [row["name"] for row in rows[1:]] == ["first", "outer/inner/second"]
    expected = ModelEnergy(sequential, data)
    for row, layer in zip(rows[1:], sequential.layers, strict=True):
        assert row["rate"] == pytest.approx(expected.layer_rates[layer], rel=1e-5)
    assert energy.total_energy("loihi") == pytest.approx(expected.total_energy("loihi"), rel=1e-6)
    of_inner = energy.layer_energy(nested.layers[-1], "loihi")
    assert of_inner == pytest.approx(expected.layer_energy(second, "loihi"), rel=1e-5)


@pytest.mark.parametrize("wrapper", [layers.TimeDistributed, keras_spiking.TimeBatched])
def test_models_within_wrappers_over_time_have_rows_of_their_own(wrapper, rng):
    data = rng.normal(size=(3, 4, 7)).astype("float32")
    each_step = keras.Sequential([keras.Input((7,)), *dense_stack()])
    inputs = keras.Input((None, 7))
    energy = ModelEnergy(keras.Model(inputs, wrapper(each_step, name="steps")(inputs)), data)
    flat = ModelEnergy(each_step, data.reshape(-1, 7))
    columns = ("connections", "neurons", "rate", "energy loihi")
    rows, expected = energy.table(("name", *columns))[1:], flat.table(columns)
    assert [row.pop("name") for row in rows] == ["steps/first", "steps/second"]
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-5)


def test_a_model_that_is_used_twice_counts_twice(rng):
    data = rng.normal(size=(3, 5)).astype("float32")
    (layer,) = dense_stack(["first"])
    inner = keras.Sequential([keras.Input((5,)), layer])
    inputs = keras.Input((5,))
    energy = ModelEnergy(keras.Model(inputs, inner(inner(inputs))), data)
    assert energy.layer_stats[layer] == {"connections": 50, "neurons": 10, "spiking": False}
    weights, bias = layer.get_weights()
    hidden = np.maximum(data @ weights + bias, 0)
    expected = np.abs(data).mean() + hidden.mean()
    assert energy.layer_rates[layer] == pytest.approx(expected, rel=1e-5)


def test_several_inputs_and_outputs_are_weighted_by_their_elements(rng):
    wide, narrow = keras.Input((6,), name="wide"), keras.Input((2,), name="narrow")
    joined = layers.Concatenate(name="joined")([wide, narrow])
    one, other = layers.Dense(3, name="one")(joined), layers.Dense(2, name="other")(narrow)
    arrays = {"narrow": rng.normal(size=(5, 2)), "wide": rng.normal(size=(5, 6))}
    expected = np.abs(np.concatenate(list(arrays.values()), axis=1)).mean()
    of_list = keras.Model([wide, narrow], [one, other])
    of_dict = keras.Model({"wide": wide, "narrow": narrow}, {"one": one, "other": other})
    for model, data in [
        (of_list, [arrays["wide"], arrays["narrow"]]),
        (of_list, arrays),
        (of_dict, arrays),
    ]:
        rates = ModelEnergy(model, data).layer_rates
        for name in ("joined", "one"):
            assert rates[model.get_layer(name)] == pytest.approx(expected, rel=1e-5)
        narrow_rate = np.abs(arrays["narrow"]).mean()
        assert rates[model.get_layer("other")] == pytest.approx(narrow_rate, rel=1e-5)


def test_a_nested_model_takes_its_inputs_by_name(rng):
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    inner = keras.Model(
        [left, right], layers.Concatenate()([layers.Dense(2, name="d")(left), right])
    )
    a, b = keras.Input((2,)), keras.Input((3,))
    model = keras.Model([a, b], inner({"right": a, "left": b}))
    data = [rng.normal(size=(4, 2)), rng.normal(size=(4, 3))]
    rates = ModelEnergy(model, data).layer_rates
    assert rates[inner.get_layer("d")] == pytest.approx(np.abs(data[1]).mean(), rel=1e-5)


class Columns:
    """An array that a data frame holds, without a type of its own."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
@pytest.mark.parametrize(
    ("shape", "given"),
    [((6, 5, 1), (6, 5)), ((6, 5), (6, 5, 1)), ((1,), ()), ((), (1,))],
    ids=str,
)
def test_a_last_axis_of_size_one_is_as_in_predict(shape, given, nested, rng):
    model = keras.Sequential([keras.Input(shape), layers.Reshape((-1,)), *dense_stack()])
    called = model
    if nested:
        inputs = keras.Input(given)
        called = keras.Model(inputs, model(inputs))
    data = rng.normal(size=(40, *given)).astype("float32")
    called.predict(data, verbose=0)
    rates = ModelEnergy(called, data).layer_rates
    expected = ModelEnergy(model, data.reshape(40, *shape)).layer_rates
    for layer in model.layers:
        assert rates[layer] == pytest.approx(expected[layer], rel=1e-6)
    assert rates[model.layers[1]] == pytest.approx(np.abs(data).mean(), rel=1e-5)


def test_a_nested_model_casts_what_it_gets():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="d")])
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, inner(inputs))
    rates = ModelEnergy(model, np.full((2, 3), 7)).layer_rates
    assert rates[inner.get_layer("d")] == 7


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", ["column", "sparse", "frame", "dictionary", "list"])
def test_data_may_be_whatever_predict_takes(kind, rng):
    wide, narrow = keras.Input((6,), name="wide"), keras.Input((1,), name="narrow")
    out = layers.Dense(2)(layers.Concatenate(name="joined")([wide, narrow]))
    arrays = [rng.normal(size=(5, 6)), rng.normal(size=(5, 1))]
    of_list = keras.Model([wide, narrow], out)
    of_dict = keras.Model({"narrow": narrow, "wide": wide}, out)
    model, data = {
        "column": (of_list, [arrays[0], arrays[1][:, 0]]),
        "sparse": (of_list, [scipy.sparse.csr_matrix(arrays[0]), arrays[1]]),
        "frame": (of_list, [Columns(arrays[0]), Columns(arrays[1])]),
        "dictionary": (of_dict, {"wide": arrays[0], "narrow": arrays[1], "labels": arrays[1]}),
        "list": (of_dict, [arrays[1], arrays[0]]),
    }[kind]
    rates = ModelEnergy(model, data).layer_rates
    expected = np.abs(np.concatenate(arrays, axis=1)).mean()
    assert rates[model.get_layer("joined")] == pytest.approx(expected, rel=1e-5)
    wide_rate = np.abs(arrays[0]).mean()
    assert rates[model.get_layer("wide")] == pytest.approx(wide_rate, rel=1e-5)


def test_part_of_a_fixed_batch_is_enough_without_states(rng):
    data = rng.normal(size=(3, 4))
    model = keras.Sequential([keras.Input((4,), batch_size=2), *dense_stack()])
    rates = ModelEnergy(model, data).layer_rates
    assert rates[model.layers[0]] == pytest.approx(np.abs(data).mean(), rel=1e-5)


@pytest.mark.every_backend
def test_states_and_random_numbers_stay_as_they_were(rng):
    data = rng.uniform(0, 60, size=(4, 5, 3)).astype("float32")
    results = []
    for measured in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((5, 3), batch_size=2),
                keras_spiking.SpikingActivation("relu", dt=0.01, stateful=True),
                keras_spiking.SpikingActivation("relu", dt=0.01),
                layers.GaussianNoise(0.1),
            ]
        )
        model.predict(data, batch_size=2, verbose=0)
        if measured:
            ModelEnergy(model, 2 * data)
        results.append(model.predict(data, batch_size=2, verbose=0))
    np.testing.assert_array_equal(*results)


def test_the_model_itself_is_not_changed(rng):
    model = keras.Sequential([keras.Input((4,)), *dense_stack()])
    model.compile("sgd", "mse")
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    config = model.get_config()
    ModelEnergy(model, rng.normal(size=(2, 4)))
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    assert model.get_config() == config
    assert model.compiled


def test_energy_follows_the_formula():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu", name="dense")])
    energy = ModelEnergy(model, np.full((2, 4), -5.0))
    keras_spiking.default.dt = 0.02
    assert energy.layer_energy(model.layers[0], "gpu", 10) == pytest.approx((12 * 3e-10, 3 * 3e-10))
    expected = (12 * 5 * 0.02 * 10 * 450e-12, 3 * 10 * 2.19e-9)
    assert energy.layer_energy(model.layers[0], "spinnaker2", 10) == pytest.approx(expected)
    assert energy.total_energy("spinnaker2", 10) == pytest.approx(sum(expected))


class TestErrors:
    def test_models_without_a_known_graph(self):
        class Own(keras.Model):
            def call(self, inputs):
                return inputs

        with pytest.raises(ValueError, match=r"of class Own.*keras.Model\(inputs, outputs\)"):
            ModelEnergy(Own())
        with pytest.raises(ValueError, match=r"not built, 'seq'.*keras.Input"):
            ModelEnergy(keras.Sequential([layers.Dense(3)], name="seq"))
        with pytest.raises(TypeError, match="`model` must be a Functional or Sequential"):
            ModelEnergy(layers.Dense(3))

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (np.zeros((3, 5)), r"an array for each input.*\(None, 4\).*shape \(3, 5\)"),
            (np.zeros(4), r"received arrays of shape \(4,\)"),
            ([np.zeros((3, 4))] * 2, r"shape \(3, 4\), \(3, 4\)"),
            (np.zeros((3, 4, 2)), r"received arrays of shape \(3, 4, 2\)"),
            ({"other": np.zeros((3, 4))}, "it has none for named"),
            (np.zeros((0, 4)), "one or more samples"),
            (np.full((2, 4), np.nan), "`example_data` must be finite; .* Leave out the samples"),
        ],
    )
    def test_example_data_that_does_not_fit(self, data, words):
        model = keras.Sequential([keras.Input((4,), name="named"), *dense_stack()])
        with pytest.raises(ValueError, match=words):
            ModelEnergy(model, data)

    @pytest.mark.parametrize("data", [[[1.0, 2, 3, 4]], "data.npz", iter([])])
    def test_example_data_that_are_no_arrays(self, data):
        model = keras.Sequential([keras.Input((4,)), *dense_stack()])
        with pytest.raises(TypeError, match=r"must be an array for each input.*numpy.asarray"):
            ModelEnergy(model, data)

    def test_example_data_of_part_of_a_fixed_batch(self):
        layer = keras_spiking.SpikingActivation("relu", stateful=True)
        model = keras.Sequential([keras.Input((5, 4), batch_size=2), layer])
        with pytest.raises(ValueError, match=r"a multiple of 2 samples.*stateful; received 3"):
            ModelEnergy(model, np.zeros((3, 5, 4)))

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("toaster",), r"`device` must be one of cpu.*received device='toaster'"),
            ((["cpu"],), r"`device` must be one of cpu.*received device=\['cpu'\]"),
            (("loihi",), r"'loihi' spikes.*example_data=None"),
            (("cpu", 0), "`timesteps_per_inference` must be a number of steps, positive"),
            (("cpu", 1, -1.0), "`dt` must be a number of seconds, positive"),
        ],
    )
    def test_devices_and_times(self, arguments, words):
        energy = ModelEnergy(keras.Sequential([keras.Input((4,)), *dense_stack()]))
        with pytest.raises(ValueError, match=words):
            energy.total_energy(*arguments)

    def test_a_layer_of_another_model(self):
        energy = ModelEnergy(keras.Sequential([keras.Input((4,)), *dense_stack()]))
        with pytest.raises(ValueError, match=r"one of first, second; received"):
            energy.layer_energy(layers.Dense(3), "cpu")


def test_operations_that_are_no_layers_warn():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, ops.relu(inputs))
    with pytest.warns(UserWarning, match="class Relu"):
        energy = ModelEnergy(model)
    assert energy.total_energy("cpu") == 0
