"""Class probabilities over time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_spiking import _checks
from keras_spiking._figures import COLOURS, blue, import_pyplot
from keras_spiking.recording import Recording
from keras_spiking.visualization.arguments import (
    checked_axes,
    checked_index,
    checked_recording,
)

_NUM_NAMED = 4  # classes with a colour of their own, ...
_LEAST = 0.1  # ... if they reach this probability


def plot_outputs(
    recording: Recording,
    sample: int = 0,
    true_class: int | None = None,
    class_names: Sequence[str] | None = None,
    from_logits: bool = False,
    running_mean: bool = False,
    ax: Any = None,
) -> Any:
    """Draws the probability of each class over time, for one sample.

    The true class is a thick line. The others that are most probable at any time have a colour
    and a name; the rest is grey.

    Args:
        recording: A `keras_spiking.Recording` of a model that answers at every step, with outputs
            of shape `(samples, time, classes)`.
        sample: Index of the sample.
        true_class: Index of the class that is right. Default: none is marked.
        class_names: A name for each class. Default: the index.
        from_logits: Whether the outputs are logits, of which the softmax is taken.
        running_mean: Whether to draw the mean over time so far. A model that
            `keras_spiking.convert` made with `readout="sequence"` needs it, because its answer
            is the mean over time.
        ax: Where to draw: a `matplotlib.axes.Axes`. Default: a new figure.

    Returns:
        The `matplotlib.axes.Axes`, with time in seconds and probability as axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If an argument is of another type.
        ValueError: If the outputs have another shape, or there is no such sample or class.

    Example:

    >>> import numpy as np
    >>> from keras_spiking.recording import LayerRecording, Recording
    >>> hidden = LayerRecording("hidden", 0.01, 1.0, spikes=np.zeros((1, 50, 8)))
    >>> certain = np.linspace(0.5, 1, 50)
    >>> outputs = np.stack([certain, 1 - certain], axis=-1)[None]
    >>> recording = Recording({"hidden": hidden}, outputs)
    >>> ax = keras_spiking.visualization.plot_outputs(recording, class_names=("cat", "dog"))
    >>> ax.get_legend_handles_labels()[1]
    ['cat', 'dog']
    """
    owner = "plot_outputs"
    pyplot = import_pyplot(owner)
    outputs = _checked_outputs(owner, checked_recording(owner, recording))
    _checks.boolean(owner, "from_logits", from_logits)
    _checks.boolean(owner, "running_mean", running_mean)
    values = outputs[checked_index(owner, "sample", sample, len(outputs))].astype(np.float64)
    num_steps, num_classes = values.shape
    if true_class is not None:
        true_class = checked_index(owner, "true_class", true_class, num_classes)
    names = _checked_names(owner, class_names, num_classes)
    ax = checked_axes(owner, ax, pyplot)
    if running_mean:
        values = values.cumsum(0) / np.arange(1, num_steps + 1)[:, None]
    times = next(iter(recording.values())).dt * np.arange(1, num_steps + 1)
    _draw(ax, times, _softmax(values) if from_logits else values, names, true_class)
    # Above 1 is room for the legend.
    ax.set(xlim=(0, times[-1]), ylim=(-0.03, 1.5), yticks=(0, 0.25, 0.5, 0.75, 1))
    ax.set(xlabel="time (s)", ylabel="probability")
    ax.legend(loc="upper left", ncols=2)
    return ax


def _checked_outputs(owner: str, recording: Recording) -> np.ndarray:
    outputs = recording.outputs
    if not isinstance(outputs, np.ndarray):
        raise TypeError(
            f"{owner}: the model must have one output; the recording has outputs of type "
            f"{type(outputs).__name__}. Choose one of them: "
            "keras_spiking.Recording(recording, recording.outputs[...])."
        )
    if outputs.ndim != 3:
        raise ValueError(
            f"{owner}: the outputs must have the shape (samples, time, classes); received "
            f"{outputs.shape}. Record a model that answers at every step: with return_sequences="
            "True in its last filter, without a mean over time, or converted with readout="
            '"sequence".'
        )
    return outputs


def _checked_names(owner: str, names: Any, num_classes: int) -> list[str]:
    if names is None:
        return [f"class {index}" for index in range(num_classes)]
    if len(names) != num_classes:
        raise ValueError(
            f"{owner}: `class_names` must have a name for each of the {num_classes} classes; "
            f"received {len(names)}."
        )
    return [str(name) for name in names]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _draw(
    ax: Any,
    times: np.ndarray,
    probabilities: np.ndarray,
    names: list[str],
    true_class: int | None,
) -> None:
    """A line for each class; those with a name are above the others."""
    by_height = np.argsort(-probabilities.max(0), kind="stable").tolist()
    if true_class is not None:
        by_height.remove(true_class)
        by_height.insert(0, true_class)
    colours = (blue(), *COLOURS[1:])
    for place, index in enumerate(by_height):
        style: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "zorder": 2}
        if place < _NUM_NAMED and probabilities[:, index].max() >= _LEAST:
            style = {"color": colours[place], "linewidth": 1.5, "label": names[index], "zorder": 3}
        if index == true_class:
            style |= {"color": blue(), "linewidth": 3, "label": f"{names[index]} (true)"}
        ax.plot(times, probabilities[:, index], **style)
