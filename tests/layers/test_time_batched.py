"""TimeBatched: against a loop over steps, and Keras's `TimeDistributed`."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking import TemporalAvgPool, TimeBatched
from tests.compiled import BACKEND, MODES, gradients
from tests.compiled import run as run_compiled
from tests.layers.cases import assert_same, run

BATCH, TIME = 3, 5


@keras.saving.register_keras_serializable("tests")
class Composite(keras.layers.Layer):
    """A user's layer of layers, without `build` or `compute_output_shape`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(4, activation="tanh", dtype=self.dtype_policy)

    def call(self, inputs):
        return self.dense(inputs) * 2.0


def small_model():
    return keras.Sequential(
        [
            keras.layers.Conv2D(2, 2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


CASES = {
    "dense": (lambda: keras.layers.Dense(3), (4,)),
    "dense over axes": (lambda: keras.layers.Dense(3), (2, 4)),
    "convolution": (lambda: keras.layers.Conv2D(4, 3, activation="relu"), (6, 5, 2)),
    "pooling": (lambda: keras.layers.MaxPooling2D(2), (6, 5, 2)),
    "flatten": (keras.layers.Flatten, (3, 2, 2)),
    "normalization": (keras.layers.LayerNormalization, (4,)),
    "model": (small_model, (5, 4, 2)),
    "composite": (Composite, (4,)),
    "nested": (lambda: TimeBatched(keras.layers.Dense(3)), (2, 4)),
    "recurrent": (lambda: keras.layers.LSTM(3), (6, 4)),
    "both ways": (
        lambda: keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True)),
        (6, 4),
    ),
    "recurrent convolution": (lambda: keras.layers.ConvLSTM1D(2, 2), (3, 4, 2)),
    "distributed": (lambda: keras.layers.TimeDistributed(keras.layers.Dense(3)), (6, 4)),
    "recurrent in a model": (
        lambda: keras.Sequential([keras.layers.Dense(3), keras.layers.SimpleRNN(3)]),
        (6, 4),
    ),
}
every_case = pytest.mark.parametrize(("make", "features"), CASES.values(), ids=CASES)


def data(rng, features, batch=BATCH, time=TIME):
    return rng.normal(size=(batch, time, *features)).astype("float32")


def step_by_step(layer, inputs):
    """The layer called on each step."""
    steps = [run(layer, inputs[:, time]) for time in range(inputs.shape[1])]
    return np.stack(steps, axis=1)


@pytest.mark.slow
@every_case
def test_equals_the_layer_at_each_step(make, features, rng):
    inputs = data(rng, features)
    layer = make()
    wrapper = TimeBatched(layer)
    outputs = run(wrapper, inputs)
    assert_same(outputs, step_by_step(layer, inputs))
    assert all(w is v for w, v in zip(wrapper.weights, layer.weights, strict=True))
    assert len(wrapper.trainable_weights) == len(layer.trainable_weights)


@pytest.mark.slow
def test_one_layer_runs_at_any_length_and_batch_size(rng):
    make, features = CASES["convolution"]
    layer = make()
    wrapper = TimeBatched(layer)
    for batch, time in ((1, 7), (4, 1)):
        inputs = data(rng, features, batch, time)
        assert_same(run(wrapper, inputs), step_by_step(layer, inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "convolution", "pooling", "flatten", "model"])
def test_equals_time_distributed(name, rng):
    make, features = CASES[name]
    inputs = data(rng, features)
    ours, theirs = TimeBatched(make()), keras.layers.TimeDistributed(make())
    outputs = run(ours, inputs)
    run(theirs, inputs)
    theirs.set_weights(ours.get_weights())
    assert_same(outputs, run(theirs, inputs))
    assert ours.compute_output_shape(inputs.shape) == outputs.shape

    # And in training: the same gradients of inputs and weights.
    upstream = rng.normal(size=outputs.shape).astype("float32")

    def loss(layer):
        return lambda x: ops.sum(layer(x) * ops.convert_to_tensor(upstream))

    expected = gradients(loss(theirs), inputs)[0]
    assert_same(gradients(loss(ours), inputs)[0], expected)
    if name == "convolution":
        for layer in (ours, theirs):
            model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
            model.compile(keras.optimizers.SGD(0.1), "mse")
            model.fit(inputs, upstream, verbose=0)
        for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["dense", "convolution", "flatten", "model"])
