"""convert: operators, functions of `keras.ops`, and layers of one's own, beside the original."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_spiking
from tests.conversion.test_convert import LONG, assert_equal


def dense(x, units=6, activation="relu"):
    return layers.Dense(units, activation=activation)(x)


def functional(shape, make):
    inputs = keras.Input(shape)
    return keras.Model(inputs, make(inputs))


def arithmetic(x):
    """Operators on tensors that spike, on one that stands still, and on constants."""
    y = dense(x / 2.0 - 0.1) + layers.Dense(6)(x)
    y = 2.0 - y * np.linspace(-1, 1, 6, dtype="float32")
    return dense(y**2, 3, None) + 1.0


def axes(x):
    """Operations that name axes of a sample."""
    y = ops.concatenate([dense(x), x[:, 1:]], axis=1)
    y = ops.matmul(y, ops.transpose(dense(x), (0, 2, 1)))
    y = ops.einsum("bij,bik->bjk", y, y)
    first, second = ops.split(ops.reshape(y, (-1, 25)), [5], axis=-1)
    return dense(first * ops.mean(second, axis=1, keepdims=True), 3, None)


def activations(x):
    """Activations as operations, with and without settings, and by hand."""
    x = ops.relu(layers.Dense(6)(x))
    x = ops.leaky_relu(layers.Dense(6)(x), negative_slope=0.1)
    x = keras.activations.relu(layers.Dense(6)(x), max_value=1.0)
    x = ops.celu(layers.Dense(6)(x), alpha=0.5)
    x = ops.maximum(layers.Dense(6)(x), 0.0)
    return ops.softmax(layers.Dense(3)(x))


def several_outputs(x):
    return ops.split(layers.Dense(4)(dense(x)), 2, axis=-1)


MODELS = {
    "arithmetic": ((4,), arithmetic),
    "axes": ((5, 6), axes),
    "activations": ((4,), activations),
    "several outputs": ((4,), several_outputs),
}


@pytest.mark.parametrize(("shape", "make"), MODELS.values(), ids=MODELS)
def test_operations_do_what_they_do_in_the_original(shape, make, rng, tmp_path):
    model = functional(shape, make)
    data = rng.normal(size=(3, *shape)).astype("float32")
    expected = model.predict_on_batch(data)
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG, seed=0)
    outputs = spiking.predict_on_batch(data)
    assert_equal(outputs, expected)
    assert spiking.output_names[0] == model.output_names[0]

    spiking.save(tmp_path / "spiking.keras")
    loaded = keras.saving.load_model(tmp_path / "spiking.keras")
    assert_equal(loaded.predict_on_batch(data), outputs, 0)

    over_time = keras_spiking.convert(model, dt=LONG, readout="sequence")
    outputs = over_time.predict_on_batch(np.stack([data, -data], axis=1))
    for step, inputs in enumerate((data, -data)):
        at_step = keras.tree.map_structure(lambda each, step=step: each[:, step], outputs)
        assert_equal(at_step, model.predict_on_batch(inputs))


def test_activations_among_operations_spike_and_are_the_only_ones():
    model = functional((4,), activations)
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    names = [each.name for each in spiking.layers if hasattr(each, "spiking_aware_training")]
    *spike, final = [each.name for each in model.operations if "dense" not in each.name][1:]
    assert names == spike
    assert len(names) == 5
    # One that Keras has by name takes the same road as that name.
    assert spiking.get_layer(names[0]).activation is keras.activations.relu
    assert isinstance(spiking.get_layer(final), layers.Activation)


def test_operations_of_the_original_stay_as_they_are():
    model = functional((4,), arithmetic)
    keras_spiking.convert(model, num_steps=2, dt=LONG)
    for operation in model.operations:
        # Of several calls, `output` would not know which.
        assert keras.backend.is_keras_tensor(operation.output)


def test_a_nested_model_with_operations_may_be_called_twice(rng):
    block = functional((6,), lambda x: ops.relu(layers.Dense(6)(x)) + x)
    model = functional((6,), lambda x: layers.Dense(2)(block(block(x))))
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    data = rng.normal(size=(3, 6)).astype("float32")
    assert_equal(spiking.predict_on_batch(data), model.predict_on_batch(data))
    names = [each.name for each in spiking.layers if hasattr(each, "spiking_aware_training")]
    assert names == [f"{block.name}_{block.operations[-2].name}"]
    (result,) = keras_spiking.compare(model, spiking, data).results
    assert result.output_error < 1e-3


@pytest.mark.every_backend
def test_operations_keep_their_precision(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = functional((4,), lambda x: dense(ops.relu(layers.Dense(6)(x)) + dense(x), 3, None))
    keras.config.set_dtype_policy("float32")
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    operations = [each for each in model.operations if not isinstance(each, layers.Layer)]
    assert len(operations) == 2
    for operation in operations:
        layer = spiking.get_layer(operation.name)
        assert layer.dtype_policy.name == "bfloat16"
        assert keras.backend.standardize_dtype(layer.output.dtype) == "bfloat16"
    data = rng.normal(size=(5, 4)).astype("float32")
    one, other = (keras.ops.cast(each(data), "float32") for each in (spiking, model))
    assert_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), 0.05)


REFUSED = {
    "batch mean": lambda x: dense(x) - ops.mean(dense(x), axis=0, keepdims=True),
    "flip": lambda x: ops.flip(dense(x), axis=0),
    "softmax": lambda x: ops.softmax(dense(x), axis=0),
    "reshape": lambda x: ops.reshape(dense(x), (-1, 3)),
    "constant": lambda x: dense(x) + np.ones((3, 6), "float32"),
    "einsum": lambda x: ops.einsum("bi,ci->bi", dense(x), dense(x)),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_operations_that_mix_samples_are_refused(make):
    with pytest.raises(ValueError, match=r"\n- '.* mixes samples, or moves or drops the axis"):
        keras_spiking.convert(functional((6,), make), num_steps=2, dt=1.0)


class Odd(keras.Operation):
    """An operation of the user's, whose setting Keras cannot save."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_operations_that_cannot_be_copied_are_refused():
    def refused(make, words):
        with pytest.raises(ValueError, match=words):
            keras_spiking.convert(functional((6,), make), num_steps=2, dt=1.0)

    weight = keras.Variable(np.ones(6, "float32"))
    refused(lambda x: dense(x) * weight, "Multiply.* is called on a variable.*register")
    refused(lambda x: Odd(ops.abs)(dense(x)), "Odd.* has settings that Keras cannot copy")
    refused(
        lambda x: dense(ops.clip(layers.Dense(6)(x), np.float32(0), np.float32(1))),
        "Clip.* has settings that Keras cannot copy",
    )
    refused(
        lambda x: ops.sum(dense(x), axis=-1), "Sum.* returns one number for each .*keepdims=True"
    )


