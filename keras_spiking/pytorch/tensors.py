"""What the modules share: checks of the tensors they are given, and the types they compute in."""

import warnings
from typing import Any

import torch


def shape_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape in numbers; while `torch.jit.trace` runs, PyTorch gives tensors."""
    if not torch.jit.is_tracing():
        return tuple(tensor.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return tuple(int(size) for size in tensor.shape)


def check_inputs(owner: str, inputs: torch.Tensor, features: tuple[int, ...] | None = None) -> None:
    """Checks that inputs are real numbers of shape `(batch, time, ...)`, with these features."""
    if not isinstance(inputs, torch.Tensor):
        raise TypeError(
            f"{owner}: inputs must be a torch.Tensor; received {type(inputs).__name__}. "
            "Make one, as with torch.as_tensor."
        )
    shape = shape_of(inputs)
    if len(shape) < 3:
        raise ValueError(
            f"{owner}: inputs must have shape (batch, time, ...), with at least one feature axis; "
            f"received shape {shape}. Add a time axis, as in inputs.unsqueeze(1), and repeat the "
            "inputs along it, as in inputs.unsqueeze(1).repeat(1, num_steps, 1)."
        )
    if shape[1] == 0:
        raise ValueError(
            f"{owner}: inputs must have at least one time step (axis 1); received shape {shape}."
        )
    if features is not None and shape[2:] != features:
        raise ValueError(
            f"{owner}: the feature axes of inputs must be those of `units`, {features}; received "
            f"inputs of shape {shape}, with {shape[2:]}. Make the module with "
            f"units={shape[2] if len(shape) == 3 else shape[2:]}."
        )
    if inputs.is_complex():
        raise TypeError(f"{owner}: inputs must be real numbers; received {inputs.dtype}.")


def check_state(owner: str, name: str, value: Any, shape: str) -> torch.Tensor:
    """Checks that an argument is a tensor of finite floats; returns it cut off from gradients."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{owner}: `{name}` must be None or a torch.Tensor of shape {shape}; received "
            f"{name}={value!r} of type {type(value).__name__}. Make one, as with torch.as_tensor."
        )
    if not value.is_floating_point():
        raise ValueError(
            f"{owner}: `{name}` must have a floating-point type; received {name} of "
            f"{value.dtype}. Convert it, as in {name}.float()."
        )
    if not torch.isfinite(value).all():
        raise ValueError(f"{owner}: `{name}` must be finite; received {name}={value}.")
    return value.detach()


def as_float(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, in PyTorch's default type if it holds whole numbers or Booleans."""
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())


def state_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """The type of a state beside these tensors: float64 if one of them is, else float32."""
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if double else torch.float32
