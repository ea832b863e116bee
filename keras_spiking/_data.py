"""Arrays of samples: checked against a model's inputs, and cut into batches."""

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np


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
    if not all(hasattr(array, "__array__") or hasattr(array, "toarray") for array in arrays):
        raise TypeError(
            f"{owner}: `{name}` must be an array, as `model.predict` takes it; there must be an "
            f"array for each input of the model, {expected_inputs(model)}; received "
            f"{type(data).__name__}. Turn lists into arrays with numpy.asarray; of a dataset, take "
            "some batches and join them with numpy.concatenate."
        )
    arrays = [_as_numpy(array) for array in arrays]
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


def _joined(paths: list[tuple[Any, ...]]) -> list[str]:
    return ["/".join(map(str, path)) for path in paths]


def _as_numpy(array: Any) -> np.ndarray:
    if hasattr(array, "toarray"):  # a sparse matrix of SciPy
        return array.toarray()
    return keras.ops.convert_to_numpy(array) if keras.ops.is_tensor(array) else np.asarray(array)
