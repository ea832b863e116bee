"""The models of the Fashion-MNIST example: built, trained and measured.

Import this module only after the backend is chosen, because it imports Keras.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import fashion_mnist
import keras
import numpy as np
from results_table import Rates, Result

import keras_spiking

NUM_STEPS = 10
NUM_HIDDEN = 128
NUM_CLASSES = len(fashion_mnist.CLASS_NAMES)
BATCH_SIZE = 32
PREDICT_BATCH_SIZE = 500
TAU = 0.1  # seconds
DT = 0.01  # seconds; the step of every model but the ones that compare steps


def non_spiking_model() -> keras.Model:
    """An ordinary network for still images."""
    return keras.Sequential(
        [
            keras.Input(fashion_mnist.IMAGE_SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(NUM_HIDDEN, activation="relu"),
            keras.layers.Dense(NUM_CLASSES),
        ]
    )


def spiking_model(
    dt: float = DT,
    spiking_aware_training: bool = True,
    activity_regularizer: keras.regularizers.Regularizer | None = None,
    filter_class: type[keras.layers.Layer] | None = None,
    every_step: bool = False,
) -> keras.Model:
    """The same model with spikes: each image is shown for `NUM_STEPS` steps.

    Args:
        dt: length of a step, in seconds.
        spiking_aware_training: whether training sees the spikes.
        activity_regularizer: keeps the firing rates, in hertz, in a range.
        filter_class: `keras_spiking.Lowpass` or `keras_spiking.Alpha`, which smooths
            the spikes. Without a filter, the spikes are averaged over time.
        every_step: whether to answer at every step rather than at the end.
    """
    if filter_class is not None:
        readout = filter_class(TAU, dt=dt, return_sequences=every_step)
    elif every_step:
        readout = RunningMean()
    else:
        readout = keras.layers.GlobalAveragePooling1D()
    return keras.Sequential(
        [
            keras.Input(fashion_mnist.IMAGE_SHAPE),
            keras.layers.Flatten(),
            keras.layers.RepeatVector(NUM_STEPS),
            keras.layers.Dense(NUM_HIDDEN),
            keras_spiking.SpikingActivation(
                "relu",
                dt=dt,
                spiking_aware_training=spiking_aware_training,
                activity_regularizer=activity_regularizer,
                name="spikes",
            ),
            readout,
            keras.layers.Dense(NUM_CLASSES),
        ]
    )


class RunningMean(keras.layers.Layer):
    """The mean over time so far, at each step of ``(batch, time, units)``."""

    def call(self, inputs: Any) -> Any:
        num_steps = keras.ops.arange(1, inputs.shape[1] + 1, dtype=inputs.dtype)
        return keras.ops.cumsum(inputs, axis=1) / num_steps[:, None]


@dataclass(frozen=True)
class Experiment:
    """A model to train once, and the steps, in seconds, to test it with."""

    name: str
    build: Callable[..., keras.Model]
    dts: tuple[float, ...] = (DT,)


NON_SPIKING = "non-spiking"
EXPERIMENTS = (
    Experiment(
        "spiking",
        partial(spiking_model, spiking_aware_training=False),
        dts=(0.001, 0.01, 0.1, 1.0),
    ),
    Experiment("spiking-aware", spiking_model),
    Experiment(
        "regularized",
        partial(
            spiking_model,
            activity_regularizer=keras_spiking.regularizers.L2(l2=1e-4, target=(10, 20)),
        ),
    ),
    Experiment("Lowpass", partial(spiking_model, filter_class=keras_spiking.Lowpass)),
    Experiment("Alpha", partial(spiking_model, filter_class=keras_spiking.Alpha)),
)


class StepTimer(keras.callbacks.Callback):
    """Times training steps, less the first ones, which compile the model.

    Keras turns the losses of a step into numbers before it calls `on_train_batch_end`. So the step
    is over by then, also on a backend that runs ahead.
    """

    WARM_UP_STEPS = 50

    def __init__(self) -> None:
        super().__init__()
        self._begin = 0.0
        self._durations: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._durations.append(time.perf_counter() - self._begin)

    @property
    def milliseconds(self) -> float:
        """The median time of a step."""
        warm_up = min(self.WARM_UP_STEPS, len(self._durations) // 2)
        return 1000 * statistics.median(self._durations[warm_up:])


def scaled(images: np.ndarray) -> np.ndarray:
    """Images from 0 to 1."""
    return images.astype("float32") / 255


def train(
    model: keras.Model, data: fashion_mnist.FashionMnist, epochs: int, seed: int, verbose: int
) -> float:
    """Trains a model and returns the milliseconds that a training step took."""
    model.compile(
        optimizer=keras.optimizers.Adam(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    timer = StepTimer()
    # Shuffled here: after a seed is set, Keras on TensorFlow uses the same order in every epoch.
    # That lowers the accuracy by a hundredth.
    generator = np.random.default_rng(seed)
    for epoch in range(epochs):
        if verbose:
            print(f"Epoch {epoch + 1}/{epochs}", flush=True)
        order = generator.permutation(len(data.train_labels))
        model.fit(
            scaled(data.train_images[order]),
            data.train_labels[order].astype("int32"),
            batch_size=BATCH_SIZE,
            shuffle=False,
            callbacks=[timer],
            verbose=verbose,
        )
    return timer.milliseconds


def accuracy_of(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of the images whose largest output is that of their class."""
    return float(np.mean(logits.argmax(axis=-1) == labels))


def measure_non_spiking(
    model: keras.Model, data: fashion_mnist.FashionMnist, step_ms: float
) -> Result:
    """Accuracy on the test images."""
    logits = model.predict(scaled(data.test_images), batch_size=PREDICT_BATCH_SIZE, verbose=0)
    accuracy = accuracy_of(logits, data.test_labels)
    return Result(NON_SPIKING, None, accuracy, None, step_ms)


def measure(
    name: str,
    model: keras.Model,
    dt: float,
    data: fashion_mnist.FashionMnist,
    step_ms: float,
) -> Result:
    """Accuracy, and firing rates in hertz, on the test images."""
    spikes = model.get_layer("spikes").output
    rates_of_neurons = keras.layers.GlobalAveragePooling1D()(spikes)
    logits, rates = keras.Model(model.inputs, [model.outputs[0], rates_of_neurons]).predict(
        scaled(data.test_images), batch_size=PREDICT_BATCH_SIZE, verbose=0
    )
    return Result(
        name,
        dt,
        accuracy_of(logits, data.test_labels),
        Rates(float(rates.min()), float(rates.mean()), float(rates.max())),
        step_ms,
    )


def with_weights_of(trained: keras.Model, model: keras.Model) -> keras.Model:
    """Gives a model the weights of another, which may have another `dt` or output."""
    model.set_weights(trained.get_weights())
    return model


def over_time(
    trained: keras.Model, build: Callable[..., keras.Model], images: np.ndarray
) -> keras_spiking.recording.Recording:
    """What a trained model does at each step, for a few images; its outputs are logits."""
    model = with_weights_of(trained, build(dt=DT, every_step=True))
    return keras_spiking.record(model, scaled(images), verbose=0)
