"""What convert refuses, before any work, and in which words."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_spiking
from tests.conversion.models import sequential


def model():
    return sequential(
        (4,), layers.Dense(8, activation="relu", name="hidden"), layers.Dense(3, name="out")
    )


class Own(layers.Layer):
    """A user's layer."""

    def call(self, inputs):
        return inputs


class Subclassed(keras.Model):
    """A model whose graph cannot be read."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


REFUSED = {
    "recurrent": ((5, 4), lambda: layers.LSTM(3, name="x"), "LSTM.*runs over an axis"),
    "bidirectional": (
        (5, 4),
        lambda: layers.Bidirectional(layers.GRU(3), name="x"),
        "Bidirectional.*runs over an axis",
    ),
    "distributed": (
        (5, 4),
        lambda: layers.TimeDistributed(layers.Dense(3), name="x"),
        "TimeDistributed.*runs over an axis",
    ),
    "spiking": ((5, 4), lambda: keras_spiking.Lowpass(0.1, name="x"), "Lowpass.*runs over time"),
    "converted": (
        (5, 4),
        lambda: keras_spiking.TemporalAvgPool(name="x"),
        "TemporalAvgPool.*runs over time",
    ),
    "masking": ((5, 4), lambda: layers.Masking(name="x"), "Masking.*makes a mask"),
    "embedding": (
        (5,),
        lambda: layers.Embedding(5, 4, mask_zero=True, name="x"),
        "Embedding.*makes a mask.*mask_zero=False",
    ),
    "lambda": ((4,), lambda: layers.Lambda(lambda x: x, name="x"), "Lambda.*cannot be read"),
    "own": ((4,), lambda: Own(name="x"), r"'x' \(Own\) is of a class that convert does not know"),
    "mixing": ((4, 4, 1), lambda: layers.MixUp(name="x"), "MixUp.*convert does not know"),
    "subclassed": ((4,), Subclassed, "Subclassed.*graph cannot be read.*build it"),
    "softmax": ((4,), lambda: layers.Softmax(name="x"), "Softmax.*last layer"),
    "fused softmax": (
        (4,),
        lambda: layers.Dense(3, activation="softmax", name="x"),
        "Dense.*has a softmax .* that another layer follows",
    ),
    "einsum": (
        (5, 4, 2),
        lambda: layers.EinsumDense("...d,de->...e", 3, name="x"),
        r"EinsumDense.*'\.\.\.d,de->\.\.\.e', of whose axes .* Name them, as in 'abcd,de->abce'",
    ),
    "spectral": (
        (4, 4, 1),
        lambda: layers.SpectralNormalization(layers.Conv2D(2, 2, activation="relu"), name="x"),
        "SpectralNormalization.*Put the activation in a layer after it",
    ),
}


@pytest.mark.parametrize(("shape", "make", "words"), REFUSED.values(), ids=REFUSED)
def test_layers_that_cannot_be_converted_are_named_with_a_remedy(shape, make, words):
    refused = sequential(shape, make(), layers.Dense(2, activation="relu"), layers.Dense(2))
    with pytest.raises(ValueError, match=rf"(?s)^convert: `model` must consist of .*\n- .*{words}"):
        keras_spiking.convert(refused)


def test_attention_is_refused():
    inputs = keras.Input((5, 4))
    x = layers.MultiHeadAttention(2, 2, name="heads")(inputs, inputs)
    x = layers.Attention(name="attends")([x, inputs])
    x = layers.Dense(2, activation="relu")(x)
    words = (
        r"has 2 that cannot with integrate=\"activation\" .*:\n"
        r"- 'heads' \(MultiHeadAttention\), 'attends' \(Attention\): each "
        "weighs its inputs by a softmax"
    )
    with pytest.raises(ValueError, match=words):
        keras_spiking.convert(keras.Model(inputs, layers.Dense(2)(x)))


def test_all_refused_layers_are_listed_those_of_nested_models_too():
    block = sequential((5, 4), layers.LSTM(4, name="inner"), name="block")
    refused = sequential((5, 4), block, Own(name="own"), layers.Dense(2), Own(name="last"))
    with pytest.raises(ValueError, match="has 3 that cannot") as raised:
        keras_spiking.convert(refused)
    recurrent, unknown = str(raised.value).splitlines()[1:]
    assert recurrent.startswith("- 'block_inner' (LSTM) runs over an axis")
    assert unknown.startswith("- 'own', 'last' (Own): each is of a class")


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # raised again by pytest.warns
def test_firing_below_one_spike_warns_unless_the_scale_was_chosen():
    words = (
        r"an activation of 1 makes 0\.02 spikes in all 20 steps of 0\.001 s, .* rounded to "
        r"multiples of 50, .* Give some hundred inputs as `example_data`"
    )
    with pytest.warns(UserWarning, match=words):
        keras_spiking.convert(model(), num_steps=20)
    # Warnings are errors here.
    keras_spiking.convert(model(), num_steps=20, rate_scale=1.0)
    keras_spiking.convert(model(), num_steps=20, dt=0.05)
    keras_spiking.convert(model())


def test_layers_called_with_more_than_inputs_are_refused():
    inputs = keras.Input((5, 4))
    mask = keras.Input((5,), dtype="bool")
    x = layers.Dense(3, activation="relu")(inputs)
    x = layers.GlobalAveragePooling1D(name="pool")(x, mask=mask)
    with pytest.raises(ValueError, match=r"'pool' .* is called with mask. Call it on its inputs"):
        keras_spiking.convert(keras.Model([inputs, mask], x))

    x = layers.Dense(4, activation="relu")(inputs)
    x = layers.Add(name="add")([x, np.ones((1, 5, 4), "float32")])
    with pytest.raises(ValueError, match=r"'add' .* is called with more than tensors of the model"):
        keras_spiking.convert(keras.Model(inputs, x))


def test_quantized_layers_are_refused():
    quantized = model()
    quantized.get_layer("hidden").quantize("int8")
    with pytest.raises(ValueError, match=r"'hidden' .* is quantized \(int8\). Convert .* first"):
        keras_spiking.convert(quantized)


def test_models_must_have_a_graph_and_something_to_spike():
    with pytest.raises(
        TypeError, match=r"^convert: `model` must be a Keras model; received .*Dense"
    ):
        keras_spiking.convert(layers.Dense(3))
    with pytest.raises(ValueError, match=r"type Subclassed. Make it with keras.Sequential or"):
        keras_spiking.convert(Subclassed())
    with pytest.raises(
        ValueError, match=r"type Sequential. Call it once on data, or begin it with"
    ):
        keras_spiking.convert(keras.Sequential([layers.Dense(3)]))
    linear = sequential((4,), layers.Dense(3), layers.Dense(2, activation="softmax"), name="flat")
    with pytest.raises(ValueError, match=r"must have an activation .*; model 'flat' has none"):
        keras_spiking.convert(linear)


DATA = np.ones((3, 4), "float32")
CALIBRATE = {"rate_scale": "calibrate", "example_data": DATA, "target_rate": 10}
BAD_ARGUMENTS = [
    ({"num_steps": 0}, ValueError, "`num_steps` must be a positive integer; received num_steps=0"),
    ({"num_steps": 2.0}, TypeError, "`num_steps` must be a positive integer; .* type float"),
    ({"dt": 0}, ValueError, "`dt` must be a positive, finite number of seconds .* dt=0"),
    ({"spiking_aware_training": 1}, TypeError, "`spiking_aware_training` must be True or False"),
    ({"tau": 0}, ValueError, "`tau` must be a number of seconds, positive and finite; .* tau=0"),
    ({"readout": "mean"}, ValueError, '`readout` must be one of "average", "last", "sequence"'),
    ({"max_pooling": None}, ValueError, '`max_pooling` must be one of "keep", "average"; .*None'),
    ({"seed": -1}, ValueError, "`seed` must be at least 0"),
    ({"rate_scale": 0}, ValueError, "`rate_scale` must be a number, positive .* rate_scale=0"),
    ({"rate_scale": "auto"}, ValueError, '`rate_scale` must be .* or "calibrate"; received .*auto'),
    (
        {"rate_scale": [2.0]},
        TypeError,
        r'`rate_scale` must be .* or "calibrate"; received .*\[2.0\]',
    ),
    ({"rate_scale": {"hidden": -1}}, ValueError, r"`rate_scale\['hidden'\]` must be a number, pos"),
    ({"rate_scale": {"out": 2}}, ValueError, r"must name .* which are \['hidden'\]; .*\['out'\]"),
    ({"rate_scale": 2, "example_data": DATA}, ValueError, '`example_data` is for rate_scale="cal'),
    ({"percentile": 99}, ValueError, '`percentile` is for rate_scale="calibrate" only'),
    ({"percentile": 0}, ValueError, "`percentile` must be a number of percent, positive"),
    ({"integrate": "rate"}, ValueError, '`integrate` must be one of "activation", "input"'),
    ({"negative_spikes": 0}, TypeError, "`negative_spikes` must be True or False"),
    ({"initial_voltage": 1.5}, ValueError, "`initial_voltage` must be at least 0 and less than"),
    ({"num_steps": 2, "tau": 0.1}, ValueError, '`tau` must be None with integrate="input"'),
    ({"num_steps": 2, "readout": "last"}, ValueError, '`readout` must be "average" or "seq'),
    ({"target_rate": 3}, ValueError, '`target_rate` is for rate_scale="calibrate" only'),
    ({"rate_scale": "calibrate", "target_rate": 3}, ValueError, "needs `example_data`"),
    ({**CALIBRATE, "percentile": 101}, ValueError, "`percentile` must be at most 100"),
    ({**CALIBRATE, "target_rate": 0}, ValueError, "`target_rate` must be a number of hertz, pos"),
    ({**CALIBRATE, "example_data": [1, 2]}, TypeError, "`example_data` must be an array, .* list"),
    ({**CALIBRATE, "example_data": DATA[:, :3]}, ValueError, r"received shapes \[\(3, 3\)\]"),
    ({**CALIBRATE, "example_data": DATA * np.nan}, ValueError, "`example_data` must be finite; .*"),
    ({**CALIBRATE, "example_data": DATA[:0]}, ValueError, "must have one or more samples"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), BAD_ARGUMENTS, ids=str)
def test_wrong_arguments_raise_before_any_work(arguments, error, words):
    with pytest.raises(error, match=rf"^convert: .*{words}"):
        keras_spiking.convert(model(), **arguments)


def test_arguments_are_checked_before_the_model_is_looked_at():
    for arguments, error, words in BAD_ARGUMENTS[:11]:
        with pytest.raises(error, match=words):
            keras_spiking.convert(None, **arguments)
