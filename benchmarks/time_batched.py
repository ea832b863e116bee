"""Times `TimeBatched` beside `keras.layers.TimeDistributed`: Conv2D(32, 3), forward and backward.

`limit` is the wrapped layer alone, on inputs that have no time axis and as many samples as there
were samples times steps: no wrapper can be faster.
"""

from typing import Any

import numpy as np

from benchmarks.steps import BOTH, WAYS, make_step
from benchmarks.timing import Spread, alternate, first_calls, ratios

SHAPE = (32, 10, 28, 28, 1)


def measure(backend: str, quick: bool) -> dict[str, Any]:
    """Times all three, and checks that they give the same gradients."""
    import keras

    import keras_spiking

    inputs = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    folded = inputs.reshape(-1, *SHAPE[2:])
    cases = {
        "TimeDistributed": (keras.layers.TimeDistributed(keras.layers.Conv2D(32, 3)), inputs),
        "TimeBatched": (keras_spiking.TimeBatched(keras.layers.Conv2D(32, 3)), inputs),
        "limit": (keras.layers.Conv2D(32, 3), folded),
    }
    steps = {}
    for name, (layer, x) in cases.items():
        layer.build(x.shape)
        layer.set_weights(cases["TimeDistributed"][0].get_weights())
        upstream = np.random.default_rng(1).normal(size=layer.compute_output_shape(x.shape))
        # Images have no gradient.
        steps[name] = make_step(
            backend, WAYS[backend][0], BOTH, layer, x, upstream.astype("float32"), False
        )
    results = {
        name: [keras.ops.convert_to_numpy(each) for each in step()[1:]]
        for name, step in steps.items()
    }
    for gradients in results.values():
        for one, other in zip(gradients, results["limit"], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())

    first_calls(steps)
    times = alternate(steps, seconds=2 if quick else 8)
    return {
        "ms": {name: Spread.of([1e3 * each for each in times[name]]) for name in times},
        "faster": ratios(times, "TimeDistributed", "TimeBatched"),
        "over_limit": ratios(times, "TimeBatched", "limit"),
    }
