"""Times the three layers beside `limit`, and beside their own cells in `keras.layers.RNN`."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.steps import BOTH, FORWARD, WAYS, make_step
from benchmarks.timing import Spread, alternate, first_calls, ratios

SHAPES = ((32, 10, 128), (32, 100, 128), (32, 1000, 128), (8, 1000, 1024))
QUICK_SHAPES = SHAPES[:2]
LIMIT = "limit"
LAYERS = ("SpikingActivation", "Lowpass", "Alpha")
DT, TAU = 0.01, 0.1  # seconds


@dataclass(frozen=True)
class Timing:
    """How long one thing took, in milliseconds, and how many times as long as `limit`."""

    backend: str
    way: str
    passes: str
    shape: tuple[int, int, int]
    name: str
    ms: Spread
    over_limit: Spread
    loop_ms: float | None = None


def measure(backend: str, quick: bool) -> list[dict[str, Any]]:
    """Times every layer in every way, at every size."""
    return [asdict(timing) for timing in _measure(backend, quick)]


def _measure(backend: str, quick: bool) -> Iterator[Timing]:
    for shape in QUICK_SHAPES if quick else SHAPES:
        for way in WAYS[backend]:
            for passes in (FORWARD, BOTH):
                print(f"  {shape}, {way}, {passes}", flush=True)
                steps = make_steps(backend, way, passes, shape)
                first_calls(steps)
                times = alternate(steps, seconds=1 if quick else 2)
                # The 2021 library's loops were compiled, so eager ones are no measure of it.
                loops = _time_loops(backend, way, passes, shape) if way == WAYS[backend][0] else {}
                for name in steps:
                    yield Timing(
                        backend,
                        way,
                        passes,
                        shape,
                        name,
                        Spread.of([1e3 * each for each in times[name]]),
                        ratios(times, name, LIMIT),
                        loops.get(name),
                    )


def make_steps(
    backend: str, way: str, passes: str, shape: tuple[int, ...]
) -> dict[str, Callable[[], Any]]:
    """Steps of `limit`, and of every layer."""
    return {
        name: make_step(backend, way, passes, layer, *arrays(shape))
        for name, layer in {LIMIT: limit, **make_layers(shape)}.items()
    }


def limit(x: Any) -> Any:
    """Reads a tensor once and writes one of the same size: nothing can be faster."""
    import keras

    return keras.ops.relu(x) * 1.5


def make_layers(shape: tuple[int, ...]) -> dict[str, Any]:
    """The three layers, built."""
    import keras_spiking

    layers = (
        keras_spiking.SpikingActivation("relu", dt=DT),
        keras_spiking.Lowpass(TAU, dt=DT),
        keras_spiking.Alpha(TAU, dt=DT),
    )
    for layer in layers:
        layer.build(shape)
    return dict(zip(LAYERS, layers, strict=True))


def arrays(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs that give rates around 30 Hz, and gradients of outputs."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(scale=50, size=shape).astype("float32"),
        rng.normal(size=shape).astype("float32"),
    )


def _time_loops(backend: str, way: str, passes: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Milliseconds of each cell, stepped through time by Keras; few runs, as they are slow."""
    import keras

    import keras_spiking

    milliseconds = {}
    for name, cell in zip(
        LAYERS,
        (
            keras_spiking.SpikingActivationCell(shape[-1], "relu", dt=DT, seed=0),
            keras_spiking.LowpassCell(shape[-1], TAU, dt=DT),
            keras_spiking.AlphaCell(shape[-1], TAU, dt=DT),
        ),
        strict=True,
    ):
        loop = keras.layers.RNN(cell, return_sequences=True)
        loop.build(shape)
        step = {name: make_step(backend, way, passes, loop, *arrays(shape))}
        first_calls(step)
        times = alternate(step, seconds=0.5, fewest=3, most=20)[name]
        milliseconds[name] = 1e3 * Spread.of(times).median
    return milliseconds
