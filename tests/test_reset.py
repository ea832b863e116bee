"""`keras_spiking.reset_states`: every stateful layer within a model, and none else."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests.compiled import BACKEND

BATCH, TIME, UNITS = 2, 3, 4

LAYERS = {
    "SpikingActivation": lambda **kwargs: keras_spiking.SpikingActivation(
        "relu", dt=0.1, initial_voltage=0.75, stateful=True, **kwargs
    ),
    "Lowpass": lambda **kwargs: keras_spiking.Lowpass(
        0.1, dt=0.05, level_initializer=0.25, stateful=True, **kwargs
    ),
    "Alpha": lambda **kwargs: keras_spiking.Alpha(
        0.1, dt=0.05, level_initializer=0.25, stateful=True, **kwargs
    ),
    "LSTM of Keras": lambda **kwargs: keras.layers.LSTM(
        UNITS, stateful=True, return_sequences=True, **kwargs
    ),
    "RNN of Keras over a cell": lambda **kwargs: keras.layers.RNN(
        keras_spiking.LowpassCell(UNITS, 0.1, dt=0.05),
        stateful=True,
        return_sequences=True,
        **kwargs,
    ),
}


@keras.saving.register_keras_serializable("tests")
class Holder(keras.layers.Layer):
    """A layer that keeps other layers in its attributes, and calls them in turn."""

    def __init__(self, first, in_list, in_dict):
        super().__init__()
        self.first = first
        self.rest = [[in_list]]
        self.named = {"any": {"name": in_dict}}

    def call(self, inputs):
        return self.named["any"]["name"](self.rest[0][0](self.first(inputs)))


class Custom(keras.Model):
    """A subclass of `Model`, which Keras cannot look into by its graph."""

    def __init__(self, layer):
        super().__init__()
        self.hidden = layer

    def build(self, input_shape):
        if not self.hidden.built:
            self.hidden.build(input_shape)

    def call(self, inputs):
        return self.hidden(inputs)


def functional(layer):
    inputs = keras.Input((TIME, UNITS), batch_size=BATCH)
    return keras.Model(inputs, layer(inputs))


def sequential(layer):
    return keras.Sequential([keras.Input((TIME, UNITS), batch_size=BATCH), layer])


# Where a layer may be in a model.
PLACES = {
    "itself": lambda make: make(),
    "functional": lambda make: functional(make()),
    "sequential": lambda make: sequential(make()),
    "subclass": lambda make: Custom(make()),
    "nested": lambda make: functional(sequential(Custom(make()))),
    "twice": lambda make: sequential(Custom(functional(make()))),
    "attributes": lambda make: functional(Holder(make(), make(), make())),
    "bidirectional": lambda make: functional(keras.layers.Bidirectional(make())),
    "beside others": lambda make: keras.Sequential(
        [
            keras.Input((TIME, UNITS), batch_size=BATCH),
            keras.layers.Dense(UNITS),
            make(),
            keras_spiking.Lowpass(0.1),
            make(),
        ]
    ),
}


def inputs_of(rng, number=BATCH):
    return rng.uniform(0.5, 3.0, size=(number, TIME, UNITS)).astype("float32")


def outputs_of(model, inputs):
    return ops.convert_to_numpy(model(inputs))


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("place", ["itself", "functional", "nested"])
def test_every_kind_of_layer_starts_anew(make, place, rng):
    model, inputs = PLACES[place](make), inputs_of(rng)
    first = outputs_of(model, inputs)
    assert not np.array_equal(outputs_of(model, inputs), first)
    keras_spiking.reset_states(model)
    np.testing.assert_array_equal(outputs_of(model, inputs), first)


@pytest.mark.parametrize("place", PLACES)
def test_reaches_layers_wherever_they_are(place, rng):
    model, inputs = PLACES[place](LAYERS["Lowpass"]), inputs_of(rng)
    first = outputs_of(model, inputs)
    assert not np.array_equal(outputs_of(model, inputs), first)
    keras_spiking.reset_states(model)
    np.testing.assert_array_equal(outputs_of(model, inputs), first)


def test_reaches_layers_in_wrappers_of_keras(rng):
    model, inputs = PLACES["bidirectional"](LAYERS["LSTM of Keras"]), inputs_of(rng)
    first = outputs_of(model, inputs)
    assert not np.array_equal(outputs_of(model, inputs), first)
    keras_spiking.reset_states(model)
    np.testing.assert_array_equal(outputs_of(model, inputs), first)


def test_the_initial_level_trains_in_calls_that_start_from_it():
    layer = keras_spiking.Lowpass(0.1, dt=0.05, level_initializer=0.5, stateful=True)
    model = keras.Sequential([keras.Input((3, 1), batch_size=1), layer])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    zeros = np.zeros((1, 3, 1), "float32")

    def level_after_a_batch():
        model.train_on_batch(zeros, zeros)
        return float(model.get_weights()[0][0, 0])

    # With no input, y_t = level a^t, and the loss is the mean of its square.
    powers = np.exp(-0.05 / 0.1 * np.arange(1, 4))
    moved = 1e-3 * np.mean(2 * 0.5 * powers**2)
    assert level_after_a_batch() == pytest.approx(0.5 - moved, abs=1e-7)
    assert level_after_a_batch() == pytest.approx(0.5 - moved, abs=1e-7)  # went on from the last
    keras_spiking.reset_states(model)
    # tau has moved a little too.
    assert level_after_a_batch() == pytest.approx(0.5 - 2 * moved, abs=0.05 * moved)


def test_returns_to_the_initial_state_not_to_zero(rng):
    model = functional(LAYERS["SpikingActivation"]())
    model(inputs_of(rng))
    keras_spiking.reset_states(model)
    (voltage,) = model.layers[-1].states
    np.testing.assert_array_equal(ops.convert_to_numpy(voltage), np.full((BATCH, UNITS), 0.75))


def test_leaves_weights_alone(rng):
    model = PLACES["beside others"](LAYERS["Lowpass"])
    model(inputs_of(rng))
    before = model.get_weights()
    keras_spiking.reset_states(model)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize(
    "model",
    [
        keras.layers.Dense(2),
        keras_spiking.Lowpass(0.1),
        keras.Sequential([keras_spiking.Lowpass(0.1)]),
        keras.layers.LSTM(2),
    ],
    ids=["Dense", "Lowpass", "Sequential", "LSTM"],
)
def test_a_model_without_state_needs_no_reset(model):
    assert keras_spiking.reset_states(model) is None


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_may_come_before_the_model_is_built(make, rng):
    model, inputs = Custom(make()), inputs_of(rng)
    keras_spiking.reset_states(model)
    first = outputs_of(model, inputs)
    keras_spiking.reset_states(model)
    np.testing.assert_array_equal(outputs_of(model, inputs), first)


class ResetAlways(keras.callbacks.Callback):
    """Resets before every batch, and keeps the outputs' mean of each."""

    def __init__(self, what=None):
        super().__init__()
        self.what = what
        self.outputs = []

    def reset(self, batch, logs=None):
        keras_spiking.reset_states(self.what or self.model)

    def keep(self, batch, logs=None):
        self.outputs.append(float(logs["loss"]) if "loss" in logs else logs["outputs"])

    on_train_batch_begin = on_test_batch_begin = on_predict_batch_begin = reset
    on_train_batch_end = on_test_batch_end = on_predict_batch_end = keep


