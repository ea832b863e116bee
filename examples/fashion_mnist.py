"""Fashion-MNIST for the examples: finds the images, checks them and says which were used.

``load()`` looks in these places, and takes the first that has the data: the given
directory, Keras's cache, Debian's package ``dataset-fashion-mnist``, Keras's
download, and the subset in ``data/`` beside this file, which is always there.
"""

from __future__ import annotations

import gzip
import os
import socket
import threading
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGE_SHAPE = (28, 28)
FULL_SIZES = (60_000, 10_000)

FILE_NAMES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
DEBIAN_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
SUBSET_DIRECTORY = Path(__file__).resolve().parent / "data"
DOWNLOAD_ADDRESS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/train-labels-idx1-ubyte.gz"
)
DOWNLOAD_TIMEOUT = 4.0  # seconds without an answer before there is no network


class DataError(ValueError):
    """A directory that does not hold Fashion-MNIST as it should."""


@dataclass(frozen=True)
class FashionMnist:
    """Images as bytes, ``(count, 28, 28)``, with their labels, ``(count,)``."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str

    def __post_init__(self) -> None:
        for part, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if images.shape[1:] != IMAGE_SHAPE or images.shape[:1] != labels.shape:
                raise DataError(
                    f"the {part} images have shape {images.shape} and their labels "
                    f"{labels.shape}; expected (count, 28, 28) and (count,)."
                )
            if len(labels) == 0 or labels.max() >= len(CLASS_NAMES):
                raise DataError(
                    f"the {part} labels must be one or more numbers from 0 to 9; "
                    f"received {len(labels)} labels: {np.unique(labels)[:20]}."
                )

    @property
    def is_full(self) -> bool:
        """Whether these are all the images there are."""
        return (len(self.train_images), len(self.test_images)) == FULL_SIZES

    def describe(self) -> str:
        """How many images there are, and where they come from."""
        train, test = len(self.train_images), len(self.test_images)
        return f"{train:,} training and {test:,} test images, from {self.source}"

    def first(self, num_train: int, num_test: int) -> FashionMnist:
        """The first images of each part only."""
        return replace(
            self,
            train_images=self.train_images[:num_train],
            train_labels=self.train_labels[:num_train],
            test_images=self.test_images[:num_test],
            test_labels=self.test_labels[:num_test],
            source=f"{self.source} (only the first of them)",
        )


def load(directory: Path | None = None) -> FashionMnist:
    """Finds the data; see the head of this file for where.

    Args:
        directory: where the four ``.gz`` files are. ``None`` looks for them.

    Raises:
        DataError: `directory` lacks a file, or one of its files is damaged.
    """
    if directory is not None:
        return read_directory(directory, str(directory))
    for place, source in (
        (keras_cache(), "Keras's cache"),
        (DEBIAN_DIRECTORY, "Debian's dataset-fashion-mnist"),
    ):
        if not missing_files(place):
            try:
                return read_directory(place, f"{source}, {place}")
            except DataError as error:
                print(f"Ignored {source}: {error}")
    downloaded = download()
    if downloaded is not None:
        return downloaded
    return read_directory(SUBSET_DIRECTORY, "the subset shipped with the examples")


def keras_cache() -> Path:
    """Where Keras keeps the files that it downloads."""
    home = os.environ.get("KERAS_HOME", os.path.join("~", ".keras"))
    return Path(home).expanduser() / "datasets" / "fashion-mnist"


def missing_files(directory: Path) -> list[str]:
    """Names of the files that a directory lacks."""
    names = [name for pair in FILE_NAMES.values() for name in pair]
    return [name for name in names if not (directory / name).is_file()]


def read_directory(directory: Path, source: str) -> FashionMnist:
    """Reads the four files of a directory."""
    missing = missing_files(directory)
    if missing:
        raise DataError(
            f"{directory} has no {', '.join(missing)}; expected the four .gz files "
            f"of Fashion-MNIST. Name the directory that holds them."
        )
    train_images, train_labels = (read_idx(directory / name) for name in FILE_NAMES["train"])
    test_images, test_labels = (read_idx(directory / name) for name in FILE_NAMES["test"])
    try:
        return FashionMnist(train_images, train_labels, test_images, test_labels, source)
    except DataError as error:
        raise DataError(f"{directory}: {error}") from error


def read_idx(path: Path) -> np.ndarray:
    """Reads an array of bytes from a compressed file in the idx format.

    The format: two zero bytes, the type (8 is unsigned bytes), the number of axes,
    the length of each axis as a big-endian 32-bit integer, then the numbers.
    """
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Fetch it again.") from error
    num_axes = content[3] if content[:3] == b"\x00\x00\x08" and len(content) > 3 else 0
    header = 4 + 4 * num_axes
    shape = np.frombuffer(content[4:header], ">u4").tolist()
    if num_axes == 0 or len(content) != header + int(np.prod(shape)):
        raise DataError(
            f"{path} is damaged: {len(content)} bytes, with the header "
            f"{content[:4].hex() or 'missing'}, are no array of bytes in the idx "
            f"format. Fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Writes an array of bytes; the same array always gives the same file."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as zipped,
    ):
        zipped.write(header + array.astype(np.uint8).tobytes())


def download() -> FashionMnist | None:
    """Lets Keras download the data; returns ``None`` if that fails."""
    if find_spec("keras") is None:
        print("Fashion-MNIST is not on this machine, nor is Keras, which would download it.")
        return None
    if not server_answers():
        print("Fashion-MNIST is not on this machine and cannot be downloaded.")
        return None
    import keras

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        (train_images, train_labels), (test_images, test_labels) = (
            keras.datasets.fashion_mnist.load_data()
        )
        return FashionMnist(
            train_images, train_labels, test_images, test_labels, "the download of keras.datasets"
        )
    except Exception as error:  # noqa: BLE001  (Keras raises no narrower class)
        print(f"Keras's download of Fashion-MNIST failed: {error}")
        return None
    finally:
        socket.setdefaulttimeout(timeout)


def server_answers() -> bool:
    """Whether the server of the download can be reached, within a few seconds.

    A thread asks, because looking up a name has no time limit of its own.
    """
    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(DOWNLOAD_ADDRESS, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT):  # noqa: S310  (https)
                answers.append(True)
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(DOWNLOAD_TIMEOUT)
    return answers == [True]
