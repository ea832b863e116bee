"""Times an epoch of sequences of many lengths, the first one, beside one of a single length."""

import time
from typing import Any

import numpy as np

from benchmarks.layers import DT, LAYERS, TAU

LENGTHS, LONGEST = range(50, 100), 99
QUICK_LENGTHS = range(95, 100)
BATCH, UNITS = 32, 32


def measure(backend: str, quick: bool) -> dict[str, float] | None:
    """Returns how many times as long many lengths take; only TensorFlow compiles for each."""
    if backend != "tensorflow":
        return None
    lengths = list(QUICK_LENGTHS if quick else LENGTHS)
    np.random.default_rng(0).shuffle(lengths)
    results = {}
    for name in LAYERS:
        print(f"  {len(lengths)} lengths, {name}", flush=True)
        single = _first_epoch(name, [LONGEST] * len(lengths))
        results[name] = _first_epoch(name, lengths) / single
    return results


def _first_epoch(name: str, lengths: list[int]) -> float:
    """Seconds that a new model takes for one batch of each length."""
    import keras

    import keras_spiking

    layer = {
        LAYERS[0]: lambda: keras_spiking.SpikingActivation("relu", dt=DT),
        LAYERS[1]: lambda: keras_spiking.Lowpass(TAU, dt=DT),
        LAYERS[2]: lambda: keras_spiking.Alpha(TAU, dt=DT),
    }[name]()
    model = keras.Sequential([keras.Input((None, UNITS)), keras.layers.Dense(UNITS), layer])
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(BATCH, length, UNITS)).astype("float32") for length in lengths]
    start = time.perf_counter()
    model.fit(_data(batches), epochs=1, verbose=0)
    return time.perf_counter() - start


def _data(batches: list[Any]) -> Any:
    import keras

    class Batches(keras.utils.PyDataset):
        """Batches as they are, with themselves as targets."""

        def __len__(self) -> int:
            return len(batches)

        def __getitem__(self, index: int) -> Any:
            return batches[index], batches[index]

    return Batches()
