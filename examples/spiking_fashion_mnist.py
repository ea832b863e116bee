"""Trains spiking networks on Fashion-MNIST, from one command.

It swaps the activation of a small network for its spiking form, looks at what the length
of a time step does to accuracy and firing rates, and then makes the network better:
training that sees the spikes, a range for the firing rates, and filters that smooth the
spikes. It prints one table, beside the published figures of KerasSpiking, and writes the
table and four figures.
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

import fashion_mnist
import results_table

BACKENDS = ("tensorflow", "jax", "torch")
FULL_EPOCHS = 10
BRIEF_EPOCHS = 4
SMALL_EPOCHS = 20
QUICK_EPOCHS = 3
QUICK_SIZES = (2_000, 500)
EXAMPLE_IMAGES = 3


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """An argument type: a whole number in a range, both ends included."""

    def convert(text: str) -> int:
        if not (text.isdecimal() and minimum <= int(text) <= maximum):
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {minimum} to {maximum}, received {text!r}"
            )
        return int(text)

    return convert


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="directory with the four .gz files of Fashion-MNIST (default: Keras's "
        "cache, Debian's package, a download, or else the shipped subset)",
    )
    parser.add_argument(
        "--epochs",
        type=whole_number(1, 10_000),
        metavar="N",
        help=f"how often each model sees the training images (default: {FULL_EPOCHS} "
        f"with the full data, else {SMALL_EPOCHS}; {QUICK_EPOCHS} with --quick)",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="of Keras (default: KERAS_BACKEND if set, else tensorflow)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("demo-output"),
        help="where to write the table and the figures (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a look at everything in under a minute, with "
        f"{QUICK_SIZES[0]:,} training and {QUICK_SIZES[1]:,} test images",
    )
    parser.add_argument(
        "--brief",
        action="store_true",
        help=f"with the full data, {BRIEF_EPOCHS} epochs instead of {FULL_EPOCHS}, which takes "
        "under five minutes on two cores",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help="of the weights, the order of the images and the initial voltages "
        "(default: %(default)s)",
    )
    return parser


def choose_backend(parser: argparse.ArgumentParser, backend: str | None) -> str:
    """Sets the backend, which must be done before Keras is imported."""
    chosen = backend or os.environ.get("KERAS_BACKEND") or BACKENDS[0]
    if chosen not in BACKENDS:
        parser.error(f"KERAS_BACKEND is {chosen!r}; expected one of {BACKENDS}")
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


def check_packages(parser: argparse.ArgumentParser) -> None:
    """Ends with what to install where something is missing."""
    for module, requirement in (
        ("keras_spiking", "keras-spiking"),
        ("matplotlib", "keras-spiking[viz]"),
    ):
        if find_spec(module) is None:
            parser.error(f"{module} is not installed: pip install {requirement}")


def make_directory(parser: argparse.ArgumentParser, output: Path) -> None:
    """Makes the directory of the results, before the training that they come from."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --output: cannot write to {output}: {error.strerror}")


def choose_epochs(arguments: argparse.Namespace, is_full: bool) -> tuple[int, str]:
    """The epochs that were asked for, or as many as suit the data; and why so many."""
    if arguments.epochs is not None:
        return arguments.epochs, "asked for"
    if arguments.quick:
        return QUICK_EPOCHS, "for a quick look"
    if is_full and arguments.brief:
        return BRIEF_EPOCHS, "to be brief"
    if is_full:
        return FULL_EPOCHS, "as published"
    return SMALL_EPOCHS, "for so few images, about two minutes on two cores"


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
    spikes, probabilities = {}, {}
    for number, experiment in enumerate(spiking_models.EXPERIMENTS, start=2):
        name, build = experiment.name, experiment.build
        trained, step_ms = train(number, name, build)
        for dt in experiment.dts:
            model = spiking_models.with_weights_of(trained, build(dt=dt))
            results.append(spiking_models.measure(name, model, dt, data, step_ms))
        spikes[name], probabilities[name] = spiking_models.over_time(trained, build, example_images)

    examples = figures.Examples(
        example_images, data.test_labels[:EXAMPLE_IMAGES], spiking_models.DT
    )
    figures.draw_images(data.train_images, data.train_labels, output / "images.png")
    figures.draw_spikes(examples, spikes, output / "spikes.png")
    figures.draw_probabilities(examples, probabilities, output / "probabilities.png")
    figures.draw_dt(results, output / "dt.png")
    return results


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    start = time.perf_counter()
    parser = make_parser()
    arguments = parser.parse_args(argv)
    check_packages(parser)
    backend = choose_backend(parser, arguments.backend)
    make_directory(parser, arguments.output)
    try:
        data = fashion_mnist.load(arguments.data)
    except fashion_mnist.DataError as error:
        parser.error(f"argument --data: {error}" if arguments.data else str(error))

    is_full = data.is_full and not arguments.quick
    if arguments.quick:
        data = data.first(*QUICK_SIZES)
    epochs, reason = choose_epochs(arguments, is_full)
    description = (
        f"data: {data.describe()}\n"
        f"epochs: {epochs} ({reason})   seed: {arguments.seed}   backend: {backend}"
    )
    print(description, flush=True)

    results = run(data, epochs, arguments.seed, arguments.output)
    comparable = is_full and epochs == FULL_EPOCHS
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
