"""The kernels on PyTorch: whole-tensor operations on spans of time that fit a processor's cache.

Nothing is compiled here, so each operation costs its launch, and a pass through memory unless what
it works on is still in the cache. Hence spans; and within a span, steps that must follow one
another do so in several blocks at once, if a single step would be too small to be worth a launch.
`torch.compile` and `torch.export` see each kernel as one operation, registered where it stands:
traced step by step, it would be another program for every length of time.
"""

import torch

from keras_spiking.kernels.torch_filters import alpha_gain, expm1, filter_end, linear_filter
from keras_spiking.kernels.torch_spikes import (
    integrate_and_fire,
    spike,
    straight_through,
    to_dtype,
    uniform,
)


def runs_on_cpu() -> bool:
    # Each call goes by the device of its tensors.
    return not torch.cuda.is_available()


__all__ = [
    "alpha_gain",
    "expm1",
    "filter_end",
    "integrate_and_fire",
    "linear_filter",
    "runs_on_cpu",
    "spike",
    "straight_through",
    "to_dtype",
    "uniform",
]