def test_refusals_alike_share_a_line():
    def make(x):
        for _ in range(3):
            x = ops.flip(dense(x), axis=0)
        return layers.LSTM(3, name="memory")(x[:, None])

    with pytest.raises(ValueError, match="has 4 that cannot") as raised:
        keras_spiking.convert(functional((6,), make), dt=1.0)
    _, flips, memory = str(raised.value).splitlines()
    assert flips.startswith("- 'flip', 'flip_1', 'flip_2' (Flip): each mixes samples")
    assert memory.startswith("- 'memory' (LSTM) runs over an axis")


@keras.saving.register_keras_serializable("tests")
class Swapped(layers.Layer):
    """A layer of the user's with weights, two outputs, and another way in training."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="random_normal")

    def call(self, inputs, training=False):
        scaled = inputs * self.scale
        return (inputs, scaled) if training else (scaled, inputs)


@keras.saving.register_keras_serializable("tests")
class Bent(layers.Layer):
    """An activation of the user's."""

    def call(self, inputs):
        return ops.where(inputs > 0, inputs, ops.expm1(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape


def test_layers_of_ones_own_can_be_registered(rng, tmp_path):
    def make(x):
        scaled, plain = Swapped(name="swapped")(Bent(name="bent")(layers.Dense(6)(x)))
        return dense(layers.Subtract()([scaled, plain]), 3, None)

    model = functional((4,), make)
    with pytest.raises(
        ValueError, match=r"'bent' \(Bent\), 'swapped' \(Swapped\): each .*register"
    ):
        keras_spiking.convert(model, dt=LONG)
    assert keras_spiking.conversion.register(Swapped) is Swapped
    assert keras_spiking.conversion.register(activation=True)(Bent) is Bent
    data = rng.normal(size=(3, 4)).astype("float32")
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG, seed=0)
    outputs = spiking.predict_on_batch(data)
    assert_equal(outputs, model.predict_on_batch(data))
    assert isinstance(spiking.get_layer("bent"), keras_spiking.SpikingActivation)
    spiking.save(tmp_path / "spiking.keras")
    loaded = keras.saving.load_model(tmp_path / "spiking.keras")
    assert_equal(loaded.predict_on_batch(data), outputs, 0)


def test_what_is_registered_must_be_a_class_of_layers():
    for wrong in (Bent(), int, "Bent"):
        with pytest.raises(TypeError, match="`layer_class` must be a subclass of "):
            keras_spiking.conversion.register(wrong)
    with pytest.raises(TypeError, match="`activation` must be True or False"):
        keras_spiking.conversion.register(Bent, activation="relu")


def excited(model, rng):
    """Makes what a model without training returns differ between samples."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.gamma.shape
            ranges = (0.8, 1.2), (-0.3, 0.3), (-0.1, 0.1), (0.02, 0.1)
            layer.set_weights([rng.uniform(low, high, shape) for low, high in ranges])
    return model


APPLICATIONS = {
    # Operators, hard sigmoids and squeeze-and-excitation; LayerScale and GELU.
    "MobileNetV3Small": lambda **options: keras.applications.MobileNetV3Small(**options),
    "ConvNeXtTiny": lambda **options: keras.applications.ConvNeXtTiny(**options),
}


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="it is the same on every backend, and long"
)
@pytest.mark.parametrize("make", APPLICATIONS.values(), ids=APPLICATIONS)
def test_models_of_keras_applications_can_be_converted(make, rng):
    options = {"input_shape": (32, 32, 3), "weights": None, "classifier_activation": None}
    model = excited(make(**options, classes=5), rng)
    data = rng.uniform(0, 255, size=(3, 32, 32, 3)).astype("float32")
    expected = model.predict_on_batch(data)
    assert expected.std(axis=0).min() > 0.01 * np.abs(expected).max()
    # Sums of spikes stop at 2^24, and some of these activations are in the thousands.
    spiking = keras_spiking.convert(model, num_steps=4, dt=1.0, example_data=data, target_rate=1e5)
    assert_equal(spiking.predict_on_batch(data), expected)
