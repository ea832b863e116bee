"""Voltages of a few units, with their threshold and spikes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_spiking._figures import COLOURS, blue, import_pyplot
from keras_spiking.recording import LayerRecording, Recording
from keras_spiking.visualization.arguments import (
    checked_axes,
    checked_index,
    checked_recording,
    of_sample,
    one_layer,
    shade_masked,
)

_NUM_UNITS = 3
_THRESHOLD = 1  # in spikes


def plot_voltage(
    recording: Recording,
    layer: str | None = None,
    units: Sequence[int] | int | None = None,
    sample: int = 0,
    ax: Any = None,
) -> Any:
    """Draws the voltage, the threshold and the spikes of a few units, for one sample.

    Each unit has a row of its own. The voltage is that after each step, so the spikes of the step
    are already taken off. The dashed line is the threshold: one spike. Above it are the spikes,
    and negative spikes are orange. Steps that a mask leaves out are grey.

    Args:
        recording: A `keras_spiking.Recording` with spikes and voltages.
        layer: Name of the layer. It may be left out if only one spikes.
        units: Numbers of units, or one, as in the flattened features. Default: the three that
            spike most often.
        sample: Index of the sample.
        ax: Where to draw: a `matplotlib.axes.Axes`. Default: a new figure.

    Returns:
        The `matplotlib.axes.Axes`, with time in seconds and voltage in spikes as axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `recording` or `ax` is of another type.
        ValueError: If the recording has no voltages, or no such layer, unit or sample.

    Example:

    >>> import numpy as np
    >>> from keras_spiking.recording import LayerRecording, Recording
    >>> total = 0.3 * np.arange(1, 51)[None, :, None]  # what a unit at 30 Hz has added up
    >>> spikes = 100 * np.diff(np.floor(total), axis=1, prepend=0)
    >>> hidden = LayerRecording("hidden", 0.01, 1.0, spikes, voltages=total % 1)
    >>> ax = keras_spiking.visualization.plot_voltage(Recording({"hidden": hidden}))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('time (s)', 'voltage (spikes)')
    """
    owner = "plot_voltage"
    pyplot = import_pyplot(owner)
    chosen = of_sample(owner, one_layer(owner, checked_recording(owner, recording), layer), sample)
    if chosen.voltages is None:
        raise ValueError(
            f"{owner}: the recording has no voltages of layer {chosen.name!r}. Record them: "
            'keras_spiking.record(model, data, quantities=("spikes", "voltages")).'
        )
    counts = chosen.counts[0].reshape(len(chosen.times), -1)
    voltages = chosen.voltages[0].reshape(counts.shape)
    numbers = _chosen_units(owner, units, counts)
    ax = checked_axes(owner, ax, pyplot)
    shown = voltages[:, numbers]
    height = max(_THRESHOLD, shown.max()) - min(0, shown.min()) + 0.7
    bases = height * np.arange(len(numbers))
    for row, (number, base) in enumerate(zip(numbers, bases, strict=True)):
        ax.axhline(base + _THRESHOLD, color="0.5", linewidth=1, linestyle="dashed")
        ax.plot(chosen.times, base + shown[:, row], color=blue(), linewidth=1.2)
        _draw_spikes(ax, chosen.times, counts[:, number], base + height - 0.45)
        _name(ax, chosen, number, base)
    ax.set_yticks(np.add.outer(bases, [0, _THRESHOLD]).ravel(), ["0", "1"] * len(bases))
    shade_masked(ax, chosen)
    ax.set(
        xlim=(0, chosen.times[-1] + chosen.dt / 2),
        xlabel="time (s)",
        ylabel="voltage (spikes)",
        title=chosen.name,
    )
    ax.grid(visible=False)
    return ax


def _chosen_units(owner: str, units: Any, counts: np.ndarray) -> list[int]:
    num_units = counts.shape[1]
    if units is None:
        most = np.argsort(-abs(counts).sum(0), kind="stable")[:_NUM_UNITS]
        return sorted(most.tolist())
    given = [units] if isinstance(units, (int, np.integer)) else list(units)
    if not given:
        raise ValueError(
            f"{owner}: `units` must name one or more units; received none. Leave it out for the "
            f"{_NUM_UNITS} that spike most often."
        )
    return [checked_index(owner, "units", unit, num_units) for unit in given]


def _draw_spikes(ax: Any, times: np.ndarray, counts: np.ndarray, height: float) -> None:
    """Lines for the spikes of one unit: wider where a step has more."""
    steps = np.flatnonzero(counts)
    (lines,) = ax.eventplot(times[steps], lineoffsets=height, linelengths=0.3)
    lines.set_linewidth(np.clip(abs(counts[steps]), 1, 4))
    lines.set_color(np.where(counts[steps] > 0, COLOURS[2], COLOURS[1]))


def _name(ax: Any, layer: LayerRecording, number: int, base: float) -> None:
    """Writes beside a row which unit it is."""
    assert layer.spikes is not None
    index = tuple(int(i) for i in np.unravel_index(number, layer.spikes.shape[2:]))
    ax.annotate(
        f"unit {number}" if len(index) == 1 else f"unit {number}\n{index}",
        (1, base + _THRESHOLD / 2),
        xycoords=ax.get_yaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize="small",
    )
