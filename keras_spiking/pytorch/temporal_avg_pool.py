"""The mean over time."""

from typing import Any

import torch

from keras_spiking.kernels.torch import to_dtype
from keras_spiking.pytorch.mask import check_mask, mean_of_used
from keras_spiking.pytorch.recorded import Recorded
from keras_spiking.pytorch.tensors import as_float, check_inputs, shape_of, state_dtype


class TemporalAvgPool(Recorded):
    r"""Averages over time, or over another axis.

    .. math::

        y = \frac{1}{T} \sum_{t=1}^{T} x_t

    with input :math:`x`, output :math:`y` and the number of steps :math:`T`. After a
    `SpikingActivation`, this is the firing rate of each unit, in hertz. With a mask, the mean is
    that of the steps to use, 0 where there is none.

    Args:
        dim: The axis to average over, an integer.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, of any real type.
        mask: Boolean tensor of shape `(batch, time)`, True for steps to use; with `dim=1` only.

    Input shape:
        `(batch, time, ...)`, with any number of feature axes, at least one.

    Output shape:
        As the input, without the axis `dim`: `(batch, ...)`.

    Raises:
        ValueError: If the inputs have no time axis, or no axis `dim`, or a mask does not fit.
        TypeError: If an argument or input has a wrong type.

    Example:

    >>> import torch
    >>> from keras_spiking.pytorch import TemporalAvgPool
    >>> TemporalAvgPool()(torch.tensor([[[1.0], [2.0], [6.0]]])).tolist()
    [[3.0]]
    >>> mask = torch.tensor([[True, True, False]])
    >>> TemporalAvgPool()(torch.tensor([[[1.0], [2.0], [6.0]]]), mask=mask).tolist()
    [[1.5]]
    """

    def __init__(self, dim: int = 1):
        super().__init__()
        if isinstance(dim, bool) or not isinstance(dim, int):
            raise TypeError(
                f"{type(self).__name__}: `dim` must be an integer; received dim={dim!r} "
                f"of type {type(dim).__name__}."
            )
        self.dim = dim

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        if isinstance(inputs, torch.fx.Proxy):
            return self._as_node(inputs, mask=mask)
        owner = type(self).__name__
        check_inputs(owner, inputs)
        rank = inputs.dim()
        if not -rank <= self.dim < rank:
            raise ValueError(
                f"{owner}: `dim` must be one of the axes of the inputs, from {-rank} to "
                f"{rank - 1}; received dim={self.dim} and inputs of shape {shape_of(inputs)}."
            )
        inputs = as_float(inputs)
        if mask is None:
            return inputs.mean(self.dim)
        if self.dim % rank != 1:
            raise ValueError(
                f"{owner}: `mask` says which time steps to use, so `dim` must be 1, the axis of "
                f"time; received dim={self.dim}. Leave out `mask`."
            )
        mask = check_mask(owner, inputs, mask)
        return to_dtype(mean_of_used(inputs, mask, state_dtype(inputs)), inputs.dtype)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
