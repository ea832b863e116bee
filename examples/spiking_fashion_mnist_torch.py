"""Trains spiking PyTorch networks on Fashion-MNIST, from one command.

It swaps the activation of a small network for its spiking form, and shows how accuracy and
firing rates depend on the length of a time step. Then it makes the network better, with
training that sees the spikes, a target for the firing rates, and a filter that smooths the
spikes. It prints one table, with the published figures of PyTorchSpiking beside its own, and
writes the table and four figures. It needs neither Keras nor torchvision.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import command_line
import fashion_mnist
import results_table

PACKAGES = {
    "keras_spiking": "keras-spiking",
    "torch": "keras-spiking[torch]",
    "matplotlib": "keras-spiking[viz]",
    "tqdm": "keras-spiking[viz]",
}
EXAMPLE_IMAGES = 3


def run(
    data: fashion_mnist.FashionMnist, epochs: int, seed: int, output: Path
) -> list[results_table.Result]:
    """Trains and tests every model, draws the figures, and returns the results."""
    import figures  # only now, because these import PyTorch and matplotlib
    import spiking_models_torch as models

    results = []
    example_images = data.test_images[:EXAMPLE_IMAGES]
    recordings = {}
    experiments = (models.NON_SPIKING, *models.EXPERIMENTS)
    for number, experiment in enumerate(experiments, start=1):
        name, build = experiment.name, experiment.build
        print(f"\n[{number}/{len(experiments)}] training: {name}", flush=True)
        trained, step_ms = models.train(experiment, data, epochs, seed)
        if experiment is models.NON_SPIKING:
            results.append(models.measure(name, trained, None, data, step_ms))
            continue
        for dt in experiment.dts:
            model = models.with_weights_of(trained, build(dt=dt))
            results.append(models.measure(name, model, dt, data, step_ms))
        recordings[name] = models.over_time(trained, build, example_images)

    examples = figures.Examples(example_images, data.test_labels[:EXAMPLE_IMAGES], models.DT)
    figures.draw_images(data.train_images, data.train_labels, output / "images.png")
    figures.draw_spikes(examples, recordings, output / "spikes.png")
    figures.draw_probabilities(examples, recordings, output / "probabilities.png")
    figures.draw_dt(results, output / "dt.png", results_table.PYTORCH_SPIKING)
    return results


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    start = time.perf_counter()
    parser = command_line.make_parser(__doc__)
    arguments = parser.parse_args(argv)
    command_line.check_packages(parser, PACKAGES)
    command_line.make_directory(parser, arguments.output)
    # If Keras is installed, it downloads the data. It needs no other backend for that.
    os.environ.setdefault("KERAS_BACKEND", "torch")
    data = command_line.load_data(parser, arguments.data)

    is_full = data.is_full and not arguments.quick
    if arguments.quick:
        data = data.first(*command_line.QUICK_SIZES)
    epochs, reason = command_line.choose_epochs(arguments, is_full)
    description = (
        f"data: {data.describe()}\nepochs: {epochs} ({reason})   seed: {arguments.seed}   PyTorch"
    )
    print(description, flush=True)

    results = run(data, epochs, arguments.seed, arguments.output)
    comparable = is_full and epochs == command_line.FULL_EPOCHS
    lines = results_table.format_table(
        results, description, comparable, results_table.PYTORCH_SPIKING
    )
    table = "\n".join(lines)
    (arguments.output / "results.txt").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\n")
    print(
        f"The table and the figures are in {arguments.output.resolve()} "
        f"({time.perf_counter() - start:.0f} s)."
    )


if __name__ == "__main__":
    main()
