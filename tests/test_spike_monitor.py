"""`SpikeMonitor` in `fit`: what the logs hold, who sees it, and that training does not change."""

import csv
import dataclasses
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking.callbacks import SpikeMonitor
from keras_spiking.recording import keras_probe
from keras_spiking.recording.figures import NAMES
from tests.compiled import BACKEND

STEPS, UNITS, BATCH = 5, 3, 4


def make_model():
    """A model whose states, seeds and averages training moves."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((STEPS, UNITS), batch_size=BATCH),
            keras.layers.Dense(UNITS),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras_spiking.SpikingActivation("relu", dt=0.5, stateful=True, name="kept"),
            keras_spiking.SpikingActivation("relu", dt=0.5, name="drawn"),
            keras_spiking.Lowpass(0.1, dt=0.5, return_sequences=False),
        ]
    )


def fit(model, *callbacks, data=None, **arguments):
    rng = np.random.default_rng(0)
    x = 9 * rng.normal(size=(3 * BATCH, STEPS, UNITS)) if data is None else data
    y = rng.normal(size=(len(x), UNITS))
    model.compile("adam", "mse")
    keras.utils.set_random_seed(0)  # from which Keras's Dropout draws on PyTorch
    arguments = {"epochs": 3, "batch_size": BATCH, "verbose": 0, "shuffle": False, **arguments}
    return model.fit(x, y, callbacks=list(callbacks), **arguments).history


class Seen(keras.callbacks.Callback):
    """Keeps the logs that it gets."""

    def __init__(self):
        super().__init__()
        self.epochs, self.batches = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(dict(logs))


@pytest.fixture
def runs(monkeypatch):
    """How often a probe runs in Python: to be compiled, or each time if it is not."""
    found = []
    call = keras_probe.Probe._call

    def counted(*arguments):
        found.append(None)
        return call(*arguments)

    monkeypatch.setattr(keras_probe.Probe, "_call", counted)
    return found


def test_logs_have_the_figures_and_training_stays_as_it_is(rng, tmp_path, runs):
    data = 9 * rng.normal(size=(2 * BATCH, STEPS, UNITS))
    monitor, seen = SpikeMonitor(data, update_freq=2), Seen()
    watched, alone = make_model(), make_model()
    early = keras.callbacks.EarlyStopping("spikes/kept/mean_rate", mode="max", min_delta=1e9)
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = fit(watched, monitor, seen, early, log)
    assert len(history["loss"]) == 2  # it has stopped
    fit(alone, epochs=2)
    for variable, expected in zip(everything(watched), everything(alone), strict=True):
        np.testing.assert_array_equal(variable, expected)

    names = [f"spikes/{layer}/{key}" for layer in ("kept", "drawn") for key in NAMES]
    assert [name for name in history if name != "loss"] == names
    assert [len(logs) for logs in seen.batches] == [1, 15, 1, 15, 1, 15]
    for epoch, logs in enumerate(seen.epochs):
        assert all(history[name][epoch] == logs[name] for name in names)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row[names[0]]) for row in rows] == history[names[0]]
    # What `record` shows of the trained model, from the same states and seeds.
    recording = keras_spiking.record(watched, data, verbose=0)
    for name, layer in recording.items():
        for key, value in dataclasses.asdict(layer.figures()).items():
            assert history[f"spikes/{name}/{key}"][-1] == value
    assert BACKEND == "torch" or len(runs) <= 3  # once, and twice for `record`


def everything(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [ops.convert_to_numpy(variable) for variable in variables]


def test_warns_once_of_each_layer_that_is_silent(capsys):
    model = keras.Sequential([keras.Input((STEPS, UNITS)), keras.layers.Dense(UNITS)])
    model.add(keras_spiking.SpikingActivation("relu", dt=1e-9, name="silent"))
    model.add(keras_spiking.Lowpass(0.1, dt=0.5, return_sequences=False))
    data = np.ones((BATCH, STEPS, UNITS))
    monitor = SpikeMonitor(data, "rates", layers=["silent"], figures=["silent", "mean_rate"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(model, monitor, data=data, epochs=2, verbose=2)
        fit(model, monitor, data=data, epochs=1)
    assert list(history) == ["loss", "rates/silent/silent", "rates/silent/mean_rate"]
    assert history["rates/silent/silent"] == [1.0, 1.0]
    # Which the progress bar shows.
    assert "rates/silent/silent: 1.0000" in capsys.readouterr().out
    messages = [str(each.message) for each in caught if each.category is UserWarning]
    (message,) = [each for each in messages if each.startswith("SpikeMonitor")]
    assert "no unit of layer 'silent' spikes" in message
    assert "`rate_scale`" in message


def test_refuses_what_it_cannot_show(rng):
    data = np.ones((BATCH, STEPS, UNITS))
    with pytest.raises(ValueError, match=r"SpikeMonitor: `figures` must be .*received figures="):
        SpikeMonitor(data, figures=["rate"])
    with pytest.raises(TypeError, match="SpikeMonitor: `prefix` must be a string; received 3"):
        SpikeMonitor(data, prefix=3)
    with pytest.raises(TypeError, match="SpikeMonitor: `update_freq` must be a positive integer"):
        SpikeMonitor(data, update_freq="batch")
    model = make_model()
    with pytest.raises(ValueError, match="SpikeMonitor: `data` must be an array for each input"):
        fit(model, SpikeMonitor(data[..., :2]))
    with pytest.raises(ValueError, match=r"SpikeMonitor: `layers` must be .*\['kept', 'drawn'"):
        fit(model, SpikeMonitor(data, layers=["relu"]))
