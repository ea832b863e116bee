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
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from results_table import KERAS_SPIKING, Library, Result

# Okabe and Ito's colours: colour-blind readers can tell them apart. Line styles help too.
BLUE, ORANGE, GREEN, PURPLE, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#000000",
)
LINES = [
    (colour, style)
    for style in ("solid", "dashed")
    for colour in (BLUE, ORANGE, GREEN, PURPLE, BLACK)
]
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


def draw_spikes(examples: Examples, spikes: Mapping[str, np.ndarray], path: Path) -> None:
    """Spikes of each neuron in each step: a row per image, a column per model.

    Args:
        examples: the images.
        spikes: by model, the number of spikes, ``(image, step, neuron)``.
        path: the file to write.
    """
    greatest = max(1, round(max(counts.max() for counts in spikes.values())))
    norm = BoundaryNorm(np.arange(greatest + 2) - 0.5, 256)
    ticks = np.unique(np.linspace(0, greatest, 6).astype(int))
    figure, axes = _grid(examples, list(spikes), "Spikes of each neuron in each step")
    for column, counts in enumerate(spikes.values(), start=1):
        _, num_steps, num_neurons = counts.shape
        extent = (0, 1000 * num_steps * examples.dt, 0, num_neurons)
        for axis, counts_of_image in zip(axes[:, column], counts, strict=True):
            picture = axis.imshow(
                counts_of_image.T,
                aspect="auto",
                origin="lower",
                interpolation="nearest",
                cmap="viridis",
                norm=norm,
                extent=extent,
            )
            axis.locator_params(axis="x", nbins=3)
        axes[-1, column].set_xlabel("time (ms)")
    for axis in axes[:, 1]:
        axis.set_ylabel("neuron")
    figure.colorbar(picture, ax=axes, label="spikes in a step", ticks=ticks, shrink=0.6, pad=0.01)
    _save(figure, path)


def draw_probabilities(
    examples: Examples, probabilities: Mapping[str, np.ndarray], path: Path
) -> None:
    """Probability of each class after each step: a row per image, a column per model.

    Args:
        examples: the images.
        probabilities: by model, ``(image, step, class)``.
        path: the file to write.
    """
    figure, axes = _grid(
        examples,
        list(probabilities),
        "Class probabilities after each step, from the filtered spikes or, without a filter, their "
        "mean so far",
    )
    for column, sequences in enumerate(probabilities.values(), start=1):
        times = 1000 * examples.dt * np.arange(1, sequences.shape[1] + 1)
        for axis, sequence in zip(axes[:, column], sequences, strict=True):
            lines = zip(LINES, CLASS_NAMES, sequence.T, strict=True)
            for (colour, style), name, values in lines:
                axis.plot(times, values, color=colour, linestyle=style, label=name)
            axis.set_ylim(-0.03, 1.03)
            axis.grid(alpha=0.3)
        axes[-1, column].set_xlabel("time (ms)")
    for axis in axes[:, 1]:
        axis.set_ylabel("probability")
    handles, names = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=11)
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


def _grid(examples: Examples, names: Sequence[str], title: str) -> tuple[Figure, np.ndarray]:
    """A row for each image, with the image on its left, and a column for each name."""
    num_rows, num_columns = len(examples.images), 1 + len(names)
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
    for axis, name in zip(axes[0, 1:], names, strict=True):
        axis.set_title(name, fontsize=12)
    for axis in axes[:-1, 1:].flat:
        axis.tick_params(labelbottom=False)
    for axis in axes[:, 2:].flat:
        axis.tick_params(labelleft=False)
    return figure, axes


def _show_image(axis: Axes, image: np.ndarray, label: int) -> None:
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    axis.set_title(CLASS_NAMES[label], fontsize=11)
    axis.set_axis_off()


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)
