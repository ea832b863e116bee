"""What layers count, against a trace of which inputs reach which outputs, and counts by hand."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_spiking
from keras_spiking.conversion import rules
from keras_spiking.energy import compute_layer_stats, layer_stats, register_layer
from tests.compiled import BACKEND

# CI runs the oldest Keras on TensorFlow alone, and what its layers do is counted here.
pytestmark = [pytest.mark.every_backend] if BACKEND == "tensorflow" else []


@pytest.fixture(autouse=True)
def own_rules(monkeypatch):
    """Lets each test register rules that the others do not see."""
    monkeypatch.setattr(layer_stats, "RULES", dict(layer_stats.RULES))


def stats_of(layer, *shapes):
    """What a layer counts on inputs of these shapes, batch axis left out."""
    inputs = [keras.Input(shape) for shape in shapes]
    layer(inputs if len(inputs) > 1 else inputs[0])
    return compute_layer_stats(layer)


def traced(layer, shape):
    """The number of pairs of an input element and an output unit that depends on it."""
    rng = np.random.default_rng(0)
    layer.build((None, *shape))
    layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    base = rng.uniform(0.5, 1.5, shape)
    size = base.size
    changed = base + np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(-1, *shape)
    outputs = keras.ops.convert_to_numpy(layer(changed, training=False))
    return int((np.abs(outputs[1:] - outputs[:1]) > 1e-2).sum())


TRACED = {
    "Dense": (lambda: layers.Dense(5), (7,)),
    "Dense, two positions": (lambda: layers.Dense(5), (2, 7)),
    "EinsumDense, last axis": (lambda: layers.EinsumDense("abc,cd->abd", (3, 5)), (3, 4)),
    "EinsumDense, two axes": (lambda: layers.EinsumDense("abc,bcd->ad", 5), (3, 4)),
    "EinsumDense, ellipsis": (lambda: layers.EinsumDense("...x,xy->...y", 5), (2, 3, 4)),
    "EinsumDense, new axes": (lambda: layers.EinsumDense("ab,bcd->acd", (2, 3)), (4,)),
    "EinsumDense, summed alone": (lambda: layers.EinsumDense("abc,cd->ad", 5), (3, 4)),
    "Conv1D": (lambda: layers.Conv1D(4, 3), (9, 2)),
    "Conv1D, dilated": (lambda: layers.Conv1D(4, 3, dilation_rate=2), (9, 2)),
    "Conv2D": (lambda: layers.Conv2D(3, (2, 3), strides=2), (6, 7, 2)),
    "Conv3D": (lambda: layers.Conv3D(2, 2), (3, 3, 4, 2)),
    "DepthwiseConv1D": (lambda: layers.DepthwiseConv1D(3, depth_multiplier=2), (6, 2)),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 6, 2)),
    "Conv1DTranspose": (lambda: layers.Conv1DTranspose(3, 4, strides=2), (4, 2)),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(2, 3, strides=2), (3, 4, 2)),
    "Conv3DTranspose": (lambda: layers.Conv3DTranspose(2, 2), (2, 3, 2, 2)),
}
if BACKEND != "tensorflow":  # which has no grouped convolution on a CPU
    TRACED["Conv2D, groups"] = (lambda: layers.Conv2D(6, 2, groups=3), (4, 4, 6))

if BACKEND == "tensorflow":
    import tensorflow as tf

    if tf.__version__.startswith("2.18."):  # whose einsum is wrong here, by as much as 1
        del TRACED["EinsumDense, ellipsis"]

if BACKEND == "jax":  # which compiles each of them, and what they count is the same everywhere
    TRACED = {name: TRACED[name] for name in ("Dense", "Conv2D", "Conv2DTranspose")}


@pytest.mark.parametrize("name", TRACED)
def test_connections_are_the_inputs_that_reach_each_output(name):
    make, shape = TRACED[name]
    expected = {"connections": traced(make(), shape), "neurons": 0, "spiking": True}
    assert stats_of(make(), shape) == expected


def test_groups_and_channels_first_count_their_own_channels():
    # 2 x 2 windows over 6 / 3 channels, at 3 x 3 positions of 6 filters.
    assert stats_of(layers.Conv2D(6, 2, groups=3), (4, 4, 6))["connections"] == 4 * 2 * 9 * 6
    first = layers.Conv2D(3, (2, 3), data_format="channels_first")
    last = layers.Conv2D(3, (2, 3))
    assert stats_of(first, (2, 6, 7)) == stats_of(last, (6, 7, 2))


@pytest.mark.parametrize(
    ("separable", "stages", "shape"),
    [
        (
            lambda: layers.SeparableConv1D(4, 3, strides=2, depth_multiplier=2),
            (
                lambda: layers.DepthwiseConv1D(3, strides=2, depth_multiplier=2),
                lambda: layers.Conv1D(4, 1),
            ),
            (9, 3),
        ),
        (
            lambda: layers.SeparableConv2D(4, 3, depth_multiplier=2),
            (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), lambda: layers.Conv2D(4, 1)),
            (5, 6, 3),
        ),
    ],
    ids=["1D", "2D"],
)
def test_separable_convolutions_count_both_stages(separable, stages, shape):
    first, second = (make() for make in stages)
    between = first.compute_output_shape((None, *shape))[1:]
    expected = traced(first, shape) + traced(second, between)
    assert stats_of(separable(), shape)["connections"] == expected


def test_padding_counts_as_input():
    padded = traced(layers.Conv2D(3, 3), (7, 8, 2))
    assert stats_of(layers.Conv2D(3, 3, padding="same"), (5, 6, 2))["connections"] == padded
    causal = traced(layers.Conv1D(3, 3), (8, 2))
    assert stats_of(layers.Conv1D(3, 3, padding="causal"), (6, 2))["connections"] == causal


def test_what_a_transposed_convolution_crops_counts():
    whole = traced(layers.Conv2DTranspose(2, 3), (3, 4, 2))
    cropped = layers.Conv2DTranspose(2, 3, padding="same")
    assert stats_of(cropped, (3, 4, 2))["connections"] == whole


SHAPES = {"1D": (4, 6), "2D": (4, 6, 2), "3D": (4, 4, 4, 2)}


def of_every_rank(kinds):
    """Layers with their inputs, for one to three axes in space, by name."""
    return {
        f"{kind}{rank}": (
            lambda name=f"{kind}{rank}", arguments=arguments: getattr(layers, name)(*arguments),
            shape,
        )
        for kind, arguments in kinds.items()
        for rank, shape in SHAPES.items()
    }


WITHOUT_WEIGHTS = {
    **{
        name: (lambda name=name: getattr(layers, name)(), (4, 6, 2))
        for name in "Flatten Identity BatchNormalization ActivityRegularization".split()
    },
    **of_every_rank(
        {
            "AveragePooling": (2,),
            "GlobalAveragePooling": (),
            "AdaptiveAveragePooling": (2,),
            "UpSampling": (2,),
            "ZeroPadding": (1,),
            "Cropping": (1,),
            "SpatialDropout": (0.5,),
        }
    ),
    "Reshape": (lambda: layers.Reshape((8, 6)), (4, 6, 2)),
    "Permute": (lambda: layers.Permute((3, 1, 2)), (4, 6, 2)),
    "RepeatVector": (lambda: layers.RepeatVector(3), (6,)),
    "Dropout": (lambda: layers.Dropout(0.5), (6,)),
    "GaussianNoise": (lambda: layers.GaussianNoise(0.5), (6,)),
    "Rescaling": (lambda: layers.Rescaling(0.5), (6,)),
    "Masking": (layers.Masking, (None, 6)),
    "GaussianDropout": (lambda: layers.GaussianDropout(0.5), (6,)),
    "AlphaDropout": (lambda: layers.AlphaDropout(0.5), (6,)),
    "Normalization": (lambda: layers.Normalization(mean=0.0, variance=1.0), (6,)),
    "CenterCrop": (lambda: layers.CenterCrop(2, 2), (4, 6, 2)),
    "Resizing": (lambda: layers.Resizing(8, 8), (4, 6, 2)),
    "TemporalAvgPool": (keras_spiking.TemporalAvgPool, (None, 6)),
    "LastStep": (keras_spiking.LastStep, (None, 6)),
    "RepeatOverTime": (lambda: keras_spiking.RepeatOverTime(5), (6,)),
    "linear Activation": (lambda: layers.Activation("linear"), (6,)),
    "of unknown size": (layers.GlobalAveragePooling2D, (None, None, 3)),
}


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_what_only_moves_or_averages_counts_nothing(name):
    make, shape = WITHOUT_WEIGHTS[name]
    assert stats_of(make(), shape) == {"connections": 0, "neurons": 0, "spiking": True}


@pytest.mark.parametrize("name", ["Add", "Subtract", "Average", "Concatenate"])
def test_linear_merges_count_nothing(name):
    stats = stats_of(getattr(layers, name)(), (6,), (6,))
    assert stats == {"connections": 0, "neurons": 0, "spiking": True}


@pytest.mark.parametrize("name", ["Multiply", "Maximum", "Minimum"])
def test_other_merges_do_not_run_on_spiking_devices(name):
    stats = stats_of(getattr(layers, name)(), (6,), (6,))
    assert stats == {"connections": 0, "neurons": 0, "spiking": False}


def test_dot_counts_the_other_input_as_weights():
    # 4 x 5 outputs, each of 3 products.
    stats = stats_of(layers.Dot(axes=(2, 1)), (4, 3), (3, 5))
    assert stats == {"connections": 4 * 5 * 3, "neurons": 0, "spiking": False}
    assert stats_of(layers.Dot(axes=1), (7,), (7,))["connections"] == 7


NOT_LINEAR = {
    **of_every_rank({"MaxPooling": (2,), "GlobalMaxPooling": (), "AdaptiveMaxPooling": (2,)}),
    **{
        name: (lambda name=name: getattr(layers, name)(), (4, 6, 2))
        for name in "LayerNormalization RMSNormalization UnitNormalization".split()
    },
    "GroupNormalization": (lambda: layers.GroupNormalization(2), (4, 6, 2)),
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_maxima_and_statistics_of_a_sample_do_not_run_on_spiking_devices(name):
    make, shape = NOT_LINEAR[name]
    assert stats_of(make(), shape) == {"connections": 0, "neurons": 0, "spiking": False}


def test_normalized_weights_count_as_the_layer_that_has_them():
    wrapped = layers.SpectralNormalization(layers.Conv2D(3, 2, activation="relu"))
    assert stats_of(wrapped, (4, 6, 2)) == stats_of(
        layers.Conv2D(3, 2, activation="relu"), (4, 6, 2)
    )


def test_every_layer_that_converts_counts():
    without = {each for each in rules.SUPPORTED if not layer_stats.RULES.keys() & each.__mro__}
    assert without == {layers.Embedding}  # which looks its outputs up


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Activation"])
def test_activation_layers_have_a_neuron_for_each_element(name):
    layer = layers.Activation("tanh") if name == "Activation" else getattr(layers, name)()
    assert stats_of(layer, (4, 6)) == {"connections": 0, "neurons": 24, "spiking": False}


def test_an_activation_within_a_layer_has_a_neuron_for_each_output():
    stats = stats_of(layers.Conv1D(3, 2, activation="relu"), (6, 4))
    # 5 positions of 3 filters, over 2 steps of 4 channels.
    assert stats == {"connections": 15 * 8, "neurons": 15, "spiking": False}
    assert stats_of(layers.Dense(3, activation="softmax"), (4,))["neurons"] == 3


@pytest.mark.parametrize("time", [None, 10])
@pytest.mark.parametrize(
    "make",
    [
        lambda **kwargs: keras_spiking.SpikingActivation("relu", **kwargs),
        lambda **kwargs: keras_spiking.Lowpass(0.1, **kwargs),
        lambda **kwargs: keras_spiking.Alpha(0.1, **kwargs),
    ],
    ids=["SpikingActivation", "Lowpass", "Alpha"],
)
def test_layers_over_time_update_each_unit_once_a_step(make, time):
    expected = {"connections": 0, "neurons": 24, "spiking": True}
    assert stats_of(make(), (time, 4, 6)) == expected
    assert stats_of(make(return_sequences=False), (time, 4, 6)) == expected
    assert stats_of(make(time_major=True), (time, 4, 6)) == expected


def test_a_leading_axis_of_unknown_size_is_time():
    assert stats_of(layers.Dense(5), (None, 3, 7))["connections"] == 3 * 7 * 5
    assert stats_of(layers.ReLU(), (None, 3, 7))["neurons"] == 3 * 7
    assert stats_of(layers.Dense(5), (2, 3, 7))["connections"] == 2 * 3 * 7 * 5


@pytest.mark.parametrize("wrapper", [layers.TimeDistributed, keras_spiking.TimeBatched])
@pytest.mark.parametrize("time", [None, 10])
def test_wrappers_over_time_count_one_step(wrapper, time):
    inner = layers.Conv2D(3, 3, activation="relu")
    alone = stats_of(layers.Conv2D(3, 3, activation="relu"), (5, 6, 2))
    assert stats_of(wrapper(inner), (time, 5, 6, 2)) == alone
    model = keras.Sequential([keras.Input((7,)), layers.Dense(5, "relu"), layers.Dense(3)])
    expected = {"connections": 35 + 15, "neurons": 5, "spiking": False}
    assert stats_of(wrapper(model), (time, 7)) == expected


def test_a_model_counts_the_sum_of_its_layers():
    model = keras.Sequential([keras.Input((7,)), layers.Dense(5, "relu"), layers.Dense(3)])
    assert compute_layer_stats(model) == {"connections": 50, "neurons": 5, "spiking": False}


@pytest.mark.skipif(BACKEND == "jax", reason="JAX takes 20 s to draw weights that count nothing")
def test_a_published_network_has_its_published_number_of_operations():
    model = keras.applications.MobileNetV2(weights=None)
    # Sandler et al. 2018, doi:10.1109/CVPR.2018.00474, table 4: 300 million multiply-adds.
    assert compute_layer_stats(model)["connections"] == pytest.approx(300e6, rel=0.01)


def test_each_use_of_a_shared_layer_has_its_own_counts():
    layer = layers.Dense(5)
    for shape in ((7,), (2, 7)):
        layer(keras.Input(shape))
    assert compute_layer_stats(layer)["connections"] == 35
    assert compute_layer_stats(layer, node=layer._inbound_nodes[1])["connections"] == 70


def test_an_unknown_class_warns_and_counts_nothing():
    with pytest.warns(UserWarning, match=r"layer 'gate' counts nothing.*class LSTM"):
        stats = stats_of(layers.LSTM(3, name="gate"), (None, 4))
    assert stats == {"connections": 0, "neurons": 0, "spiking": True}


class Twice(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


class TwiceAgain(Twice):
    pass


class Times(layers.Dense):
    pass


def test_a_registered_rule_counts_for_a_class_and_its_subclasses():
    @keras_spiking.ModelEnergy.register_layer(Twice)
    def twice(use):
        assert use.input_shapes == [use.input_shape] == [(None, 4)]
        return {"connections": use.output_shape[-1], "spiking": False}

    assert twice is layer_stats.RULES[Twice]
    expected = {"connections": 4, "neurons": 0, "spiking": False}
    assert stats_of(Twice(), (4,)) == stats_of(TwiceAgain(), (4,)) == expected
    assert stats_of(Times(3), (4,)) == stats_of(layers.Dense(3), (4,))


def test_a_rule_that_replaces_another_says_so():
    def dense(use):
        return {"connections": 1}

    words = r"class Dense had a rule already, keras_spiking\.energy\.rules\._dense, which "
    with pytest.warns(UserWarning, match=words + r".*\.dense replaces") as caught:
        register_layer(layers.Dense)(dense)
    assert caught[0].filename == __file__
    assert stats_of(layers.Dense(3), (4,))["connections"] == 1
    register_layer(Times)(dense)  # a subclass is a class of its own


@pytest.mark.parametrize("wrong", [{"synapses": 3}, 12, None])
def test_a_rule_must_return_known_statistics(wrong):
    register_layer(Twice)(lambda use: wrong)
    with pytest.raises(ValueError, match="keys among connections, neurons, spiking; received"):
        stats_of(Twice(), (4,))


@pytest.mark.parametrize("wrong", [Twice(), "Dense", dict])
def test_rules_are_for_classes_of_layers(wrong):
    with pytest.raises(TypeError, match="`layer_class` must be a class of Keras layers; received"):
        register_layer(wrong)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(layers.Conv2D(3, 3, name="conv"), (8, None, 3)), (layers.ReLU(name="conv"), (None, None, 3))],
)
def test_an_undefined_shape_is_an_error(layer, shape):
    with pytest.raises(ValueError, match="'conv' has a shape that is not defined"):
        stats_of(layer, shape)


def test_a_layer_that_was_never_called_is_an_error():
    with pytest.raises(ValueError, match="'unused' was never called"):
        compute_layer_stats(layers.Dense(3, name="unused"))
    with pytest.raises(TypeError, match="`layer` must be a Keras layer; received 3"):
        compute_layer_stats(3)
    layer, other = layers.Dense(3, name="used"), layers.Dense(3)
    for each in (layer, other):
        each(keras.Input((4,)))
    for node in (1, other._inbound_nodes[0]):
        with pytest.raises(ValueError, match="`node` must be one of the uses of layer 'used'"):
            compute_layer_stats(layer, node)
