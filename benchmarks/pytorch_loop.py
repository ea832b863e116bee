"""Times the PyTorch modules beside ones that loop over time: CPU, eager, forward and backward.

Looping is how the older library works, and the obvious way to write it: the modules below are
written from what they are to compute. `limit` is one read and one write of the same tensor, with
its gradient. All alternate in one process, and a ratio is that of two neighbouring runs.

    python benchmarks/pytorch_loop.py
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation

BATCH, UNITS = 32, 128
TAU, DT = 0.1, 0.001
# How many times as fast as the loop, at least, by the number of steps.
TARGETS = {
    "SpikingActivation": {10: 1.0, 100: 2.0, 1000: 4.0},
    "Lowpass": {10: 1.0, 100: 5.0, 1000: 20.0},
    "Alpha": {},
}
MODULES = {
    "SpikingActivation": lambda: SpikingActivation(torch.relu, dt=DT),
    "Lowpass": lambda: Lowpass(TAU, UNITS, dt=DT),
    "Alpha": lambda: Alpha(TAU, UNITS, dt=DT),
}


class LoopedSpikingActivation(torch.nn.Module):
    """Raises the voltage step by step, and takes the gradient of the activation."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rates = torch.relu(inputs)
        with torch.no_grad():
            voltage = torch.rand_like(rates[:, 0])
            spikes = torch.empty_like(rates)
            for step in range(rates.shape[1]):
                voltage = voltage + rates[:, step] * DT
                counts = torch.floor(voltage)
                voltage = voltage - counts
                spikes[:, step] = counts / DT
        return rates + (spikes - rates).detach()


class LoopedLowpass(torch.nn.Module):
    """Steps the level with differentiable operations."""

    def __init__(self) -> None:
        super().__init__()
        decay = torch.exp(torch.full((1, UNITS), -DT / TAU))
        self.level = torch.nn.Parameter(torch.zeros(1, UNITS))
        self.logit = torch.nn.Parameter(torch.logit(decay))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        decay = torch.sigmoid(self.logit)
        level, outputs = self.level, []
        for step in range(inputs.shape[1]):
            level = decay * level + (1 - decay) * inputs[:, step]
            outputs.append(level)
        return torch.stack(outputs, 1)


class LoopedAlpha(LoopedLowpass):
    """Steps two levels, the second fed by the first."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        decay = torch.sigmoid(self.logit)
        ratio = -torch.log(decay)
        level, output, outputs = self.level, self.level, []
        for step in range(inputs.shape[1]):
            drive = inputs[:, step]
            output = decay * (output + ratio * level) + (1 - decay * (1 + ratio)) * drive
            level = decay * level + (1 - decay) * drive
            outputs.append(output)
        return torch.stack(outputs, 1)


class Limit(torch.nn.Module):
    """Touches each element once."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.relu(inputs) * 1.5


LOOPS = {
    "SpikingActivation": LoopedSpikingActivation,
    "Lowpass": LoopedLowpass,
    "Alpha": LoopedAlpha,
}


def training_step(module: torch.nn.Module, num_steps: int) -> Callable[[], Any]:
    """Forward and backward on the same random inputs for all."""
    generator = torch.Generator().manual_seed(0)
    inputs = 100 * torch.randn(BATCH, num_steps, UNITS, generator=generator)
    upstream = torch.randn(BATCH, num_steps, UNITS, generator=generator)
    leaves = [inputs.requires_grad_(), *module.parameters()]

    def step() -> Any:
        outputs = module(inputs)
        return outputs.detach(), torch.autograd.grad(outputs, leaves, upstream)

    return step


def check(ours: Callable[[], Any], loop: Callable[[], Any], name: str) -> None:
    """Both must compute the same, or a ratio means nothing."""
    outputs, expected = ours()[0], loop()[0]
    if name == "SpikingActivation":  # from random voltages: within one spike in all
        drift = (outputs - expected).sum(1).abs().max() * DT
        assert drift < 2.01, drift
    else:
        torch.testing.assert_close(outputs, expected, rtol=1e-3, atol=1e-3 * expected.abs().max())


def measure(name: str, num_steps: int, repeats: int) -> None:
    """Prints the times of one module and of its loop, and their ratio beside the target."""
    steps = {
        "ours": training_step(MODULES[name](), num_steps),
        "loop": training_step(LOOPS[name](), num_steps),
        "limit": training_step(Limit(), num_steps),
    }
    check(steps["ours"], steps["loop"], name)
    seconds: dict[str, list[float]] = {each: [] for each in steps}
    for repeat in range(repeats + 2):
        for each, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat >= 2:  # the first are for warming up
                seconds[each].append(time.perf_counter() - start)
    middle = {each: 1e3 * statistics.median(times) for each, times in seconds.items()}
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["loop"], strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    target = TARGETS[name].get(num_steps)
    wanted = (
        "" if target is None else f", target {target:g}: {'met' if ratio >= target else 'MISSED'}"
    )
    print(
        f"{name:18} T={num_steps:<5} ours {middle['ours']:8.2f} ms, loop {middle['loop']:8.2f} ms, "
        f"limit {middle['limit']:6.2f} ms; loop / ours {ratio:6.2f} (quartiles {low:.2f} to "
        f"{high:.2f}){wanted}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Runs it for every module and number of steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1000])
    options = parser.parse_args(arguments)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"eager, ({BATCH}, T, {UNITS}), forward + backward, {options.repeats} runs of each"
    )
    for name in MODULES:
        for num_steps in options.steps:
            measure(name, num_steps, options.repeats)


if __name__ == "__main__":
    main()
