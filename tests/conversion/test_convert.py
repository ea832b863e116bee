"""convert: the outputs are the original's, by any road; what it copies, names and saves."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import keras_spiking
from keras_spiking.conversion import rules
from tests.compiled import BACKEND
from tests.conversion.models import MODELS, built, data_for, sequential, weird

# So long a step that every rate is met to within a ten thousandth.
LONG = 1e4


def assert_equal(actual, expected, tolerance=1e-3):
    """Asserts outputs to be the same, relative to the greatest."""
    keras.tree.assert_same_structure(actual, expected)
    for one, other in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=tolerance * max(1, np.abs(other).max()))


def small():
    return sequential(
        (4,), layers.Dense(8, activation="relu", name="hidden"), layers.Dense(3, name="out")
    )


@pytest.mark.parametrize("make", MODELS)
def test_long_steps_give_the_outputs_of_the_original(make, rng):
    model = built(make)
    data = data_for(model, rng)
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    assert spiking.output_shape == model.output_shape
    assert_equal(spiking.predict_on_batch(data), model.predict_on_batch(data))


def test_these_models_have_every_supported_layer():
    used = {type(layer) for make in MODELS for layer in built(make).layers}
    assert used >= rules.SUPPORTED


BLOCKS = {
    "conv": lambda: [layers.Conv2D(3, 3, padding="same", activation="relu")],
    "split": lambda: [layers.Conv2D(2, 1), layers.BatchNormalization(), layers.ReLU()],
    "tanh": lambda: [layers.DepthwiseConv2D(2, padding="same"), layers.Activation("tanh")],
    "slope": lambda: [layers.Conv2D(2, 2, padding="same"), layers.LeakyReLU(0.2)],
    "pool": lambda: [layers.MaxPooling2D(2, padding="same"), layers.Dropout(0.5)],
    "average": lambda: [layers.AveragePooling2D(2, padding="same"), layers.LayerNormalization()],
    "grow": lambda: [layers.UpSampling2D(2), layers.Dense(2, activation="elu")],
    "turn": lambda: [layers.Permute((2, 1, 3)), layers.ZeroPadding2D(1)],
    "separable": lambda: [layers.SeparableConv2D(3, 2, padding="same", activation="sigmoid")],
    "transposed": lambda: [
        layers.Conv2DTranspose(2, 2, activation="relu"),
        layers.Cropping2D(((1, 0), (1, 0))),
    ],
    "einsum": lambda: [
        layers.GlobalAveragePooling2D(),
        layers.RepeatVector(6),
        layers.EinsumDense("...d,de->...e", 4, activation="tanh"),
        layers.Reshape((4, 3, 2)),
    ],
    "scale": lambda: [layers.Rescaling(0.5, offset=0.1), layers.GroupNormalization(1)],
    "squash": lambda: [layers.Conv2D(3, 1), layers.UnitNormalization(), layers.PReLU()],
    "elu": lambda: [layers.ELU(), layers.UpSampling2D((1, 2))],
}


MERGES = (layers.Add, layers.Subtract, layers.Multiply, layers.Maximum, layers.Concatenate)


# JAX and TensorFlow compile each of the models, twice.
@pytest.mark.every_backend
@settings(max_examples={"jax": 2, "tensorflow": 2, "torch": 20}[BACKEND], deadline=None)
@given(
    blocks=st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=4),
    merge=st.sampled_from([None, *MERGES]),
    final=st.sampled_from([None, "softmax", "sigmoid", "tanh"]),
    static=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_long_steps_give_the_outputs_of_any_model(blocks, merge, final, static, seed):
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((5, 4, 2))
    for block in blocks:
        for layer in BLOCKS[block]():
            x = layer(x)
    if merge is not None:
        x = merge()([x, layers.Dense(x.shape[-1], activation="relu")(x)])
    x = layers.Dense(3, activation="relu")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(2, activation=final)(x))
    data = np.random.default_rng(seed).normal(size=(2, 5, 4, 2)).astype("float32")
    expected = model.predict_on_batch(data)
    if static:
        spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    else:
        spiking = keras_spiking.convert(model, dt=LONG)
        data = data[:, None].repeat(2, axis=1)
    assert_equal(spiking.predict_on_batch(data), expected)


@pytest.mark.parametrize("has_run", [True, False])
def test_a_layer_may_be_the_activation_of_another(has_run, rng, tmp_path):
    def slope(value):
        return layers.PReLU(alpha_initializer=keras.initializers.Constant(value))

    model = sequential(
        (4,), layers.Dense(6, activation=slope(0.3)), layers.Dense(3, activation=slope(0.1))
    )
    data = rng.normal(size=(5, 4)).astype("float32")
    if has_run:  # only then has the activation weights
        model.predict_on_batch(data)
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG, seed=0)
    expected = model.predict_on_batch(data)
    assert_equal(spiking.predict_on_batch(data), expected)
    keras_spiking.compare(model, spiking, data)
    spiking.save(tmp_path / "spiking.keras")
    loaded = keras.saving.load_model(tmp_path / "spiking.keras")
    assert_equal(loaded.predict_on_batch(data), expected)

    spiking.compile("sgd", "mse")
    spiking.fit(data, np.zeros((5, 3)), verbose=0)
    np.testing.assert_array_equal(model.predict_on_batch(data), expected)


@pytest.mark.every_backend
def test_shared_and_nested_layers_and_several_inputs_and_outputs(rng, tmp_path):
    model = weird()
    data = data_for(model, rng)
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG, seed=0)
    outputs = spiking.predict_on_batch(data)
    assert_equal(outputs, model.predict_on_batch(data))
    names = {layer.name for layer in spiking.layers}
    # Outputs keep their names, so that losses by name still fit; inner layers take their model's.
    assert names >= {"classes", "chance", "hidden", "classes_over_time", "block_conv_spikes"}
    assert names >= {"shared", "shared_spikes", "hidden_spikes", "block_norm"}
    assert sum(w.shape == (3, 3, 2, 2) for w in spiking.get_weights()) == 1

    spiking.save(tmp_path / "spiking.keras")
    loaded = keras.saving.load_model(tmp_path / "spiking.keras")
    for name, output in loaded.predict_on_batch(data).items():
        np.testing.assert_array_equal(output, outputs[name])


def test_a_nested_model_may_have_several_inputs_in_a_list_or_by_name(rng):
    right, left = keras.Input((4,), name="right"), keras.Input((4,), name="left")
    one, other = keras.Input((4,)), keras.Input((4,))
    difference = layers.Subtract()(
        [layers.Dense(3, activation="relu")(right), layers.Dense(3)(left)]
    )
    nested = {
        "list": keras.Model([right, left], difference),
        "names": keras.Model({"right": right, "left": left}, difference),
    }
    given = {"list": [one, other], "names": {"right": one, "left": other}}
    data = list(rng.normal(size=(2, 3, 4)).astype("float32"))
    for made, called in (("list", "list"), ("list", "names"), ("names", "names")):
        head = layers.Dense(2)
        model = keras.Model([one, other], head(inputs=nested[made](inputs=given[called])))
        spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
        assert_equal(spiking.predict_on_batch(data), model.predict_on_batch(data))


def test_inputs_may_change_over_time(rng):
    model = weird()
    data = {
        name: rng.normal(size=(2, 3, *tensor.shape[1:])).astype("float32")
        for name, tensor in model.input.items()
    }
    spiking = keras_spiking.convert(model, dt=LONG, readout="sequence")
    outputs = spiking.predict_on_batch(data)
    for step in range(3):
        expected = model.predict_on_batch({name: each[:, step] for name, each in data.items()})
        assert_equal({name: each[:, step] for name, each in outputs.items()}, expected)


def test_final_activation_is_taken_of_the_readout(rng):
    data = rng.normal(size=(5, 4)).astype("float32")
    model = sequential(
        (4,), layers.Dense(8, activation="relu"), layers.Dense(3, activation="softmax")
    )
    logits = small()
    logits.set_weights(model.get_weights())
    convert = {"num_steps": 7, "dt": 0.3, "seed": 3, "integrate": "activation"}
    over_time = keras_spiking.convert(logits, readout="sequence", **convert).predict_on_batch(data)
    assert over_time.shape == (5, 7, 3)
    assert over_time.std(axis=1).max() > 0.1
    for readout, expected in (("average", over_time.mean(axis=1)), ("last", over_time[:, -1])):
        outputs = keras_spiking.convert(logits, readout=readout, **convert).predict_on_batch(data)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
        expected = np.exp(expected) / np.exp(expected).sum(axis=-1, keepdims=True)
        outputs = keras_spiking.convert(model, readout=readout, **convert).predict_on_batch(data)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_spikes_are_those_of_the_layer_by_hand(rng):
    data = rng.normal(size=(5, 4)).astype("float32")
    model = small()
    kernel, bias, final_kernel, final_bias = model.get_weights()
    spiking = keras_spiking.convert(
        model,
        num_steps=20,
        dt=0.05,
        tau=0.1,
        integrate="activation",
        rate_scale={"hidden": 4.0},
        readout="sequence",
        seed=3,
    )
    spikes = keras_spiking.SpikingActivation("relu", dt=0.05, rate_scale=4.0, seed=3)
    x = spikes(np.repeat((data @ kernel + bias)[:, None], 20, axis=1))
    x = keras.ops.convert_to_numpy(keras_spiking.Lowpass(0.1, dt=0.05)(x))
    np.testing.assert_allclose(
        spiking.predict_on_batch(data), x @ final_kernel + final_bias, atol=1e-4
    )


def test_weights_are_copied_and_the_original_is_untouched(rng):
    model = weird()
    config, weights = model.get_config(), model.get_weights()
    data = data_for(model, rng)
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    before = spiking.predict_on_batch(data)
    assert not {id(w) for w in model.variables} & {id(w) for w in spiking.variables}
    spiking.set_weights([2 * w + 1 for w in spiking.get_weights()])
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.get_config() == config
    # No call was recorded: a layer that is called once still has one output.
    assert model.get_layer("hidden").output is model.output["hidden"]

    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    model.set_weights([np.zeros_like(w) for w in weights])
    assert_equal(spiking.predict_on_batch(data), before)


def test_max_pooling_may_become_average_pooling(rng):
    def make(pool, whole):
        return sequential(
            (6, 6, 1), layers.Conv2D(2, 3, activation="relu"), pool(2, strides=1), whole()
        )

    maximum = make(layers.MaxPooling2D, layers.GlobalMaxPooling2D)
    average = make(layers.AveragePooling2D, layers.GlobalAveragePooling2D)
    average.set_weights(maximum.get_weights())
    data = data_for(maximum, rng)
    spiking = keras_spiking.convert(maximum, num_steps=2, dt=LONG, max_pooling="average")
    assert_equal(spiking.predict_on_batch(data), average.predict_on_batch(data))


def test_augmentation_does_nothing_but_in_training(rng):
    model = sequential(
        (6, 6, 1),
        layers.RandomFlip(name="flip"),
        layers.RandomRotation(0.2),
        layers.Conv2D(2, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(2),
    )
    data = data_for(model, rng)
    expected = model.predict_on_batch(data)
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    assert_equal(spiking.predict_on_batch(data), expected)
    assert spiking.get_layer("flip").output.shape == (None, 6, 6, 1)
    over_time = keras_spiking.convert(model, dt=LONG)
    assert_equal(over_time.predict_on_batch(data[:, None].repeat(2, axis=1)), expected)
    for trained, inputs in ((spiking, data), (over_time, data[:, None].repeat(2, axis=1))):
        outputs = keras.ops.convert_to_numpy(trained(inputs, training=True))
        assert np.abs(outputs - expected).max() > 1e-2


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["", "Global", "Adaptive"])
def test_every_max_pooling_may_become_average_pooling(kind, rank, rng):
    arguments = {"": (2,), "Global": (), "Adaptive": (2,)}[kind]

    def make(what):
        pool = getattr(layers, f"{kind}{what}Pooling{rank}D")(*arguments)
        return sequential((4,) * rank + (2,), layers.ReLU(), pool)

    maximum, average = make("Max"), make("Average")
    data = data_for(maximum, rng)
    for max_pooling, model in (("keep", maximum), ("average", average)):
        spiking = keras_spiking.convert(maximum, num_steps=2, dt=LONG, max_pooling=max_pooling)
        assert_equal(spiking.predict_on_batch(data), model.predict_on_batch(data))


@pytest.mark.every_backend
def test_a_compiled_model_evaluates_and_trains_at_once(rng):
    data, labels = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, size=64)
    model = sequential(
        (4,),
        layers.Dense(8, activation="relu", activity_regularizer="l2"),
        layers.BatchNormalization(),
        layers.Dropout(0.2),
        layers.Dense(3, activation="softmax"),
    )
    model.compile(
        keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    expected = model.evaluate(data, labels, verbose=0)
    spiking = keras_spiking.convert(model, num_steps=4, dt=LONG)
    # The activity regularizer sees every step, and is the sum over steps.
    penalty = expected[0] - float(
        np.mean(-np.log(model.predict(data, verbose=0)[range(64), labels]))
    )
    received = spiking.evaluate(data, labels, verbose=0)
    assert received[0] == pytest.approx(expected[0] + 3 * penalty, abs=1e-3)
    assert received[1] == expected[1]

    spiking = keras_spiking.convert(model, num_steps=4, dt=1.0)
    history = spiking.fit(data, labels, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert float(keras.ops.convert_to_numpy(spiking.optimizer.learning_rate)) == pytest.approx(0.05)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # raised again by pytest.warns
def test_what_cannot_be_compiled_again_warns():
    def own_loss(labels, outputs):
        return keras.ops.mean(outputs)

    model = small()
    model.compile("sgd", own_loss)
    with pytest.warns(UserWarning, match=r"the new model is not compiled, .* compile it"):
        spiking = keras_spiking.convert(model, num_steps=2, dt=1.0)
    assert not spiking.compiled


def test_training_without_spikes_sees_the_original(rng):
    data = rng.normal(size=(5, 4)).astype("float32")
    model = small()
    spiking = keras_spiking.convert(model, num_steps=3, dt=1.0, spiking_aware_training=False)
    assert_equal(
        keras.ops.convert_to_numpy(spiking(data, training=True)),
        keras.ops.convert_to_numpy(model(data)),
        1e-5,
    )


def test_a_seed_repeats_and_differs_between_layers(rng):
    data = rng.normal(size=(5, 4)).astype("float32")
    model = sequential(
        (4,),
        layers.Dense(6, activation="relu"),
        layers.Dense(6, activation="relu"),
        layers.Dense(2),
    )
    one, other = (keras_spiking.convert(model, num_steps=5, dt=0.3, seed=2**32 - 1) for _ in "ab")
    np.testing.assert_array_equal(one.predict_on_batch(data), other.predict_on_batch(data))
    seeds = [layer.seed for layer in one.layers if hasattr(layer, "spiking_aware_training")]
    assert len(set(seeds)) == 2


@pytest.mark.every_backend
def test_precision_of_layers_is_kept(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = sequential((4,), layers.Dense(8, activation="relu"), layers.Dense(3))
    data = rng.normal(size=(5, 4)).astype("float32")
    keras.config.set_dtype_policy("float32")
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    policies = {layer.name: layer.dtype_policy.name for layer in spiking.layers}
    first, last = (layer.name for layer in model.layers)
    for name in (first, f"{first}_spikes", f"{last}_over_time"):
        assert policies[name] == "mixed_bfloat16"
    one, other = (keras.ops.cast(each(data), "float32") for each in (spiking, model))
    assert_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), 0.05)


@pytest.mark.every_backend
def test_dt_may_be_a_variable_that_changes(rng):
    data = rng.normal(size=(5, 4)).astype("float32")
    model = small()
    dt = keras.Variable(1e-6)
    spiking = keras_spiking.convert(model, num_steps=2, dt=dt, rate_scale=1.0)
    expected = model.predict_on_batch(data)
    assert np.abs(spiking.predict_on_batch(data) - expected).max() > 0.1
    dt.assign(LONG)
    assert_equal(spiking.predict_on_batch(data), expected)


def test_what_is_the_same_at_every_step_is_computed_once():
    model = sequential(
        (6, 6, 1),
        layers.Conv2D(2, 3, activation="relu", name="first"),
        layers.Conv2D(2, 3, activation="relu", name="second"),
        layers.Flatten(),
        layers.Dense(2),
    )
    spiking = keras_spiking.convert(model, num_steps=5, dt=1.0)
    assert spiking.get_layer("first").output.shape == (None, 4, 4, 2)
    assert spiking.get_layer("second").output.shape == (None, 5, 2, 2, 2)


def test_frozen_layers_stay_frozen():
    model = sequential(
        (6, 6, 1),
        layers.Conv2D(2, 3, activation="relu", trainable=False),
        layers.Conv2D(2, 3, activation="relu", trainable=False),
        layers.Flatten(),
        layers.Dense(2),
    )
    spiking = keras_spiking.convert(model, num_steps=2, dt=1.0)
    assert [tuple(w.shape) for w in spiking.trainable_weights] == [(8, 2), (2,)]


def test_images_of_unknown_size_give_what_images_of_that_size_do(rng):
    def model(size):
        return keras.Sequential(
            [
                keras.Input((size, size, 3)),
                keras.layers.Conv2D(4, 3, activation="relu"),
                keras.layers.MaxPooling2D(2),
                keras.layers.Conv2D(5, 2, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(2),
            ]
        )

    options = {"num_steps": 6, "dt": 0.5, "seed": 0, "rate_scale": 2.0}
    unknown = model(None)
    spiking = keras_spiking.convert(unknown, **options)
    for size in (9, 12):
        known = model(size)
        known.set_weights(unknown.get_weights())
        images = rng.normal(size=(3, size, size, 3)).astype("float32")
        expected = keras_spiking.convert(known, **options).predict(images, verbose=0)
        np.testing.assert_allclose(spiking.predict(images, verbose=0), expected, rtol=1e-5)
    report = keras_spiking.compare(unknown, spiking, images, num_steps=(3, 6))
    assert [result.num_steps for result in report.results] == [3, 6]
    options |= {"rate_scale": "calibrate", "example_data": images, "target_rate": 2.0}
    calibrated = keras_spiking.convert(unknown, **options)
    assert np.isfinite(calibrated.predict(images, verbose=0)).all()
