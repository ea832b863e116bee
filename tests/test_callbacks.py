"""`DtScheduler` in `fit`: the `dt` that layers compute with, seen in what they put out."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking.callbacks import DtScheduler
from tests.compiled import BACKEND

# Keras says so wherever the length of the data was unknown.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")

# Ways to run `fit`, as arguments of `compile`.
MODES = {
    "tensorflow": {
        "graph": {"jit_compile": False},
        "jit": {"jit_compile": True},
        "eager": {"run_eagerly": True},
    },
    "jax": {"jit": {"jit_compile": True}, "eager": {"run_eagerly": True}},
    "torch": {"eager": {}},
}[BACKEND]

every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)

BATCH = 2
TAU = 0.4

# A layer, and its output after one step of an input of 1, as a function of dt (below 1).
LAYERS = {
    "SpikingActivation": (
        lambda dt: keras_spiking.SpikingActivation("relu", dt=dt, initial_voltage=0.99),
        lambda dt: 1 / dt,
    ),
    "Lowpass": (
        lambda dt: keras_spiking.Lowpass(TAU, dt=dt),
        lambda dt: 1 - np.exp(-dt / TAU),
    ),
    "Alpha": (
        lambda dt: keras_spiking.Alpha(TAU, dt=dt),
        lambda dt: 1 - np.exp(-dt / TAU) * (1 + dt / TAU),
    ),
}


# Every layer compiled, and one in every other way too.
every_layer_and_mode = pytest.mark.parametrize(
    ("layer", "mode"),
    [
        pytest.param(layer, mode, id=f"{layer}, {name}")
        for layer in LAYERS
        for name, mode in MODES.items()
        if layer == "SpikingActivation" or name == ("eager" if BACKEND == "torch" else "jit")
    ],
)


def schedule(step):
    return 0.05 + 0.04 * step


class Last(keras.metrics.Metric):
    """The mean output of the latest batch."""

    def __init__(self, name="last", **kwargs):
        super().__init__(name=name, **kwargs)
        self.latest = self.add_variable((), "zeros", name="latest")

    def update_state(self, true, predicted, sample_weight=None):
        self.latest.assign(ops.cast(ops.mean(predicted), self.dtype))

    def result(self):
        return ops.copy(self.latest)


class Recorder(keras.callbacks.Callback):
    """Keeps the output of every training batch, and the last of every validation."""

    def __init__(self):
        super().__init__()
        self.outputs, self.validation = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.outputs.append(float(logs["last"]))

    def on_epoch_end(self, epoch, logs=None):
        self.validation.append(logs.get("val_last"))


def make_model(dt, layer="SpikingActivation", **compile_arguments):
    """A model that puts out what one step of the layer does, and never learns."""
    inputs = keras.Input((1, 1))
    outputs = LAYERS[layer][0](dt)(inputs)
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(outputs)
    model = keras.Model(inputs, outputs)
    optimizer = compile_arguments.pop("optimizer", None) or keras.optimizers.SGD(0.0)
    model.compile(optimizer, "mse", metrics=[Last()], **compile_arguments)
    return model


def batches(number):
    """Data of known length."""
    return {"x": np.ones((BATCH * number, 1, 1)), "y": np.zeros((BATCH * number, 1, 1))}


def stream(number):
    """Data of a length that only its end tells, again in every epoch."""
    torch_data = pytest.importorskip("torch.utils.data")

    class Stream(torch_data.IterableDataset):
        def __iter__(self):
            for _ in range(BATCH * number):
                yield np.ones((1, 1), "float32"), np.zeros((1, 1), "float32")

    return {"x": torch_data.DataLoader(Stream(), batch_size=BATCH)}


def fit(model, callback, data, **arguments):
    """Trains, and returns the output of every batch."""
    recorder = Recorder()
    arguments["batch_size"] = BATCH if "y" in data else None
    model.fit(**data, callbacks=[callback, recorder], verbose=0, shuffle=False, **arguments)
    return recorder.outputs


def spikes(steps):
    """What `make_model` puts out in these steps of `schedule`."""
    return [1 / schedule(step) for step in steps]


def number(variable):
    return float(ops.convert_to_numpy(variable))


@every_layer_and_mode
def test_every_batch_runs_with_the_dt_of_its_step(layer, mode):
    dt = keras.Variable(1.0, trainable=False)
    model = make_model(dt, layer, **mode)
    outputs = fit(model, DtScheduler(dt, schedule), batches(3), epochs=2)
    np.testing.assert_allclose(outputs, [LAYERS[layer][1](schedule(s)) for s in range(6)], 1e-5)
    np.testing.assert_allclose(number(dt), schedule(5), rtol=1e-6)


@every_mode
def test_every_batch_in_data_of_unknown_length_does_too(mode):
    dt = keras.Variable(1.0)
    model = make_model(dt, **mode)
    outputs = fit(model, DtScheduler(dt, schedule), stream(3), epochs=3)
    np.testing.assert_allclose(outputs, spikes(range(9)), rtol=1e-5)


def test_every_step_is_asked_for_as_an_integer():
    asked = []

    def record(step):
        asked.append(step)
        return 0.5

    dt = keras.Variable(1.0)
    fit(make_model(dt), DtScheduler(dt, record), batches(2), epochs=2)
    assert sorted(set(asked)) == [0, 1, 2, 3]
    assert all(type(step) is int for step in asked)
    assert asked == sorted(asked)


def test_initial_epoch_counts_the_batches_of_the_epochs_before():
    dt = keras.Variable(1.0)
    callback = DtScheduler(dt, schedule)
    outputs = fit(make_model(dt), callback, batches(3), initial_epoch=2, epochs=4)
    np.testing.assert_allclose(outputs, spikes(range(6, 12)), rtol=1e-5)


def test_steps_per_epoch_counts_as_the_length():
    dt = keras.Variable(1.0)
    data, arguments = stream(9), {"steps_per_epoch": 2, "initial_epoch": 1, "epochs": 3}
    outputs = fit(make_model(dt), DtScheduler(dt, schedule), data, **arguments)
    np.testing.assert_allclose(outputs, spikes(range(2, 6)), rtol=1e-5)


def test_initial_epoch_in_data_of_unknown_length_goes_on_where_the_callback_stopped():
    dt = keras.Variable(1.0)
    model, callback = make_model(dt), DtScheduler(dt, schedule)
    first = fit(model, callback, stream(3), epochs=2)
    second = fit(model, callback, stream(4), initial_epoch=2, epochs=4)
    np.testing.assert_allclose(first + second, spikes(range(14)), rtol=1e-5)


@pytest.mark.parametrize("accumulated", [None, 2])
def test_initial_epoch_in_data_of_unknown_length_may_ask_the_optimizer(accumulated):
    dt = keras.Variable(1.0)
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=accumulated)
    model = make_model(dt, optimizer=optimizer)
    model.fit(**stream(5), shuffle=False, verbose=0)
    callback = DtScheduler(dt, schedule)
    outputs = fit(model, callback, stream(3), initial_epoch=1, epochs=3)
    np.testing.assert_allclose(outputs, spikes(range(5, 11)), rtol=1e-5)


def test_training_anew_starts_from_step_0():
    dt = keras.Variable(1.0)
    model, callback = make_model(dt), DtScheduler(dt, schedule)
    for data in (batches(2), stream(2), stream(2)):
        np.testing.assert_allclose(fit(model, callback, data), spikes(range(2)), rtol=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no steps_per_execution on torch")
@pytest.mark.parametrize("data", [batches, stream])
@pytest.mark.parametrize("accumulated", [None, 2])
@pytest.mark.parametrize(
    ("number", "first_steps"), [(5, [0, 2, 4, 5, 7, 9]), (4, [0, 2, 4, 6])], ids=["odd", "even"]
)
def test_an_execution_of_several_steps_runs_with_the_dt_of_its_first(
    number, first_steps, accumulated, data
):
    dt = keras.Variable(1.0)
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=accumulated)
    model = make_model(dt, optimizer=optimizer, steps_per_execution=2)
    outputs = fit(model, DtScheduler(dt, schedule), data(number), epochs=2)
    np.testing.assert_allclose(outputs, spikes(first_steps), rtol=1e-5)


def test_takes_a_learning_rate_schedule():
    dt = keras.Variable(1.0)
    decay = keras.optimizers.schedules.ExponentialDecay(0.8, decay_steps=2, decay_rate=0.5)
    outputs = fit(make_model(dt), DtScheduler(dt, decay), batches(3), epochs=2)
    np.testing.assert_allclose(outputs, [1 / (0.8 * 0.5 ** (s / 2)) for s in range(6)], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "as_type", [np.float32, np.float64, np.array, ops.convert_to_tensor], ids=lambda f: f.__name__
)
def test_the_schedule_may_give_any_scalar(as_type):
    dt = keras.Variable(1.0)
    callback = DtScheduler(dt, lambda step: as_type(schedule(step)))
    np.testing.assert_allclose(
        fit(make_model(dt), callback, batches(2)), spikes(range(2)), rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("verbose", [True, 1])
def test_verbose_prints_each_epochs_first_dt(verbose, capsys):
    dt = keras.Variable(1.0)
    callback = DtScheduler(dt, lambda step: 1.0 - 0.01234 * step, verbose=verbose)
    fit(make_model(dt), callback, batches(3), initial_epoch=1, epochs=4)
    lines = ["epoch=1 dt=0.9630", "epoch=2 dt=0.9260", "epoch=3 dt=0.8889"]
    assert capsys.readouterr().out == "".join(f"DtScheduler {line}\n" for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"verbose": False}, {"verbose": 0}])
def test_prints_nothing_unless_asked(arguments, capsys):
    dt = keras.Variable(1.0)
    fit(make_model(dt), DtScheduler(dt, schedule, **arguments), batches(2))
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@every_mode
def test_layers_share_one_dt_nested_ones_too(mode):
    dt = keras.Variable(1.0)
    inner = keras.Sequential([keras.Input((1, 1)), LAYERS["SpikingActivation"][0](dt)])
    inputs = keras.Input((1, 1))
    both = keras.layers.Average()([LAYERS["SpikingActivation"][0](dt)(inputs), inner(inputs)])
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, trainable=True)(both))
    model.layers[-1].set_weights([np.ones((1, 1))])
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[Last()], **mode)
    outputs = fit(model, DtScheduler(dt, schedule), batches(3))
    np.testing.assert_allclose(outputs, spikes(range(3)), rtol=1e-5)


@pytest.mark.slow
@every_layer_and_mode
def test_dt_never_trains_even_if_made_trainable(layer, mode):
    dt = keras.Variable(0.5, trainable=True)
    model = make_model(dt, layer, optimizer=keras.optimizers.Adam(0.1), **mode)
    model.trainable = False
    model.trainable = True
    assert all(weight is not dt for weight in model.trainable_variables)
    assert all(weight is not dt for weight in model.weights)
    before = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.fit(**batches(3), batch_size=BATCH, verbose=0)
    assert number(dt) == 0.5
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert not np.array_equal(ops.convert_to_numpy(weight), old), weight.path


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a variable of TensorFlow")
@every_layer_and_mode
def test_takes_a_variable_of_tensorflow(layer, mode):
    import tensorflow as tf

    dt = tf.Variable(1.0)
    model = make_model(dt, layer, optimizer=keras.optimizers.SGD(0.0), **mode)
    outputs = fit(model, DtScheduler(dt, schedule), batches(3), epochs=2)
    np.testing.assert_allclose(outputs, [LAYERS[layer][1](schedule(s)) for s in range(6)], 1e-5)
    np.testing.assert_allclose(dt.numpy(), schedule(5), rtol=1e-6)


def test_a_model_without_the_variable_trains_as_ever():
    dt = keras.Variable(1.0)
    outputs = fit(make_model(0.25), DtScheduler(dt, schedule), batches(3), epochs=2)
    np.testing.assert_allclose(outputs, [4.0] * 6, rtol=1e-6)
    np.testing.assert_allclose(number(dt), schedule(5), rtol=1e-6)


@every_mode
def test_validation_runs_with_the_dt_of_the_last_step(mode):
    dt = keras.Variable(1.0)
    model, recorder = make_model(dt, **mode), Recorder()
    validation = tuple(batches(4).values())
    model.fit(
        **batches(3),
        batch_size=BATCH,
        epochs=2,
        validation_data=validation,
        validation_batch_size=BATCH,
        callbacks=[DtScheduler(dt, schedule), recorder],
        verbose=0,
    )
    np.testing.assert_allclose(recorder.outputs, spikes(range(6)), rtol=1e-5)
    np.testing.assert_allclose(recorder.validation, spikes([2, 5]), rtol=1e-5)


def test_the_model_keeps_the_last_dt(tmp_path):
    dt = keras.Variable(1.0)
    model = make_model(dt)
    fit(model, DtScheduler(dt, schedule), batches(3))
    x = batches(1)["x"]
    np.testing.assert_allclose(model.predict(x, verbose=0).ravel(), spikes([2, 2]), rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("dt", [0.01, None, "dt", np.array(0.1)], ids=str)
def test_refuses_a_dt_that_cannot_change(dt):
    message = r"DtScheduler: `dt` must be a keras\.Variable, .* so that it can change; received dt="
    with pytest.raises(TypeError, match=message):
        DtScheduler(dt, schedule)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="works on TensorFlow")
def test_refuses_a_variable_of_another_framework():
    tf = pytest.importorskip("tensorflow")
    with pytest.raises(TypeError, match=r"`dt` must be a keras\.Variable"):
        DtScheduler(tf.Variable(1.0), schedule)


def test_refuses_a_dt_of_several_values():
    with pytest.raises(ValueError, match=r"`dt` must be a variable of shape \(\); .* \(2,\)"):
        DtScheduler(keras.Variable([1.0, 2.0]), schedule)


@pytest.mark.parametrize("value", [1, True])
def test_refuses_a_dt_that_cannot_hold_fractions(value):
    # Keras makes an integer variable of an integer, and would round 0.01 to 0.
    dt = keras.Variable(value, dtype=type(value).__name__, trainable=False)
    message = r"`dt` must be a variable of a float type, .* received one of type (int32|int64|bool)"
    with pytest.raises(TypeError, match=message):
        DtScheduler(dt, schedule)


@pytest.mark.parametrize("scheduler", [0.1, None, "exponential"])
def test_refuses_a_scheduler_that_cannot_be_called(scheduler):
    message = "DtScheduler: `scheduler` must be a LearningRateSchedule or a function of the step"
    with pytest.raises(TypeError, match=message):
        DtScheduler(keras.Variable(1.0), scheduler)


@pytest.mark.usefixtures("fit_fails")
@pytest.mark.parametrize("value", [0, -0.5, 0.0])
def test_refuses_steps_that_are_not_positive(value):
    dt = keras.Variable(1.0)
    callback = DtScheduler(dt, lambda step: value if step == 1 else 0.5)
    message = (
        r"DtScheduler: `scheduler\(1\)` must be a number of seconds, positive and finite; "
        r"received scheduler\(1\)="
    )
    with pytest.raises(ValueError, match=message):
        fit(make_model(dt), callback, batches(2))


@pytest.mark.usefixtures("fit_fails")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_steps_that_are_not_finite(value):
    dt = keras.Variable(1.0)
    with pytest.raises(ValueError, match=rf"`scheduler\(0\)` must be finite; .*={value}"):
        fit(make_model(dt), DtScheduler(dt, lambda step: value), batches(1))
    assert number(dt) == 1.0


@pytest.mark.usefixtures("fit_fails")
@pytest.mark.parametrize("value", [None, "0.1", [0.1, 0.2], np.array([0.1]), True])
def test_refuses_steps_that_are_no_numbers(value):
    dt = keras.Variable(1.0)
    with pytest.raises(TypeError, match=r"`scheduler\(0\)` must be a number of seconds; received"):
        fit(make_model(dt), DtScheduler(dt, lambda step: value), batches(1))
    assert number(dt) == 1.0
