"""Steps to leave out: what the modules do with a mask."""

import torch

from keras_spiking.pytorch.tensors import shape_of


def check_mask(owner: str, inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
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


def zero_masked(sequence: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Zeroes the masked steps of a sequence, and their gradients, whatever they are.

    Not a product: a masked step may be infinite or NaN.
    """
    return sequence.masked_fill(~_over_features(mask, sequence), 0)


def mean_of_used(sequence: torch.Tensor, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The mean over time of the steps to use, in a type; 0 where there is none."""
    total = zero_masked(sequence, mask).sum(1, dtype=dtype)
    number = mask.sum(1, keepdim=True).clamp(min=1)
    return total / _over_features(number, sequence)[:, 0]


class UsedSteps:
    """Runs a filter over the steps that a mask keeps, as if the others were not there."""

    def __init__(self, mask: torch.Tensor):
        self.mask = mask
        steps = mask.shape[1]
        time = torch.arange(steps, device=mask.device)
        # Unmasked steps first, both kinds in their order.
        self._order = torch.argsort(torch.where(mask, time, time + steps), dim=1)
        self._number = torch.cumsum(mask, 1)

    def gather(self, sequence: torch.Tensor) -> torch.Tensor:
        """Moves the unmasked steps to the front, and zeroes the others."""
        return _take(zero_masked(sequence, self.mask), self._order)

    def scatter(self, start: torch.Tensor, sequence: torch.Tensor) -> torch.Tensor:
        """Moves them back. Masked steps repeat the step before; `start` is before the first."""
        return _take(torch.cat([start.unsqueeze(1), sequence], 1), self._number)


def _over_features(steps: torch.Tensor, sequence: torch.Tensor) -> torch.Tensor:
    """Values of steps, `(batch, time)`, with as many axes as a sequence has."""
    return steps.reshape(*steps.shape, *[1] * (sequence.dim() - 2))


def _take(sequence: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    index = _over_features(index, sequence)
    return torch.gather(sequence, 1, index.expand(-1, -1, *sequence.shape[2:]))
