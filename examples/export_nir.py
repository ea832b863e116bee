"""Hands a spiking CNN to another simulator, and shows that it spikes the same there.

It trains a convolutional network on Fashion-MNIST, converts it to spiking neurons, and writes it
as a NIR graph, which simulators and chips read. Then it runs the graph in sinabs, if that is
installed, and as a Keras model that is made of the file. It compares every spike with those of the
original, prints a table, and draws the spikes of both side by side.

sinabs 3.1.3 asks for an older nir than it needs. To install it beside this one:
pip install torch nirtorch matplotlib pbr; pip install --no-deps sinabs==3.1.3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import command_line
import convert_cnn
import fashion_mnist
import numpy as np
import spiking_fashion_mnist

if TYPE_CHECKING:
    import keras

PACKAGES = {**spiking_fashion_mnist.PACKAGES, "nir": "keras-spiking[nir]"}
FULL_EPOCHS, SMALL_EPOCHS = 4, 12
NUM_TESTED, QUICK_NUM_TESTED = 1_000, 100
BATCH_SIZE = 100
DT = 0.01  # seconds
NUM_STEPS = 32

# The spikes of each layer, `(batch, time, ...)` with channels first, and the outputs.
Spikes = dict[str, np.ndarray]
Simulator = Callable[[np.ndarray], tuple[Spikes, np.ndarray]]


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_line.plain_parser(__doc__)
    what = "how often the CNN sees the training images"
    command_line.add_epochs(parser, what, FULL_EPOCHS, SMALL_EPOCHS)
    command_line.add_backend(parser)
    command_line.add_output(parser, "nir-output", "the graph and the figure")
    parser.add_argument(
        "--quick", action="store_true", help="a look at everything in under a minute"
    )
    command_line.add_seed(parser, "the weights and the order of the images")
    return parser


def cnn() -> keras.Model:
    """A network with average pooling: NIR has no maximum."""
    import keras

    return keras.Sequential(
        [
            keras.Input((*fashion_mnist.IMAGE_SHAPE, 1)),
            keras.layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv_16"),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(name="spikes_16"),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu", name="conv_32"),
            keras.layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(64, activation="relu", name="dense"),
            keras.layers.Dense(10, activation="softmax", name="classes"),
        ],
        name="cnn",
    )


def in_keras(model: keras.Model, is_graph: bool) -> Simulator:
    """Runs a converted model, or one that was made of a graph."""
    import keras

    import keras_spiking

    layers = [each for each in model.layers if isinstance(each, keras_spiking.SpikingActivation)]
    readout = model.output if is_graph else model.get_layer("classes_over_time").output
    probe = keras.Model(model.input, [*(layer.output for layer in layers), readout])

    def simulate(images: np.ndarray) -> tuple[Spikes, np.ndarray]:
        inputs = np.repeat(images[:, None], NUM_STEPS, axis=1) if is_graph else images
        *spikes, outputs = probe.predict_on_batch(inputs)
        counts = {
            # In Keras, a spike has a height. NIR counts spikes.
            layer.name: np.moveaxis(np.rint(values * layer.rate_scale * DT), -1, 2)
            for layer, values in zip(layers, spikes, strict=True)
        }
        return counts, outputs.mean(axis=1)

    return simulate


def in_sinabs(graph: Any) -> Simulator:
    """Runs a graph in sinabs."""
    import sinabs.layers
    import sinabs.nir
    import torch

    network = sinabs.nir.from_nir(graph, batch_size=BATCH_SIZE)
    spikes: dict[str, list[torch.Tensor]] = {}
    neurons = {}
    for name, module in network.named_modules():
        if isinstance(module, sinabs.layers.IAFSqueeze):
            module.min_v_mem = None  # else voltages would stop at minus the threshold
            neurons[name] = module
            module.register_forward_hook(
                lambda _, inputs, outputs, name=name: spikes.update({name: outputs})
            )

    def simulate(images: np.ndarray) -> tuple[Spikes, np.ndarray]:
        for module in neurons.values():
            module.reset_states()
        inputs = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
        steps = torch.repeat_interleave(inputs, NUM_STEPS, dim=0)
        with torch.no_grad():
            outputs = network(steps)[0]

        def over_time(values: torch.Tensor) -> np.ndarray:
            return values.numpy().reshape(len(images), NUM_STEPS, *values.shape[1:])

        counts = {name: over_time(values) for name, values in spikes.items()}
        return counts, over_time(outputs).mean(axis=1)

    return simulate


def run(
    data: fashion_mnist.FashionMnist, epochs: int, num_tested: int, seed: int, output: Path
) -> list[str]:
    """Trains, converts, exports and compares; returns the results as lines of text."""
    has_sinabs = find_spec("sinabs") is not None
    if has_sinabs:
        import sinabs.nir  # noqa: F401  (PyTorch crashes if TensorFlow is imported first)
    import keras
    import nir

    import keras_spiking

    def step(number: int, title: str) -> None:
        print(f"\n[{number}/4] {title}", flush=True)

    images = convert_cnn.pictures(data.test_images[:num_tested])
    labels = data.test_labels[: len(images)]
    examples = convert_cnn.pictures(data.train_images[: convert_cnn.NUM_FOR_CALIBRATION])

    step(1, "training the CNN")
    keras.utils.set_random_seed(seed)
    model = cnn()
    convert_cnn.train(model, data, epochs, 1e-3, seed)

    step(2, "converting it to spikes, and writing it as NIR")
    spiking = keras_spiking.convert(
        model,
        num_steps=NUM_STEPS,
        dt=DT,
        example_data=examples,
        integrate="input",
        negative_spikes=False,
        initial_voltage=0.0,
    )
    graph = keras_spiking.nir.to_nir(spiking, target="sinabs" if has_sinabs else "generic")
    nir.write(output / "cnn.nir", graph)
    print(f"{len(graph.nodes)} nodes; left to the reader: {graph.metadata['left_out']}", flush=True)

    step(3, "running it in Keras, and elsewhere")
    simulators = {"Keras, converted": in_keras(spiking, is_graph=False)}
    read = keras_spiking.nir.from_nir(output / "cnn.nir")
    simulators["Keras, read from NIR"] = in_keras(read, is_graph=True)
    if has_sinabs:
        simulators["sinabs"] = in_sinabs(graph)
    else:
        print("sinabs is not installed (see --help): Keras alone reads the file")
    results = compare(simulators, images, labels)

    step(4, "drawing the spikes")
    first = {name: simulate(images[:BATCH_SIZE])[0] for name, simulate in simulators.items()}
    other = list(simulators)[-1]
    draw(first["Keras, converted"], first[other], other, output / "rasters.png")
    plain = float(np.mean(model.predict(images, verbose=0).argmax(-1) == labels))
    return [f"{'':<22} {'accuracy':>8}  {'spikes':>12}  other than in Keras", *results(plain)]


def compare(
    simulators: dict[str, Simulator], images: np.ndarray, labels: np.ndarray
) -> Callable[[float], list[str]]:
    """Runs all images in each simulator; returns a function that makes lines of the results."""
    correct = dict.fromkeys(simulators, 0)
    total = dict.fromkeys(simulators, 0)
    different = dict.fromkeys(simulators, 0)
    for start in range(0, len(images), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        expected: Spikes = {}
        for name, simulate in simulators.items():
            spikes, outputs = simulate(images[part])
            expected = expected or spikes
            correct[name] += int(np.sum(outputs.argmax(-1) == labels[part]))
            total[name] += int(sum(counts.sum() for counts in spikes.values()))
            different[name] += int(
                sum(np.sum(spikes[layer] != counts) for layer, counts in expected.items())
            )
        print(f"{min(start + BATCH_SIZE, len(images)):,} of {len(images):,} images", flush=True)

    def lines(plain: float) -> list[str]:
        rows = [f"{'not spiking':<22} {plain:>8.4f}"]
        for name in simulators:
            accuracy = correct[name] / len(images)
            rows.append(f"{name:<22} {accuracy:>8.4f}  {total[name]:>12,}  {different[name]:,}")
        return rows

    return lines


def draw(expected: Spikes, spikes: Spikes, name: str, path: Path) -> None:
    """Draws the spikes of the first image in both simulators, one panel for each layer."""
    import matplotlib as mpl

    mpl.use("Agg")  # to a file, also where there is no screen
    import matplotlib.pyplot as plt
    from figures import BLUE, DOTS_PER_INCH, ORANGE

    figure, axes = plt.subplots(
        1, len(expected), figsize=(4 * len(expected), 4.5), layout="constrained"
    )
    figure.suptitle(f"Spikes for one image, in Keras and in {name}", fontsize=14)
    for axis, (layer, counts) in zip(axes, expected.items(), strict=True):
        ours, theirs = (each[0].reshape(NUM_STEPS, -1) for each in (counts, spikes[layer]))
        # From the neurons that fire most to those that fire least.
        active = np.argsort(-ours.sum(axis=0), kind="stable")[: np.count_nonzero(ours.any(axis=0))]
        shown = active[np.linspace(0, len(active) - 1, min(40, len(active))).astype(int)]
        for values, style in (
            (ours, {"marker": "o", "s": 34, "facecolors": "none", "edgecolors": BLUE}),
            (theirs, {"marker": ".", "s": 14, "color": ORANGE}),
        ):
            steps, neurons = np.nonzero(values[:, shown])
            axis.scatter(steps + 1, neurons, label="Keras" if values is ours else name, **style)
        title = f"{layer}: {np.sum(ours != theirs):,} of {ours.size:,} differ"
        axis.set(title=title, xlabel="time step")
    axes[0].set_ylabel("neuron (40 of those that fire)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    start = time.perf_counter()
    parser = make_parser()
    arguments = parser.parse_args(argv)
    command_line.check_packages(parser, PACKAGES)
    backend = spiking_fashion_mnist.choose_backend(parser, arguments.backend)
    command_line.make_directory(parser, arguments.output)
    data = command_line.load_data(parser, arguments.data)

    num_tested, epochs = NUM_TESTED, FULL_EPOCHS if data.is_full else SMALL_EPOCHS
    if arguments.quick:
        data = data.first(*convert_cnn.QUICK_SIZES)
        num_tested, epochs = QUICK_NUM_TESTED, command_line.QUICK_EPOCHS
    epochs = arguments.epochs or epochs
    print(
        f"data: {data.describe()}\nepochs: {epochs}   seed: {arguments.seed}   backend: {backend}",
        flush=True,
    )
    lines = run(data, epochs, num_tested, arguments.seed, arguments.output)
    print("\n" + "\n".join(lines) + "\n")
    print(
        f"The graph and the figure are in {arguments.output.resolve()} "
        f"({time.perf_counter() - start:.0f} s)."
    )


if __name__ == "__main__":
    main()