def test_compiled_is_eager(name, mode, rng):
    make, features = CASES[name]
    layer = make()
    wrapper = TimeBatched(layer)
    # Fewer steps than samples and more: neither may be taken for the other.
    for batch, time in ((5, 3), (2, 4)):
        inputs = data(rng, features, batch, time)
        wrapper.build(inputs.shape)
        assert_same(run_compiled(wrapper, inputs, mode=mode), step_by_step(layer, inputs))


@pytest.mark.slow
@every_case
def test_shapes_are_known_where_they_can_be(make, features):
    sizes = run(make(), np.zeros((1, *features), "float32")).shape[1:]
    for shape in ((None, None), (4, None), (None, 3), (4, 3), (0, 3), (4, 0)):
        wrapper = TimeBatched(make())
        symbolic = wrapper(keras.KerasTensor((*shape, *features)))
        assert symbolic.shape == (*shape, *sizes)
        assert symbolic.dtype == "float32"
        if make is not Composite:
            assert TimeBatched(make()).compute_output_shape((*shape, *features)) == symbolic.shape


@pytest.mark.parametrize("shape", [(0, TIME), (BATCH, 0)], ids=str)
def test_no_samples_or_no_steps_give_none(shape):
    for name in ("dense", "flatten", "normalization"):
        make, features = CASES[name]
        inputs = np.zeros((*shape, *features), "float32")
        wrapper = TimeBatched(make())
        assert run(wrapper, inputs).shape == wrapper.compute_output_shape(inputs.shape)


def test_a_symbolic_call_does_not_run_the_layer():
    class Watched(keras.layers.Dense):
        calls = 0

        def call(self, inputs, training=None):
            Watched.calls += 1
            return super().call(inputs)

    wrapper = TimeBatched(Watched(3))
    outputs = wrapper(keras.Input((None, 4)))
    assert outputs.shape == (None, None, 3)
    assert Watched.calls == 0
    run(wrapper, np.zeros((2, 3, 4), "float32"))
    assert Watched.calls == 1


def test_fits_with_unknown_batch_and_time(rng):
    model = keras.Sequential(
        [
            keras.Input((None, 6, 6, 1)),
            TimeBatched(keras.layers.Conv2D(2, 3)),
            keras_spiking.SpikingActivation("relu", dt=0.1, seed=0),
            TimeBatched(keras.layers.Flatten()),
            TemporalAvgPool(),
            keras.layers.Dense(1),
        ]
    )
    assert model.layers[2].output.shape == (None, None, 32)
    model.compile("sgd", "mse")
    for batch, time in ((3, 4), (2, 7)):
        # The last batch of three is smaller.
        inputs = data(rng, (6, 6, 1), batch, time)
        before = model.get_weights()
        history = model.fit(inputs, np.ones((batch, 1)), batch_size=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        assert not any(map(np.array_equal, before, model.get_weights()))
    assert model.predict(inputs, verbose=0).shape == (2, 1)


@pytest.mark.slow
def test_fits_eagerly(rng):
    inputs, targets = data(rng, (4,)), np.ones((BATCH, 3))
    weights = []
    for run_eagerly in (False, True):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((None, 4)), TimeBatched(keras.layers.Dense(3)), TemporalAvgPool()]
        model = keras.Sequential(layers)
        model.compile("sgd", "mse", run_eagerly=run_eagerly)
        model.fit(inputs, targets, verbose=0)
        weights.append(model.get_weights())
    for compiled, eager in zip(*weights, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolution", "flatten", "model", "nested"])
def test_survives_saving_and_cloning(name, rng, tmp_path):
    make, features = CASES[name]
    inputs = data(rng, features)
    symbolic = keras.Input((None, *features))
    model = keras.Model(symbolic, TimeBatched(make(), name="named")(symbolic))
    expected = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[1]) is TimeBatched
    assert loaded.layers[1].name == "named"
    assert_same(loaded.predict(inputs, verbose=0), expected)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_same(clone.predict(inputs, verbose=0), expected)
    model.save_weights(tmp_path / "model.weights.h5")
    clone.set_weights([0.0 * weight for weight in model.get_weights()])
    clone.load_weights(tmp_path / "model.weights.h5")
    assert_same(clone.predict(inputs, verbose=0), expected)


