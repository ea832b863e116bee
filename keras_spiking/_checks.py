"""Checks of arguments that several modules share; each returns the value it accepted."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

# Backends count with 32 bits. The limit also keeps a file from asking for terabytes of memory.
_LARGEST_INTEGER = 2**31 - 1


def number(owner: str, name: str, value: Any, meaning: str = "a number") -> float:
    """Accepts a finite real number, NumPy's included; booleans are not numbers."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"{owner}: `{name}` must be {meaning}; received {name}={value!r} "
            f"of type {type(value).__name__}."
        )
    try:
        accepted = float(value)
    except OverflowError:  # an integer too large for a float
        accepted = math.inf
    if not math.isfinite(accepted):
        raise ValueError(f"{owner}: `{name}` must be finite; received {name}={value}.")
    return accepted


def positive_number(owner: str, name: str, value: Any, meaning: str = "a number") -> float:
    """Accepts a finite number above zero that float32 can compute with."""
    accepted = number(owner, name, value, meaning)
    if accepted <= 0:
        raise ValueError(
            f"{owner}: `{name}` must be {meaning}, positive and finite; received {name}={value}."
        )
    if not 1e-30 <= accepted <= 1e30:
        raise ValueError(
            f"{owner}: `{name}` must be {meaning} from 1e-30 to 1e30, with which float32 can "
            f"compute; received {name}={value}. Use another unit."
        )
    return accepted


def positive_integer(owner: str, name: str, value: Any) -> int:
    """Accepts an integer above zero, NumPy's included."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(
            f"{owner}: `{name}` must be a positive integer; received {name}={value!r} "
            f"of type {type(value).__name__}."
        )
    if value <= 0:
        raise ValueError(f"{owner}: `{name}` must be a positive integer; received {name}={value}.")
    if value > _LARGEST_INTEGER:
        raise ValueError(f"{owner}: `{name}` must be below 2**31; received {name}={value}.")
    return int(value)


def boolean(owner: str, name: str, value: Any) -> bool:
    """Accepts True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"{owner}: `{name}` must be True or False; received {name}={value!r} "
            f"of type {type(value).__name__}."
        )
    return bool(value)


def choice(owner: str, name: str, value: Any, options: Sequence[str]) -> str:
    """Accepts one of several words."""
    if not isinstance(value, str) or value not in options:
        words = ", ".join(f'"{option}"' for option in options)
        raise ValueError(f"{owner}: `{name}` must be one of {words}; received {name}={value!r}.")
    return value


def seed(owner: str, value: Any) -> int | None:
    """Accepts a seed for random numbers, or None."""
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(
            f"{owner}: `seed` must be an integer or None; received seed={value!r} "
            f"of type {type(value).__name__}."
        )
    if not 0 <= value < 2**32:
        raise ValueError(
            f"{owner}: `seed` must be at least 0 and below 2**32; received seed={value}."
        )
    return int(value)


def axes(owner: str, value: Any) -> int | tuple[int, ...]:
    """Accepts one axis, or several different ones."""
    several = isinstance(value, (list, tuple))
    given: Sequence[Any] = value if several else (value,)
    if not given or not all(
        isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) for axis in given
    ):
        raise TypeError(
            f"{owner}: `axis` must be an integer or a tuple of integers; received axis={value!r}."
        )
    if len(set(given)) < len(given):
        raise ValueError(f"{owner}: `axis` must not name an axis twice; received axis={value!r}.")
    return tuple(int(axis) for axis in given) if several else int(value)


def size(owner: str, name: str, value: Any) -> int | tuple[int, ...]:
    """Accepts a positive integer or several, as the shape of feature axes."""
    if getattr(value, "rank", None) is not None and hasattr(value, "as_list"):
        value = value.as_list()  # a tf.TensorShape
    several = isinstance(value, (list, tuple))
    sizes: Sequence[Any] = value if several else (value,)
    if not sizes or not all(
        isinstance(units, (int, np.integer)) and not isinstance(units, bool) for units in sizes
    ):
        raise TypeError(
            f"{owner}: `{name}` must be a positive integer or a tuple of them; "
            f"received {name}={value!r}."
        )
    if any(units <= 0 for units in sizes):
        raise ValueError(f"{owner}: `{name}` must be positive; received {name}={value!r}.")
    if math.prod(map(int, sizes)) > _LARGEST_INTEGER:
        raise ValueError(
            f"{owner}: `{name}` must be fewer than 2**31 units in all; received {name}={value!r}."
        )
    return tuple(int(units) for units in sizes) if several else int(value)
