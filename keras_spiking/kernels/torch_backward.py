"""Whether PyTorch is in a backward pass, where checkpointing runs forward passes again."""

import torch
from torch.utils.module_tracker import ModuleTracker

_TRACKER = ModuleTracker()


def in_backward() -> bool:
    """Whether a backward pass is running; a function that is being compiled cannot know."""
    return not torch.compiler.is_compiling() and _TRACKER.is_bw


def check_kept_state(owner: str) -> None:
    """Checks that no state kept from call to call is used in a backward pass."""
    if in_backward():
        raise RuntimeError(
            f"{owner}: a module with stateful=True runs again in the backward pass, as "
            "torch.utils.checkpoint has it, where its state has moved on and gradients would be "
            "wrong. Use return_state=True in place of stateful=True, and pass each call's final "
            "state to the next one, as in outputs, state = module(inputs, state)."
        )


@torch.library.custom_op("keras_spiking::kept_state", mutates_args=())
def kept_state(state: torch.Tensor, owner: str) -> torch.Tensor:
    """A copy of a state, checked when compiled functions run."""
    check_kept_state(owner)
    return state.clone()


@kept_state.register_fake
def _(state: torch.Tensor, owner: str) -> torch.Tensor:
    return torch.empty_like(state)
