"""What training at one long step costs, and that more and shorter steps then say the same."""

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.converted.networks import BATCH
from benchmarks.timing import Spread, alternate, ratios

if TYPE_CHECKING:
    import keras

DT = 0.001
ORIGINAL, ONE_STEP = "original", "one step"


def measure(
    model: "keras.Model", images: np.ndarray, labels: np.ndarray, steps: int, seconds: float
) -> dict[str, Any]:
    """Times training steps of the network and of its conversion, which is then run at `steps`."""
    import keras

    import keras_spiking

    original = keras.models.clone_model(model)
    original.set_weights(model.get_weights())
    original.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    one = keras_spiking.convert(
        original, num_steps=1, dt=steps * DT, target_rate=1 / DT, example_data=images[:500]
    )
    batch = images[:BATCH], labels[:BATCH]
    functions = {
        ORIGINAL: lambda: original.train_on_batch(*batch),
        ONE_STEP: lambda: one.train_on_batch(*batch),
    }
    for function in functions.values():
        function(), function()  # the first one compiles
    times = alternate(functions, seconds, most=200)
    many = keras_spiking.retime(one, dt=DT, num_steps=steps)
    shown = images[:BATCH]
    apart = np.abs(
        many.predict(shown, batch_size=16, verbose=0) - one.predict(shown, verbose=0)
    ).max(axis=1)
    return {
        "ms": {name: 1e3 * Spread.of(each).median for name, each in times.items()},
        "ratio": ratios(times, ONE_STEP, ORIGINAL),
        "ratio_of_minima": min(times[ONE_STEP]) / min(times[ORIGINAL]),
        "steps": steps,
        "median_difference": float(np.median(apart)),
        "largest_difference": float(apart.max()),
    }
