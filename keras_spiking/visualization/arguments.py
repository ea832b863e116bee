"""Arguments that the plots share; each check returns what it accepted."""

from dataclasses import replace
from typing import Any

import numpy as np

from keras_spiking import _checks
from keras_spiking.recording import LayerRecording, Recording


def checked_recording(owner: str, recording: Any) -> Recording:
    """Accepts a recording."""
    if not isinstance(recording, Recording):
        raise TypeError(
            f"{owner}: `recording` must be a keras_spiking.Recording; received an object of type "
            f"{type(recording).__name__}. Make one with keras_spiking.record(model, data)."
        )
    return recording


def spiking_layers(owner: str, recording: Recording) -> list[str]:
    """Names of the layers whose spikes were recorded."""
    names = [name for name, layer in recording.items() if layer.spikes is not None]
    if not names:
        raise ValueError(
            f"{owner}: the recording has no spikes. It has the layers {list(recording)}. Record "
            'spikes: keras_spiking.record(model, data, quantities=("spikes",)).'
        )
    return names


def one_layer(owner: str, recording: Recording, name: Any) -> LayerRecording:
    """Accepts the name of a spiking layer; None if there is only one."""
    names = spiking_layers(owner, recording)
    if name is None and len(names) == 1:
        return recording[names[0]]
    return recording[_checks.choice(owner, "layer", name, names)]


def of_sample(owner: str, layer: LayerRecording, sample: Any) -> LayerRecording:
    """What a layer did for one sample: the other samples are left out."""
    arrays = {
        name: value
        for name in ("spikes", "inputs", "voltages", "outputs", "mask")
        if (value := getattr(layer, name)) is not None
    }
    first = checked_index(owner, "sample", sample, len(arrays["spikes"]))
    return replace(layer, **{name: value[first : first + 1] for name, value in arrays.items()})


def checked_index(owner: str, name: str, value: Any, size: int) -> int:
    """Accepts an index below a size."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or not 0 <= value < size:
        raise ValueError(
            f"{owner}: `{name}` must be an integer from 0 to {size - 1}; received {name}={value!r}."
        )
    return int(value)


def checked_axes(owner: str, ax: Any, pyplot: Any) -> Any:
    """Accepts axes of matplotlib, and makes a figure with some if `ax` is None."""
    from matplotlib.axes import Axes

    if ax is None:
        return pyplot.figure(layout="constrained").add_subplot()
    if not isinstance(ax, Axes):
        raise TypeError(
            f"{owner}: `ax` must be a matplotlib Axes; received an object of type "
            f"{type(ax).__name__}. Make one with `figure, ax = matplotlib.pyplot.subplots()`. Of "
            "an array of axes, pass one."
        )
    return ax


def shade_masked(ax: Any, layer: LayerRecording) -> None:
    """Shades the steps of the only sample that the mask leaves out."""
    if layer.mask is None:
        return
    ends = np.flatnonzero(np.diff(np.r_[False, ~layer.mask[0], False]))
    spans = [(layer.dt * first, layer.dt * (last - first)) for first, last in ends.reshape(-1, 2)]
    if spans:
        whole_height = ax.get_xaxis_transform()
        ax.broken_barh(
            spans,
            (0, 1),
            transform=whole_height,
            color="0.5",
            alpha=0.25,
            linewidth=0,
            label="masked",
        )
