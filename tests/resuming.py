"""A small training run that can be stopped and taken up again, and a program that does it.

As a program: `python -m tests.resuming FOLDER LOG` trains with a backup in FOLDER, writes a line to
LOG for every batch, and in the end the weights to FOLDER.npz.
"""

import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_spiking
from keras_spiking.callbacks import DtScheduler

BATCH, BATCHES, EPOCHS = 4, 3, 4


def schedule(step):
    return 0.2 * 0.93**step


def make_model(stateful=False):
    """A model with what training could lose: momentum, the steps of two schedules, states."""
    keras.utils.set_random_seed(0)
    dt = keras.Variable(1.0, trainable=False)
    model = keras.Sequential(
        [
            keras.Input((6, 3), batch_size=BATCH if stateful else None),
            keras.layers.Dense(5),
            keras_spiking.SpikingActivation("relu", dt=dt, seed=0, stateful=stateful),
            keras_spiking.Lowpass(0.1, dt=dt, stateful=stateful),
            keras_spiking.Alpha(0.1, dt=dt, return_sequences=False, stateful=stateful),
            keras.layers.Dense(1),
        ]
    )
    return model, dt


def compile_model(model, **arguments):
    rate = keras.optimizers.schedules.ExponentialDecay(0.02, 4, 0.8)
    model.compile(keras.optimizers.Adam(rate), "mse", **arguments)


def arrays():
    rng = np.random.default_rng(0)
    inputs = rng.normal(scale=10, size=(BATCH * BATCHES, 6, 3)).astype("float32")
    return inputs, rng.normal(size=(BATCH * BATCHES, 1)).astype("float32")


def fit(model, dt, *callbacks, data=None, **arguments):
    """Trains in order, so that only what is restored can make a difference."""
    if data is None:
        arguments["batch_size"] = BATCH
    return model.fit(
        *(arrays() if data is None else (data,)),
        epochs=EPOCHS,
        shuffle=False,
        callbacks=[DtScheduler(dt, schedule), *callbacks],
        verbose=0,
        **arguments,
    )


class Log(keras.callbacks.Callback):
    """A line for every batch, at once, and time to be killed in the midst of an epoch."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_end(self, batch, logs=None):
        with open(self.path, "a") as log:
            log.write(f"{batch}\n")
        time.sleep(0.1)


def main(folder, log):
    model, dt = make_model()
    compile_model(model)
    fit(model, dt, keras.callbacks.BackupAndRestore(folder), Log(log))
    weights = {str(index): weight for index, weight in enumerate(model.get_weights())}
    np.savez(f"{folder}.npz", **weights)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
