"""What filters compute from their time constants, on PyTorch; see `torch.py`."""

from typing import Any

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels import recurrences, torch_plain


def expm1(x: Tensor) -> Tensor:
    power = torch.exp(x)
    return torch.expm1(x.detach()) + (power - power.detach())


def alpha_gain(ratio: Tensor) -> Tensor:
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if recorded or torch_plain.transforms_are_active():
        return _alpha_gain(ratio)
    return _AlphaGain.apply(ratio)


def _alpha_gain(ratio: Tensor) -> Tensor:
    return recurrences.alpha_gain(torch, expm1, ratio)


class _AlphaGain(torch_plain.ReverseOnly):
    @staticmethod
    def forward(ctx: Any, ratio: Tensor) -> Tensor:
        ctx.save_for_backward(ratio)
        return _alpha_gain(ratio)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (ratio,) = ctx.saved_tensors
        return upstream * ratio * torch.exp(-ratio)
