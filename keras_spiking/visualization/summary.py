"""One figure for a model: spikes, rates and outputs."""

from typing import Any

import numpy as np

from keras_spiking._figures import import_pyplot
from keras_spiking.recording import Recording
from keras_spiking.visualization.arguments import checked_recording, spiking_layers
from keras_spiking.visualization.outputs import plot_outputs
from keras_spiking.visualization.raster import plot_raster
from keras_spiking.visualization.rates import plot_rates

_HEIGHT = 2.4  # of a panel, in inches


def plot_summary(
    recording: Recording,
    sample: int = 0,
    data_format: str = "channels_last",
    figure: Any = None,
    **options: Any,
) -> Any:
    """Draws a model in one figure: the spikes of each layer, firing rates, and outputs.

    From the top, it has `plot_raster` of each spiking layer, `plot_rates` of all, and
    `plot_outputs` if the model answers at every step.

    Args:
        recording: A `keras_spiking.Recording` with spikes.
        sample: Index of the sample whose spikes and outputs are drawn.
        data_format: As in `plot_raster`.
        figure: Where to draw: an empty `matplotlib.figure.Figure` or `SubFigure`. Default: a new
            figure, as high as it needs.
        **options: Arguments of `plot_outputs`, such as `true_class` and `class_names`.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError, ValueError: As the other plots.

    Example:

    >>> import numpy as np
    >>> from keras_spiking.recording import LayerRecording, Recording
    >>> hidden = LayerRecording("hidden", 0.01, 1.0, spikes=np.zeros((1, 50, 8)))
    >>> figure = keras_spiking.visualization.plot_summary(Recording({"hidden": hidden}))
    >>> len(figure.axes)
    2
    """
    owner = "plot_summary"
    pyplot = import_pyplot(owner)
    names = spiking_layers(owner, checked_recording(owner, recording))
    # With options, outputs that cannot be drawn are an error.
    has_outputs = bool(options) or np.ndim(recording.outputs) == 3
    num_panels = len(names) + 1 + has_outputs
    if figure is None:
        width = pyplot.rcParams["figure.figsize"][0]
        figure = pyplot.figure(figsize=(width, _HEIGHT * num_panels), layout="constrained")
    axes = figure.subplots(num_panels, 1)
    for name, ax in zip(names, axes, strict=False):
        plot_raster(recording, name, sample, ax, data_format)
    plot_rates(recording, ax=axes[len(names)])
    if has_outputs:
        plot_outputs(recording, sample, ax=axes[-1], **options)
    return figure
