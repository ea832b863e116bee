"""Types for signatures: what the library is given, and what it hands on."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

# A tensor of the backend, an array, or a number: the three frameworks share no class for it.
Tensor: TypeAlias = Any
# An array of NumPy, of any type of numbers.
Array: TypeAlias = np.ndarray[Any, Any]
# Sizes of axes; None for one that is not known yet.
Shape: TypeAlias = tuple[int | None, ...]
# What `keras.activations.get` and its relatives take: a name, a config, or the function itself.
ActivationLike: TypeAlias = str | dict[str, Any] | Callable[[Any], Any] | None
InitializerLike: TypeAlias = float | str | dict[str, Any] | Callable[..., Any]
ConstraintLike: TypeAlias = str | dict[str, Any] | Callable[[Any], Any] | None
