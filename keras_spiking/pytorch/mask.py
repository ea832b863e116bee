"""Steps to leave out: what the modules do with a mask."""

from typing import Any

import torch

from keras_spiking.pytorch.tensors import shape_of


def check_mask(owner: str, inputs: Any, mask: Any) -> Any:
    """Checks that a mask is `(batch, time)`; returns it as Booleans, beside the inputs."""
    if not isinstance(mask, torch.Tensor) or mask.is_floating_point() or mask.is_complex():
        received = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise TypeError(
            f"{owner}: `mask` must be a Boolean torch.Tensor, True for steps to use; received "
            f"{received}. Make one, as with torch.arange(num_steps) < lengths[:, None]."
        )
    expected = shape_of(inputs)[:2]
    if shape_of(mask) != expected:
        raise ValueError(
            f"{owner}: `mask` must have shape (batch, time), here {expected}; received shape "
            f"{shape_of(mask)}."
        )
    return mask.to(inputs.device, torch.bool)


def zero_masked(sequence: Any, mask: Any) -> Any:
    """Zeroes the masked steps of a sequence, and their gradients, whatever they are.

    Not a product: what is masked may be infinite, or no number.
    """
    return sequence.masked_fill(~_over_features(mask, sequence), 0)


def mean_of_used(sequence: Any, mask: Any, dtype: Any) -> Any:
    """The mean over time of the steps to use, in a type; 0 where there is none."""
    total = zero_masked(sequence, mask).sum(1, dtype=dtype)
    number = mask.sum(1, keepdim=True).clamp(min=1)
    return total / _over_features(number, sequence)[:, 0]


class UsedSteps:
    """Runs a filter over the steps that a mask keeps, as if the others were not there."""

    def __init__(self, mask: Any):
        self.mask = mask
        steps = mask.shape[1]
        time = torch.arange(steps, device=mask.device)
        # Unmasked steps first, both kinds in their order.
        self._order = torch.argsort(torch.where(mask, time, time + steps), dim=1)
        self._number = torch.cumsum(mask, 1)

    def gather(self, sequence: Any) -> Any:
        """Moves the unmasked steps to the front, and zeroes the others."""
        return _take(zero_masked(sequence, self.mask), self._order)

    def scatter(self, start: Any, sequence: Any) -> Any:
        """Moves them back; masked steps repeat the step before, at first `start`."""
        return _take(torch.cat([start.unsqueeze(1), sequence], 1), self._number)


def _over_features(steps: Any, sequence: Any) -> Any:
    """What there is for each step, `(batch, time)`, with the axes of a sequence."""
    return steps.reshape(*steps.shape, *[1] * (sequence.dim() - 2))


def _take(sequence: Any, index: Any) -> Any:
    index = _over_features(index, sequence)
    return torch.gather(sequence, 1, index.expand(-1, -1, *sequence.shape[2:]))
