"""Times functions in turn, so that whatever disturbs the machine disturbs all of them."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of a list that may have a single value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), low, high)

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def alternate(
    functions: Mapping[str, Callable[[], Any]], seconds: float, fewest: int = 3, most: int = 60
) -> dict[str, list[float]]:
    """Runs each function in turn, over and over, and returns the seconds of each run.

    Args:
        functions: What to time; each has run before, so that nothing is compiled here.
        seconds: About how long to go on.
        fewest: Rounds to do even if they take longer.
        most: Rounds to do at most.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    begin = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for done in range(most):
            if done >= fewest and time.perf_counter() - begin > seconds:
                break
            for name, function in functions.items():
                start = time.perf_counter()
                function()
                times[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return times


def first_calls(functions: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Runs each function twice and returns the seconds that the first run took."""
    seconds = {}
    for name, function in functions.items():
        start = time.perf_counter()
        function()
        seconds[name] = time.perf_counter() - start
        function()
    return seconds


def ratios(times: Mapping[str, list[float]], name: str, other: str) -> Spread:
    """How many times as long as `other` a function took, round by round."""
    return Spread.of([a / b for a, b in zip(times[name], times[other], strict=False)])
