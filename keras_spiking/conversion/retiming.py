"""Makes a model with another `dt`, or another number of time steps."""

import inspect
from typing import Any

import keras

from keras_spiking import _checks
from keras_spiking.conversion import graph
from keras_spiking.conversion.models import check_model, compile_like
from keras_spiking.layers import KerasSpikingLayer, RepeatOverTime, SpikingActivation
from keras_spiking.layers.filter import FilterLayer
from keras_spiking.layers.sublayers import layers_within

_OWNER = "retime"


def retime(
    model: keras.Model, dt: float | keras.Variable | None = None, num_steps: int | None = None
) -> keras.Model:
    """Makes a model with another `dt` or number of steps, on the same weights.

    The result shares its weights with `model`: training one trains the other. If `model` is
    compiled, the result is compiled with the same settings.

    After `convert` with `integrate="input"`, which is the default with `num_steps`, T steps of `dt`
    give the same result as one step of `T * dt`. So you can train a model of one step, which costs
    as much as training the original, and then run it for T steps.

    Args:
        model: A Sequential or functional model, such as `convert` returns.
        dt: Length of a time step in seconds, for all layers that have one: a positive number, or
            a scalar variable. Default: unchanged.
        num_steps: Number of time steps over which `RepeatOverTime` repeats the inputs. Default:
            unchanged.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If neither `dt` nor `num_steps` is given, if the model has no layer that uses
            what is given, or if its graph cannot be read.
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
    check_model(_OWNER, model)
    if dt is None and num_steps is None:
        raise ValueError(
            f"{_OWNER}: `dt` or `num_steps` must be given; received None for both. Give the one "
            "that is to change."
        )
    if num_steps is not None:
        num_steps = _checks.positive_integer(_OWNER, "num_steps", num_steps)
    _check_uses(model, "dt", dt, KerasSpikingLayer)
    _check_uses(model, "num_steps", num_steps, RepeatOverTime)

    def retimed(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, RepeatOverTime) and num_steps is not None:
            return RepeatOverTime(num_steps, dtype=layer.dtype_policy, name=layer.name)
        if isinstance(layer, KerasSpikingLayer) and dt is not None:
            return _with_dt(layer, dt)
        return layer

    result = keras.models.clone_model(graph.functional(model), clone_function=retimed)
    compile_like(_OWNER, model, result)
    return result


def _check_uses(model: keras.Model, argument: str, value: Any, kind: type) -> None:
    """Checks that a layer of the model uses an argument, and that none within a layer does."""
    if value is None:
        return
    if not any(isinstance(layer, kind) for layer in model.layers):
        raise ValueError(
            f"{_OWNER}: `{argument}` must be None for a model without {kind.__name__} among its "
            f"layers; received {argument}={value!r} for model {model.name!r}."
        )
    for layer in model.layers:
        if isinstance(layer, KerasSpikingLayer):
            continue
        if any(isinstance(inner, kind) for inner in layers_within(layer) if inner is not layer):
            raise ValueError(
                f"{_OWNER}: `model` must not have {kind.__name__} within other layers; layer "
                f"{layer.name!r} has. Connect its layers in the model itself."
            )


def _with_dt(layer: KerasSpikingLayer, dt: float | keras.Variable) -> KerasSpikingLayer:
    """A layer over time with the same arguments and weights, except for `dt`."""
    if layer.weights and not isinstance(layer, (FilterLayer, SpikingActivation)):
        raise ValueError(
            f"{_OWNER}: `model` must not have layers of your own over time with weights, because "
            f"these cannot be shared; layer {layer.name!r} ({type(layer).__name__}) has."
        )
    copy = remade(
        layer,
        dt=dt,
        activity_regularizer=layer.activity_regularizer,
        trainable=layer.trainable,
        name=layer.name,
    )
    if isinstance(layer, FilterLayer):
        copy._share_weights(layer)
    return copy


def remade(layer: KerasSpikingLayer, **options: Any) -> KerasSpikingLayer:
    """A new layer with the same arguments, except for `options`, and without the weights."""
    # It is not made from the config, because functions of the user may have none.
    arguments = {
        name: getattr(layer, name)
        for name, parameter in inspect.signature(type(layer)).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    return type(layer)(**{**arguments, "dtype": layer.dtype_policy, **options})
