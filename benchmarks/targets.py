"""What each figure should reach, and what the 2021 library took."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.layers import LAYERS
from benchmarks.steps import BOTH, FORWARD
from benchmarks.training import LARGE, SMALL

# Milliseconds of KerasSpiking 0.3.0 (TensorFlow 2.21 with legacy Keras), forward and forward +
# backward, in the order of LAYERS, measured once on a processor with two cores like the one of
# results.md. A guide to the ratio: the time of `limit` on that day, forward, stands beside it.
OLD_LIBRARY_MS = {
    (32, 10, 128): ((0.85, 1.06), (1.03, 1.93), (3.69, 9.86)),
    (32, 100, 128): ((3.65, 5.51), (3.79, 10.7), (29.6, 69.0)),
    (32, 1000, 128): ((29.9, 62.0), (44.5, 162.0), (286.0, 837.0)),
    (8, 1000, 1024): ((39.9, 105.0), (33.5, 137.0), (382.0, 1275.0)),
}
OLD_LIBRARY_LIMIT_MS = {
    (32, 10, 128): 0.25,
    (32, 100, 128): 0.5,
    (32, 1000, 128): 2.1,
    (8, 1000, 1024): 3.7,
}


def old_library_ms(shape: tuple[int, ...], passes: str, name: str) -> float | None:
    """What the 2021 library took, where that is known."""
    if tuple(shape) not in OLD_LIBRARY_MS or name not in LAYERS:
        return None
    return OLD_LIBRARY_MS[tuple(shape)][LAYERS.index(name)][passes == BOTH]


@dataclass(frozen=True)
class Goal:
    """A figure beside its target, which it should not exceed, or should not fall below."""

    what: str
    layer: str
    value: float
    target: float
    at_most: bool = True

    @property
    def reached(self) -> bool:
        """Whether the target is met as it would be printed."""
        value = round(self.value, 2)
        return value <= self.target if self.at_most else value >= self.target


# (way, passes, targets in the order of LAYERS) at T = 1000, times `limit`
_OVER_LIMIT = {
    "tensorflow": (
        ("plain graph", FORWARD, (1.5, 2, 3)),
        ("plain graph", BOTH, (2, 3, 5)),
        ("XLA", FORWARD, (5, 5, 8)),
        ("XLA", BOTH, (5, 9, 16)),
    ),
    "jax": (("jit", FORWARD, (2.5, 3.5, 5)), ("jit", BOTH, (2, 3, 5))),
    "torch": (("eager", FORWARD, (1.2, 1.5, 2.5)), ("eager", BOTH, (2, 3, 5))),
}
# Of a kernel alone, forward, times a copy of the tensor on one core
_OVER_COPY = {"jax": (1.5, 2.5, 4), "torch": (1.5, 2.5, 4)}
_FASTER_ON_TWO_CORES = 1.6
_LENGTHS = 3
_FASTER_THAN_OLD_LIBRARY = {100: (3, 3, 10), 1000: (6, 6, 15)}
_FASTER_THAN_LOOP = {100: (5, 5, 10), 1000: (10, 10, 20)}
_OVER_TWIN = {SMALL: (1.10, 1.15, 1.25), LARGE: (1.10, 1.20, 1.35)}
_TENSORS = 4
_GROWTH = 2
_TIME_BATCHED = 3


def goals(backend: str, results: dict[str, Any]) -> Iterator[Goal]:
    """Every figure that has a target, for one backend."""
    timings = {
        (each["way"], each["passes"], tuple(each["shape"]), each["name"]): each
        for each in results["layers"]
    }

    def of(way: str, passes: str, time: int, name: str) -> Any:
        return timings.get((way, passes, (32, time, 128), name))

    for index, name in enumerate(LAYERS):
        for way, passes, targets in _OVER_LIMIT[backend]:
            timing = of(way, passes, 1000, name)
            if timing:
                what = f"{way}, {passes}, T = 1000: times `limit`"
                yield Goal(what, name, timing["over_limit"]["median"], targets[index])
        if backend == "tensorflow":
            for time, targets in _FASTER_THAN_OLD_LIBRARY.items():
                timing = of("plain graph", BOTH, time, name)
                if timing:
                    old = old_library_ms((32, time, 128), BOTH, name)
                    what = f"plain graph, {BOTH}, T = {time}: faster than the old library, times"
                    yield Goal(what, name, old / timing["ms"]["median"], targets[index], False)
        if backend == "torch":
            for time, targets in _FASTER_THAN_LOOP.items():
                timing = of("eager", BOTH, time, name)
                if timing:
                    what = f"eager, {BOTH}, T = {time}: faster than the loop over cells, times"
                    ratio = timing["loop_ms"] / timing["ms"]["median"]
                    yield Goal(what, name, ratio, targets[index], False)
        for size, targets in _OVER_TWIN.items():
            what = f"training step of `fit`, {size} model: times the non-spiking twin"
            ratio = results["training"][size][name]["over_twin"]["median"]
            yield Goal(what, name, ratio, targets[index])
        shortest, longest = _ends(results["growth"]["rows"], name)
        grown = (longest["ms"] / longest["length"]) / (shortest["ms"] / shortest["length"])
        what = f"time per element, T = {longest['length']}: times that of {shortest['length']}"
        yield Goal(what, name, grown, _GROWTH)
        tensors = results["growth"]["tensors"][name]
        yield Goal("training memory, in tensors of the input's size", name, tensors, _TENSORS)
    yield from _goals_of_cores(backend, results)
    yield Goal(
        "Conv2D over time: faster than `TimeDistributed`, times",
        "TimeBatched",
        results["time_batched"]["faster"]["median"],
        _TIME_BATCHED,
        False,
    )


def _goals_of_cores(backend: str, results: dict[str, Any]) -> Iterator[Goal]:
    for each in results["cores"]["kernels"]:
        if backend in _OVER_COPY and each["name"] in LAYERS:
            target = _OVER_COPY[backend][LAYERS.index(each["name"])]
            what = f"kernel alone, forward, {tuple(each['shape'])}: times `copy`"
            yield Goal(what, each["name"], each["over_copy"]["median"], target)
    for name in LAYERS:
        if results["cores"]["cores"]:
            ratio = results["cores"]["cores"][name]["median"]
            what = "forward + backward: two cores faster than one, times"
            yield Goal(what, name, ratio, _FASTER_ON_TWO_CORES, False)
        if results["lengths"]:
            what = "first epoch, many lengths of time: times that of one length"
            yield Goal(what, name, results["lengths"][name], _LENGTHS)


def _ends(rows: list[dict[str, Any]], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    of_layer = [row for row in rows if row["name"] == name]
    return of_layer[0], of_layer[-1]
