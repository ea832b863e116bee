"""Trains one spiking model on several TensorFlow devices and in several processes.

It trains three times, and all three end at the same weights:

- on one device;
- with tf.distribute.MirroredStrategy on two devices (here they are halves of the processor);
- with tf.distribute.MultiWorkerMirroredStrategy in two processes, as on two machines.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import distributed_training as task
import numpy as np

NUM_WORKERS = 2


def train_on_one_device(epochs: int) -> tuple[list[float], list[np.ndarray]]:
    """The losses and weights to compare with."""
    model, dt = task.make_model()
    losses = task.train(model, dt, task.make_data(), epochs)
    return losses, model.get_weights()


# [mirrored]
def train_on_two_devices(
    epochs: int, stateful_batch: int | None = None
) -> tuple[list[float], list[np.ndarray]]:
    """`fit` as usual: model, `dt` and optimizer are made in the strategy's scope."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])  # or all GPUs, by default
    with strategy.scope():
        model, dt = task.make_model(stateful_batch)  # the batch size of one device
        losses = task.train(model, dt, task.make_data(), epochs)
    return losses, model.get_weights()


# [end]


# [worker]
def train_as_worker(epochs: int) -> tuple[list[float], list[np.ndarray]]:
    """Trains in one of several processes. TF_CONFIG tells it about the others."""
    import keras
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model, dt = task.make_model()
        optimizer = keras.optimizers.Adam(0.01)

    def replica_step(inputs, targets):
        with tf.GradientTape() as tape:
            errors = tf.square(model(inputs, training=True) - targets)
            loss = tf.reduce_sum(errors) / task.BATCH_SIZE  # gradients of replicas are summed
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch):
        return strategy.reduce("SUM", strategy.run(replica_step, args=batch), axis=None)

    dataset = tf.data.Dataset.from_tensor_slices(task.make_data()).batch(task.BATCH_SIZE)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    dataset = strategy.experimental_distribute_dataset(dataset.with_options(options))
    losses, step = [], 0
    for _ in range(epochs):
        batches = []
        for batch in dataset:
            dt.assign(task.schedule(step))
            batches.append(float(train_step(batch)))
            step += 1
        losses.append(sum(batches) / len(batches))
    return losses, model.get_weights()


# [end]


def start_workers(epochs: int, folder: Path) -> tuple[list[float], list[list[np.ndarray]]]:
    """Starts the processes, and returns their losses and the weights of each."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in (first, second)]
    workers = []
    for index in range(NUM_WORKERS):
        # On a cluster, each machine has this variable from whatever starts the job.
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [sys.executable, __file__, "--epochs", str(epochs), "--worker", str(folder)]
        environment = {**os.environ, "TF_CONFIG": json.dumps(cluster)}
        workers.append(subprocess.Popen(command, env=environment))  # noqa: S603 (itself)
    try:
        codes = [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    if any(codes):
        raise SystemExit(f"The workers failed, with these codes: {codes}")
    results = [np.load(folder / f"{index}.npz") for index in range(NUM_WORKERS)]
    weights = [[saved[name] for name in saved.files[1:]] for saved in results]
    return list(results[0]["losses"]), weights


def run_worker(epochs: int, folder: Path) -> None:
    """Trains, and leaves the results in the folder."""
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    losses, weights = train_as_worker(epochs)
    np.savez(folder / f"{index}.npz", losses=losses, **{str(i): w for i, w in enumerate(weights)})


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    parser = task.make_parser(__doc__)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    task.check_packages(parser, "tensorflow")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if arguments.worker:
        run_worker(arguments.epochs, arguments.worker)
        return

    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, halves)

    losses, expected = train_on_one_device(arguments.epochs)
    task.report("one device", losses)
    losses, weights = train_on_two_devices(arguments.epochs)
    task.report("two devices", losses, weights, expected)
    with tempfile.TemporaryDirectory() as folder:
        losses, of_workers = start_workers(arguments.epochs, Path(folder))
    for index, weights in enumerate(of_workers):
        task.report(f"worker {index} of {NUM_WORKERS}", losses, weights, expected)


if __name__ == "__main__":
    main()
