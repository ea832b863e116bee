"""Trains spiking networks on Fashion-MNIST, from one command.

It swaps the activation of a small network for its spiking form, and shows how accuracy and
firing rates depend on the length of a time step. Then it makes the network better, with
training that sees the spikes, a range for the firing rates, and filters that smooth the
spikes. It prints one table, with the published figures of KerasSpiking beside its own, and
writes the table and four figures.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import command_line
import fashion_mnist
import results_table

PACKAGES = {"keras_spiking": "keras-spiking", "matplotlib": "keras-spiking[viz]"}
EXAMPLE_IMAGES = 3


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_line.make_parser(__doc__)
    command_line.add_backend(parser)
    return parser


def choose_backend(parser: argparse.ArgumentParser, backend: str | None) -> str:
    """Sets the backend. Call it before Keras is imported."""
    chosen = backend or os.environ.get("KERAS_BACKEND") or command_line.BACKENDS[0]
    if chosen not in command_line.BACKENDS:
        parser.error(f"KERAS_BACKEND is {chosen!r}; expected one of {command_line.BACKENDS}")
    if find_spec(chosen) is None:
        parser.error(
            f"the backend {chosen!r} is not installed: "
            f"pip install keras-spiking[{chosen}], or choose another with --backend"
        )
    os.environ["KERAS_BACKEND"] = chosen
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow warns of every new model that is tested, and this tests many on purpose.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return chosen


def run(
    data: fashion_mnist.FashionMnist, epochs: int, seed: int, output: Path
) -> list[results_table.Result]:
    """Trains and tests every model, draws the figures, and returns the results."""
    import figures  # only now, because these import Keras and matplotlib
    import keras
    import spiking_models

    verbose = 1 if sys.stdout.isatty() else 2  # a bar, or a line for each epoch
    num_models = 1 + len(spiking_models.EXPERIMENTS)

    def train(
        number: int, name: str, build: Callable[[], keras.Model]
    ) -> tuple[keras.Model, float]:
        print(f"\n[{number}/{num_models}] training: {name}", flush=True)
        keras.utils.set_random_seed(seed)
        model = build()
        return model, spiking_models.train(model, data, epochs, seed, verbose)

    model, step_ms = train(1, spiking_models.NON_SPIKING, spiking_models.non_spiking_model)
    results = [spiking_models.measure_non_spiking(model, data, step_ms)]

    example_images = data.test_images[:EXAMPLE_IMAGES]
    recordings = {}
    for number, experiment in enumerate(spiking_models.EXPERIMENTS, start=2):
        name, build = experiment.name, experiment.build
        trained, step_ms = train(number, name, build)
        for dt in experiment.dts:
            model = spiking_models.with_weights_of(trained, build(dt=dt))
            results.append(spiking_models.measure(name, model, dt, data, step_ms))
        recordings[name] = spiking_models.over_time(trained, build, example_images)

    examples = figures.Examples(
        example_images, data.test_labels[:EXAMPLE_IMAGES], spiking_models.DT
    )
    figures.draw_images(data.train_images, data.train_labels, output / "images.png")
    figures.draw_spikes(examples, recordings, output / "spikes.png")
    figures.draw_probabilities(examples, recordings, output / "probabilities.png")
    figures.draw_dt(results, output / "dt.png")
    return results


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    start = time.perf_counter()
    parser = make_parser()
    arguments = parser.parse_args(argv)
    command_line.check_packages(parser, PACKAGES)
    backend = choose_backend(parser, arguments.backend)
    command_line.make_directory(parser, arguments.output)
    data = command_line.load_data(parser, arguments.data)

    is_full = data.is_full and not arguments.quick
    if arguments.quick:
        data = data.first(*command_line.QUICK_SIZES)
    epochs, reason = command_line.choose_epochs(arguments, is_full)
    description = (
        f"data: {data.describe()}\n"
        f"epochs: {epochs} ({reason})   seed: {arguments.seed}   backend: {backend}"
    )
    print(description, flush=True)

    results = run(data, epochs, arguments.seed, arguments.output)
    comparable = is_full and epochs == command_line.FULL_EPOCHS
    lines = results_table.format_table(results, description, comparable)
    table = "\n".join(lines)
    (arguments.output / "results.txt").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\n")
    print(
        f"The table and the figures are in {arguments.output.resolve()} "
        f"({time.perf_counter() - start:.0f} s)."
    )


if __name__ == "__main__":
    main()
