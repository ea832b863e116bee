"""Energies as rows, as text and as HTML."""

import html as html_module
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_spiking._tables import html_table, text_lines
from keras_spiking.config import default
from keras_spiking.energy import devices
from keras_spiking.energy.layer_stats import rule_for
from keras_spiking.energy.spikes import OVER_STEPS, Spikes
from keras_spiking.layers import KerasSpikingLayer

if TYPE_CHECKING:
    from keras_spiking.energy.model_energy import ModelEnergy

TEXTS = ("name", "output_shape", "rate_from")
COUNTS = ("params", "connections", "neurons")
RATES = ("rate", "rate_from")
ENERGIES = ("energy", "synop_energy", "neuron_energy")

ESTIMATES = (
    "These are estimates: numbers of operations times the energy of one, as published. What else "
    "a device spends, on memory, input or output, is not in them."
)


def rows(
    energy: "ModelEnergy", columns: Sequence[str], steps: int, dt: float | None
) -> list[dict[str, Any]]:
    """A dictionary from columns to values for each layer."""
    _check_columns(energy, columns)
    return [
        {column: _value(energy, layer, column, steps, dt) for column in columns}
        for layer in energy.layer_stats
    ]


def _check_columns(energy: "ModelEnergy", columns: Sequence[str]) -> None:
    known = [*TEXTS[:2], *COUNTS, *RATES]
    if isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
        raise TypeError(
            f"ModelEnergy: `columns` must be a list or tuple of names; received "
            f"columns={columns!r}. For one column, give ('energy cpu',)."
        )
    if not columns:
        raise ValueError(
            "ModelEnergy: `columns` must name one or more columns; received none. "
            f"They are {', '.join(known)}, and others as in 'energy cpu'."
        )
    for column in columns:
        kind, _, device = column.partition(" ")
        if column not in known and (kind not in ENERGIES or device not in devices.DEVICES):
            raise ValueError(
                f"ModelEnergy: `columns` must be among {', '.join(known)}, and, with a device D, "
                f"{', '.join(f'{each} D' for each in ENERGIES)}, where D is one of "
                f"{', '.join(devices.DEVICES)}; received {column!r}."
            )
        if column in RATES and not energy.layer_rates:
            raise ValueError(
                f"ModelEnergy: column {column!r} needs data to measure rates on; received "
                "example_data=None. Make a ModelEnergy(model, example_data)."
            )


def _value(energy: "ModelEnergy", layer: Any, column: str, steps: int, dt: float | None) -> Any:
    uses = energy.uses[layer]
    if column == "name":
        return uses[0].name
    if column == "output_shape":
        shapes = {tuple(use.output_shapes) for use in uses}
        return uses[0].output_shape if len(shapes) == 1 else "several"
    if column == "params":
        return layer.count_params() if isinstance(layer, keras.layers.Layer) else 0
    if column in COUNTS:
        return energy.layer_stats[layer][column]
    if column == "rate":
        return energy.layer_rates[layer]
    if column == "rate_from":
        sources = {"abs(input)" if kind is None else "spikes" for kind in _kinds(energy, layer)}
        return " and ".join(sorted(sources))
    kind, _, device = column.partition(" ")
    synops, neurons = energy.layer_energy(layer, device, steps, dt)
    return {"energy": synops + neurons, "synop_energy": synops, "neuron_energy": neurons}[kind]


def _kinds(energy: "ModelEnergy", layer: Any) -> set[Spikes | None]:
    """What a layer gets: kinds of spikes, and None for what is no spikes."""
    return {kind for content in energy._contents[layer] for kind in content.kinds}


def _cells(
    energy: "ModelEnergy", columns: Sequence[str], steps: int, dt: float | None
) -> tuple[list[list[str]], list[str]]:
    """The headings and rows, and the totals, all as text."""
    table = rows(energy, columns, steps, dt)
    totals = [
        _format(column, sum(row[column] for row in table))
        if column in COUNTS or column.partition(" ")[0] in ENERGIES
        else ""
        for column in columns
    ]
    totals[0] = totals[0] or "total"
    return [list(columns), *([_format(*cell) for cell in row.items()] for row in table)], totals


