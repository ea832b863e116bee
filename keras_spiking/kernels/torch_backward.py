"""Whether PyTorch is in a backward pass, where checkpointing runs forward passes again."""

import torch
from torch.utils.module_tracker import ModuleTracker

_TRACKER = ModuleTracker()


def in_backward() -> bool:
    """Whether a backward pass is running; never so in a compiled function."""
    return not torch.compiler.is_compiling() and _TRACKER.is_bw