def test_config_makes_an_equal_layer(rng):
    inputs = data(rng, (4,))
    layer = TimeBatched(keras.layers.Dense(3, dtype="mixed_bfloat16"), trainable=False)
    outputs = run(layer, inputs)
    copy = TimeBatched.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert not copy.trainable
    copy.build(inputs.shape)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(run(copy, inputs).astype("float32"), outputs.astype("float32"))


@pytest.mark.slow
def test_a_sequential_model_builds_on_its_first_inputs(rng, tmp_path):
    inputs = data(rng, (6, 6, 1))
    model = keras.Sequential([TimeBatched(small_model()), TemporalAvgPool()])
    expected = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(loaded.predict(inputs, verbose=0), expected)


def test_several_inputs_and_outputs(rng):
    first, second = data(rng, (2, 3)), data(rng, (2, 3))
    outputs = run(TimeBatched(keras.layers.Concatenate()), [first, second])
    assert_same(outputs, np.concatenate([first, second], axis=-1))
    symbolic = [keras.Input((None, 2, 3)), keras.Input((None, 2, 3))]
    model = keras.Model(symbolic, TimeBatched(keras.layers.Add())(symbolic))
    assert model.output_shape == (None, None, 2, 3)
    assert_same(model.predict([first, second], verbose=0), first + second)

    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2, 3), name="b")}
    total = keras.layers.Add()([inputs["b"], keras.layers.Reshape((1, 3))(inputs["a"])])
    wrapped = keras.Model(inputs, {"sum": total, "flat": keras.layers.Flatten()(total)})
    wrapper = TimeBatched(wrapped)
    outputs = run(wrapper, {"a": first[:, :, 0], "b": second})
    assert_same(outputs["sum"], first[:, :, :1] + second)
    assert_same(outputs["flat"], outputs["sum"].reshape(BATCH, TIME, 6))
    shapes = {"a": (None, 4, 3), "b": (None, 4, 2, 3)}
    expected = {"sum": (None, 4, 2, 3), "flat": (None, 4, 6)}
    assert wrapper.compute_output_shape(shapes) == expected
    symbolic = {name: keras.KerasTensor(shape) for name, shape in shapes.items()}
    assert {name: each.shape for name, each in wrapper(symbolic).items()} == expected
    # Every output carries the mask.
    mask = rng.random((BATCH, TIME)) < 0.5
    outputs = wrapper({"a": first[:, :, 0], "b": second}, mask=mask)
    for output in outputs.values():
        np.testing.assert_array_equal(ops.convert_to_numpy(output._keras_mask), mask)


@pytest.mark.slow
def test_training_reaches_the_layer(rng):
    inputs = np.ones((20, 10, 30), "float32")
    wrapper = TimeBatched(keras.layers.Dropout(0.5, seed=0))
    assert_same(run(wrapper, inputs), inputs, exact=True)
    assert_same(run(wrapper, inputs, training=False), inputs, exact=True)
    dropped = run(wrapper, inputs, training=True) == 0
    assert dropped.mean() == pytest.approx(0.5, abs=0.05)
    # Other units at every step and sample, and at every call.
    assert len(np.unique(dropped.reshape(-1, 30), axis=0)) == 200
    assert (run(wrapper, inputs, training=True) == 0).tolist() != dropped.tolist()

    model = keras.Sequential([keras.Input((10, 30)), wrapper])
    assert_same(run(model, inputs), inputs, exact=True)
    assert (run(model, inputs, training=True) == 0).any()
    # A layer that takes no `training` is not given it.
    run(TimeBatched(keras.layers.Flatten()), inputs, training=True)


