"""Writes `tests/data/sinabs.nir` and `sinabs.npz`: a network of sinabs, and what it gives.

They were written once, with sinabs 3.1.3 and nir 1.0.8 (`make test-nir` installs them). Weights and
inputs are eighths, so that sums are exact.

    python tests/nir/foreign.py
"""

from pathlib import Path

import nir
import numpy as np
import sinabs.layers
import sinabs.nir
import torch

DATA = Path(__file__).parents[1] / "data"
TIME, BATCH = 8, 2


def make():
    """A small convolutional network. Each sample is an image of shape `(2, 8, 8)`."""
    spiking = {"num_timesteps": TIME, "batch_size": BATCH}
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, stride=2, padding=1),
        sinabs.layers.IAFSqueeze(**spiking),
        sinabs.layers.SumPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
        sinabs.layers.IAFSqueeze(spike_threshold=torch.tensor(1.5), **spiking),
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.requires_grad:
            whole = torch.randint(-3, 6, parameter.shape, generator=generator)
            parameter.data = whole / 8
    return network


def main():
    network = make()
    inputs = np.random.default_rng(0).integers(0, 5, (BATCH, TIME, 2, 8, 8)).astype("float32") / 8
    with torch.no_grad():
        outputs = network(torch.tensor(inputs).flatten(0, 1)).numpy()
        graph = sinabs.nir.to_nir(network, torch.tensor(inputs).flatten(0, 1))
    # sinabs leaves shapes unknown, which `nir.write` cannot write.
    for node in graph.nodes.values():
        if isinstance(node, nir.Conv2d):
            node.input_shape = (8, 8)
        if isinstance(node, nir.Flatten):
            node.input_type = {"input": np.array([4, 2, 2])}
    nir.write(DATA / "sinabs.nir", graph, compression=None)
    np.savez_compressed(
        DATA / "sinabs.npz",
        inputs=inputs,  # (batch, time, channels, rows, columns)
        outputs=outputs.reshape(BATCH, TIME, -1),  # spikes, (batch, time, units)
    )


if __name__ == "__main__":
    main()
