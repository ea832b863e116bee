"""Shared by the examples of distributed training: a small task, a model, and the comparison."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

NUM_SAMPLES, NUM_STEPS, NUM_INPUTS = 256, 20, 8
BATCH_SIZE = 32  # of all devices together
EPOCHS = 4
SAME = 1e-3  # weights that differ by less are the same: one spike more or less moves them so far


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The command line that all of these examples have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, metavar="N", help="of training (default: %(default)s)"
    )
    return parser


def check_packages(parser: argparse.ArgumentParser, backend: str) -> None:
    """Ends with what to install where a module is missing."""
    for module in ("keras", backend):
        if find_spec(module) is None:
            parser.error(f'{module} is not installed: pip install ".[{backend}]"')


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Noisy signals, and a label for each: whether it is mostly positive."""
    rng = np.random.default_rng(0)
    levels = rng.normal(size=(NUM_SAMPLES, 1, NUM_INPUTS))
    signals = 20 * (levels + rng.normal(size=(NUM_SAMPLES, NUM_STEPS, NUM_INPUTS)))
    positive = levels.sum(axis=(1, 2)) > 0
    return signals.astype("float32"), positive[:, None].astype("float32")


def schedule(step: int) -> float:
    """The length of a time step, in seconds: 0.1 at first, then shorter with every batch."""
    return 0.1 * 0.5 ** (step / 32)


def make_model(stateful_batch: int | None = None):
    """A spiking model and its `dt`; with a batch size, one that keeps its state."""
    import keras

    import keras_spiking

    keras.utils.set_random_seed(0)
    dt = keras.Variable(schedule(0), trainable=False, name="dt")
    stateful = stateful_batch is not None
    model = keras.Sequential(
        [
            keras.Input((NUM_STEPS, NUM_INPUTS), batch_size=stateful_batch),
            keras.layers.Dense(16, name="hidden"),
            # A fixed voltage: for its part of a batch, a device would draw other voltages.
            keras_spiking.SpikingActivation(
                "relu", dt=dt, initial_voltage=0.5, stateful=stateful, name="spikes"
            ),
            keras_spiking.Lowpass(0.1, dt=dt, stateful=stateful, name="lowpass"),
            keras_spiking.Alpha(
                0.1, dt=dt, return_sequences=False, stateful=stateful, name="alpha"
            ),
            keras.layers.Dense(1, activation="sigmoid", name="out"),
        ]
    )
    return model, dt


def train(model, dt, data: tuple[np.ndarray, np.ndarray], epochs: int) -> list[float]:
    """Trains with `compile` and `fit`, and returns the loss of each epoch."""
    import keras

    import keras_spiking

    model.compile(keras.optimizers.Adam(0.01), "mse")
    history = model.fit(
        *data,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        shuffle=False,
        callbacks=[keras_spiking.callbacks.DtScheduler(dt, schedule)],
        verbose=0,
    )
    return history.history["loss"]


def report(name: str, losses: Sequence[float], weights=None, expected=None) -> None:
    """Prints the losses, and how far the weights are from those of one device.

    Raises:
        SystemExit: If the weights are not the same.
    """
    line = f"{name:24} loss {'  '.join(f'{loss:.4f}' for loss in losses)}"
    if expected is None:
        print(line, flush=True)
        return
    pairs = zip(weights, expected, strict=True)
    difference = max(float(np.abs(one - other).max()) for one, other in pairs)
    print(f"{line}  weights within {difference:.0e}", flush=True)
    if not difference < SAME:
        raise SystemExit(f"{name}: the weights are not those of one device.")
