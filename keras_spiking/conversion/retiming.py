"""The same model with steps of another length, or another number of them."""

import inspect
from typing import Any

import keras

from keras_spiking import _checks
from keras_spiking.conversion import graph
from keras_spiking.conversion.spiking import compile_as
from keras_spiking.layers import KerasSpikingLayer, RepeatOverTime, SpikingActivation
from keras_spiking.layers.filter import FilterLayer
from keras_spiking.layers.sublayers import layers_within

_OWNER = "retime"


def retime(model: keras.Model, dt: Any = None, num_steps: int | None = None) -> keras.Model:
    """Makes a model with another `dt` or number of steps, on the same weights.

    The result shares its weights with `model`: what trains one trains the other. A model that is
    compiled gives a compiled model, with the same settings.

    After `convert`, with the default `integrate="input"`, T steps of `dt` say what one step of
    `T * dt` says. So a model of one step can be trained, which costs what the original's training
    costs, and then run for T steps.

    Args:
        model: A Sequential or functional model, such as `convert` returns.
        dt: Length of a time step in seconds, for all layers that have one: a positive number, or
            a scalar variable. Default: as it is.
        num_steps: Number of time steps for which inputs are repeated, by `RepeatOverTime`.
            Default: as it is.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If neither `dt` nor `num_steps` is given, the model has no layer that uses it,
            or its graph cannot be read.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras, keras_spiking, numpy as np
    >>> inputs = keras.Input((4,))
    >>> hidden = keras.layers.Dense(8, activation="relu")(inputs)
    >>> model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    >>> data = np.random.default_rng(0).normal(size=(100, 4))
    >>> one_step = keras_spiking.convert(model, num_steps=1, dt=0.032, example_data=data)
    >>> many_steps = keras_spiking.retime(one_step, dt=0.001, num_steps=32)
    >>> one, many = (each.predict(data, verbose=0) for each in (one_step, many_steps))
    >>> bool(np.allclose(one, many, atol=1e-5))
    True
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{_OWNER}: `model` must be a Keras model; received model={model!r} of type "
            f"{type(model).__name__}."
        )
    if not graph.is_graph(model):
        raise ValueError(
            f"{_OWNER}: `model` must be a Sequential model that is built, or a functional model, "
            f"so that its graph can be read; received {model.name!r} of type "
            f"{type(model).__name__}. Call a Sequential model once, or begin it with keras.Input."
        )
    if dt is None and num_steps is None:
        raise ValueError(
            f"{_OWNER}: `dt` or `num_steps` must be given; received None for both. Give what is "
            "to be another one."
        )
    if num_steps is not None:
        num_steps = _checks.positive_integer(_OWNER, "num_steps", num_steps)
    _check_uses(model, "dt", dt, KerasSpikingLayer)
    _check_uses(model, "num_steps", num_steps, RepeatOverTime)

    def retimed(layer: Any) -> Any:
        if isinstance(layer, RepeatOverTime) and num_steps is not None:
            return RepeatOverTime(num_steps, dtype=layer.dtype_policy, name=layer.name)
        if isinstance(layer, KerasSpikingLayer) and dt is not None:
            return _with_dt(layer, dt)
        return layer

    result = keras.models.clone_model(graph.functional(model), clone_function=retimed)
    compile_as(_OWNER, model, result)
    return result


def _check_uses(model: keras.Model, argument: str, value: Any, kind: type) -> None:
    """Checks that there is a layer that uses an argument, and none where it cannot be reached."""
    if value is None:
        return
    if not any(isinstance(layer, kind) for layer in model.layers):
        raise ValueError(
            f"{_OWNER}: `{argument}` must be None for a model without {kind.__name__} among its "
            f"layers; received {argument}={value!r} for model {model.name!r}."
        )
    for layer in model.layers:
        inner = [each for each in layers_within(layer) if each is not layer]
        if not isinstance(layer, KerasSpikingLayer) and any(
            isinstance(each, kind) for each in inner
        ):
            raise ValueError(
                f"{_OWNER}: `model` must not have {kind.__name__} within other layers; layer "
                f"{layer.name!r} has. Connect its layers in the model itself."
            )


def _with_dt(layer: Any, dt: Any) -> Any:
    """A layer over time with the same arguments and weights, but another `dt`."""
    if layer.weights and not isinstance(layer, (FilterLayer, SpikingActivation)):
        raise ValueError(
            f"{_OWNER}: `model` must not have layers of your own over time with weights, which "
            f"cannot be shared; layer {layer.name!r} ({type(layer).__name__}) has."
        )
    copy = made_again(
        layer,
        dt=dt,
        activity_regularizer=layer.activity_regularizer,
        trainable=layer.trainable,
        name=layer.name,
    )
    if isinstance(layer, FilterLayer):
        copy._share_weights(layer)
    return copy


def made_again(layer: Any, **options: Any) -> Any:
    """A new layer with the arguments of another, but for some, and without its weights."""
    # Not from its config: functions of the user's need not be serializable.
    arguments = {
        name: getattr(layer, name)
        for name, parameter in inspect.signature(type(layer)).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    return type(layer)(**{**arguments, "dtype": layer.dtype_policy, **options})