def mean_output(true, predicted):
    return ops.mean(ops.cast(predicted, "float32"), axis=tuple(range(1, len(predicted.shape))))


def model_to_train(make, **compile_arguments):
    inputs = keras.Input((TIME, UNITS), batch_size=BATCH)
    scaled = keras.layers.Dense(UNITS, kernel_initializer="identity")(inputs)
    model = keras.Model(inputs, sequential(make())(scaled))
    model.compile(keras.optimizers.SGD(0.0), mean_output, **compile_arguments)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("run_eagerly", [False, True], ids=["jit", "eager"])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_works_from_a_callback(method, run_eagerly, rng):
    if BACKEND == "jax" and run_eagerly and method != "fit":
        pytest.skip("the same loop as compiled, which is slow to run eagerly on JAX")
    inputs = np.tile(inputs_of(rng), (3, 1, 1))
    model = model_to_train(LAYERS["Lowpass"], run_eagerly=run_eagerly)
    first = outputs_of(model, inputs[:BATCH])
    callback = ResetAlways()
    arguments = {"batch_size": BATCH, "verbose": 0, "callbacks": [callback]}
    if method == "predict":
        model.predict(inputs, **arguments)
        outputs = callback.outputs
        np.testing.assert_allclose(outputs, np.broadcast_to(first, (3, *first.shape)), rtol=1e-6)
    else:
        if method == "fit":
            arguments |= {"epochs": 2, "shuffle": False}
        getattr(model, method)(inputs, np.zeros((3 * BATCH, TIME, UNITS)), **arguments)
        # Each batch starts from the same state, so the running mean of the loss does not move.
        assert len(callback.outputs) == (6 if method == "fit" else 3)
        np.testing.assert_allclose(callback.outputs, first.mean(), rtol=1e-6)


def test_state_moves_on_in_fit_without_a_reset(rng):
    """The control of the test above."""
    inputs = np.tile(inputs_of(rng), (3, 1, 1))
    model = model_to_train(LAYERS["Lowpass"])
    callback = ResetAlways(what=keras.layers.Dense(1))
    arguments = {"batch_size": BATCH, "verbose": 0, "callbacks": [callback], "shuffle": False}
    model.fit(inputs, np.zeros((3 * BATCH, TIME, UNITS)), **arguments)
    assert np.ptp(callback.outputs) > 0.01


@pytest.mark.parametrize("make", [LAYERS["SpikingActivation"], LAYERS["Lowpass"]])
def test_a_part_of_the_model_in_training_is_reset_or_refused(make, rng):
    inputs = np.tile(inputs_of(rng), (3, 1, 1))
    model = model_to_train(make)
    first = outputs_of(model, inputs[:BATCH])
    callback = ResetAlways(what=model.layers[-1])

    def fit():
        arguments = {"batch_size": BATCH, "verbose": 0, "callbacks": [callback], "shuffle": False}
        model.fit(inputs, np.zeros((3 * BATCH, TIME, UNITS)), **arguments)

    if BACKEND == "jax":
        # Its trainer has taken the state away: the reset would be lost.
        message = "reset_states: `model` must be the model that is being trained; received 'sequ"
        with pytest.raises(ValueError, match=message):
            fit()
        keras_spiking.reset_states(model)
    else:
        fit()
        np.testing.assert_allclose(callback.outputs, first.mean(), rtol=1e-6)


@pytest.mark.parametrize("model", [None, "model", 3, [keras.layers.Dense(2)], keras.layers.Dense])
def test_refuses_what_is_no_model(model):
    message = r"reset_states: `model` must be a Keras model or layer; received .* of type"
    with pytest.raises(TypeError, match=message):
        keras_spiking.reset_states(model)
