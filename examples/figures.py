"""The figures of the Fashion-MNIST example, from plain arrays to PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from fashion_mnist import CLASS_NAMES
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results_table import KERAS_SPIKING, Library, Result

from keras_spiking.recording import Recording
from keras_spiking.visualization import plot_outputs, plot_raster

# Okabe and Ito's colours: colour-blind readers can tell them apart.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#E69F00", "#009E73", "#000000"
DOTS_PER_INCH = 120

mpl.use("Agg")  # to files, also where there is no screen


class Examples(NamedTuple):
    """Images that are shown for steps of `dt` seconds."""

    images: np.ndarray
    labels: np.ndarray
    dt: float


def draw_images(images: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """The first 25 images, with the names of their classes."""
    figure, axes = plt.subplots(5, 5, figsize=(8, 9), layout="constrained")
    figure.suptitle("Fashion-MNIST: the first 25 training images", fontsize=14)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, label in zip(axes.flat, images, labels, strict=False):
        _show_image(axis, image, label)
    _save(figure, path)


def draw_spikes(examples: Examples, recordings: Mapping[str, Recording], path: Path) -> None:
    """Spikes of each neuron: a row per image, a column per model."""
    figure, axes = _grid(examples, len(recordings), "Spikes of each neuron")
    for column, (name, recording) in zip(axes[:, 1:].T, recordings.items(), strict=True):
        for sample, axis in enumerate(column):
            plot_raster(recording, "spikes", sample, axis)
            axis.set_title(f"{name}: {recording['spikes'].counts[sample].sum()} spikes")
    _save(figure, path)


def draw_probabilities(examples: Examples, recordings: Mapping[str, Recording], path: Path) -> None:
    """Probability of each class after each step: a row per image, a column per model."""
    figure, axes = _grid(
        examples,
        len(recordings),
        "Class probabilities after each step, from the filtered spikes or, without a filter, their "
        "mean so far",
    )
    for column, (name, recording) in zip(axes[:, 1:].T, recordings.items(), strict=True):
        for sample, (axis, label) in enumerate(zip(column, examples.labels, strict=True)):
            plot_outputs(recording, sample, label, CLASS_NAMES, from_logits=True, ax=axis)
            axis.set(title=name, ylim=(-0.03, 1.7))
            axis.legend(loc="upper left", fontsize=8)
    _save(figure, path)


def draw_dt(results: Sequence[Result], path: Path, library: Library = KERAS_SPIKING) -> None:
    """Accuracy and firing rate of the model that was tested with several `dt`.

    Args:
        results: the results of every model. Those called ``"spiking"`` are drawn. They are
            compared with the first, which does not spike.
        path: the file to write.
        library: the library whose figures to draw beside them.
    """
    spiking = [result for result in results if result.name == "spiking"]
    dts = [result.dt for result in spiking]
    published = [library.published.get(("spiking", dt)) for dt in dts]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    figure.suptitle("The same weights, spiking in steps of another length", fontsize=14)

    left.axhline(results[0].accuracy, color=BLACK, linestyle="dashed", label="without spikes")
    accuracies = [result.accuracy for result in spiking]
    published_accuracies = [reference.accuracy if reference else None for reference in published]
    left.plot(dts, accuracies, "o-", color=BLUE, label="spiking")
    left.plot(dts, published_accuracies, **_published_style(library))
    left.set(title="Accuracy", ylabel="fraction of test images", ylim=(0, 1))

    rates = [result.rates.mean for result in spiking if result.rates]
    published_rates = [reference.rate if reference else None for reference in published]
    right.plot(dts, rates, "o-", color=BLUE, label="spiking")
    right.plot(dts, published_rates, **_published_style(library))
    right.set(title="Mean firing rate", ylabel="spikes per second (Hz)")
    right.set_ylim(0, 1.5 * max(rates + [rate for rate in published_rates if rate]))
    for axis in (left, right):
        axis.set(xscale="log", xlabel="dt (s)")
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right")
    _save(figure, path)


def _published_style(library: Library) -> dict[str, Any]:
    return {
        "marker": "D",
        "markersize": 9,
        "markerfacecolor": "none",
        "linestyle": "none",
        "color": ORANGE,
        "label": f"{library.name}, published (full data)",
    }


def _grid(examples: Examples, num_models: int, title: str) -> tuple[Figure, np.ndarray]:
    """A row for each image, with the image on its left, and a column for each model."""
    num_rows, num_columns = len(examples.images), 1 + num_models
    figure, axes = plt.subplots(
        num_rows,
        num_columns,
        figsize=(2.6 * num_columns, 0.8 + 2.9 * num_rows),
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(f"{title} (dt {examples.dt:g} s)", fontsize=15)
    for axis, image, label in zip(axes[:, 0], examples.images, examples.labels, strict=True):
        _show_image(axis, image, label)
    return figure, axes


def _show_image(axis: Axes, image: np.ndarray, label: int) -> None:
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    axis.set_title(CLASS_NAMES[label], fontsize=11)
    axis.set_axis_off()


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)
