"""RunningAverage: whatever the layer, its outputs average to the layer of the mean input."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_spiking import Lowpass, RunningAverage, TimeBatched
from keras_spiking.layers.sublayers import layers_within
from tests.compiled import MODES, finite_differences, gradients
from tests.compiled import run as run_function
from tests.layers.cases import run

LAYERS = {
    "max pooling": (lambda: keras.layers.MaxPooling1D(2), (6, 3)),
    "normalization": (keras.layers.LayerNormalization, (5,)),
    "softmax": (keras.layers.Softmax, (5,)),
    "dense": (lambda: keras.layers.Dense(3, activation="tanh"), (5,)),
    "recurrent": (lambda: keras.layers.LSTM(3, return_sequences=True), (6, 3)),
    "both ways": (lambda: keras.layers.Bidirectional(keras.layers.GRU(2)), (6, 3)),
}
every_layer = pytest.mark.parametrize(("make", "features"), LAYERS.values(), ids=LAYERS)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@every_layer
def test_outputs_average_to_the_layer_of_the_mean(make, features, mode, rng):
    inputs = rng.normal(size=(2, 9, *features)).astype("float32")
    wrapper = RunningAverage(make())
    wrapper.build(inputs.shape)
    outputs = run_function(lambda x: wrapper(x), inputs, mode=mode)
    for steps in range(1, 10):
        expected = run(wrapper.layer, inputs[:, :steps].mean(axis=1))
        np.testing.assert_allclose(outputs[:, :steps].mean(axis=1), expected, atol=1e-5)


@pytest.mark.slow
def test_a_linear_layer_sees_each_step(rng):
    inputs = rng.normal(size=(2, 9, 5)).astype("float32")
    dense = keras.layers.Dense(3, bias_initializer="ones")
    expected = run(TimeBatched(dense), inputs)
    np.testing.assert_allclose(run(RunningAverage(dense), inputs), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_masked_steps_count_for_nothing(several, rng):
    inputs = rng.normal(size=(2, 8, 5)).astype("float32")
    mask = np.array([[1, 0, 1, 1, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1, 1, 1]], "bool")
    hidden = np.where(mask[..., None], inputs, np.nan)
    if several:
        other = np.ones((2, 8), "bool")
        layer = RunningAverage(keras.layers.Multiply())
        outputs = run(layer, [hidden, hidden], mask=[ops.array(mask), ops.array(other)])
    else:
        layer = RunningAverage(keras.layers.Softmax())
        outputs = run(layer, hidden, mask=ops.array(mask))
    for sample in range(2):
        used = inputs[sample : sample + 1, mask[sample]]
        alone = run(layer, [used, used] if several else used)
        np.testing.assert_allclose(outputs[sample, mask[sample]], alone[0], atol=1e-5)
        assert not outputs[sample, ~mask[sample]].any()


@pytest.mark.slow
def test_several_inputs_and_outputs_of_unknown_length(rng, tmp_path):
    left, right = keras.Input((5,)), keras.Input((5,))
    both = keras.Model(
        [left, right],
        [keras.layers.Multiply()([left, right]), keras.layers.Maximum()([left, right])],
    )
    given = [keras.Input((None, 5)), keras.Input((None, 5))]
    model = keras.Model(given, RunningAverage(both)(given))
    assert [tuple(each) for each in model.output_shape] == [(None, None, 5)] * 2
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = [rng.normal(size=(2, 7, 5)).astype("float32") for _ in range(2)]
    means = [each.mean(axis=1) for each in inputs]
    for each in (model, loaded):
        product, maximum = each.predict(inputs, verbose=0)
        np.testing.assert_allclose(product.mean(axis=1), means[0] * means[1], atol=1e-5)
        np.testing.assert_allclose(maximum.mean(axis=1), np.maximum(*means), atol=1e-5)


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(rng):
    inputs = rng.normal(size=(2, 6, 4)).astype("float32")
    weights = rng.normal(size=inputs.shape)
    steps = np.arange(1, 7).reshape(1, -1, 1)

    def loss(inputs):
        exponents = np.exp(np.cumsum(inputs, axis=1) / steps)
        total = steps * exponents / exponents.sum(axis=-1, keepdims=True)
        return np.sum(weights * np.diff(total, axis=1, prepend=0.0))

    layer = RunningAverage(keras.layers.Softmax())
    (gradient,) = gradients(lambda x: ops.sum(layer(x) * ops.array(weights, "float32")), inputs)
    np.testing.assert_allclose(
        gradient, finite_differences(loss, [inputs], 0, 1e-6), rtol=1e-4, atol=1e-5
    )


def test_half_precision_is_summed_in_float32():
    inputs = np.ones((1, 3000, 1), "float32")
    layer = RunningAverage(keras.layers.ReLU(dtype="bfloat16"))
    outputs = ops.convert_to_numpy(ops.cast(layer(inputs), "float32"))
    np.testing.assert_array_equal(outputs, inputs)


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ValueError, match="which runs over time itself"):
        RunningAverage(Lowpass(0.1))
    with pytest.raises(ValueError, match=r"What is masked within a step has no mean"):
        RunningAverage(keras.layers.Softmax())(
            np.zeros((2, 3, 4, 5), "float32"), mask=np.ones((2, 3, 4), "bool")
        )


@keras.saving.register_keras_serializable("tests")
class Positive(keras.layers.Layer):
    """A condition."""

    def call(self, inputs):
        return inputs > 0.0

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, "bool")


@keras.saving.register_keras_serializable("tests")
class Where(keras.layers.Layer):
    """Chooses by a condition."""

    def call(self, inputs):
        return ops.where(*inputs)

    def compute_output_shape(self, shapes):
        return shapes[1]


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_conditions_stand_as_they_are(masked, rng):
    inputs = rng.normal(size=(2, 7, 5)).astype("float32")
    mask = np.array([[1, 0, 1, 1, 0, 1, 1], [0, 0, 1, 1, 1, 0, 1]], "bool")
    mask = mask if masked else np.ones_like(mask)
    given = keras.Input((None, 5)), keras.Input((None,), dtype="bool")
    options = {"mask": given[1]} if masked else {}
    condition = RunningAverage(Positive())(given[0], **options)
    assert condition.dtype == "bool"
    chosen = RunningAverage(Where())([condition, given[0], -given[0]], **options)
    model = keras.Model(given, [condition, chosen])
    conditions, outputs = map(ops.convert_to_numpy, model([inputs, mask]))
    for sample in range(2):
        used = inputs[sample, mask[sample]].astype("float64")
        steps = np.arange(1, len(used) + 1)[:, None]
        means = np.cumsum(used, axis=0) / steps
        np.testing.assert_array_equal(conditions[sample, mask[sample]], means > 0.0)
        totals = steps * np.abs(means)
        expected = np.diff(totals, axis=0, prepend=0.0)
        np.testing.assert_allclose(outputs[sample, mask[sample]], expected, atol=1e-5)
        assert not outputs[sample, ~mask[sample]].any()
        assert not conditions[sample, ~mask[sample]].any()


@pytest.mark.slow
def test_indices_stand_as_they_are():
    tokens = np.arange(24).reshape(2, 3, 4) % 7
    embedding = keras.layers.Embedding(7, 5)
    outputs = run(RunningAverage(embedding), tokens)
    expected = ops.convert_to_numpy(embedding.embeddings)[tokens]
    steps = np.arange(1, 4).reshape(1, 3, 1, 1)
    expected = np.diff(steps * expected, axis=1, prepend=0.0)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@every_layer
def test_in_pieces_of_time_it_is_the_same(make, features, masked, rng):
    inputs = rng.normal(size=(2, 9, *features)).astype("float32")
    mask = rng.random((2, 9)) < 0.6 if masked else None
    layer = RunningAverage(make())
    layer.build(inputs.shape)
    whole = run(layer, inputs, mask=None if mask is None else ops.array(mask))
    states, outputs = None, []
    cuts = [0, 1, 4, 5, 9]
    if not any(isinstance(each, keras.layers.RNN) for each in layers_within(layer)):
        cuts.insert(1, 1)  # TensorFlow's recurrent layers take no batch of no samples.
    for piece in itertools.starmap(slice, itertools.pairwise(cuts)):
        given = None if mask is None else ops.array(mask[:, piece])
        output, states = layer.run(ops.array(inputs[:, piece]), states, mask=given)
        outputs.append(ops.convert_to_numpy(output))
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, atol=1e-5)
    steps, total, end = map(ops.convert_to_numpy, states)
    used = np.ones((2, 9), "bool") if mask is None else mask
    np.testing.assert_array_equal(steps, used.sum(axis=1))
    by_step = used.reshape(2, 9, *[1] * len(features))
    np.testing.assert_allclose(total, (inputs * by_step).sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(end, whole.sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("integers", [False, True])
def test_one_step_is_just_the_layer(integers, rng, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("a single step needs no sums")

    monkeypatch.setattr("keras_spiking.kernels.running.running_sum", fail)
    layer, inputs = keras.layers.Softmax(), rng.normal(size=(3, 1, 5)).astype("float32")
    if integers:
        layer, inputs = keras.layers.Embedding(4, 2), rng.integers(0, 4, size=(3, 1, 5))
    outputs = run(RunningAverage(layer), inputs)
    np.testing.assert_array_equal(outputs[:, 0], run(layer, inputs[:, 0]))