@pytest.mark.slow
def test_batch_normalization_is_over_batch_and_time(rng):
    # Each step has another mean, which a normalization step by step takes away.
    inputs = data(rng, (2,), batch=40) + 10.0 * np.arange(TIME, dtype="float32")[:, None]
    options = {"momentum": 0.9, "epsilon": 1e-6}

    wrapper = TimeBatched(keras.layers.BatchNormalization(**options))
    outputs = run(wrapper, inputs, training=True)
    mean, variance = inputs.mean(axis=(0, 1)), inputs.var(axis=(0, 1))
    np.testing.assert_allclose(outputs, (inputs - mean) / np.sqrt(variance + 1e-6), atol=1e-3)
    np.testing.assert_allclose(ops.convert_to_numpy(wrapper.layer.moving_mean), 0.1 * mean, 1e-4)

    theirs = keras.layers.TimeDistributed(keras.layers.BatchNormalization(**options))
    outputs = run(theirs, inputs, training=True)
    means, variances = inputs.mean(axis=0), inputs.var(axis=0)
    np.testing.assert_allclose(outputs, (inputs - means) / np.sqrt(variances + 1e-6), atol=1e-3)
    expected = sum(0.1 * 0.9 ** (TIME - 1 - time) * means[time] for time in range(TIME))
    np.testing.assert_allclose(ops.convert_to_numpy(theirs.layer.moving_mean), expected, 1e-4)

    # In inference, with equal statistics, both are the same.
    theirs.set_weights(wrapper.get_weights())
    assert_same(run(wrapper, inputs), run(theirs, inputs))


@pytest.mark.slow
@pytest.mark.parametrize("features", [(4,), (2, 4), (3, 2, 4)], ids=str)
def test_batch_normalization_leaves_masked_steps_out(features, rng):
    inputs = data(rng, features, batch=6)
    mask = rng.random((6, TIME)) < 0.6
    inputs[~mask] = 1e3
    layer = keras.layers.BatchNormalization(momentum=0.0, epsilon=1e-6)
    used = inputs[mask].reshape(-1, 4)
    outputs = run(TimeBatched(layer), inputs, mask=mask, training=True)
    expected = (inputs - used.mean(axis=0)) / np.sqrt(used.var(axis=0) + 1e-6)
    np.testing.assert_allclose(outputs[mask], expected[mask], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.moving_mean), used.mean(axis=0), rtol=1e-4, atol=1e-5
    )


