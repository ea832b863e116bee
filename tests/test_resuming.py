"""Training that was stopped and taken up again ends as if it never had been, `dt` included."""

import functools
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests import resuming
from tests.processes import ROOT, environment

# Keras says so wherever the length of the data was unknown.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")


class Stop(keras.callbacks.Callback):
    """Ends a run the hard way."""

    class Error(Exception):
        pass

    def __init__(self, epoch, batch):
        super().__init__()
        self.place, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise self.Error


class ResetStates(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        keras_spiking.reset_states(self.model)


class Steps(keras.callbacks.Callback):
    """Keeps the `dt` of every batch."""

    def __init__(self, dt):
        super().__init__()
        self.dt, self.seen = dt, []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(ops.convert_to_numpy(self.dt)))


def stream():
    """The same data, of a length that only its end tells."""
    torch_data = pytest.importorskip("torch.utils.data")

    class Stream(torch_data.IterableDataset):
        def __iter__(self):
            return zip(*resuming.arrays(), strict=True)

    return torch_data.DataLoader(Stream(), batch_size=resuming.BATCH)


def assert_same_weights(weights, expected):
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def run(kind, folder, stop=None):
    """Trains a fresh model, with a backup; the weights and the `dt` of every batch."""
    stateful = kind == "stateful"
    model, dt = resuming.make_model(stateful)
    resuming.compile_model(model)
    steps = Steps(dt)
    callbacks = [keras.callbacks.BackupAndRestore(folder), steps]
    callbacks += [ResetStates()] if stateful else []
    data = stream() if kind == "stream" else None
    if stop is None:
        resuming.fit(model, dt, *callbacks, data=data)
    else:
        with pytest.raises(Stop.Error):
            resuming.fit(model, dt, *callbacks, Stop(*stop), data=data)
    return model.get_weights(), steps.seen


@functools.cache
def run_without_a_stop(kind):
    with tempfile.TemporaryDirectory() as folder:
        return run(kind, pathlib.Path(folder, "backup"))


# Stopped at the beginning of an epoch, or in its midst: at an epoch and a batch.
@pytest.mark.usefixtures("fit_fails")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "stop"),
    [("arrays", (2, 0)), ("stream", (2, 0)), ("stream", (2, 1)), ("stateful", (2, 1))],
    ids=str,
)
def test_a_backup_goes_on_as_if_never_stopped(kind, stop, tmp_path):
    expected, all_steps = run_without_a_stop(kind)
    run(kind, tmp_path, stop)
    weights, steps = run(kind, tmp_path)
    assert steps == all_steps[len(all_steps) // 2 :]
    first = resuming.schedule(2 * resuming.BATCHES)
    np.testing.assert_allclose(steps[0], first, rtol=1e-6)
    assert_same_weights(weights, expected)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        pytest.param("arrays", ".keras", id="model"),
        pytest.param("stream", ".weights.h5", id="weights", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_goes_on_as_if_never_stopped(kind, suffix, tmp_path):
    data = stream() if kind == "stream" else None
    model, dt = resuming.make_model()
    resuming.compile_model(model)
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / f"{{epoch}}{suffix}", save_weights_only=suffix != ".keras"
    )
    resuming.fit(model, dt, checkpoint, data=data)

    # Into a model of the same code: one from the file has a number for `dt`, which stays.
    again, dt = resuming.make_model()
    resuming.compile_model(again)
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / f"2{suffix}")
    resuming.fit(again, dt, data=data, initial_epoch=2)
    assert_same_weights(again.get_weights(), model.get_weights())


@pytest.mark.usefixtures("fit_fails")
def test_a_callback_that_saw_an_epoch_cut_short_begins_it_again():
    model, dt = resuming.make_model()
    resuming.compile_model(model)
    scheduler = keras_spiking.callbacks.DtScheduler(dt, resuming.schedule)
    steps, arguments = Steps(dt), {"shuffle": False, "verbose": 0}
    with pytest.raises(Stop.Error):
        model.fit(stream(), epochs=3, callbacks=[scheduler, Stop(1, 2)], **arguments)
    model.fit(stream(), initial_epoch=1, epochs=2, callbacks=[scheduler, steps], **arguments)
    number = resuming.BATCHES
    expected = [resuming.schedule(step) for step in range(number, 2 * number)]
    np.testing.assert_allclose(steps.seen[:number], expected, rtol=1e-6)


@pytest.mark.slow
def test_another_process_resumes_from_the_backup_of_a_killed_one(tmp_path):
    folder, log = tmp_path / "backup", tmp_path / "backup.log"
    expected, _ = run_without_a_stop("arrays")
    command = [sys.executable, "-m", "tests.resuming", str(folder), str(log)]
    killed = subprocess.Popen(command, cwd=ROOT, env=environment())
    # In the midst of the third epoch.
    number, deadline = 2 * resuming.BATCHES + 1, time.monotonic() + 300
    while not log.exists() or len(log.read_text().splitlines()) < number:
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "backup.npz").exists()

    resuming.main(folder, log)  # in another process, which is this one
    again = len(log.read_text().splitlines()) - number
    assert again == 2 * resuming.BATCHES
    saved = np.load(tmp_path / "backup.npz")
    assert_same_weights([saved[name] for name in saved.files], expected)