def _format(column: str, value: Any) -> str:
    if column in TEXTS:
        return str(value)
    if column in COUNTS:
        return f"{value:,}"
    return f"{value:.3g}" if column == "rate" else f"{value:.2e}"


def text(
    energy: "ModelEnergy",
    columns: Sequence[str],
    steps: int,
    dt: float | None,
    line_length: int,
    print_warnings: bool,
) -> str:
    """The table as lines of text."""
    rows, totals = _cells(energy, columns, steps, dt)
    headings, *body, last = text_lines([*rows, totals], TEXTS, line_length)
    lines = [headings, "-" * line_length, *body, "=" * line_length, last]
    for note in _notes(energy, columns, dt, print_warnings):
        lines += ["", *textwrap.wrap(note, line_length)]
    return "\n".join(lines)


def html(energy: "ModelEnergy", columns: Sequence[str], steps: int, dt: float | None) -> str:
    """The table as HTML, for notebooks."""
    notes = _notes(energy, columns, dt, True)
    return html_table(*_cells(energy, columns, steps, dt)) + "".join(
        f"<p>{html_module.escape(note)}</p>" for note in notes
    )


def _notes(
    energy: "ModelEnergy", columns: Sequence[str], dt: float | None, print_warnings: bool
) -> list[str]:
    """Units, how rates were measured, and warnings."""
    notes = ["Energies are in joules per inference, rates in hertz."]
    if energy.layer_rates:
        counted = [
            uses[0].name for layer, uses in energy.uses.items() if _kinds(energy, layer) != {None}
        ]
        if counted:
            notes[0] += (
                f" Rates are of spikes counted into {', '.join(counted)}, and the mean of "
                "abs(input) into every other layer."
            )
        else:
            notes[0] += " Rates are the mean of abs(input)."
    return notes + (_warnings(energy, columns, dt) if print_warnings else [])


def _warnings(energy: "ModelEnergy", columns: Sequence[str], dt: float | None) -> list[str]:
    """What a reader of these columns must know."""
    notes = [ESTIMATES]
    spiking = [
        column.partition(" ")[2]
        for column in columns
        if column.partition(" ")[0] in ENERGIES
        and devices.DEVICES[column.partition(" ")[2]].spiking
    ]
    to_convert = [
        energy.uses[layer][0].name
        for layer, stats in energy.layer_stats.items()
        if not stats["spiking"]
    ]
    if spiking and to_convert:
        notes.append(
            f"Not spiking: {', '.join(to_convert)}. For {', '.join(dict.fromkeys(spiking))} they "
            "are taken to be converted to spiking neurons of the same rates."
        )
    kinds = {kind for layer in energy.uses for kind in _kinds(energy, layer)}
    dts = {kind.dt for kind in kinds if kind is not None}
    used = default.dt if dt is None else dt
    if spiking and dts - {used}:
        notes.append(
            f"Spikes were counted in steps of {', '.join(f'{each:g}' for each in sorted(dts))} s, "
            f"and the energy is that of steps of {used:g} s with the same rates in hertz. For that "
            "of the steps that were run, give their `dt`."
        )
    unknown = {
        uses[0].name: _kinds(energy, layer) != {None}
        for layer, uses in energy.uses.items()
        if rule_for(layer) is None
    }
    if unknown:
        notes.append(f"Counted as nothing, for want of a rule: {', '.join(unknown)}.")
        hidden = [name for name, gets_spikes in unknown.items() if gets_spikes]
        if hidden and spiking:
            notes[-1] += (
                f" Spikes go into {', '.join(hidden)}; behind, abs(input) is taken for the rate."
            )
    return notes + _fixed_times(energy)


def _fixed_times(energy: "ModelEnergy") -> list[str]:
    """A warning of layers that seem to count every step of a fixed number as part of the sample."""
    over_time = (KerasSpikingLayer, keras.layers.RNN, *OVER_STEPS)
    num_steps = {
        use.input_shape[1]
        for layer, uses in energy.uses.items()
        if isinstance(layer, over_time)
        for use in uses
    } - {None}
    names = [
        use.name
        for layer, uses in energy.uses.items()
        if not isinstance(layer, over_time)
        and energy.layer_stats[layer]["connections"] + energy.layer_stats[layer]["neurons"]
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
