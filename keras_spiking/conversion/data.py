"""The data that `convert` and `compare` receive."""

from typing import Any

import keras

from keras_spiking._data import checked_arrays
from keras_spiking.layers.shapes import fits


def checked_data(owner: str, name: str, data: Any, model: keras.Model) -> Any:
    """Accepts an array for each input of a model, in the structure that the model takes."""
    arrays = checked_arrays(owner, name, data, model)
    shapes = [array.shape for array in arrays]
    expected = [tuple(tensor.shape) for tensor in model.inputs]
    is_fit = len(shapes) == len(expected) and all(
        fits(shape[1:], wanted[1:]) and len(shape) == len(wanted)
        for shape, wanted in zip(shapes, expected, strict=True)
    )
    if not is_fit or len({shape[0] for shape in shapes}) != 1 or shapes[0][0] == 0:
        raise ValueError(
            f"{owner}: `{name}` must have one or more samples for each input of the model, of "
            f"shapes {expected}; received shapes {shapes}."
        )
    return keras.tree.pack_sequence_as(model.input, arrays)
