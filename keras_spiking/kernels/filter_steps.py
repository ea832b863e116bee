"""One step of filters, forwards and backwards, for loops over time in any framework.

Here are sums and products alone, so that they work on tensors of TensorFlow and JAX, and on arrays
of NumPy.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from keras_spiking._types import Tensor
from keras_spiking.kernels.contract import Filter, FilterGradients


def filter_step(
    filter_: Filter,
    leak: Tensor,
    inputs: Tensor,
    levels: Sequence[Tensor],
    compensations: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """One step of `linear_filter`: the new levels and compensations."""
    pairs = []
    for index, gain in enumerate(filter_.gains):
        drive = gain * inputs
        if index > 0:
            drive = drive + filter_.coupling * levels[index - 1]
        pairs.append(add_leaking(leak, drive, levels[index], compensations[index]))
    return [level for level, _ in pairs], [compensation for _, compensation in pairs]


class AdjointSums(NamedTuple):
    """What a loop back in time carries: adjoints, and gradients summed over the steps so far.

    Attributes:
        adjoints: Of every level, (batch, ...).
        compensations: What rounding took from them.
        log_decay: The sum over adjoints times the level a step before. Times the decay, it is the
            gradient.
        coupling: The gradient in the coupling.
        gains: The gradients in the gains.
    """

    adjoints: list[Tensor]
    compensations: list[Tensor]
    log_decay: Tensor
    coupling: Tensor
    gains: list[Tensor]

    @classmethod
    def zeros(cls, zero: Tensor, order: int) -> "AdjointSums":
        """The sums behind the last step."""
        return cls([zero] * order, [zero] * order, zero, zero, [zero] * order)


def adjoint_step(
    filter_: Filter,
    leak: Tensor,
    inputs: Tensor,
    levels_before: Sequence[Tensor],
    upstream: Sequence[Tensor],
    sums: AdjointSums,
) -> tuple[Tensor, AdjointSums]:
    """One step of the adjoint of `linear_filter`, back in time.

    Returns:
        The gradient in the inputs of this step, and the sums with this step.
    """
    pairs = []
    for index, drive in enumerate(upstream):
        for later in sums.adjoints[index + 1 : index + 2]:
            # What this level feeds into the next one, a step later.
            drive = drive + filter_.coupling * later
        pairs.append(add_leaking(leak, drive, sums.adjoints[index], sums.compensations[index]))
    adjoints = [adjoint for adjoint, _ in pairs]
    grad_inputs = add_products(filter_.gains[0] * adjoints[0], filter_.gains[1:], adjoints[1:])
    return grad_inputs, AdjointSums(
        adjoints,
        [compensation for _, compensation in pairs],
        add_products(sums.log_decay, adjoints, levels_before),
        add_products(sums.coupling, adjoints[1:], levels_before),
        [gain + adjoint * inputs for gain, adjoint in zip(sums.gains, adjoints, strict=True)],
    )


def finish(
    filter_: Filter,
    decay: Tensor,
    sums: AdjointSums,
    grad_inputs: Tensor,
    over_batch: Callable[[Tensor], Tensor],
) -> FilterGradients:
    """The gradients from the sums over all steps.

    Args:
        filter_: The filter.
        decay: The exponential of its `log_decay`.
        sums: The sums, with the adjoints at the first step.
        grad_inputs: The gradient in the inputs.
        over_batch: Sums over the first axis, which it keeps.
    """
    initial = [decay * adjoint for adjoint in sums.adjoints]
    for index, adjoint in enumerate(sums.adjoints[1:]):
        initial[index] = initial[index] + filter_.coupling * adjoint
    gradients = Filter(
        decay * over_batch(sums.log_decay),
        over_batch(sums.coupling),
        tuple(map(over_batch, sums.gains)),
    )
    return FilterGradients(gradients, grad_inputs, tuple(initial))


def add_products(total: Tensor, left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """The total plus the product of each pair, as long as both have one."""
    for one, other in zip(left, right, strict=False):
        total = total + one * other
    return total


def add_leaking(
    leak: Tensor, drive: Tensor, level: Tensor, compensation: Tensor
) -> tuple[Tensor, Tensor]:
    """`(1 - leak) * level + drive`, and what rounding took from it, for the next step to add.

    Without the compensation, a filter that forgets slowly would be wrong in the fourth digit: its
    small changes round to nothing, step after step (Kahan, doi:10.1145/363707.363723).
    """
    change = drive - leak * level + compensation
    new = level + change
    return new, change - (new - level)
