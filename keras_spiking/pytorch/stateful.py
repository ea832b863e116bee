"""What modules with a state share: the state is given, returned, or kept."""

from typing import Any

import torch

from keras_spiking import _checks
from keras_spiking.kernels.torch_backward import check_kept_state, in_backward, kept_state
from keras_spiking.pytorch.mask import check_mask
from keras_spiking.pytorch.recorded import Recorded
from keras_spiking.pytorch.tensors import shape_of


class Stateful(Recorded):
    """Base of `SpikingActivation`, `Lowpass` and `Alpha`; a subclass defines `_run`.

    Args:
        return_sequences: Whether to return every time step, or the last one only.
        return_state: Whether to return the final state too, for the next call's `state`.
        stateful: Whether each call goes on from the final state of the one before, until
            `reset_state()`. No gradient flows from call to call.
    """

    def __init__(self, return_sequences: bool, return_state: bool, stateful: bool):
        super().__init__()
        owner = type(self).__name__
        self.return_sequences = _checks.boolean(owner, "return_sequences", return_sequences)
        self.return_state = _checks.boolean(owner, "return_state", return_state)
        self.stateful = _checks.boolean(owner, "stateful", stateful)
        # No buffer: `.half()` would round it.
        self._kept: Any = None

    def _run(self, inputs: torch.Tensor, state: Any, mask: torch.Tensor | None) -> tuple[Any, Any]:
        """Outputs, as `return_sequences` says, and the final state; two arguments may be None."""
        raise NotImplementedError

    def _check(self, inputs: torch.Tensor) -> None:
        """Checks inputs, before anything else."""
        raise NotImplementedError

    def forward(
        self,
        inputs: torch.Tensor,
        state: torch.Tensor | tuple[torch.Tensor, ...] | None = None,
        mask: torch.Tensor | None = None,
    ) -> Any:
        if isinstance(inputs, torch.fx.Proxy):
            return self._as_node(inputs, state=state, mask=mask)
        self._check(inputs)
        if mask is not None:
            mask = check_mask(type(self).__name__, inputs, mask)
        if state is None and self.stateful:
            state = self._kept_state()
        outputs, state = self._run(inputs, _map(_for_gradients, state), mask)
        if self.stateful and not in_backward():
            self._kept = _map(torch.Tensor.detach, state)
        return (outputs, state) if self.return_state else outputs

    def _kept_state(self) -> Any:
        owner = type(self).__name__
        check_kept_state(owner)
        if torch.jit.is_tracing():
            raise RuntimeError(
                f"{owner}: torch.jit.trace does not record the state of a module "
                "with stateful=True. Use return_state=True in its place, and pass each call's "
                "final state to the next one, as in outputs, state = module(inputs, state)."
            )
        if self._kept is not None and torch.compiler.is_compiling():
            return _map(lambda state: kept_state(state, owner), self._kept)
        return self._kept

    def reset_state(self) -> None:
        """Makes the next call of a stateful module start as its first one did."""
        self._kept = None

    def _check_state_shape(
        self, state: Any, expected: tuple[int, ...], name: str = "state"
    ) -> None:
        """Checks a state, or one of its tensors, against the shape that the inputs ask for."""
        if not isinstance(state, torch.Tensor):
            raise TypeError(
                f"{type(self).__name__}: `{name}` must be a torch.Tensor of shape {expected}; "
                f"received {type(state).__name__}. Pass on the state that this module returned "
                "with return_state=True."
            )
        if shape_of(state) != expected:
            raise ValueError(
                f"{type(self).__name__}: `{name}` must have shape {expected} for these inputs; "
                f"received shape {shape_of(state)}. Keep to one batch size from call to call, "
                "or start anew (reset_state() where stateful=True)."
            )

    def extra_repr(self) -> str:
        names = ("return_sequences", "return_state", "stateful")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def _map(function: Any, state: Any) -> Any:
    """A state, which is a tensor or several, with a function applied to each of its tensors."""
    return tuple(map(function, state)) if isinstance(state, (tuple, list)) else function(state)


def _for_gradients(state: Any) -> Any:
    """The tensor, or a copy if it was made in `torch.inference_mode`, which gradients refuse."""
    if not isinstance(state, torch.Tensor):
        return state
    if torch.compiler.is_compiling():  # in which PyTorch does not say where a tensor was made
        return state.clone()
    if state.is_inference() and not torch.is_inference_mode_enabled():
        return state.clone()
    return state
