"""What each figure should reach, and what the 2021 library took."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.layers import LAYERS
from benchmarks.steps import BOTH, FORWARD

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
        ("plain graph", BOTH, (4, 6, 12)),
        ("XLA", FORWARD, (5, 5, 8)),
        ("XLA", BOTH, (5, 9, 16)),
    ),
    "jax": (("jit", BOTH, (6, 10, 18)),),
    "torch": (),
}
_FASTER_THAN_OLD_LIBRARY = {100: (3, 3, 10), 1000: (6, 6, 15)}
_FASTER_THAN_LOOP = {100: (5, 5, 10), 1000: (10, 10, 20)}
_OVER_TWIN = (1.10, 1.15, 1.25)
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
        yield Goal(
            "training step of `fit`, T = 10: times the non-spiking twin",
            name,
            results["training"][name]["over_twin"]["median"],
            _OVER_TWIN[index],
        )
        shortest, longest = _ends(results["growth"]["rows"], name)
        grown = (longest["ms"] / longest["length"]) / (shortest["ms"] / shortest["length"])
        what = f"time per element, T = {longest['length']}: times that of {shortest['length']}"
        yield Goal(what, name, grown, _GROWTH)
        tensors = results["growth"]["tensors"][name]
        yield Goal("training memory, in tensors of the input's size", name, tensors, _TENSORS)
    yield Goal(
        "Conv2D over time: faster than `TimeDistributed`, times",
        "TimeBatched",
        results["time_batched"]["faster"]["median"],
        _TIME_BATCHED,
        False,
    )


def _ends(rows: list[dict[str, Any]], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    of_layer = [row for row in rows if row["name"] == name]
    return of_layer[0], of_layer[-1]
