"""Trains one spiking model on several JAX devices.

It trains three times, and all three end at the same weights:

- on one device;
- with keras.distribution.DataParallel on eight devices, each of which has a part of the batch (here
  they are eight shares of the processor);
- with keras.distribution.ModelParallel: two parts of the batch by four parts of the units.
"""

from __future__ import annotations

import os

import distributed_training as task
import numpy as np

NUM_DEVICES = 8


def train_on_one_device(epochs: int) -> tuple[list[float], list[np.ndarray]]:
    """The losses and weights to compare with."""
    model, dt = task.make_model()
    losses = task.train(model, dt, task.make_data(), epochs)
    return losses, model.get_weights()


# [data]
def train_with_data_parallel(
    epochs: int, stateful_batch: int | None = None
) -> tuple[list[float], list[np.ndarray]]:
    """`fit` as usual: model, `dt` and optimizer are made under the distribution."""
    import keras

    with keras.distribution.DataParallel().scope():
        model, dt = task.make_model(stateful_batch)
        losses = task.train(model, dt, task.make_data(), epochs)
    return losses, model.get_weights()


# [end]


# [model]
def train_with_model_parallel(
    epochs: int, stateful_batch: int | None = None
) -> tuple[list[float], list[np.ndarray]]:
    """The units are spread too: spikes and filters work on each unit by itself."""
    import keras

    mesh = keras.distribution.DeviceMesh((2, NUM_DEVICES // 2), ("batch", "units"))
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*hidden/kernel"] = (None, "units")
    layouts[".*hidden/bias"] = ("units",)
    layouts[".*lowpass/.*/(initial_level|tau)"] = (None, "units")
    layouts[".*alpha/.*/(initial_level|tau)"] = ("units",)
    layouts[".*out/kernel"] = ("units", None)
    # Only where layers are stateful:
    layouts[".*(spikes|lowpass)/state_0"] = ("batch", "units")
    layouts[".*alpha/state_0"] = ("batch", None, "units")
    distribution = keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    with distribution.scope():
        model, dt = task.make_model(stateful_batch)
        losses = task.train(model, dt, task.make_data(), epochs)
    return losses, model.get_weights()


# [end]


def main(argv: list[str] | None = None) -> None:
    """Runs the example."""
    parser = task.make_parser(__doc__)
    arguments = parser.parse_args(argv)
    task.check_packages(parser, "jax")
    os.environ["KERAS_BACKEND"] = "jax"
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={NUM_DEVICES}"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["JAX_PLATFORMS"] = "cpu"

    losses, expected = train_on_one_device(arguments.epochs)
    task.report("one device", losses)
    losses, weights = train_with_data_parallel(arguments.epochs)
    task.report("8 parts of the batch", losses, weights, expected)
    losses, weights = train_with_model_parallel(arguments.epochs)
    task.report("2 parts by 4 of units", losses, weights, expected)


if __name__ == "__main__":
    main()
