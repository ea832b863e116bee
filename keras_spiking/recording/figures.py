"""A few figures that say how a layer spikes."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Figures:
    """How a layer spikes, over all samples and used steps.

    Attributes:
        mean_rate: Mean firing rate of units in hertz; negative spikes count as spikes.
        median_rate: Its median over units.
        top_rate: Its 99.9th percentile over units.
        silent: Share of units without a spike.
        spikes: Number of spikes per sample.
        several: Share of steps of units with more than one spike.
        negative: Share of spikes that are negative.
    """

    mean_rate: float
    median_rate: float
    top_rate: float
    silent: float
    spikes: float
    several: float
    negative: float


NAMES = tuple(field.name for field in dataclasses.fields(Figures))


def figures_of(counts: np.ndarray, dt: float, mask: np.ndarray | None = None) -> Figures:
    """The figures of spikes.

    Args:
        counts: Number of spikes in each step, `(samples, time, ...)`.
        dt: Length of a time step in seconds.
        mask: Boolean array `(samples, time)`, True for used steps; in others, counts are zero.
    """
    rates, sizes = rates_of(counts, dt, mask), np.abs(counts)
    spikes = sizes.sum(dtype=np.float64)
    num_steps = _used_steps(counts, mask) * rates.size
    return Figures(
        mean_rate=float(rates.mean()),
        median_rate=float(np.median(rates)),
        top_rate=float(np.percentile(rates, 99.9)),
        silent=float(np.mean(rates == 0)),
        spikes=float(spikes / len(counts)),
        several=float(np.count_nonzero(sizes > 1) / num_steps),
        negative=float(np.maximum(-counts, 0).sum(dtype=np.float64) / max(spikes, 1.0)),
    )


def rates_of(counts: np.ndarray, dt: float, mask: np.ndarray | None = None) -> np.ndarray:
    """The firing rate of each unit in hertz. The arguments are those of `figures_of`."""
    spikes = np.abs(counts).sum((0, 1), dtype=np.float64)
    return spikes / (_used_steps(counts, mask) * dt)


def _used_steps(counts: np.ndarray, mask: np.ndarray | None) -> int:
    """The number of used steps of all samples; 1 if there is none."""
    num_samples, num_steps = counts.shape[:2]
    used = num_samples * num_steps if mask is None else np.count_nonzero(mask)
    return max(int(used), 1)
