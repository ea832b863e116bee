"""Writes small networks for each simulator, with inputs and the spikes of Keras.

python -m tests.nir.export FOLDER
"""

import sys
import warnings
from pathlib import Path

import keras
import nir
import numpy as np

import keras_spiking
from keras_spiking.nir import to_nir
from tests.nir.networks import DT, NETWORKS, filtered, spiking

TIME, BATCH = 32, 4
TARGETS = ("sinabs", "snntorch", "spikingjelly", "spyx")
# What weights are multiplied by, layer by layer, to have many spikes in a step, or at most one.
SCALES = {
    "mlp": {"many": (2, 2, 1), "single": (1 / 8, 1, 1)},
    "cnn": {"many": (1 / 2, 2, 2, 2, 1), "single": (1 / 16, 1, 3, 3, 1)},
    "residual": {"many": (2, 2, 1), "single": (1 / 8, 1 / 2, 1)},
}
VOLTAGE = {"many": 0.5, "single": 0.0}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    # `simulators.py` sets the voltages that a graph cannot say.
    warnings.filterwarnings("ignore", ".*start from a voltage")
    for name in NETWORKS:
        for kind, scales in SCALES[name].items():
            network = spiking(name, scales, VOLTAGE[kind])
            inputs = draw_inputs(network)
            spikes = count_spikes(network, inputs, kind)
            path = folder / f"{name}-{kind}.npz"
            np.savez_compressed(path, dt=DT, inputs=nir_layout(inputs), **spikes)
            for target in TARGETS:
                if target == "spyx" and name == "residual":
                    continue  # it reads chains only
                graph = to_nir(network, target=target)
                nir.write(folder / f"{name}-{kind}-{target}.nir", graph)
    network = filtered()
    inputs = draw_inputs(network)
    outputs = nir_layout(network.predict(inputs, verbose=0))
    np.savez_compressed(folder / "filtered.npz", dt=DT, inputs=nir_layout(inputs), outputs=outputs)
    nir.write(folder / "filtered-sinabs.nir", to_nir(network, target="sinabs"))


def draw_inputs(network):
    shape = (BATCH, TIME, *network.input_shape[2:])
    return np.random.default_rng(1).integers(0, 3, shape).astype("float32")


def count_spikes(network, inputs, kind):
    """The spikes of each layer, by its name; checks that they are worth a test."""
    layers = [
        layer for layer in network.layers if isinstance(layer, keras_spiking.SpikingActivation)
    ]
    tensors = [tensor for layer in layers for tensor in (layer.input, layer.output)]
    values = iter(keras.Model(network.inputs, tensors).predict(inputs, verbose=0))
    counted = {}
    for layer, currents, outputs in zip(layers, values, values, strict=True):
        per_step = np.asarray(layer.rate_scale) * DT
        spikes = outputs * per_step
        voltages = np.cumsum(currents * per_step, axis=1) - np.cumsum(spikes, axis=1)
        assert spikes.sum() > 20, layer.name
        if kind == "single":
            assert spikes.max() == 1, layer.name
            assert voltages.min() > -1, layer.name  # where sinabs stops
        counted[layer.name] = nir_layout(spikes)
    assert kind == "single" or max(spikes.max() for spikes in counted.values()) > 4
    return counted


def nir_layout(array):
    """`(batch, time, ..., channels)` as `(time, batch, channels, ...)`."""
    return np.moveaxis(np.swapaxes(array, 0, 1), -1, 2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
