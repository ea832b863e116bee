"""How often units fire: a histogram for each layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_spiking import _checks
from keras_spiking._figures import COLOURS, import_pyplot
from keras_spiking.recording import Recording
from keras_spiking.visualization.arguments import checked_axes, checked_recording, spiking_layers

_LINE_STYLES = ("solid", "dashed", "dotted")
_NUM_BINS = 30


def plot_rates(
    recording: Recording, layers: Sequence[str] | str | None = None, ax: Any = None
) -> Any:
    """Draws a histogram of the units' firing rates, for each layer.

    The rate of a unit is over all samples and steps. Units without any spike are not in the
    histogram: the legend, which is in place of a title, counts them.

    Args:
        recording: A `keras_spiking.Recording` with spikes.
        layers: Names of layers, or one. Default: all that spike.
        ax: Where to draw: a `matplotlib.axes.Axes`. Default: a new figure.

    Returns:
        The `matplotlib.axes.Axes`, with the rate in hertz and the share of a layer's units in
        percent as axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `recording` or `ax` is of another type.
        ValueError: If the recording has no such layer, or no spikes.

    Example:

    >>> import numpy as np
    >>> from keras_spiking.recording import LayerRecording, Recording
    >>> spikes = np.zeros((1, 50, 8), "float32")  # (samples, time, units), in hertz
    >>> spikes[:, ::10, :6] = 100
    >>> hidden = LayerRecording("hidden", dt=0.01, rate_scale=1.0, spikes=spikes)
    >>> ax = keras_spiking.visualization.plot_rates(Recording({"hidden": hidden}))
    >>> ax.get_legend_handles_labels()[1]
    ['hidden: mean 7.5 Hz, 2 of 8 silent']
    """
    owner = "plot_rates"
    pyplot = import_pyplot(owner)
    names = _chosen_layers(owner, checked_recording(owner, recording), layers)
    ax = checked_axes(owner, ax, pyplot)
    rates = {name: recording[name].rates().ravel() for name in names}
    highest = max(values.max() for values in rates.values())
    edges = np.linspace(0, highest or 1, _NUM_BINS + 1)
    for index, name in enumerate(names):
        _draw(ax, index, name, rates[name], edges)
    ax.set(xlabel="firing rate (Hz)", ylabel="units (%)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def _chosen_layers(owner: str, recording: Recording, layers: Any) -> list[str]:
    names = spiking_layers(owner, recording)
    if layers is None:
        return names
    given = [layers] if isinstance(layers, str) else list(layers)
    if not given:
        raise ValueError(
            f"{owner}: `layers` must name one or more layers; received none. Leave it out for all."
        )
    return [_checks.choice(owner, "layers", name, names) for name in given]


def _draw(ax: Any, index: int, name: str, rates: np.ndarray, edges: np.ndarray) -> None:
    """The histogram of one layer."""
    from matplotlib.colors import to_rgba

    colour = COLOURS[index % len(COLOURS)]
    active = rates[rates > 0]
    silent = len(rates) - len(active)
    ax.hist(
        active,
        edges,
        weights=np.full(len(active), 100 / len(rates)),
        histtype="stepfilled",
        facecolor=to_rgba(colour, 0.15),
        edgecolor=colour,
        linewidth=1.5,
        linestyle=_LINE_STYLES[index // len(COLOURS) % len(_LINE_STYLES)],
        label=f"{name}: mean {rates.mean():.3g} Hz, {silent:,} of {len(rates):,} silent",
    )
