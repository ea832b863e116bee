"""Converts a trained CNN to a spiking one, from one command, and shows what that costs.

It trains a convolutional network on Fashion-MNIST, and converts it twice. First, neurons integrate
their activation, and more steps do not help. Then they integrate their input, and the result
converges to the original. Finally, it trains a converted model a little further, so that few spikes
are enough. It prints a report of each model, and writes the reports and a figure.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import command_line
import fashion_mnist
import numpy as np
import spiking_fashion_mnist

if TYPE_CHECKING:
    import keras

    from keras_spiking.conversion import Report, Result

FULL_EPOCHS, FULL_TUNING_EPOCHS = 6, 2
SMALL_EPOCHS, SMALL_TUNING_EPOCHS = 15, 4
QUICK_TUNING_EPOCHS = 1
QUICK_SIZES = (2_000, 200)
NUM_FOR_CALIBRATION = 500
BATCH_SIZE = 64
COMPARE_BATCH_SIZE = 100

DT = 0.01  # seconds
NUM_STEPS, FEW_STEPS = 32, 4
SPIKE_PENALTY = 1e-5  # loss for each spike of an inference
TUNING_RATE = 5e-4


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_line.plain_parser(__doc__)
    what = "how often the CNN sees the training images"
    command_line.add_epochs(parser, what, FULL_EPOCHS, SMALL_EPOCHS)
    command_line.add_backend(parser)
    command_line.add_output(parser, "convert-output", "the reports and the figure")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a look at everything in about a minute, with "
        f"{QUICK_SIZES[0]:,} training and {QUICK_SIZES[1]:,} test images",
    )
    command_line.add_seed(parser, "the weights and the order of the images")
    return parser


def cnn() -> keras.Model:
    """An ordinary convolutional network."""
    import keras

    return keras.Sequential(
        [
            keras.Input((*fashion_mnist.IMAGE_SHAPE, 1)),
            keras.layers.Conv2D(32, 3, activation="relu", name="conv_32"),
            keras.layers.MaxPooling2D(2),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Conv2D(64, 3, activation="relu", name="conv_64"),
            keras.layers.MaxPooling2D(2),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(128, activation="relu", name="dense"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10, activation="softmax", name="classes"),
        ],
        name="cnn",
    )


def pictures(images: np.ndarray) -> np.ndarray:
    """Images as the network takes them: from 0 to 1, with an axis of channels."""
    return (images.astype("float32") / 255)[..., None]


def train(
    model: keras.Model,
    data: fashion_mnist.FashionMnist,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Trains a model, with another order of the images in each epoch."""
    import keras

    model.compile(
        keras.optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    generator = np.random.default_rng(seed)
    images, labels = pictures(data.train_images), data.train_labels.astype("int32")
    for epoch in range(epochs):
        print(f"Epoch {epoch + 1}/{epochs}", flush=True)
        order = generator.permutation(len(labels))
        verbose = 1 if sys.stdout.isatty() else 2  # a bar, or a line for each epoch
        model.fit(
            images[order], labels[order], batch_size=BATCH_SIZE, shuffle=False, verbose=verbose
        )


def penalize_spikes(model: keras.Model) -> None:
    """Adds the mean number of spikes per inference, times `SPIKE_PENALTY`, to the loss."""
    import keras

    import keras_spiking

    class SpikePenalty(keras.regularizers.Regularizer):
        """Counts spikes. Their heights in the output may differ between channels."""

        def __init__(self, per_unit: object):
            self.per_unit = per_unit

        def __call__(self, outputs: object) -> object:
            per_unit = keras.ops.cast(self.per_unit, outputs.dtype)
            return SPIKE_PENALTY * keras.ops.sum(keras.ops.abs(outputs) * per_unit)

    for layer in model.layers:
        if isinstance(layer, keras_spiking.SpikingActivation):
            # The output is in units of the activation: this makes it a number of spikes.
            layer.activity_regularizer = SpikePenalty(layer.rate_scale * layer.dt)


def run(
    data: fashion_mnist.FashionMnist, epochs: int, tuning_epochs: int, seed: int, output: Path
) -> list[str]:
    """Trains, converts, compares and trains further; returns the results as lines of text."""
    import keras

    import keras_spiking

    images, labels = pictures(data.test_images), data.test_labels.astype("int64")
    examples = pictures(data.train_images[:NUM_FOR_CALIBRATION])
    reports: dict[str, Report] = {}

    def step(number: int, title: str) -> None:
        print(f"\n[{number}/5] {title}", flush=True)

    def report(title: str, spiking: keras.Model, **grid: object) -> Report:
        reports[title] = keras_spiking.compare(
            model, spiking, images, labels, batch_size=COMPARE_BATCH_SIZE, **grid
        )
        print(f"\n{title}\n{reports[title]}", flush=True)
        return reports[title]

    step(1, "training the CNN")
    keras.utils.set_random_seed(seed)
    model = cnn()
    train(model, data, epochs, 1e-3, seed)

    step(2, "converting it to neurons that integrate their activation")
    steps = sorted({FEW_STEPS, 2 * FEW_STEPS, NUM_STEPS // 2, NUM_STEPS})
    common = {"dt": DT, "example_data": examples, "seed": seed}
    noisy = keras_spiking.convert(model, num_steps=NUM_STEPS, integrate="activation", **common)
    old = report("Neurons that integrate their activation", noisy, num_steps=steps)

    step(3, "converting it to neurons that integrate their input")
    spiking = keras_spiking.convert(model, num_steps=NUM_STEPS, **common)
    new = report("Neurons that integrate their input", spiking, num_steps=steps)

    step(4, "doing with few steps")
    sparse = keras_spiking.convert(model, num_steps=FEW_STEPS, **common)
    (before,) = report("Few steps, before training", sparse).results

    step(5, "training the spiking model")
    penalize_spikes(sparse)
    train(sparse, data, tuning_epochs, TUNING_RATE, seed + 1)
    (tuned,) = report("Few steps, after training", sparse).results

    text = "\n\n\n".join(f"{title}\n{each}" for title, each in reports.items())
    (output / "reports.txt").write_text(text + "\n", encoding="utf-8")
    draw(old, new, before, tuned, output / "conversion.png")
    lines = [f"{'model':<40} {'accuracy':>8}  {'spikes':>8}  rate * dt"]
    lines.append(f"{'not spiking':<40} {new.original_accuracy:>8.4f}")
    for name, result in (
        ("integrate activation", old.results[-1]),
        ("integrate input", new.results[-1]),
        ("before training", before),
        ("after training", tuned),
    ):
        title = f"{name}, {result.num_steps} steps"
        rate = result.mean_rate * result.dt
        lines.append(f"{title:<40} {result.accuracy:>8.4f}  {result.spikes:>8,.0f}  {rate:>9.3f}")
    return lines


def draw(old: Report, new: Report, before: Result, tuned: Result, path: Path) -> None:
    """Draws accuracy against spikes, and the error of each layer, for both kinds of neurons."""
    import matplotlib as mpl

    mpl.use("Agg")  # to a file, also where there is no screen
    import matplotlib.pyplot as plt
    from figures import BLACK, BLUE, DOTS_PER_INCH, GREEN, ORANGE
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    figure.suptitle("A CNN for Fashion-MNIST, converted to spikes", fontsize=14)
    left.axhline(new.original_accuracy, color=BLACK, linestyle="dashed", label="not spiking")
    curves = ((new, "integrate input", BLUE, "o"), (old, "integrate activation", ORANGE, "^"))
    for report, label, colour, marker in curves:
        _line(left, report.results, color=colour, marker=marker, label=label)
    left.annotate(
        "",
        (tuned.spikes, tuned.accuracy),
        (before.spikes, before.accuracy),
        arrowprops={"arrowstyle": "->", "color": GREEN},
    )
    left.plot(
        tuned.spikes,
        tuned.accuracy,
        "D",
        color=GREEN,
        label=f"trained further, {tuned.num_steps} steps",
    )
    left.set(
        title="Accuracy (small numbers: steps)",
        xlabel="spikes per inference",
        ylabel="fraction of test images",
        xscale="log",
    )
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    left.xaxis.set_minor_formatter(NullFormatter())
    left.margins(x=0.08, y=0.1)
    left.legend(loc="best", fontsize=9)

    for report, label, colour, marker in curves:
        layers = report.results[-1].layers
        names = [layer.name.removesuffix("_spikes") for layer in layers]
        errors = [layer.error for layer in layers]
        right.plot(names, errors, color=colour, marker=marker, label=label)
    right.set(
        title=f"Mean output of each layer ({NUM_STEPS} steps)",
        xlabel="layer",
        ylabel="relative error against the original",
        yscale="log",
    )
    right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)


def _line(axis: object, results: Sequence[Result], **style: str) -> None:
    spikes = [result.spikes for result in results]
    accuracies = [result.accuracy for result in results]
    axis.plot(spikes, accuracies, **style)
    for result in results:
        axis.annotate(
            str(result.num_steps),
            (result.spikes, result.accuracy),
            textcoords="offset points",
            xytext=(0, -14),
            ha="center",
            fontsize=8,
            color=style["color"],
        )


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    start = time.perf_counter()
    parser = make_parser()
    arguments = parser.parse_args(argv)
    command_line.check_packages(parser, spiking_fashion_mnist.PACKAGES)
    backend = spiking_fashion_mnist.choose_backend(parser, arguments.backend)
    command_line.make_directory(parser, arguments.output)
    data = command_line.load_data(parser, arguments.data)

    if arguments.quick:
        data = data.first(*QUICK_SIZES)
        epochs, tuning_epochs = command_line.QUICK_EPOCHS, QUICK_TUNING_EPOCHS
    elif data.is_full:
        epochs, tuning_epochs = FULL_EPOCHS, FULL_TUNING_EPOCHS
    else:
        epochs, tuning_epochs = SMALL_EPOCHS, SMALL_TUNING_EPOCHS
    epochs = arguments.epochs or epochs
    description = (
        f"data: {data.describe()}\nepochs: {epochs}, and {tuning_epochs} with spikes   "
        f"seed: {arguments.seed}   backend: {backend}"
    )
    print(description, flush=True)

    lines = run(data, epochs, tuning_epochs, arguments.seed, arguments.output)
    print("\n" + "\n".join(lines) + "\n")
    print(
        f"The reports and the figure are in {arguments.output.resolve()} "
        f"({time.perf_counter() - start:.0f} s)."
    )


if __name__ == "__main__":
    main()