def test_losses_are_counted_once_over_batch_and_time(rng):
    inputs = data(rng, (4,))

    class Adding(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(ops.sum(inputs))
            return inputs

    square = float((inputs.astype("float64") ** 2).sum())
    cases = [
        (TimeBatched(Adding()), inputs.sum()),
        (
            TimeBatched(keras.layers.Activation("linear", activity_regularizer="l2")),
            0.01 * square / (BATCH * TIME),
        ),
        (
            TimeBatched(keras.layers.Activation("linear"), activity_regularizer="l2"),
            0.01 * square / BATCH,
        ),
    ]
    for wrapper, expected in cases:
        run(wrapper, inputs)
        (loss,) = wrapper.losses
        assert ops.convert_to_numpy(loss) == pytest.approx(expected, rel=1e-4)
        model = keras.Sequential([keras.Input(inputs.shape[1:]), wrapper])
        model.compile("sgd", loss=None)
        (result,) = model.evaluate(inputs, batch_size=BATCH, verbose=0, return_dict=True).values()
        assert result == pytest.approx(expected, rel=1e-4)

    dense = keras.layers.Dense(3, kernel_regularizer="l2")
    wrapper = TimeBatched(dense)
    run(wrapper, inputs)
    (loss,) = wrapper.losses
    kernel = ops.convert_to_numpy(dense.kernel)
    assert ops.convert_to_numpy(loss) == pytest.approx(0.01 * (kernel**2).sum(), rel=1e-4)


def test_masks_are_passed_on(rng):
    inputs = data(rng, (4,))
    inputs[1, 2:] = 0.0
    mask = (inputs != 0).any(axis=2)
    wrapper = TimeBatched(keras.layers.Dense(3))
    masked = wrapper(keras.layers.Masking()(inputs))
    np.testing.assert_array_equal(ops.convert_to_numpy(masked._keras_mask), mask)
    assert wrapper.compute_mask(inputs, mask) is mask
    assert wrapper.compute_mask(inputs, None) is None

    symbolic = keras.Input((None, 4))
    hidden = wrapper(keras.layers.Masking()(symbolic))
    model = keras.Model(symbolic, TemporalAvgPool()(hidden))
    steps = step_by_step(wrapper.layer, inputs)
    expected = np.stack([each[used].mean(axis=0) for each, used in zip(steps, mask, strict=True)])
    assert_same(model.predict(inputs, verbose=0), expected)
    model.compile("sgd", "mse")
    model.fit(inputs, np.zeros((BATCH, 3)), batch_size=2, verbose=0)


def test_masks_of_several_inputs(rng):
    first, second = data(rng, (4,)), data(rng, (4,))
    masks = [rng.random((BATCH, TIME)) < 0.6 for _ in range(2)]
    wrapper = TimeBatched(keras.layers.Add())
    for given, expected in (
        (masks, masks[0] & masks[1]),
        ([None, masks[1]], masks[1]),
        (masks[0], masks[0]),
    ):
        outputs = wrapper([first, second], mask=given)
        np.testing.assert_array_equal(ops.convert_to_numpy(outputs._keras_mask), expected)

    @keras.saving.register_keras_serializable("tests")
    class Masked(keras.layers.Layer):
        """Sums its inputs where their masks say so."""

        supports_masking = True

        def call(self, inputs, mask=None):
            return sum(
                tensor if each is None else tensor * ops.cast(each, "float32")[:, None]
                for tensor, each in zip(inputs, mask, strict=True)
            )

    wrapper = TimeBatched(Masked())
    assert_same(
        run(wrapper, [first, second], mask=[None, masks[1]]),
        first + second * masks[1][:, :, None],
    )
    expected = (first + second) * masks[0][:, :, None]
    assert_same(run(wrapper, [first, second], mask=masks[0]), expected)


@pytest.mark.slow
def test_masks_within_steps(rng):
    # Sentences of words: a mask for words, as an `Embedding` has it.
    inputs = data(rng, (4, 2))
    words = rng.random((BATCH, TIME, 4)) < 0.5
    words[0, 0] = False
    words[0, 1] = True
    wrapper = TimeBatched(keras.layers.GlobalAveragePooling1D())
    outputs = wrapper(inputs, mask=words)
    for sample, step in ((0, 1), (1, 2), (2, 4)):
        used = words[sample, step]
        if used.any():
            expected = inputs[sample, step, used].mean(axis=0)
            np.testing.assert_allclose(
                ops.convert_to_numpy(outputs)[sample, step], expected, rtol=1e-4, atol=1e-6
            )
    np.testing.assert_array_equal(ops.convert_to_numpy(outputs._keras_mask), words.any(axis=2))
    # A layer that keeps the words keeps their mask.
    outputs = TimeBatched(keras.layers.Dense(3))(inputs, mask=words)
    np.testing.assert_array_equal(ops.convert_to_numpy(outputs._keras_mask), words)

    tokens = words.astype("int32")
    symbolic = keras.Input((None, 4), dtype="int32")
    hidden = keras.layers.Embedding(2, 2, mask_zero=True)(symbolic)
    hidden = TimeBatched(keras.layers.Dense(2))(hidden)
    model = keras.Model(symbolic, TemporalAvgPool()(wrapper(hidden)))
    assert model.output_shape == (None, 2)
    assert np.isfinite(model.predict(tokens, verbose=0)).all()


@pytest.mark.slow
def test_symbolic_masks_reach_the_layer(rng, tmp_path):
    inputs = data(rng, (4,), batch=8)
    mask = rng.random((8, TIME)) < 0.6
    inputs[~mask] = 0.0
    symbolic = keras.Input((None, 4))
    layer = keras.layers.BatchNormalization(momentum=0.0)
    hidden = TimeBatched(layer)(keras.layers.Masking()(symbolic))
    # A model takes no part in masking unless it is told to, but the mask is passed on.
    hidden = TimeBatched(keras.Sequential([keras.layers.Dense(4)]))(hidden)
    model = keras.Model(symbolic, TemporalAvgPool()(hidden))
    model.compile("sgd", "mse")
    model.fit(inputs, np.zeros((8, 4)), batch_size=8, verbose=0)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.moving_mean), inputs[mask].mean(axis=0), rtol=1e-4, atol=1e-5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0))

    layer = keras.layers.BatchNormalization(momentum=0.0)
    inner = keras.Sequential([keras.Input((4,)), layer])
    inner.supports_masking = True
    run(TimeBatched(inner), inputs, mask=mask, training=True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.moving_mean), inputs[mask].mean(axis=0), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16", "float64"])
