"""What `compare` returns: results as rows, as a table, and as a figure."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_spiking._tables import html_table, text_lines
from keras_spiking.conversion import figure
from keras_spiking.conversion.results import Result, percent

_TEXTS = ("layer", "output", "parts at")  # columns that hold words
Rows = list[list[str]]


@dataclass(frozen=True)
class Report:
    """What a spiking model does, and how much it spikes, beside its original.

    `print` shows it as text, a notebook as tables.

    Attributes:
        num_samples: Number of samples that were compared.
        original_accuracy: Accuracy of the original: the mean over outputs, as in a `Result`. None
            without labels.
        results: A `Result` for each `dt` and number of steps.
    """

    num_samples: int
    original_accuracy: float | None
    results: tuple[Result, ...]

    def __str__(self) -> str:
        parts = [self._headline(), _text(_settings(self.results))]
        for result in self.results:
            tables = [_text(rows) for rows in _tables(result)]
            parts.append("\n\n".join([f"{_setting(result)}:\n{tables[0]}", *tables[1:]]))
            parts.extend(f"- {note}" for note in result.notes())
        return "\n\n".join(parts).replace("\n\n- ", "\n- ")

    def _repr_html_(self) -> str:
        parts = [f"<p>{html.escape(self._headline())}</p>", html_table(_settings(self.results))]
        for result in self.results:
            parts.append(f"<p>{html.escape(_setting(result))}</p>")
            parts.extend(html_table(rows) for rows in _tables(result))
            notes = "".join(f"<li>{html.escape(note)}</li>" for note in result.notes())
            parts.append(f"<ul>{notes}</ul>" if notes else "")
        return "".join(parts)

    def plot(self) -> Any:
        """Draws accuracy against the number of spikes, and the errors of the layers.

        Without labels, it draws agreement with the original in place of accuracy. If no output
        decides anything, it draws the error of the outputs.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not installed (`pip install keras-spiking[viz]`).
        """
        return figure.draw(self.results, self.original_accuracy)

    def _headline(self) -> str:
        text = f"Spiking model beside the original, {self.num_samples:,} samples"
        if self.original_accuracy is None:
            return text
        return f"{text}; accuracy of the original {percent(self.original_accuracy)}"


def _setting(result: Result) -> str:
    return f"dt {result.dt:g} s, {result.num_steps} steps"


def _settings(results: Sequence[Result]) -> Rows:
    """A row for each `dt` and number of steps."""
    header = ["dt (s)", "steps", "accuracy", "agreement", "output error", "mean rate (Hz)"]
    header += ["rate * dt", "spikes/inference", "negative", "parts at"]
    rows = [
        [
            f"{result.dt:g}",
            str(result.num_steps),
            percent(result.accuracy),
            percent(result.agreement),
            f"{result.output_error:.3f}",
            _number(result.mean_rate),
            _number(result.mean_rate * result.dt),
            _number(result.spikes),
            _number(result.negative),
            result.parts_at or "-",
        ]
        for result in results
    ]
    has_negative = any(result.negative for result in results)
    return _without([header, *rows], [] if has_negative else ["negative"])


def _tables(result: Result) -> list[Rows]:
    """The layers, and the outputs if there are several."""
    tables = [_layers(result)]
    return [*tables, _outputs(result)] if len(result.outputs) > 1 else tables


def _layers(result: Result) -> Rows:
    header = ["layer", "mean rate (Hz)", "99.9 % rate (Hz)", "spikes/inference", "silent"]
    header += ["several/step", "error", "negative", "off"]
    rows = [
        [
            layer.name,
            _number(layer.mean_rate),
            _number(layer.top_rate),
            _number(layer.spikes),
            percent(layer.silent),
            percent(layer.several),
            f"{layer.error:.3f}",
            _number(layer.negative),
            percent(layer.off),
        ]
        for layer in result.layers
    ]
    hidden = []
    if not any(layer.negative for layer in result.layers):
        hidden.append("negative")
    if all(layer.off is None for layer in result.layers):
        hidden.append("off")
    return _without([header, *rows], hidden)


def _outputs(result: Result) -> Rows:
    rows = [
        [
            output.name,
            percent(output.accuracy),
            percent(output.original_accuracy),
            percent(output.agreement),
            f"{output.error:.3f}",
        ]
        for output in result.outputs
    ]
    return [["output", "accuracy", "of the original", "agreement", "error"], *rows]


def _without(rows: Rows, headings: Sequence[str]) -> Rows:
    """A table without the columns of these headings."""
    kept = [index for index, heading in enumerate(rows[0]) if heading not in headings]
    return [[row[index] for index in kept] for row in rows]


def _number(value: float) -> str:
    """Three significant digits, or a whole number with commas."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _text(rows: Rows) -> str:
    heading, *lines = text_lines(rows, _TEXTS)
    return "\n".join([heading, "-" * len(heading), *lines])
