"""Makes the subset of Fashion-MNIST beside this file from the four original files.

It keeps the first images of every class, in their original order, and writes them in
the original format. Run again on the same files, it writes the same images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import fashion_mnist  # noqa: E402  (needs the line above)

IMAGES_PER_CLASS = {"train": 600, "test": 100}


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of the first `count` labels of each class, in ascending order."""
    classes = range(len(fashion_mnist.CLASS_NAMES))
    kept = [np.flatnonzero(labels == label)[:count] for label in classes]
    if min(len(positions) for positions in kept) < count:
        raise fashion_mnist.DataError(f"some class has fewer than {count} images.")
    return np.sort(np.concatenate(kept))


def write_subset(original: fashion_mnist.FashionMnist, output: Path) -> None:
    """Writes the four files of the subset."""
    parts = {
        "train": (original.train_images, original.train_labels),
        "test": (original.test_images, original.test_labels),
    }
    output.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in parts.items():
        kept = first_of_each_class(labels, IMAGES_PER_CLASS[part])
        image_file, label_file = fashion_mnist.FILE_NAMES[part]
        fashion_mnist.write_idx(output / image_file, images[kept])
        fashion_mnist.write_idx(output / label_file, labels[kept])
        print(f"{part}: {len(kept)} of {len(labels)} images")


def main() -> None:
    """Makes the subset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="holds the original .gz files")
    parser.add_argument("--output", type=Path, default=HERE, help="default: here")
    arguments = parser.parse_args()
    try:
        write_subset(fashion_mnist.load(arguments.directory), arguments.output)
    except fashion_mnist.DataError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