def test_types_are_those_of_the_layer(policy, rng):
    if policy == "float64" and BACKEND == "jax":
        pytest.skip("JAX computes in float32 unless its x64 mode is on")
    inputs = data(rng, (6, 6, 2))
    expected_weights = keras.DTypePolicy(policy).variable_dtype
    compute = keras.DTypePolicy(policy).compute_dtype
    for wrap in (
        lambda: TimeBatched(keras.layers.Conv2D(2, 3, dtype=policy)),
        lambda: TimeBatched(Composite(dtype=policy)),
    ):
        wrapper = wrap()
        assert wrapper.compute_dtype == compute
        outputs = wrapper(inputs)
        assert keras.backend.standardize_dtype(outputs.dtype) == compute
    wrapper = TimeBatched(keras.layers.Conv2D(2, 3, dtype=policy))
    assert wrapper(keras.KerasTensor(inputs.shape)).dtype == compute
    outputs = run(wrapper, inputs).astype("float64")
    assert {weight.dtype for weight in wrapper.weights} == {expected_weights}
    assert_same(outputs, step_by_step(wrapper.layer, inputs).astype("float64"))
    keras.config.set_dtype_policy(policy)
    assert TimeBatched(keras.layers.Dense(2)).dtype_policy.name == policy


def test_only_the_policy_of_the_layer_decides_unless_another_is_given():
    assert TimeBatched(keras.layers.Dense(2), dtype="float16").compute_dtype == "float16"
    outputs = TimeBatched(keras.layers.Dense(2), dtype="float16")(keras.KerasTensor((2, 3, 4)))
    assert outputs.dtype == "float32"


def test_integers_stay_integers():
    tokens = np.arange(24).reshape(2, 3, 4)
    layer = keras.layers.Embedding(24, 5)
    outputs = run(TimeBatched(layer), tokens)
    assert_same(outputs, ops.convert_to_numpy(layer.embeddings)[tokens])


@pytest.mark.parametrize("layer", [3, "relu", None, np.tanh, keras.layers.Dense], ids=str)
def test_only_layers_are_wrapped(layer):
    with pytest.raises(TypeError, match=r"TimeBatched: `layer` must be a Keras layer; received"):
        TimeBatched(layer)
    if layer is keras.layers.Dense:
        with pytest.raises(TypeError, match=r"Make one: Dense\(\.\.\.\)"):
            TimeBatched(layer)


OVER_TIME = {
    "spiking": lambda: keras_spiking.SpikingActivation("relu"),
    "filter": lambda: keras_spiking.Lowpass(0.1),
    "cell": lambda: keras_spiking.LowpassCell(3, 0.1),
    "cell in an rnn": lambda: keras.layers.RNN(keras_spiking.LowpassCell(3, 0.1)),
    "deep": lambda: deep_model(),
}


