"""Checks of what a layer is called on, before any step runs."""

from typing import Any

import keras

from keras_spiking import kernels
from keras_spiking._types import Shape, Tensor


def as_shape(size: int | tuple[int, ...]) -> tuple[int, ...]:
    """A size as the shape of feature axes."""
    return (size,) if isinstance(size, int) else tuple(size)


def as_size(features: tuple[Any, ...]) -> Any:
    """The shape of feature axes as a size: an integer for one axis, as Keras's cells have it."""
    return features[0] if len(features) == 1 and features[0] is not None else features


def check_rank(owner: str, shape: Shape, axes: str = "(batch, time, ...)") -> None:
    """Checks that inputs have a time axis and features."""
    if len(shape) < 3:
        raise ValueError(
            f"{owner}: inputs must have shape {axes}, with at least one feature axis; received "
            f"shape {shape}. Add a time axis, as in keras.ops.expand_dims(inputs, 1), or repeat "
            "the inputs over time with keras.layers.RepeatVector."
        )


def check_inputs(layer: Any, shape: Shape, dtype: str | None) -> None:
    """Checks rank, feature axes, batch size and type of a layer's inputs."""
    owner = type(layer).__name__
    check_rank(owner, shape, "(time, batch, ...)" if layer.time_major else "(batch, time, ...)")
    features = shape[2:]
    if not layer.built:
        known = all(isinstance(size, int) for size in features)
        if not known and (layer.stateful or not layer.takes_unknown_sizes):
            raise ValueError(
                f"{owner}: the feature axes of inputs must have known sizes when the layer is "
                f"built, for its weights or its state; received shape {shape}. Give them in "
                "keras.Input."
            )
        if layer.stateful and not isinstance(shape[layer.batch_axis], int):
            raise ValueError(
                f"{owner}: a layer with stateful=True needs a fixed batch size; received inputs of "
                f"shape {shape}. Give it to the model's input, as in "
                "keras.Input(shape, batch_size=32)."
            )
        return
    expected = layer.cell.feature_shape
    if not fits(features, expected):
        raise ValueError(
            f"{owner}: layer {layer.name!r} was built for inputs with feature axes {expected}; "
            f"received shape {shape}."
        )
    if dtype is not None:
        check_dtype(owner, "inputs", dtype)
    if layer.stateful:
        batch_size = shape[layer.batch_axis]
        fixed = layer.states[0].shape[0]
        # JAX exports unknown sizes as symbols, which are not equal to any number.
        known = isinstance(batch_size, int) or (
            batch_size is not None and keras.backend.backend() == "jax"
        )
        if known and batch_size != fixed:
            raise ValueError(
                f"{owner}: layer {layer.name!r} is stateful and was built for a batch size of "
                f"{fixed}; received inputs of shape {shape}. Use that batch size throughout "
                "(drop a smaller last batch; export with `input_signature`), or stateful=False."
            )


def check_mask(layer: Any, batch_size: Any, time: Any, mask: Tensor) -> None:
    """Checks that a mask is (batch, time)."""
    if not fits(tuple(mask.shape), (batch_size, time)):
        raise ValueError(
            f"{type(layer).__name__}: `mask` must have shape (batch, time), here "
            f"{(batch_size, time)}; received shape {tuple(mask.shape)}."
        )


def check_states(layer: Any, batch_size: Any, states: list[Tensor], name: str) -> None:
    """Checks number, shape and type of states given as the argument `name`."""
    owner = type(layer).__name__
    expected = [(batch_size, *shape) for shape in layer.cell.state_shapes]
    received = [tuple(getattr(state, "shape", ())) for state in states]
    if len(received) != len(expected) or not all(map(fits, received, expected)):
        raise ValueError(
            f"{owner}: `{name}` must have one tensor per state, of shapes {expected}; "
            f"received shapes {received}."
        )
    for state in states:
        check_dtype(owner, f"`{name}`", state.dtype)


def fits(shape: Shape, expected: Shape) -> bool:
    """Whether two shapes agree where both are known."""
    return len(shape) == len(expected) and all(
        size is None or wanted is None or size == wanted
        for size, wanted in zip(shape, expected, strict=True)
    )


def check_dtype(owner: str, what: str, dtype: Any) -> None:
    """Checks that a type holds real numbers."""
    name = keras.backend.standardize_dtype(dtype)
    if "complex" in name or name == "string":
        raise TypeError(f"{owner}: {what} must be real numbers; received dtype {name}.")


def check_not_run_again(layer: Any, reason: str, remedy: str) -> None:
    """Refuses to run a layer again in a backward pass of PyTorch if its result would differ."""
    if kernels.in_backward():
        raise RuntimeError(
            f"{type(layer).__name__}: {layer.name!r} {reason}, and so gives wrong gradients where "
            f"a backward pass runs it again, as keras.RematScope and keras.remat have it. {remedy}"
        )
