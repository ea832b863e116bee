"""The command line that the Fashion-MNIST examples share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import fashion_mnist

BACKENDS = ("tensorflow", "jax", "torch")
FULL_EPOCHS = 10
BRIEF_EPOCHS = 4
SMALL_EPOCHS = 20
QUICK_EPOCHS = 3
QUICK_SIZES = (2_000, 500)


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """An argument type: a whole number in a range, both ends included."""

    def convert(text: str) -> int:
        if not (text.isdecimal() and minimum <= int(text) <= maximum):
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {minimum} to {maximum}, received {text!r}"
            )
        return int(text)

    return convert


def plain_parser(description: str | None) -> argparse.ArgumentParser:
    """A command line that has only `--data` so far."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="directory with the four .gz files of Fashion-MNIST (default: Keras's "
        "cache, Debian's package, a download, or else the shipped subset)",
    )
    return parser


def add_epochs(parser: argparse.ArgumentParser, what: str, full: int, small: int) -> None:
    """Adds `--epochs`: what it says, and the defaults with the full data and with less."""
    parser.add_argument(
        "--epochs",
        type=whole_number(1, 10_000),
        metavar="N",
        help=f"{what} (default: {full} with the full data, else {small}; "
        f"{QUICK_EPOCHS} with --quick)",
    )


def add_output(parser: argparse.ArgumentParser, default: str, what: str) -> None:
    """Adds `--output`, for the directory of what is written."""
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path(default),
        help=f"where to write {what} (default: %(default)s)",
    )


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds `--seed`, for what is drawn."""
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help=f"of {what} (default: %(default)s)",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Adds `--backend`."""
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="of Keras (default: KERAS_BACKEND if set, else tensorflow)",
    )


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of the examples that train many models."""
    parser = plain_parser(description)
    add_epochs(parser, "how often each model sees the training images", FULL_EPOCHS, SMALL_EPOCHS)
    add_output(parser, "demo-output", "the table and the figures")
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
    add_seed(parser, "the weights, the order of the images and the initial voltages")
    return parser


def check_packages(parser: argparse.ArgumentParser, requirements: Mapping[str, str]) -> None:
    """Ends with what to install where a module is missing."""
    for module, requirement in requirements.items():
        if find_spec(module) is None:
            parser.error(f"{module} is not installed: pip install {requirement}")


def make_directory(parser: argparse.ArgumentParser, output: Path) -> None:
    """Makes the directory for the results. Call it before training, so that errors come early."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --output: cannot write to {output}: {error.strerror}")


def load_data(
    parser: argparse.ArgumentParser, directory: Path | None
) -> fashion_mnist.FashionMnist:
    """Loads Fashion-MNIST, or ends with what is wrong."""
    try:
        return fashion_mnist.load(directory)
    except fashion_mnist.DataError as error:
        parser.error(f"argument --data: {error}" if directory else str(error))


def choose_epochs(arguments: argparse.Namespace, is_full: bool) -> tuple[int, str]:
    """The number of epochs, given or suited to the data, and the reason for it."""
    if arguments.epochs is not None:
        return arguments.epochs, "asked for"
    if arguments.quick:
        return QUICK_EPOCHS, "for a quick look"
    if is_full and arguments.brief:
        return BRIEF_EPOCHS, "to be brief"
    if is_full:
        return FULL_EPOCHS, "as published"
    return SMALL_EPOCHS, "for so few images, about two minutes on two cores"