def deep_model():
    inner = keras.Sequential([keras.Input((4, 3)), keras_spiking.Alpha(0.1)])
    return keras.Sequential([keras.layers.Dense(3), inner])


@pytest.mark.parametrize("make", OVER_TIME.values(), ids=OVER_TIME)
def test_layers_over_time_are_refused(make):
    words = r"must treat every time step alike.* runs over time itself.* directly.*TimeDistributed"
    with pytest.raises(ValueError, match=words):
        TimeBatched(make())


def test_stateful_layers_are_refused():
    class Stateful(keras.layers.Layer):
        stateful = True

    with pytest.raises(ValueError, match=r"received layer 'one' \(Stateful\), which is stateful"):
        TimeBatched(Stateful(name="one"))
    with pytest.raises(ValueError, match=r"which is stateful.* make it with stateful=False"):
        TimeBatched(keras.layers.LSTM(3, stateful=True))
    model = keras.Sequential([Stateful(name="inner")], name="outer")
    with pytest.raises(ValueError, match=r"'outer' \(Sequential\) with layer 'inner' \(Stateful\)"):
        TimeBatched(model)


def test_unknown_arguments_are_refused():
    with pytest.raises((TypeError, ValueError), match="time_mayor"):
        TimeBatched(keras.layers.Dense(3), time_mayor=True)
    with pytest.raises((TypeError, ValueError), match="axis"):
        TemporalAvgPool(axis=1)


@pytest.mark.parametrize("shape", [(3,), (3, 4)], ids=str)
@pytest.mark.parametrize(
    "make", [lambda: TimeBatched(keras.layers.Dense(3)), TemporalAvgPool], ids=["batched", "pool"]
)
def test_inputs_need_a_time_axis_and_features(make, shape):
    words = r"inputs must have shape \(batch, time, ...\), .* received shape .*Add a time axis"
    for call in (
        lambda layer: layer(np.zeros(shape, "float32")),
        lambda layer: layer(keras.Input(shape[1:])),
        lambda layer: layer.build(shape),
        lambda layer: layer.compute_output_shape(shape),
    ):
        with pytest.raises(ValueError, match=words):
            call(make())
    layer = make()
    layer.build((3, 4, 5))
    with pytest.raises(ValueError, match=words):
        layer(np.zeros(shape, "float32"))


@pytest.mark.parametrize(
    "make", [lambda: TimeBatched(keras.layers.Dense(3)), TemporalAvgPool], ids=["batched", "pool"]
)
def test_masks_must_be_batch_by_time(make):
    for shape in ((2,), (3, 2), (2, 4)):
        with pytest.raises(ValueError, match=r"`mask` must have shape \(batch, time\), here"):
            make()(np.zeros((2, 3, 4), "float32"), mask=np.ones(shape, bool))


def test_inputs_must_agree():
    wrapper = TimeBatched(keras.layers.Add())
    with pytest.raises(ValueError, match=r"the same batch and time; received shapes \[\(2, 3, 4\)"):
        wrapper([np.zeros((2, 3, 4), "float32"), np.zeros((2, 4, 4), "float32")])
    inputs = [np.zeros((2, 3, 4), "float32")] * 3
    with pytest.raises(ValueError, match=r"as many as there are inputs, 3; received 2"):
        wrapper(inputs, mask=[np.ones((2, 3), bool)] * 2)


def test_the_layer_must_keep_the_samples():
    class Summing(keras.layers.Layer):
        def call(self, inputs):
            return ops.sum(inputs, axis=0)

    class Total(keras.layers.Layer):
        def call(self, inputs):
            return ops.sum(inputs)

    for layer in (Summing(name="one"), Total(name="one")):
        with pytest.raises(ValueError, match=r"output of layer 'one' .* has shape .* samples"):
            TimeBatched(layer)(np.zeros((2, 3, 4), "float32"))
