"""Estimates what models cost in joules, with keras_spiking.ModelEnergy, from one command.

The first part is about a small convolutional network. It shows the operations of each layer and the
energy on several devices. It also shows how this changes with larger inputs, with more time steps,
and with longer ones. The second part compares networks trained on Fashion-MNIST with and without
spikes. Everything is printed, and drawn in two figures.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import command_line
import fashion_mnist
import spiking_fashion_mnist

if TYPE_CHECKING:
    import keras
    import numpy as np

    import keras_spiking

DEVICES = ("cpu", "gpu", "45nm_mac", "loihi", "45nm_ac")
EPOCHS = 5
QUICK_EPOCHS = 1
NUM_EXAMPLES = 200  # images to measure rates on
PIXEL_RATE = 100  # hertz of a white pixel, where pixels spike


@dataclass(frozen=True)
class Comparison:
    """A trained model, with its accuracy and its energy."""

    name: str
    accuracy: float
    energy: keras_spiking.ModelEnergy
    devices: tuple[str, ...]
    num_steps: int


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_line.plain_parser(__doc__)
    command_line.add_backend(parser)
    command_line.add_output(parser, "demo-output", "the figures")
    parser.add_argument(
        "--quick", action="store_true", help="train on few images, for a look in half a minute"
    )
    return parser


def convolutional_model() -> keras.Model:
    """A small network with one convolution, not trained."""
    import keras

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(2, 7, name="conv"),
            keras.layers.ReLU(name="relu"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(128, name="dense"),
            keras.layers.ReLU(name="relu_dense"),
            keras.layers.Dense(10, name="out"),
        ]
    )


def show_convolutional_model(images: np.ndarray, output: Path) -> None:
    """Prints the operations and the energy of the network, and what they depend on."""
    import keras_spiking

    model = convolutional_model()
    energy = keras_spiking.ModelEnergy(model, images[..., None])
    print("\nA network with one convolution, on images from 0 to 1\n")
    energy.summary(("name", "output_shape", "params", "connections", "neurons", "rate"))
    print("\nThe whole of it, in joules per inference\n")
    for device in DEVICES:
        print(f"  {device:10} {energy.total_energy(device):.2e}")

    print("\nOn loihi: synapses, neurons\n")
    settings = [
        ("one step of 1 ms", 1, 1, 0.001),
        ("inputs 10 times as large", 10, 1, 0.001),
        ("inputs 100 times as large", 100, 1, 0.001),
        ("10 steps", 1, 10, 0.001),
        ("100 steps", 1, 100, 0.001),
        ("one step of 10 ms", 1, 1, 0.01),
    ]
    for name, scale, num_steps, dt in settings:
        scaled = keras_spiking.ModelEnergy(model, scale * images[..., None])
        pairs = [scaled.layer_energy(layer, "loihi", num_steps, dt) for layer in scaled.layer_stats]
        synops, neurons = map(sum, zip(*pairs, strict=True))
        print(f"  {name:26} {synops:.2e}  {neurons:.2e}")
    print(
        "\nSynapses cost what passes through them, in proportion to inputs and time;"
        "\nneurons cost the same at every step, whatever passes."
    )
    figure = energy.plot(("cpu", "45nm_mac", "loihi"), timesteps_per_inference=10)
    figure.suptitle("A network with one convolution, 10 steps of 1 ms where it spikes")
    figure.savefig(output / "energy_layers.png", dpi=120)


def compare_trained_models(data: fashion_mnist.FashionMnist, epochs: int) -> list[Comparison]:
    """Trains a network with and without spikes, and estimates both."""
    import keras
    import spiking_models

    import keras_spiking

    verbose = 1 if sys.stdout.isatty() else 2

    def train(name: str, model: keras.Model) -> keras.Model:
        print(f"\ntraining: {name}", flush=True)
        spiking_models.train(model, data, epochs, 0, verbose)
        return model

    def compare(
        name: str, model: keras.Model, inputs: np.ndarray, devices: tuple[str, ...], num_steps: int
    ) -> Comparison:
        logits = model.predict(inputs, batch_size=spiking_models.PREDICT_BATCH_SIZE, verbose=0)
        accuracy = spiking_models.accuracy_of(logits, data.test_labels)
        energy = keras_spiking.ModelEnergy(model, inputs[:NUM_EXAMPLES])
        return Comparison(name, accuracy, energy, devices, num_steps)

    keras.utils.set_random_seed(0)
    images = spiking_models.scaled(data.test_images)
    ordinary = train("without spikes", spiking_models.non_spiking_model())
    results = [compare("without spikes", ordinary, images, ("cpu", "gpu", "45nm_mac"), 1)]

    trained = train("with spikes", spiking_models.spiking_model())
    dense, spikes, pool, out = trained.layers[2:]
    num_steps, pixels = spiking_models.NUM_STEPS, images.reshape(len(images), 1, -1)
    over_time = pixels.repeat(num_steps, axis=1)
    # The same layers, on inputs with a time axis of any length.
    start = keras.Input((None, pixels.shape[-1]))
    name = f"spikes, pixels up to 1 Hz (as trained), {num_steps} steps"
    model = keras.Sequential([start, dense, spikes, pool, out])
    results.append(compare(name, model, over_time, ("loihi", "45nm_ac"), num_steps))

    # The same network, but pixels are spikes: they are scaled up, and the weights scaled down.
    encode = keras_spiking.SpikingActivation("relu", dt=spiking_models.DT, seed=0, name="pixels")
    scaled_dense = keras.layers.Dense(dense.units, name="dense")
    model = keras.Sequential([start, encode, scaled_dense, spikes, pool, out])
    kernel, bias = dense.get_weights()
    scaled_dense.set_weights([kernel / PIXEL_RATE, bias])
    name = f"spikes, pixels up to {PIXEL_RATE} Hz, {num_steps} steps"
    inputs = PIXEL_RATE * over_time
    results.append(compare(name, model, inputs, ("loihi", "45nm_ac"), num_steps))
    return results


def show_comparison(results: list[Comparison], output: Path) -> None:
    """Prints and draws the energy of trained models."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    import spiking_models

    mpl.use("Agg")
    colours = ("#0072B2", "#E69F00", "#009E73")  # Okabe and Ito's: colour-blind readers see them
    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    print("\nTrained on Fashion-MNIST, in joules per image\n")
    labels: list[str] = []
    for result, colour in zip(results, colours, strict=True):
        print(f"{result.name}: test accuracy {result.accuracy:.3f}")
        totals = [
            result.energy.total_energy(device, result.num_steps, spiking_models.DT)
            for device in result.devices
        ]
        for device, joules in zip(result.devices, totals, strict=True):
            print(f"  {device:10} {joules:.2e}")
        positions = range(len(labels), len(labels) + len(totals))
        label = f"{result.name}: accuracy {result.accuracy:.2f}"
        axis.barh(positions, totals, color=colour, label=label)
        labels += result.devices
    print("\nOf the last of them:\n")
    results[-1].energy.summary(
        ("name", "connections", "neurons", "rate", "synop_energy loihi", "neuron_energy loihi"),
        results[-1].num_steps,
        spiking_models.DT,
    )
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="energy per image (J)")
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.set_title("What an image of Fashion-MNIST costs, estimated")
    figure.legend(loc="outside lower center", ncols=1)
    figure.savefig(output / "energy_comparison.png", dpi=120)
    plt.close("all")


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    start = time.perf_counter()
    parser = make_parser()
    arguments = parser.parse_args(argv)
    command_line.check_packages(parser, spiking_fashion_mnist.PACKAGES)
    spiking_fashion_mnist.choose_backend(parser, arguments.backend)
    command_line.make_directory(parser, arguments.output)
    data = command_line.load_data(parser, arguments.data)
    if arguments.quick:
        data = data.first(*command_line.QUICK_SIZES)
    print(f"data: {data.describe()}", flush=True)

    import keras  # only now, when the backend is chosen
    import spiking_models

    keras.utils.set_random_seed(0)
    images = spiking_models.scaled(data.test_images[:NUM_EXAMPLES])
    show_convolutional_model(images, arguments.output)
    epochs = QUICK_EPOCHS if arguments.quick else EPOCHS
    show_comparison(compare_trained_models(data, epochs), arguments.output)
    print(
        f"\nThe figures are in {arguments.output.resolve()} ({time.perf_counter() - start:.0f} s)."
    )


if __name__ == "__main__":
    main()
