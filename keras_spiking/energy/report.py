"""Energies as rows, as text and as HTML."""

import html as html_module
import textwrap
from typing import Any

import keras

from keras_spiking._tables import html_table, text_lines
from keras_spiking.energy.columns import Column
from keras_spiking.energy.estimate import Estimate, Time
from keras_spiking.energy.layer_stats import rule_for
from keras_spiking.energy.spikes import OVER_STEPS
from keras_spiking.layers import KerasSpikingLayer

ESTIMATES = (
    "These are estimates: numbers of operations times the energy of one, as published. What else "
    "a device spends, on memory, input or output, is not in them."
)


def rows(estimate: Estimate, columns: list[Column], time: Time) -> list[dict[str, Any]]:
    """A dictionary for each layer, from the names of columns to values."""
    return [
        {column.name: column.value(estimate, layer, time) for column in columns}
        for layer in estimate.uses
    ]


def text(
    estimate: Estimate, columns: list[Column], time: Time, line_length: int, print_warnings: bool
) -> str:
    """The table as lines of text, with notes below it."""
    cells, totals = _cells(estimate, columns, time)
    texts = [column.name for column in columns if column.is_text]
    headings, *body, last = text_lines([*cells, totals], texts, line_length)
    lines = [headings, "-" * line_length, *body, "=" * line_length, last]
    for note in _notes(estimate, columns, time, print_warnings):
        lines += ["", *textwrap.wrap(note, line_length)]
    return "\n".join(lines)


def html(estimate: Estimate, columns: list[Column], time: Time) -> str:
    """The table as HTML for notebooks, with notes below it."""
    notes = _notes(estimate, columns, time, print_warnings=True)
    return html_table(*_cells(estimate, columns, time)) + "".join(
        f"<p>{html_module.escape(note)}</p>" for note in notes
    )


def _cells(
    estimate: Estimate, columns: list[Column], time: Time
) -> tuple[list[list[str]], list[str]]:
    """The headings and rows, and the totals, all as text."""
    headings = [column.name for column in columns]
    table = rows(estimate, columns, time)
    body = [[column.format(row[column.name]) for column in columns] for row in table]
    totals = [
        column.format(sum(row[column.name] for row in table)) if column.has_total else ""
        for column in columns
    ]
    totals[0] = totals[0] or "total"
    return [headings, *body], totals


def _notes(
    estimate: Estimate, columns: list[Column], time: Time, print_warnings: bool
) -> list[str]:
    """Units, how rates were measured, and warnings."""
    units = "Energies are in joules per inference, rates in hertz."
    counted = [estimate.name(layer) for layer in estimate.uses if estimate.gets_spikes(layer)]
    if estimate.rates and counted:
        units += (
            f" Rates are of spikes counted into {', '.join(counted)}, and the mean of abs(input) "
            "into every other layer."
        )
    elif estimate.rates:
        units += " Rates are the mean of abs(input)."
    return [units, *_warnings(estimate, columns, time)] if print_warnings else [units]


def _warnings(estimate: Estimate, columns: list[Column], time: Time) -> list[str]:
    """What a reader of these columns must know."""
    notes = [ESTIMATES]
    devices = [column.device.name for column in columns if column.device and column.device.spiking]
    if devices:
        notes += _warnings_of_spikes(estimate, list(dict.fromkeys(devices)), time)
    unknown = [layer for layer in estimate.uses if rule_for(layer) is None]
    if unknown:
        notes.append(f"Counted as nothing, for want of a rule: {_names(estimate, unknown)}.")
        with_spikes = [layer for layer in unknown if estimate.gets_spikes(layer)]
        if with_spikes and devices:
            notes[-1] += (
                f" Spikes go into {_names(estimate, with_spikes)}; behind, abs(input) is taken for "
                "the rate."
            )
    return notes + _warning_of_fixed_times(estimate)


def _warnings_of_spikes(estimate: Estimate, devices: list[str], time: Time) -> list[str]:
    """What a reader must know of the energy of devices that spike."""
    notes = []
    to_convert = [layer for layer, stats in estimate.stats.items() if not stats["spiking"]]
    if to_convert:
        notes.append(
            f"Not spiking: {_names(estimate, to_convert)}. For {', '.join(devices)} they are taken "
            "to be converted to spiking neurons of the same rates."
        )
    kinds = {kind for layer in estimate.uses for kind in estimate.kinds(layer)}
    dts = {kind.dt for kind in kinds if kind is not None}
    if dts - {time.dt}:
        notes.append(
            f"Spikes were counted in steps of {', '.join(f'{dt:g}' for dt in sorted(dts))} s, and "
            f"the energy is that of steps of {time.dt:g} s with the same rates in hertz. For that "
            "of the steps that were run, give their `dt`."
        )
    return notes


def _warning_of_fixed_times(estimate: Estimate) -> list[str]:
    """A warning of layers that seem to count every step of a fixed number as part of the sample."""
    over_time = (KerasSpikingLayer, keras.layers.RNN, *OVER_STEPS)
    num_steps = {
        use.input_shape[1]
        for layer, uses in estimate.uses.items()
        if isinstance(layer, over_time)
        for use in uses
    } - {None}
    names = [
        use.name
        for layer, uses in estimate.uses.items()
        if not isinstance(layer, over_time) and estimate.is_counted(layer)
        for use in uses
        if len(use.output_shape) > 2 and use.output_shape[1] in num_steps
    ]
    if not names:
        return []
    note = (
        f"{', '.join(dict.fromkeys(names))}: if axis 1 is time, all of its steps are counted as "
        "one, as their number is fixed. Make the model with keras.Input((None, ...)) to count one."
    )
    return [note]


def _names(estimate: Estimate, layers: list[keras.Layer]) -> str:
    return ", ".join(map(estimate.name, layers))
