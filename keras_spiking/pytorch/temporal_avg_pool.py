"""The mean over time."""

from typing import Any

import torch

from keras_spiking.pytorch.tensors import as_float, check_inputs


class TemporalAvgPool(torch.nn.Module):
    r"""Averages over time, or over another axis.

    .. math::

        y = \frac{1}{T} \sum_{t=1}^{T} x_t

    with input :math:`x`, output :math:`y` and the number of steps :math:`T`. After a
    `SpikingActivation`, this is the firing rate of each unit, in hertz.

    Args:
        dim: The axis to average over, an integer.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, of any real type.

    Input shape:
        `(batch, time, ...)`, with any number of feature axes, at least one.

    Output shape:
        As the input, without the axis `dim`: `(batch, ...)`.

    Raises:
        ValueError: If the inputs have no time axis, or no axis `dim`.
        TypeError: If an argument or input has a wrong type.

    Example:

    >>> import torch
    >>> from keras_spiking.pytorch import TemporalAvgPool
    >>> TemporalAvgPool()(torch.tensor([[[1.0], [2.0], [6.0]]])).tolist()
    [[3.0]]
    """

    def __init__(self, dim: int = 1):
        super().__init__()
        if isinstance(dim, bool) or not isinstance(dim, int):
            raise TypeError(
                f"{type(self).__name__}: `dim` must be an integer; received dim={dim!r} "
                f"of type {type(dim).__name__}."
            )
        self.dim = dim

    def forward(self, inputs: torch.Tensor) -> Any:
        owner = type(self).__name__
        check_inputs(owner, inputs)
        rank = inputs.dim()
        if not -rank <= self.dim < rank:
            raise ValueError(
                f"{owner}: `dim` must be one of the axes of the inputs, from {-rank} to "
                f"{rank - 1}; received dim={self.dim} and inputs of shape {tuple(inputs.shape)}."
            )
        return as_float(inputs).mean(self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
