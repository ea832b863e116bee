"""Converts three trained networks, and holds ways to spike beside one another.

It trains them once, on Fashion-MNIST, and keeps them in a folder.

    python -m benchmarks.conversion
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import processor
from benchmarks.converted import evaluate, networks, one_step, page, peer, rounded

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STEPS = (1, 2, 4, 8, 16, 32, 64)
QUICK_STEPS = (1, 2, 4, 8)
NUM_FOR_CALIBRATION = 500
IMAGES, CHECKED_IMAGES = 10_000, 100
QUICK_TRAINING_IMAGES, QUICK_IMAGES, QUICK_CHECKED_IMAGES = 2_000, 100, 20
MODES: dict[str, dict[str, Any]] = {
    page.ACTIVATION: {"integrate": "activation", "seed": 0},
    page.INPUT: {"integrate": "input"},
    page.POSITIVE: {"integrate": "input", "negative_spikes": False},
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.conversion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of Fashion-MNIST, as in the examples")
    parser.add_argument(
        "--images", type=int, help=f"test images to use (default: {IMAGES:,}, or all there are)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("bench-output/networks"),
        help="folder for the trained networks (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("bench-output"),
        help="folder for conversion.md and its figure (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="little data: a minute")
    arguments = parser.parse_args(argv)
    sys.path.append(str(EXAMPLES))
    import fashion_mnist

    data = fashion_mnist.load(arguments.data)
    if arguments.quick:
        data = data.first(QUICK_TRAINING_IMAGES, QUICK_IMAGES)
    results = measure(data, arguments.images or IMAGES, arguments.cache, arguments.quick)
    results = json.loads(json.dumps(results, default=asdict))
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = page.page(results)
    print(text)
    (arguments.output / "conversion.md").write_text(text)
    page.plot(results, arguments.output / page.PLOT)
    print(f"Written to {arguments.output / 'conversion.md'} and {arguments.output / page.PLOT}")


def measure(data: Any, num_images: int, cache: Path, quick: bool) -> dict[str, Any]:
    """Everything there is to report."""
    import keras

    images = networks.pictures(data.test_images[:num_images])
    labels = data.test_labels[:num_images].astype("int64")
    training = networks.pictures(data.train_images), data.train_labels.astype("int32")
    steps = QUICK_STEPS if quick else STEPS
    checked = QUICK_CHECKED_IMAGES if quick else CHECKED_IMAGES
    if not peer.is_installed():
        print("SpikingJelly is not installed in this environment: left out.", flush=True)
    results = {}
    for name in networks.NETWORKS:
        model = networks.trained(name, *training, cache, epochs=1 if quick else None)
        found = _side_by_side(name, model, images, labels, training[0], steps)
        print(f"{name}: the rounded network", flush=True)
        examples = training[0][:NUM_FOR_CALIBRATION]
        found["rounded"] = rounded.differences(model, images[:checked], examples, steps)
        print(f"{name}: training at one step", flush=True)
        seconds = 0.5 if quick else 10.0
        found["one_step"] = one_step.measure(model, *training, max(steps) // 2, seconds)
        results[name] = found
    return {
        "networks": results,
        "images": len(images),
        "training_images": len(training[0]),
        "checked_images": min(checked, len(images)),
        "machine": f"{keras.backend.backend()}, Keras {keras.__version__}, {processor()}",
        "peer": peer.describe() if peer.is_installed() else "",
    }


def _side_by_side(
    name: str,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    training_images: np.ndarray,
    steps: tuple[int, ...],
) -> dict[str, Any]:
    """A network in every way to spike."""
    import keras_spiking

    examples = training_images[:NUM_FOR_CALIBRATION]
    original = model.predict(images, verbose=0)
    rows = []
    for mode, options in MODES.items():
        print(f"{name}: {mode}", flush=True)
        spiking = keras_spiking.convert(
            model, num_steps=max(steps), example_data=examples, **options
        )
        rows += evaluate.rows(mode, evaluate.run(spiking, images, steps), labels, original)
    if peer.is_installed():
        print(f"{name}: {page.PEER}", flush=True)
        found = peer.run(model, examples, images, steps)
        rows += evaluate.rows(page.PEER, found, labels, original)
    accuracy = float(np.mean(original.argmax(1) == labels))
    return {"accuracy": accuracy, "rows": rows}


if __name__ == "__main__":
    main()
