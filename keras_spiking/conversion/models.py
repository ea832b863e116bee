"""Checks a model that is given, and compiles a model like another."""

import warnings
from typing import Any

import keras

from keras_spiking.conversion import graph


def check_model(owner: str, model: Any) -> None:
    """Checks that `model` is a Keras model whose graph can be read.

    Args:
        owner: Name of the public function, for errors.
        model: What the function received.

    Raises:
        TypeError: If it is not a Keras model.
        ValueError: If its graph cannot be read.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{owner}: `model` must be a Keras model; received model={model!r} "
            f"of type {type(model).__name__}."
        )
    if graph.is_graph(model):
        return
    if isinstance(model, keras.Sequential):
        advice = "Call it once on data, or begin it with keras.Input."
    else:
        advice = "Make it with keras.Sequential or keras.Model(inputs, outputs)."
    raise ValueError(
        f"{owner}: `model` must be a Sequential model that is built, or a functional model, "
        f"so that its graph can be read; received {model.name!r} of type "
        f"{type(model).__name__}. {advice}"
    )


def compile_like(owner: str, model: keras.Model, new_model: keras.Model) -> None:
    """Compiles `new_model` with the settings of `model`, if `model` is compiled."""
    config = model.get_compile_config()
    if not config:
        return
    try:
        new_model.compile_from_config(config)
    except (TypeError, ValueError) as error:
        warnings.warn(
            f"{owner}: the new model is not compiled, because some settings with which "
            f"{model.name!r} was compiled cannot be copied; compile it yourself. Keras says: "
            f"{error}",
            stacklevel=3,
        )
