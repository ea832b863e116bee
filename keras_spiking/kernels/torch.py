"""The kernels on PyTorch: on CPUs the loops of `cpu.py`, else plain operations on whole tensors.

`torch_numba.py` has the one, `torch_plain.py` the other; the other modules choose between them, and
add the gradients. `torch.compile` and `torch.export` see a kernel as one operation, which is
registered next to it. If they traced its steps, the program would differ with the length of time.
"""

import torch

from keras_spiking.kernels.torch_filter_end import filter_end
from keras_spiking.kernels.torch_filters import linear_filter
from keras_spiking.kernels.torch_gains import alpha_gain, expm1
from keras_spiking.kernels.torch_spikes import (
    integrate,
    integrate_and_fire,
    spike,
    spike_by_channel,
    straight_through,
    to_dtype,
    uniform,
)


def runs_on_cpu() -> bool:
    # What PyTorch uses unless told otherwise. Each call looks at the device of its tensors.
    return not torch.cuda.is_available()


__all__ = [
    "alpha_gain",
    "expm1",
    "filter_end",
    "integrate",
    "integrate_and_fire",
    "linear_filter",
    "runs_on_cpu",
    "spike",
    "spike_by_channel",
    "straight_through",
    "to_dtype",
    "uniform",
]
