"""Arrays of samples: checked against a model's inputs, and cut into batches."""

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np


def checked_data(owner: str, name: str, data: Any, model: Any) -> Any:
    """Accepts an array for each input of a model, in the structure that the model takes."""
    expected = [tuple(tensor.shape) for tensor in keras.tree.flatten(model.input)]
    names = [tensor.name for tensor in keras.tree.flatten(model.input)]
    arrays = in_order(owner, name, data, model.input, names)
    if not all(hasattr(array, "shape") and hasattr(array, "dtype") for array in arrays):
        raise TypeError(
            f"{owner}: `{name}` must be an array, or as many as the model has inputs, as "
            f"`model.predict` takes them; received {type(data).__name__}. Turn lists into arrays "
            "with numpy.asarray; of a dataset, take some batches and join them with "
            "numpy.concatenate."
        )
    shapes = [tuple(array.shape) for array in arrays]
    fits = len(shapes) == len(expected) and all(
        len(shape) == len(want)
        and all(b is None or a == b for a, b in zip(shape[1:], want[1:], strict=True))
        for shape, want in zip(shapes, expected, strict=True)
    )
    if not fits or len({shape[0] for shape in shapes}) != 1 or shapes[0][0] == 0:
        raise ValueError(
            f"{owner}: `{name}` must have one or more samples for each input of the model, of "
            f"shapes {expected}; received shapes {shapes}."
        )
    arrays = [keras.ops.convert_to_numpy(array) for array in arrays]
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays):
        raise ValueError(
            f"{owner}: `{name}` must be finite; received values that are infinite or not a number. "
            "Leave out the samples that have them, or give the values that training saw instead."
        )
    return keras.tree.pack_sequence_as(model.input, arrays)


def in_order(owner: str, argument: str, given: Any, structure: Any, names: list[str]) -> list[Any]:
    """What is given for each input or output of a model, in the order that the model has them.

    Args:
        owner: Name of the public function, for errors.
        argument: Name of its argument, for errors.
        given: One value, a list, a mapping by name, or whatever else the model's structure is.
        structure: `model.input` or `model.output`.
        names: The name of each input or output, by which lists of them may be given too.
    """
    paths = [path for path, _ in keras.tree.flatten_with_path(structure)]
    found = dict(keras.tree.flatten_with_path(given))
    if isinstance(given, Mapping) and not isinstance(structure, Mapping):
        paths = [(name,) for name in names]
    if set(found) == set(paths):
        return [found[path] for path in paths]
    if isinstance(given, Mapping):
        raise ValueError(
            f"{owner}: `{argument}` must have the names {_named(paths)}, as the model has them; "
            f"received {_named(list(found))}."
        )
    if isinstance(structure, Mapping) and len(paths) > 1 and list(structure) != sorted(structure):
        raise ValueError(
            f"{owner}: `{argument}` must be a dictionary with the names {list(structure)}, as the "
            f"model was made with one; received {type(given).__name__}, whose order may be another."
        )
    return keras.tree.flatten(given)


def _named(paths: list[Any]) -> list[str]:
    return ["/".join(map(str, path)) for path in paths]


def num_samples(data: Any) -> int:
    """How many samples there are."""
    return len(keras.tree.flatten(data)[0])


def batches(data: Any, batch_size: int) -> Iterator[Any]:
    """The samples in batches; the last one may be smaller."""
    for start in range(0, num_samples(data), batch_size):
        part = slice(start, start + batch_size)
        yield keras.tree.map_structure(operator.itemgetter(part), data)
