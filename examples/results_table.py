"""The table of the Fashion-MNIST example: measured figures beside published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Rates(NamedTuple):
    """Firing rates over all neurons and images, in hertz."""

    minimum: float
    mean: float
    maximum: float


@dataclass(frozen=True)
class Result:
    """The results of one model. A model without spikes has no `dt` (seconds) and no rates."""

    name: str
    dt: float | None
    accuracy: float
    rates: Rates | None
    step_ms: float

    @property
    def title(self) -> str:
        """The name, with the `dt` of the test."""
        return self.name if self.dt is None else f"{self.name}, dt {self.dt:g} s"


class Reference(NamedTuple):
    """Figures of an older library; `None` for figures that do not exist."""

    accuracy: float | None = None
    rate: float | None = None
    step_ms: float | None = None


class Library(NamedTuple):
    """An older library, with its figures by the name and `dt` of a model."""

    name: str
    published: Mapping[tuple[str, float | None], Reference]
    run_again: Mapping[tuple[str, float | None], Reference]
    notes: str


NOTES = """\
accuracy: of the test images.   Hz: firing rate of a neuron, its mean over the steps of an
image; least, mean and greatest over all neurons and test images.   ms/step: median time of
a training step; a model is trained once, whatever the dt it is tested with.
"""
# The figures in its documentation, and those of a new run with the settings of this example (full
# data, 10 epochs).
KERAS_SPIKING = Library(
    "KerasSpiking",
    {
        ("non-spiking", None): Reference(0.8853, None, 1),
        ("spiking", 0.001): Reference(0.1974, 0.54, 3),
        ("spiking", 0.01): Reference(0.6561),
        ("spiking", 0.1): Reference(0.8829),
        ("spiking", 1.0): Reference(0.8856),
        ("spiking-aware", 0.01): Reference(0.8428, 2.74),
        ("regularized", 0.01): Reference(0.7579, 9.91),
        ("Lowpass", 0.01): Reference(0.7875, None, 7),
    },
    {
        ("non-spiking", None): Reference(0.8834),
        ("spiking", 0.001): Reference(0.2181, 0.55),
        ("spiking", 0.01): Reference(0.6654),
        ("spiking", 0.1): Reference(0.8825),
        ("spiking", 1.0): Reference(0.885),
        ("spiking-aware", 0.01): Reference(0.8416, 2.82),
        ("regularized", 0.01): Reference(0.7484, 10.08),
        ("Lowpass", 0.01): Reference(0.8469, 5.47),
        ("Alpha", 0.01): Reference(0.8433),
    },
    NOTES
    + """\
published: documentation of KerasSpiking 0.3.0, on another machine.   run again: the same
version with the settings of this example, by this project.""",
)
PYTORCH_SPIKING = Library(
    "PyTorchSpiking",
    {
        ("non-spiking", None): Reference(0.9083),
        ("spiking", 0.001): Reference(0.1795, 0.64),
        ("spiking", 0.01): Reference(0.6375),
        ("spiking", 0.1): Reference(0.9048),
        ("spiking", 1.0): Reference(0.9073),
        ("spiking-aware", 0.01): Reference(0.8539, 2.67),
        ("regularized", 0.01): Reference(0.7012, 18.96),
        ("Lowpass", 0.01): Reference(0.8614, 4.37),
    },
    {},
    NOTES
    + """\
published: documentation of PyTorchSpiking 0.1.0, which by a slip tests on its training
images, so that its accuracies are too high; here, the test images are others.""",
)
NOT_FULL_DATA = """\
The figures of the older library are for the full data (60,000 training and
10,000 test images) and 10 epochs: this run is not to be compared with them."""

COLUMNS = "{:<24}{:>9}{:>7}{:>7}{:>8}{:>9} |{:>9}{:>6}{:>8} |{:>9}{:>7}"


def format_table(
    results: Sequence[Result],
    description: str,
    comparable: bool,
    library: Library = KERAS_SPIKING,
) -> list[str]:
    """The lines of the table.

    Args:
        results: the results; each is a row.
        description: which data were used, and how.
        comparable: whether the run had the data and epochs of the published one.
        library: the older library whose figures stand beside the results.
    """
    heading = COLUMNS.format(
        *("model", "accuracy", "min Hz", "mean", "max", "ms/step"),
        *("accuracy", "Hz", "ms/step", "accuracy", "Hz"),
    )
    groups = COLUMNS.format("", "", "", "", "", "", "published", "", "", "run again", "")
    rows = [groups, heading, *(_row(result, library) for result in results)]
    if not library.run_again:
        rows = [row.rpartition(" |")[0] for row in rows]
    rule = "-" * len(rows[1])
    lines = [*rows[:2], rule, *rows[2:], rule, description]
    if not comparable:
        lines += NOT_FULL_DATA.splitlines()
    return [line.rstrip() for line in lines + library.notes.splitlines()]


def _row(result: Result, library: Library) -> str:
    published = library.published.get((result.name, result.dt), Reference())
    again = library.run_again.get((result.name, result.dt), Reference())
    rates = result.rates or (None, None, None)
    return COLUMNS.format(
        result.title,
        _number(result.accuracy, 4),
        *(_number(rate, 2) for rate in rates),
        _number(result.step_ms, 2),
        _number(published.accuracy, 4),
        _number(published.rate, 2),
        _number(published.step_ms, 0),
        _number(again.accuracy, 4),
        _number(again.rate, 2),
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
