"""The models of the Fashion-MNIST example for PyTorch: built, trained and measured."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import fashion_mnist
import numpy as np
import torch
from results_table import Rates, Result
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from keras_spiking import record
from keras_spiking.pytorch import Lowpass, SpikingActivation, TemporalAvgPool
from keras_spiking.recording import Recording

NUM_STEPS = 10
NUM_INPUTS = fashion_mnist.IMAGE_SHAPE[0] * fashion_mnist.IMAGE_SHAPE[1]
NUM_HIDDEN = 128
NUM_CLASSES = len(fashion_mnist.CLASS_NAMES)
BATCH_SIZE = 32
TEST_BATCH_SIZE = 500
TAU = 0.1  # seconds
DT = 0.01  # seconds; the step of every model but the ones that compare steps
TARGET_RATE = 20.0  # hertz
RATE_WEIGHT = 1e-3
WARM_UP_STEPS = 50


class NonSpiking(torch.nn.Module):
    """An ordinary network for still images."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(NUM_INPUTS, NUM_HIDDEN)
        self.output = torch.nn.Linear(NUM_HIDDEN, NUM_CLASSES)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        activations = torch.relu(self.hidden(images.flatten(1)))
        return self.output(activations), activations


class Spiking(torch.nn.Module):
    """The same network with spikes: each image is shown for `NUM_STEPS` steps.

    Args:
        dt: length of a step, in seconds.
        spiking_aware_training: whether training sees the spikes.
        lowpass: whether a filter smooths the spikes. Without it, they are averaged over time.
        every_step: whether to answer at every step rather than at the end.
    """

    def __init__(
        self,
        dt: float = DT,
        spiking_aware_training: bool = True,
        lowpass: bool = False,
        every_step: bool = False,
    ) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(NUM_INPUTS, NUM_HIDDEN)
        self.spikes = SpikingActivation(
            torch.relu, dt=dt, spiking_aware_training=spiking_aware_training
        )
        self.readout: torch.nn.Module
        if lowpass:
            self.readout = Lowpass(tau=TAU, units=NUM_HIDDEN, dt=dt, return_sequences=every_step)
        else:
            self.readout = RunningMean() if every_step else TemporalAvgPool()
        self.output = torch.nn.Linear(NUM_HIDDEN, NUM_CLASSES)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the outputs, and the spikes that they come from."""
        over_time = images.flatten(1).unsqueeze(1).repeat(1, NUM_STEPS, 1)
        spikes = self.spikes(self.hidden(over_time))
        return self.output(self.readout(spikes)), spikes


class RunningMean(torch.nn.Module):
    """The mean over time so far, at each step of ``(batch, time, units)``."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        num_steps = torch.arange(1, inputs.shape[1] + 1, device=inputs.device)
        return inputs.cumsum(1) / num_steps[:, None]


def rate_penalty(spikes: torch.Tensor) -> torch.Tensor:
    """How far the neurons' rates over time are from the target, as a mean over the images."""
    return RATE_WEIGHT * (spikes.mean(1) - TARGET_RATE).square().sum(1).mean()


@dataclass(frozen=True)
class Experiment:
    """A model to train once, and the steps, in seconds, to test it with."""

    name: str
    build: Callable[..., torch.nn.Module]
    dts: tuple[float, ...] = (DT,)
    penalty: Callable[[torch.Tensor], torch.Tensor] | None = None


NON_SPIKING = Experiment("non-spiking", NonSpiking, dts=())
EXPERIMENTS = (
    Experiment(
        "spiking", partial(Spiking, spiking_aware_training=False), dts=(0.001, 0.01, 0.1, 1.0)
    ),
    Experiment("spiking-aware", Spiking),
    Experiment("regularized", Spiking, penalty=rate_penalty),
    Experiment("Lowpass", partial(Spiking, lowpass=True)),
)


def tensors(images: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Images from 0 to 1, and labels."""
    return torch.tensor(images).float() / 255, torch.tensor(labels).long()


def train(
    experiment: Experiment, data: fashion_mnist.FashionMnist, epochs: int, seed: int
) -> tuple[torch.nn.Module, float]:
    """Trains a model; returns it with the milliseconds that a training step took."""
    torch.manual_seed(seed)
    model = experiment.build()
    optimizer = torch.optim.Adam(model.parameters())
    images, labels = tensors(data.train_images, data.train_labels)
    num_batches = -(-len(labels) // BATCH_SIZE)
    durations = []
    # A bar on a terminal; in a file, a line for each epoch.
    show_bar = sys.stderr.isatty()
    with tqdm(total=epochs * num_batches, unit="batch", disable=not show_bar) as bar:
        for epoch in range(epochs):
            losses, correct = 0.0, 0
            for batch in torch.randperm(len(labels)).split(BATCH_SIZE):
                begin = time.perf_counter()
                optimizer.zero_grad()
                logits, spikes = model(images[batch])
                loss = cross_entropy(logits, labels[batch])
                if experiment.penalty is not None:
                    loss = loss + experiment.penalty(spikes)
                loss.backward()
                optimizer.step()
                durations.append(time.perf_counter() - begin)
                losses += loss.item() * len(batch)
                correct += int((logits.argmax(1) == labels[batch]).sum())
                bar.update()
            report = f"loss {losses / len(labels):.4f}, accuracy {correct / len(labels):.4f}"
            bar.set_postfix_str(f"epoch {epoch + 1}/{epochs}: {report}")
            if not show_bar:
                print(f"Epoch {epoch + 1}/{epochs}: {report}", flush=True)
    warm_up = min(WARM_UP_STEPS, len(durations) // 2)
    return model, 1000 * statistics.median(durations[warm_up:])


@torch.no_grad()
def measure(
    name: str,
    model: torch.nn.Module,
    dt: float | None,
    data: fashion_mnist.FashionMnist,
    step_ms: float,
) -> Result:
    """Accuracy on the test images and, of a spiking model, firing rates in hertz."""
    model.eval()
    images, labels = tensors(data.test_images, data.test_labels)
    correct, rates = 0, []
    for batch, answers in zip(
        images.split(TEST_BATCH_SIZE), labels.split(TEST_BATCH_SIZE), strict=True
    ):
        logits, spikes = model(batch)
        correct += int((logits.argmax(1) == answers).sum())
        if dt is not None:
            rates.append(spikes.mean(1))
    of_neurons = None
    if rates:
        each = torch.cat(rates)
        of_neurons = Rates(each.min().item(), each.mean().item(), each.max().item())
    return Result(name, dt, correct / len(labels), of_neurons, step_ms)


def with_weights_of(trained: torch.nn.Module, model: torch.nn.Module) -> torch.nn.Module:
    """Gives a model the weights of another, which may have another `dt` or output."""
    model.load_state_dict(trained.state_dict())
    return model


def over_time(
    trained: torch.nn.Module, build: Callable[..., torch.nn.Module], images: np.ndarray
) -> Recording:
    """What a trained model does at each step, for a few images; its outputs are logits."""
    model = with_weights_of(trained, build(dt=DT, every_step=True)).eval()
    recording = record(model, images.astype("float32") / 255, verbose=0)
    logits, _ = recording.outputs
    return Recording(recording, logits)
