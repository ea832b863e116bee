"""What `compare` returns: rows of data, as a table, and as a figure."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# A layer's mean output is said to part from the original's where its relative error exceeds this.
PARTING_ERROR = 0.3
# Where it is known what the means must be, a layer parts if more than this share is something else.
# It is not zero, because half precision moves a few.
PARTING_SHARE = 0.01
# Calibration lets one activation in a thousand exceed one spike per step; other data, some more.
SEVERAL_BY_DESIGN = 0.01
_NAMES = ("layer", "output", "parts at")  # columns that hold no numbers


@dataclass(frozen=True)
class LayerResult:
    """What one spiking layer did, over all samples.

    Attributes:
        name: Name of the layer in the spiking model.
        mean_rate: Mean firing rate in hertz, of all neurons and samples; negative spikes count as
            spikes, here and below.
        top_rate: The 99.9th percentile, over neurons and samples, of the firing rate in hertz.
        spikes: Mean number of spikes of the whole layer per inference.
        silent: Share of neurons that fired for none of the samples.
        several: Share of steps with more than one spike, of all neurons and samples.
        error: Relative error of the mean output over time against the original's activation:
            the root of the mean square of the difference, divided by that of the activation.
        negative: Mean number of negative spikes of the whole layer per inference.
        off: Share of mean outputs, of all neurons and samples, that are not the activation rounded
            to whole spikes, as they must be where neurons integrate their input: further than
            1 / (2 * num_steps * dt * rate_scale) from it, the activation being that of the
            original's layers on the mean outputs of the spiking layers before. None where neurons
            integrate the activation, have no negative spikes or a random initial voltage, or where
            the weights are no longer the original's.
    """

    name: str
    mean_rate: float
    top_rate: float
    spikes: float
    silent: float
    several: float
    error: float
    negative: float
    off: float | None

    @property
    def parts(self) -> bool:
        """Whether more than 1 % of the means are `off`, or, if unknown, the error exceeds 0.3."""
        return self.error > PARTING_ERROR if self.off is None else self.off > PARTING_SHARE


@dataclass(frozen=True)
class OutputResult:
    """What one output of the spiking model did, over all samples.

    Attributes:
        name: Name of the output: of the layer that gives it.
        agreement: Share of decisions that are the original's; None if the output decides nothing,
            as one that is numbers (a regression) does not.
        accuracy: Share of decisions that are right; None without labels that are classes.
        original_accuracy: The same of the original.
        error: Relative error against the original's output, as that of a layer.
    """

    name: str
    agreement: float | None
    accuracy: float | None
    original_accuracy: float | None
    error: float


@dataclass(frozen=True)
class Result:
    """What the spiking model did with one length and number of steps.

    Attributes:
        dt: Length of a time step in seconds.
        num_steps: Number of time steps.
        agreement: Share of decisions that are the original's: the mean over those outputs that
            decide; None if none does.
        accuracy: Share of decisions that are right: the mean over those outputs that have labels
            of classes; None if none has.
        output_error: Relative error of all outputs against the original's, as that of a layer.
        mean_rate: Mean firing rate in hertz of all neurons.
        spikes: Mean number of spikes per inference.
        layers: A `LayerResult` for each spiking layer, in order.
        outputs: An `OutputResult` for each output, in order.
        negative: Mean number of negative spikes per inference.
        not_spiking: Names of layers that are not linear, and do not spike, though layers of their
            kind might be expected to: they are applied to the means so far.
    """

    dt: float
    num_steps: int
    agreement: float | None
    accuracy: float | None
    output_error: float
    mean_rate: float
    spikes: float
    layers: tuple[LayerResult, ...]
    outputs: tuple[OutputResult, ...]
    negative: float
    not_spiking: tuple[str, ...]

    @property
    def parts_at(self) -> str | None:
        """Name of the first layer that parts from the original, or None; `LayerResult` has why."""
        return next((each.name for each in self.layers if each.parts), None)

    def notes(self) -> list[str]:
        """What to know of this result, in sentences."""
        notes = [
            f"{each.name}: several spikes in {_percent(each.several)} of steps, since its rates "
            "exceed one spike per step (rate * dt > 1)"
            + (", or it makes up for what it sent before" if each.negative else "")
            for each in self.layers
            if each.several > SEVERAL_BY_DESIGN
        ]
        parting = next((each for each in self.layers if each.parts), None)
        if parting is not None and parting.off is None:
            notes.append(
                f"{parting.name}: the first layer whose mean output parts from the original's "
                f"(error above {PARTING_ERROR:g})"
            )
        elif parting is not None:
            notes.append(
                f"{parting.name}: the first layer whose mean output is not the original's "
                f"activation, rounded to whole spikes (not in {_percent(parting.off)} of means); "
                "something before it is not as in the original, or does not keep means"
            )
        if self.not_spiking:
            notes.append(
                f"{', '.join(self.not_spiking)}: not spiking, applied to the mean of the inputs so "
                "far"
            )
        return notes


@dataclass(frozen=True)
class Report:
    """What a spiking model does, and costs, beside the model it was made of.

    `print` shows it as text, a notebook as tables.

    Attributes:
        num_samples: Number of samples compared.
        original_accuracy: Accuracy of the original, the mean over outputs as in a `Result`; None
            without labels.
        results: A `Result` for each length and number of steps.
    """

    num_samples: int
    original_accuracy: float | None
    results: tuple[Result, ...]

    def __str__(self) -> str:
        parts = [self._headline(), _text_table(self._settings())]
        for result in self.results:
            tables = [_text_table(rows) for rows in _tables(result)]
            parts.append("\n\n".join([f"{_setting(result)}:\n{tables[0]}", *tables[1:]]))
            parts.extend(f"- {note}" for note in result.notes())
        return "\n\n".join(parts).replace("\n\n- ", "\n- ")

    def _repr_html_(self) -> str:
        parts = [f"<p>{html.escape(self._headline())}</p>", _html_table(self._settings())]
        for result in self.results:
            parts.append(f"<p>{html.escape(_setting(result))}</p>")
            parts.extend(_html_table(rows) for rows in _tables(result))
            notes = "".join(f"<li>{html.escape(note)}</li>" for note in result.notes())
            parts.append(f"<ul>{notes}</ul>" if notes else "")
        return "".join(parts)

    def plot(self) -> Any:
        """Draws accuracy against spikes, and the errors of the layers.

        Without labels, agreement with the original stands for accuracy; where no output
        decides, the error of the outputs.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not installed (`pip install keras-spiking[viz]`).
        """
        try:
            from keras_spiking.conversion.figure import draw
        except ImportError as error:
            raise ImportError(
                "Report: `plot` needs matplotlib, which is not installed. Install it with "
                '`pip install "keras-spiking[viz]"`.'
            ) from error
        return draw(self)

    def _headline(self) -> str:
        text = f"Spiking model beside the original, {self.num_samples:,} samples"
        if self.original_accuracy is None:
            return text
        return f"{text}; accuracy of the original {_percent(self.original_accuracy)}"

    def _settings(self) -> list[list[str]]:
        header = ["dt (s)", "steps", "accuracy", "agreement", "output error", "mean rate (Hz)"]
        rows = [
            [
                f"{result.dt:g}",
                str(result.num_steps),
                _percent(result.accuracy),
                _percent(result.agreement),
                f"{result.output_error:.3f}",
                _number(result.mean_rate),
                _number(result.mean_rate * result.dt),
                _number(result.spikes),
                _number(result.negative),
                result.parts_at or "-",
            ]
            for result in self.results
        ]
        header += ["rate * dt", "spikes/inference", "negative", "parts at"]
        hidden = {"negative"} if not any(result.negative for result in self.results) else set()
        return _without([header, *rows], hidden)


def _tables(result: Result) -> list[list[list[str]]]:
    """The layers, and the outputs where there are several."""
    tables = [_layers(result)]
    return [*tables, _outputs(result)] if len(result.outputs) > 1 else tables


def _outputs(result: Result) -> list[list[str]]:
    rows = [
        [
            each.name,
            _percent(each.accuracy),
            _percent(each.original_accuracy),
            _percent(each.agreement),
            f"{each.error:.3f}",
        ]
        for each in result.outputs
    ]
    return [["output", "accuracy", "of the original", "agreement", "error"], *rows]


def _layers(result: Result) -> list[list[str]]:
    header = ["layer", "mean rate (Hz)", "99.9 % rate (Hz)", "spikes/inference", "silent"]
    rows = [
        [
            each.name,
            _number(each.mean_rate),
            _number(each.top_rate),
            _number(each.spikes),
            _percent(each.silent),
            _percent(each.several),
            f"{each.error:.3f}",
            _number(each.negative),
            _percent(each.off),
        ]
        for each in result.layers
    ]
    hidden = {
        name
        for name, shown in (
            ("negative", any(each.negative for each in result.layers)),
            ("off", any(each.off is not None for each in result.layers)),
        )
        if not shown
    }
    return _without([[*header, "several/step", "error", "negative", "off"], *rows], hidden)


def _without(rows: list[list[str]], names: set[str]) -> list[list[str]]:
    """A table without the columns of these names."""
    kept = [index for index, name in enumerate(rows[0]) if name not in names]
    return [[row[index] for index in kept] for row in rows]


def _setting(result: Result) -> str:
    return f"dt {result.dt:g} s, {result.num_steps} steps"


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return "< 0.01 %" if 0 < share < 5e-5 else f"{100 * share:.2f} %"


def _number(value: float) -> str:
    """Three significant digits, and thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _text_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need: names to the left, numbers to the right."""
    columns = [
        [cell.ljust(width) if column[0] in _NAMES else cell.rjust(width) for cell in column]
        for column in zip(*rows, strict=True)
        for width in [max(map(len, column))]
    ]
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows[1:])
    return f"<table>{line(rows[0], 'th')}{body}</table>"
