"""Arrays of samples: checked against a model's inputs, and cut into batches."""

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_spiking._graph import is_graph
from keras_spiking._types import Shape
from keras_spiking.layers.shapes import fits
from keras_spiking.layers.sublayers import layers_within


def checked_arrays(
    owner: str, name: str, data: Any, model: keras.Model, strict: bool = True
) -> list[np.ndarray]:
    """Accepts finite arrays, as `model.predict` takes them, and returns them in a list.

    Their shapes are not checked.

    Args:
        owner: Name of the public function, for errors.
        name: Name of its argument, for errors.
        data: One array, or a structure of arrays.
        model: The model that takes them. The list has the order of `model.inputs`.
        strict: As in `in_order`.
    """
    # A Sequential model that was called on a tensor may have that tensor as its `input`.
    structure = model.input if isinstance(model, keras.Function) else model.inputs
    names = [tensor.name for tensor in model.inputs]
    arrays = in_order(owner, name, data, structure, names, strict)
    return _finite_arrays(owner, name, data, arrays, f", {expected_inputs(model)}")


def checked_samples(owner: str, name: str, data: Any, model: keras.Model) -> list[np.ndarray]:
    """Accepts one or more samples of the shapes that a model takes, as `model.predict` does.

    The arguments, and what it returns, are those of `checked_arrays`. A model may be none that
    `is_graph`; then the order is that of `keras.tree`, and shapes are not known.
    """
    expected = None
    if is_graph(model):
        arrays = checked_arrays(owner, name, data, model, strict=False)
        expected = [tensor.shape for tensor in model.inputs]
    else:
        arrays = _finite_arrays(owner, name, data, keras.tree.flatten(data), "")
    shapes = [array.shape for array in arrays]
    received = f"received arrays of shape {', '.join(map(str, shapes))}."
    if expected is not None and not (
        len(shapes) == len(expected) and all(map(_is_taken, shapes, expected))
    ):
        raise ValueError(
            f"{owner}: `{name}` must be an array for each input of the model, "
            f"{expected_inputs(model)}; {received}"
        )
    if len({shape[:1] for shape in shapes}) != 1 or not shapes[0][:1] or not shapes[0][0]:
        raise ValueError(
            f"{owner}: `{name}` must hold one or more samples, as many for every input; {received}"
        )
    batch_size = fixed_batch_size(model)
    stateful = any(getattr(layer, "stateful", False) for layer in layers_within(model))
    if stateful and batch_size and len(arrays[0]) % batch_size:
        raise ValueError(
            f"{owner}: `{name}` must hold a multiple of {batch_size} samples, the batch size "
            f"of the model, as it is stateful; received {len(arrays[0])}."
        )
    return arrays


def fixed_batch_size(model: keras.Model) -> int | None:
    """The batch size that a model was made for, or None."""
    return model.inputs[0].shape[0] if is_graph(model) else None


def _finite_arrays(
    owner: str, name: str, data: Any, arrays: list[Any], expected: str
) -> list[np.ndarray]:
    """Accepts finite arrays, those in `data`; `expected` says what the model takes."""
    if not all(hasattr(array, "__array__") or hasattr(array, "toarray") for array in arrays):
        raise TypeError(
            f"{owner}: `{name}` must be an array, as `model.predict` takes it; there must be an "
            f"array for each input of the model{expected}; received "
            f"{type(data).__name__}. Turn lists into arrays with numpy.asarray; of a dataset, take "
            "some batches and join them with numpy.concatenate."
        )
    arrays = [as_numpy(array) for array in arrays]
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays):
        raise ValueError(
            f"{owner}: `{name}` must be finite; received values that are infinite or NaN. Leave "
            "out the samples that have them, or give the values that training saw instead."
        )
    return arrays


def expected_inputs(model: keras.Model) -> str:
    """The names and shapes of a model's inputs, for errors."""
    return ", ".join(f"{tensor.name} {tuple(tensor.shape)}" for tensor in model.inputs)


def in_order(
    owner: str, argument: str, given: Any, structure: Any, names: list[str], strict: bool = True
) -> list[Any]:
    """Lists what is given for each input or output of a model, in the order that the model has.

    Args:
        owner: Name of the public function, for errors.
        argument: Name of its argument, for errors.
        given: One value, a list, a mapping by name, or whatever else the model's structure is.
        structure: `model.input` or `model.output`.
        names: The name of each input or output. A mapping may use them.
        strict: Whether to refuse what `model.predict` accepts but may misread: names that the
            model does not have, and a list where the model has names in another order.
    """
    found = dict(keras.tree.flatten_with_path(given))
    by_structure = [path for path, _ in keras.tree.flatten_with_path(structure)]
    by_name = [(name,) for name in names]
    may_have_more = isinstance(given, Mapping) and not strict
    for paths in (by_structure, by_name):
        if set(found) == set(paths) or (may_have_more and set(found) > set(paths)):
            return [found[path] for path in paths]
    if isinstance(given, Mapping):
        paths = by_structure if isinstance(structure, Mapping) else by_name
        missing = [path for path in paths if path not in found]
        raise ValueError(
            f"{owner}: `{argument}` must have the names {_joined(paths)}, as the model has them; "
            f"received {_joined(list(found))}"
            + (f": it has none for {', '.join(_joined(missing))}." if missing else ".")
        )
    is_unsorted = isinstance(structure, Mapping) and list(structure) != sorted(structure)
    if strict and is_unsorted and len(by_structure) > 1:
        raise ValueError(
            f"{owner}: `{argument}` must be a dictionary with the names {list(structure)}, as the "
            f"model was made with one; received {type(given).__name__}, whose order may be another."
        )
    return keras.tree.flatten(given)


def num_samples(data: Any) -> int:
    """The number of samples in a structure of arrays."""
    return len(keras.tree.flatten(data)[0])


def batches(data: Any, batch_size: int) -> Iterator[Any]:
    """Cuts a structure of arrays into batches; the last one may be smaller."""
    for start in range(0, num_samples(data), batch_size):
        part = slice(start, start + batch_size)
        yield keras.tree.map_structure(operator.itemgetter(part), data)


def _is_taken(shape: Shape, expected: Shape) -> bool:
    """Whether `predict` takes an array: a last axis of size one may be missing or additional."""
    if len(shape) == len(expected) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    elif len(shape) == len(expected) - 1 and expected[-1] == 1:
        shape = (*shape, 1)
    # The size of a batch does not matter.
    return fits((None, *shape[1:]), expected)


def _joined(paths: list[tuple[Any, ...]]) -> list[str]:
    return ["/".join(map(str, path)) for path in paths]


def as_numpy(array: Any) -> np.ndarray:
    """An array of any kind as one of NumPy."""
    if hasattr(array, "toarray"):  # a sparse matrix of SciPy
        return array.toarray()
    return keras.ops.convert_to_numpy(array) if keras.ops.is_tensor(array) else np.asarray(array)
