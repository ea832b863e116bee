"""A raster: which unit spikes when."""

from typing import Any

import numpy as np

from keras_spiking import _checks
from keras_spiking._figures import COLOURS, blue, import_pyplot
from keras_spiking.recording import Recording
from keras_spiking.visualization.arguments import (
    checked_axes,
    checked_recording,
    of_sample,
    one_layer,
    shade_masked,
)

_MOST_LINES = 16  # between channels
_SHORTEST = 0.015  # length of a spike, as a share of the height: shorter ones are hard to see


def plot_raster(
    recording: Recording,
    layer: str | None = None,
    sample: int = 0,
    ax: Any = None,
    data_format: str = "channels_last",
) -> Any:
    """Draws which unit spikes when, for one sample.

    A unit has a row, and a spike is a line at the end of its time step. The more spikes a step
    has, the stronger is the colour. Negative spikes are orange. Steps that a mask leaves out are
    grey.

    The units of a channel lie side by side. Where there are more units than pixels, neighbours
    within a channel share a bin, and the title says so: then the colour stands for the sum of
    their spikes.

    Args:
        recording: A `keras_spiking.Recording` with spikes.
        layer: Name of the layer. It may be left out if only one spikes.
        sample: Index of the sample.
        ax: Where to draw: a `matplotlib.axes.Axes`. Default: a new figure.
        data_format: Which axis of the features has the channels: `"channels_last"`, as in Keras,
            or `"channels_first"`, as in PyTorch.

    Returns:
        The `matplotlib.axes.Axes`, with time in seconds and units, or channels, as axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `recording` or `ax` is of another type.
        ValueError: If the recording has no such layer or sample.

    Example:

    >>> import numpy as np
    >>> from keras_spiking.recording import LayerRecording, Recording
    >>> spikes = np.zeros((1, 50, 8), "float32")  # (samples, time, units), in hertz
    >>> spikes[:, ::10] = 100
    >>> hidden = LayerRecording("hidden", dt=0.01, rate_scale=1.0, spikes=spikes)
    >>> ax = keras_spiking.visualization.plot_raster(Recording({"hidden": hidden}))
    >>> ax.get_title(), ax.get_xlabel()
    ('hidden: 8 units, 40 spikes', 'time (s)')
    """
    owner = "plot_raster"
    pyplot = import_pyplot(owner)
    _checks.choice(owner, "data_format", data_format, ("channels_last", "channels_first"))
    chosen = of_sample(owner, one_layer(owner, checked_recording(owner, recording), layer), sample)
    ax = checked_axes(owner, ax, pyplot)
    counts = _by_channel(chosen.counts[0], data_format)
    if counts[0].size <= _pixels(ax)[1]:
        part, where = "step", ""
        greatest = _draw_lines(ax, counts, chosen.times)
    else:
        bins = _binned(counts, _pixels(ax))
        part, where = "bin", f" in {bins.shape[1]:,} bins"
        greatest = _draw_bins(ax, bins, (0, chosen.times[-1], -0.5, counts.shape[1] - 0.5))
    shade_masked(ax, chosen)
    _label(ax, counts)
    units, spikes = _number(counts[0].size, "unit"), _number(abs(counts).sum(), "spike")
    ax.set(
        xlim=(0, chosen.times[-1] + chosen.dt / 2),
        title=f"{chosen.name}: {units}{where}, {spikes}{_remarks(counts, greatest, part)}",
    )
    return ax


def _by_channel(counts: np.ndarray, data_format: str) -> np.ndarray:
    """Counts as `(time, channels, units of a channel)`. A unit without neighbours is a channel."""
    axis = -1 if data_format == "channels_last" else 1
    return np.moveaxis(counts, axis, 1).reshape(len(counts), counts.shape[axis], -1)


def _pixels(ax: Any) -> tuple[int, int]:
    """Width and height of axes in pixels."""
    extent = ax.get_window_extent()
    return int(extent.width), int(extent.height)


def _draw_lines(ax: Any, counts: np.ndarray, times: np.ndarray) -> int:
    """Draws a line for each step with spikes; returns the most spikes in a step."""
    num_steps, num_channels, per_channel = counts.shape
    rows = counts.reshape(num_steps, -1).T
    greatest = abs(rows).max()
    points = 72 / ax.figure.dpi * _pixels(ax)[0] / num_steps
    lines = ax.eventplot(
        [times[row != 0] for row in rows],
        lineoffsets=(np.arange(len(rows)) + 0.5) / per_channel - 0.5,
        linelengths=max(0.8 / per_channel, _SHORTEST * num_channels),
        linewidths=np.clip(0.5 * points, 1, 5),
    )
    for line, row in zip(lines, rows, strict=True):
        line.set_color(_colours(row[row != 0], greatest, faintest=0.5))
    return greatest


def _binned(counts: np.ndarray, pixels: tuple[int, int]) -> np.ndarray:
    """Counts in bins of at least two pixels, `(time, bins)`: parts of channels, or whole ones."""
    width, height = (size // 2 for size in pixels)
    num_channels = counts.shape[1]
    counts = _sum_of_neighbours(counts, 0, width)
    if num_channels <= height:
        bins = _sum_of_neighbours(counts, 2, height // num_channels)
    else:
        bins = _sum_of_neighbours(counts.sum(2), 1, height)
    return bins.reshape(len(bins), -1)


def _sum_of_neighbours(array: np.ndarray, axis: int, most: int) -> np.ndarray:
    """Sums over neighbours along an axis, so that no more than so many are left."""
    size = array.shape[axis]
    starts = np.linspace(0, size, min(size, most), endpoint=False).astype(int)
    return np.add.reduceat(array, starts, axis)


def _draw_bins(ax: Any, bins: np.ndarray, extent: tuple[float, float, float, float]) -> int:
    """Draws bins as an image; returns the most spikes in a bin."""
    greatest = abs(bins).max()
    ax.imshow(
        _colours(bins.T, greatest, faintest=0.2),
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=extent,
    )
    return greatest


def _colours(counts: np.ndarray, greatest: int, faintest: float) -> np.ndarray:
    """Red, green, blue and opacity for each number of spikes: any background shows through."""
    from matplotlib.colors import to_rgba

    colours = np.where(counts[..., None] > 0, to_rgba(blue()), to_rgba(COLOURS[1]))
    opacity = np.interp(abs(counts), (0, max(greatest, 1)), (faintest, 1))
    colours[..., 3] = np.where(counts == 0, 0, opacity)
    return colours


def _label(ax: Any, counts: np.ndarray) -> None:
    """The axis of units: a channel is 1 high, with lines between channels if they are few."""
    from matplotlib.ticker import MaxNLocator

    _, num_channels, per_channel = counts.shape
    ax.set(xlabel="time (s)", ylabel="unit" if per_channel == 1 else "channel")
    ax.set_ylim(-0.5, num_channels - 0.5)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.grid(visible=False, axis="y")
    if per_channel > 1 and num_channels <= _MOST_LINES:
        ax.set_yticks(np.arange(num_channels - 1) + 0.5, minor=True)
        ax.grid(axis="y", which="minor")
        ax.tick_params(axis="y", which="minor", length=0)


def _number(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _remarks(counts: np.ndarray, greatest: int, part: str) -> str:
    """What the colours stand for, as a second line of the title where it is needed."""
    negative = -counts[counts < 0].sum()
    remarks = [f"up to {greatest} in a {part}"] if greatest > 1 else []
    remarks += [f"{negative:,} negative (orange)"] if negative else []
    return "\n" + ", ".join(remarks) if remarks else ""
