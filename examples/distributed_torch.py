"""Trains one spiking Keras model in several PyTorch processes.

It trains twice, and both end at the same weights: in one process, and in two processes, as on two
machines or GPUs. The two processes use torch.nn.parallel.DistributedDataParallel around the Keras
model, which is a torch.nn.Module.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import distributed_training as task
import numpy as np

NUM_WORKERS = 2


# [loop]
def train(model, dt, module, data: tuple[np.ndarray, np.ndarray], epochs: int) -> list[float]:
    """A loop as in any PyTorch program; `module` is the model, or a wrapper around it."""
    import torch

    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    inputs, targets = map(torch.as_tensor, data)
    batch_size = task.BATCH_SIZE * len(inputs) // task.NUM_SAMPLES
    losses, step = [], 0
    for _ in range(epochs):
        batches = []
        for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            dt.assign(task.schedule(step))
            optimizer.zero_grad()
            loss = torch.square(module(x, training=True) - y).mean()
            loss.backward()
            optimizer.step()
            batches.append(loss.item())
            step += 1
        losses.append(sum(batches) / len(batches))
    return losses


# [end]


# [worker]
def train_as_worker(rank: int, epochs: int, folder: str) -> None:
    """One of several processes, each with its part of every batch."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=NUM_WORKERS
    )
    model, dt = task.make_model()
    data = tuple(part_of_each_batch(array, rank) for array in task.make_data())
    losses = train(model, dt, DistributedDataParallel(model), data, epochs)
    weights = {str(index): weight for index, weight in enumerate(model.get_weights())}
    np.savez(Path(folder, f"{rank}.npz"), losses=losses, **weights)
    torch.distributed.destroy_process_group()


def part_of_each_batch(array: np.ndarray, rank: int) -> np.ndarray:
    """The samples of this process."""
    parts = array.reshape(-1, NUM_WORKERS, task.BATCH_SIZE // NUM_WORKERS, *array.shape[1:])
    return parts[:, rank].reshape(-1, *array.shape[1:])


# [end]


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    parser = task.make_parser(__doc__)
    arguments = parser.parse_args(argv)
    task.check_packages(parser, "torch")
    # The processes inherit these.
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all of them are on this machine
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    import torch

    model, dt = task.make_model()
    losses = train(model, dt, model, task.make_data(), arguments.epochs)
    task.report("one process", losses)
    expected = model.get_weights()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train_as_worker, (arguments.epochs, folder), nprocs=NUM_WORKERS)
        results = [np.load(Path(folder, f"{rank}.npz")) for rank in range(NUM_WORKERS)]
    # Each process has the loss of its part of the batches.
    losses = np.mean([saved["losses"] for saved in results], axis=0)
    for rank, saved in enumerate(results):
        weights = [saved[name] for name in saved.files[1:]]
        task.report(f"process {rank} of {NUM_WORKERS}", losses, weights, expected)


if __name__ == "__main__":
    main()
