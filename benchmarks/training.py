"""Times whole training steps of the Fashion-MNIST model beside its non-spiking twin."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.layers import DT, LAYERS, TAU
from benchmarks.timing import Spread, ratios

TWIN = "non-spiking twin"
CLASSES = 10


@dataclass(frozen=True)
class Size:
    """Steps of time, units, samples in a batch; batches in an epoch, and epochs."""

    num_steps: int
    hidden: int
    batch: int
    batches: int
    epochs: int


SMALL, LARGE = "small", "large"
SIZES = {SMALL: Size(10, 128, 32, 50, 40), LARGE: Size(100, 1024, 256, 3, 6)}
QUICK_SIZES = {SMALL: Size(10, 128, 32, 50, 4), LARGE: Size(100, 128, 32, 2, 1)}


def measure(backend: str, quick: bool) -> dict[str, Any]:
    """Trains each model in turn, an epoch at a time, with `fit` as it is by default."""
    sizes = QUICK_SIZES if quick else SIZES
    return {name: _measure(size) for name, size in sizes.items()}


def _measure(size: Size) -> dict[str, Any]:
    import keras

    class StepTimer(keras.callbacks.Callback):
        """Seconds of each step."""

        def on_train_begin(self, logs: Any = None) -> None:
            self.seconds: list[float] = []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self.start)

    print(f"  {size}", flush=True)
    models = _models(size)
    rng = np.random.default_rng(0)
    images = rng.random((size.batch * size.batches, 28, 28), dtype="float32")
    labels = rng.integers(CLASSES, size=len(images))
    times: dict[str, list[float]] = {name: [] for name in models}
    for epoch in range(size.epochs + 1):
        for name, model in models.items():
            timer = StepTimer()
            model.fit(images, labels, batch_size=size.batch, callbacks=[timer], verbose=0)
            if epoch:  # the first one compiles
                times[name].append(statistics.median(timer.seconds))
    return {
        name: {
            "ms": Spread.of([1e3 * each for each in times[name]]),
            "over_twin": ratios(times, name, TWIN),
        }
        for name in models
    }


def _models(size: Size) -> dict[str, Any]:
    import keras

    import keras_spiking

    def spikes() -> Any:
        return keras_spiking.SpikingActivation("relu", dt=DT)

    pool = keras.layers.GlobalAveragePooling1D
    makers: dict[str, Callable[[], list[Any]]] = {
        TWIN: lambda: [keras.layers.Activation("relu"), pool()],
        LAYERS[0]: lambda: [spikes(), pool()],
        LAYERS[1]: lambda: [
            spikes(),
            keras_spiking.Lowpass(TAU, dt=DT, return_sequences=False),
        ],
        LAYERS[2]: lambda: [spikes(), keras_spiking.Alpha(TAU, dt=DT, return_sequences=False)],
    }
    models = {}
    for name, make in makers.items():
        models[name] = keras.Sequential(
            [
                keras.Input((28, 28)),
                keras.layers.Flatten(),
                keras.layers.RepeatVector(size.num_steps),
                keras.layers.Dense(size.hidden),
                *make(),
                keras.layers.Dense(CLASSES),
            ]
        )
        models[name].compile(
            optimizer="adam",
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    return models
