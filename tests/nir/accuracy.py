"""Runs one trained network in every simulator: the table in docs/guide/nir.md.

The first command trains and exports, where there is Keras. The second runs the simulators of the
environment in which it is called. Norse has one of its own: `pip install norse==1.1.0 nir==1.0.8`.

    python -m tests.nir.accuracy export FOLDER [DATA]
    python -m tests.nir.accuracy run FOLDER
"""

import importlib.metadata
import sys
from pathlib import Path

import nir
import numpy as np

from tests.nir.simulators import INSTALLED, run

TRAINING_IMAGES, IMAGES = 20_000, 1_000
BATCH = 50  # and as many are compared spike by spike
STEPS, DT = 32, 0.001
LAYERS = ("first", "second", "third_spikes")  # those that spike
# What each is run with: the time steps, and how many of them make one spike at the highest rate.
RUNS = {
    "sinabs": [(STEPS, 1)],
    "snntorch": [(STEPS, 1)],
    "spikingjelly": [(STEPS, 1)],
    "spyx": [(STEPS, 1)],
    "norse": [(STEPS, 1), (8 * STEPS, 8)],
}


def export(folder, data):
    from keras_spiking.nir import to_nir

    folder.mkdir(parents=True, exist_ok=True)
    train, test = load_images(data)
    network = trained(folder / "cnn.keras", *train)
    images, labels = (array[:IMAGES] for array in test)
    results = {"images": np.moveaxis(images, -1, 1), "labels": labels}
    results["plain"] = network.predict(images, verbose=0).argmax(-1)
    for steps, slow in sorted({each for runs in RUNS.values() for each in runs}):
        spiking = convert(network, train[0][:500], steps, slow)
        results[f"keras-{slow}"] = spiking.predict(images, verbose=0).argmax(-1)
        for layer, spikes in spikes_of(spiking, images[:BATCH]).items():
            results[f"{layer}-{slow}"] = spikes
        for simulator, runs in RUNS.items():
            if (steps, slow) in runs:
                graph = to_nir(spiking, target=simulator)
                nir.write(folder / f"cnn-{slow}-{simulator}.nir", graph)
    np.savez_compressed(folder / "cnn.npz", **results)


def load_images(data):
    sys.path.append(str(Path(__file__).parents[2] / "examples"))
    import fashion_mnist

    images = fashion_mnist.load(data)
    return tuple(
        ((pictures.astype("float32") / 255)[..., None], labels)
        for pictures, labels in (
            (images.train_images[:TRAINING_IMAGES], images.train_labels[:TRAINING_IMAGES]),
            (images.test_images, images.test_labels),
        )
    )


def trained(path, images, labels):
    import keras
    from keras import layers

    if path.exists():
        return keras.saving.load_model(path)
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(12, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(name="first"),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.Conv2D(24, 1, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(name="second"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(48, activation="relu", name="third"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(images, labels, batch_size=128, epochs=5, verbose=2)
    network.save(path)
    return network


def convert(network, examples, steps, slow):
    """Calibrated so that the highest rates are one spike in `slow` steps."""
    import keras_spiking

    return keras_spiking.convert(
        network,
        num_steps=steps,
        dt=DT,
        integrate="input",
        negative_spikes=False,
        example_data=examples,
        target_rate=1 / (DT * slow),
        initial_voltage=0.0,  # as in every simulator
    )


def spikes_of(spiking, images):
    """The number of spikes in each step, `(time, batch, ...)`, channels first."""
    import keras

    import keras_spiking

    layers = [
        layer for layer in spiking.layers if isinstance(layer, keras_spiking.SpikingActivation)
    ]
    outputs = keras.Model(spiking.inputs, [layer.output for layer in layers])
    found = {}
    for layer, values in zip(layers, outputs.predict(images, verbose=0), strict=True):
        spikes = np.rint(values * np.asarray(layer.rate_scale) * DT).astype("uint8")
        found[layer.name] = np.moveaxis(np.swapaxes(spikes, 0, 1), -1, 2)
    return found


def run_all(folder):
    results = np.load(folder / "cnn.npz")
    labels = results["labels"]
    print(f"Without spikes: {percent(results['plain'] == labels)}")
    for simulator in INSTALLED:
        for steps, slow in RUNS[simulator]:
            graph = nir.read(folder / f"cnn-{slow}-{simulator}.nir", type_check=False)
            spikes = {layer: results[f"{layer}-{slow}"] for layer in LAYERS}
            cells = [f"{simulator} {importlib.metadata.version(simulator)}", str(steps)]
            cells.append(percent(results[f"keras-{slow}"] == labels))
            for repaired in (False, True) if simulator != "norse" else (False,):
                answers, same = measured(
                    simulator, graph, results["images"], steps, spikes, repaired
                )
                cells += [percent(answers == labels), same] if same else ["does not run"]
            print("|", " | ".join(cells), "|", flush=True)


def measured(simulator, graph, images, steps, spikes, repaired):
    """The classes, and in each layer the share of Keras's spikes that come in the same step."""
    late = simulator == "spyx"  # by a step in each layer
    extra = len(LAYERS) if late else 0
    readout = {target: source for source, target in graph.edges}["output"]
    answers, same = [], []
    for start in range(0, len(images), BATCH):
        recorded = () if start else LAYERS
        inputs = np.repeat(images[None, start : start + BATCH], steps + extra, axis=0)
        try:
            found = run(simulator, graph, inputs, DT, [readout, *recorded], repaired)
        except TypeError:  # snnTorch, as it imports
            return None, ""
        answers.append(found[readout][extra:].mean(axis=0).argmax(-1))
        for depth, layer in enumerate(recorded, start=1):
            delay = depth if late else 0
            met = np.minimum(found[layer][delay : delay + steps], spikes[layer])
            same.append(percent(met.sum() / spikes[layer].sum()))
    return np.concatenate(answers), ", ".join(same)


def percent(right):
    return f"{100 * np.mean(right):.1f}"


if __name__ == "__main__":
    command, folder, *data = sys.argv[1:]
    if command == "export":
        export(Path(folder), Path(data[0]) if data else None)
    else:
        run_all(Path(folder))
