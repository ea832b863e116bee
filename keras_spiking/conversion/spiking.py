"""Makes a spiking model of a trained one."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras

from keras_spiking import _checks
from keras_spiking.conversion.calibrate import calibrated_scales
from keras_spiking.conversion.copies import SpikingCopy
from keras_spiking.conversion.data import checked_data
from keras_spiking.conversion.survey import Survey
from keras_spiking.layers.time_step import TimeStep

_OWNER = "convert"


def convert(
    model: keras.Model,
    *,
    num_steps: int | None = None,
    dt: Any = None,
    spiking_aware_training: bool = True,
    rate_scale: Any = None,
    tau: float | None = None,
    readout: str = "average",
    max_pooling: str = "keep",
    seed: int | None = None,
    example_data: Any = None,
    target_rate: float | None = None,
) -> keras.Model:
    r"""Makes a spiking model of a trained Keras model.

    The result is a new model with copies of the weights; the original stays as it is. Every
    activation that another layer follows, whether `activation=` of a layer or a layer of its own,
    becomes a `SpikingActivation`, and the layers between work on all time steps at once. What is
    the same at every step is computed once: inputs are repeated over time where the first
    activation spikes. A model that is compiled gives a compiled model, with the same settings.

    The final activation of an output, such as softmax, sigmoid or none, does not spike: it is
    applied to the readout. So for a softmax the weighted spikes are averaged over time, and the
    softmax is taken of that average.

    `BatchNormalization` works as before in inference. In training, it, dropout and random
    augmentation see each step as a sample, but for what comes before the first activation: where
    inputs are the same at every step, that too is drawn once.

    Operators and functions, such as `x + y` or `keras.ops.concatenate`, work at each step too. An
    activation among them, such as `keras.ops.relu`, spikes like one that is a layer.

    The layers of nested models become layers of the result: layer `conv` of `block` is called
    `block_conv`. What spikes for layer `conv` is called `conv_spikes`; for an activation layer,
    as that layer. Outputs keep their names, and the weights of an output layer `classes` are in
    `classes_over_time`. `get_weights` has the weights in the order of the result's `layers`.

    Args:
        model: A trained model: Sequential, or functional with branches, shared layers, nested
            models, several inputs and outputs. It may consist of Dense, EinsumDense, convolutions,
            pooling, BatchNormalization and other normalization, Dropout and noise, random
            augmentation, merges, reshapes, cropping, padding, upsampling, Rescaling, Resizing,
            Embedding, Identity, activations, layers that are told to
            `keras_spiking.conversion.register`, and operators and functions of `keras.ops` that
            treat each sample for itself.
        num_steps: Number of time steps for which the inputs are shown; the result takes the
            inputs of `model`, and returns outputs of the same shape. Default: the result takes
            inputs that change over time, `(batch, time, ...)`, for any number of steps.
        dt: Length of a time step in seconds: a positive number, or a scalar variable. Default:
            `keras_spiking.default.dt`.
        spiking_aware_training: Whether training sees spikes; see `SpikingActivation`.
        rate_scale: Factor of the firing rates, by which the height of spikes is divided, so that
            outputs are expected to be the same: a number for all layers; a mapping of names of
            layers (as in the result, without `_spikes`) to numbers, 1 for layers without; or
            `"calibrate"`. Default: 1, with a warning if an activation of 1 then makes less than
            one spike in all steps.
        tau: Time constant, in seconds, of a `Lowpass` after each `SpikingActivation`. Default:
            no filter.
        readout: What is made of an output over time: `"average"`, `"last"` (the last step), or
            `"sequence"` (all steps, as `(batch, time, ...)`).
        max_pooling: `"keep"`, or `"average"` for average pooling in place of all max pooling:
            the maximum of spikes is higher than that of the rates.
        seed: Integer for the same initial voltages at every call; None for fresh ones.
        example_data: With `rate_scale="calibrate"`: inputs as in training, an array or as many
            as the model has inputs. Some hundred samples are enough.
        target_rate: With `rate_scale="calibrate"`: the firing rate in hertz, in each layer, of
            the 99.9th percentile of its activation (its absolute value) on `example_data`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If an argument has a value that it cannot have, the graph of the model cannot
            be read, nothing in it would spike, or it has layers that cannot be converted (such as
            recurrent layers, attention, or a softmax that other layers follow): all are listed,
            with the reason and what to do.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras, keras_spiking
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((28, 28, 1)),
    ...         keras.layers.Conv2D(8, 3, activation="relu"),
    ...         keras.layers.Flatten(),
    ...         keras.layers.Dense(10, activation="softmax"),
    ...     ]
    ... )
    >>> spiking = keras_spiking.convert(model, num_steps=20, dt=0.1)
    >>> spiking.output_shape
    (None, 10)
    >>> [layer.name for layer in spiking.layers if "spikes" in layer.name]
    ['conv2d_spikes']
    """
    if num_steps is not None:
        num_steps = _checks.positive_integer(_OWNER, "num_steps", num_steps)
    seconds = TimeStep(_OWNER, dt).as_float()
    spiking_aware_training = _checks.boolean(
        _OWNER, "spiking_aware_training", spiking_aware_training
    )
    if tau is not None:
        tau = _checks.positive_number(_OWNER, "tau", tau, "a number of seconds")
    _checks.choice(_OWNER, "readout", readout, ("average", "last", "sequence"))
    _checks.choice(_OWNER, "max_pooling", max_pooling, ("keep", "average"))
    seed = _checks.seed(_OWNER, seed)
    _check_rate_scale(rate_scale, example_data, target_rate)

    survey = Survey(_OWNER, model)
    if not survey.spiking:
        raise ValueError(
            f"{_OWNER}: `model` must have an activation that another layer follows, or nothing "
            f"would spike; model {model.name!r} has none (a final activation does not spike)."
        )
    if rate_scale == "calibrate":
        example_data = checked_data(_OWNER, "example_data", example_data, survey.model)
        assert target_rate is not None  # checked above
        scales = calibrated_scales(survey, max_pooling, example_data, target_rate)
    else:
        if rate_scale is None:
            _warn_of_silence(num_steps, seconds)
            rate_scale = 1.0
        scales = _scales(rate_scale, survey.spiking)

    converted = SpikingCopy(
        survey,
        num_steps=num_steps,
        dt=dt,
        spiking_aware_training=spiking_aware_training,
        rate_scales=scales,
        tau=tau,
        readout=readout,
        max_pooling=max_pooling,
        seed=seed,
    ).model
    _compile_as(model, converted)
    return converted


def _check_rate_scale(rate_scale: Any, example_data: Any, target_rate: Any) -> None:
    """Checks what can be checked without the model."""
    if isinstance(rate_scale, str) and rate_scale == "calibrate":
        for name, value in (("example_data", example_data), ("target_rate", target_rate)):
            if value is None:
                raise ValueError(
                    f'{_OWNER}: rate_scale="calibrate" needs `example_data` and `target_rate` (in '
                    f"hertz); received {name}=None."
                )
        _checks.positive_number(_OWNER, "target_rate", target_rate, "a number of hertz")
        return
    for name, value in (("example_data", example_data), ("target_rate", target_rate)):
        if value is not None:
            raise ValueError(
                f'{_OWNER}: `{name}` is for rate_scale="calibrate" only; received rate_scale='
                f"{rate_scale!r}."
            )
    if rate_scale is None:
        return
    if isinstance(rate_scale, Mapping):
        for name, scale in rate_scale.items():
            _checks.positive_number(_OWNER, f"rate_scale[{name!r}]", scale)
    elif isinstance(rate_scale, (str, list, tuple)):
        error = ValueError if isinstance(rate_scale, str) else TypeError
        raise error(
            f"{_OWNER}: `rate_scale` must be a positive number, a mapping of layer names to them, "
            f'or "calibrate"; received rate_scale={rate_scale!r}.'
        )
    else:
        _checks.positive_number(_OWNER, "rate_scale", rate_scale)


def _warn_of_silence(num_steps: int | None, dt: float) -> None:
    """Warns if an activation near 1 would hardly fire, which nobody has thought of."""
    if num_steps is None or num_steps * dt >= 1:
        return
    warnings.warn(
        f"{_OWNER}: an activation of 1 makes {num_steps * dt:.3g} spikes in all {num_steps} steps "
        f"of {dt:g} s, so if activations are near 1, neurons hardly fire, and outputs are "
        'close to chance. Give rate_scale="calibrate" with `example_data` and '
        f"target_rate={1 / dt:g} (one spike in each step), or a `rate_scale` of your own, such as "
        "rate_scale=1.0 if that is meant.",
        stacklevel=3,
    )


def _scales(rate_scale: Any, names: list[str]) -> dict[str, float]:
    """The scale of each layer that spikes."""
    if not isinstance(rate_scale, Mapping):
        return dict.fromkeys(names, float(rate_scale))
    unknown = [name for name in rate_scale if name not in names]
    if unknown:
        raise ValueError(
            f"{_OWNER}: `rate_scale` must name layers whose activation spikes, which are {names}; "
            f"received {unknown}."
        )
    return {name: float(rate_scale.get(name, 1.0)) for name in names}


def _compile_as(model: keras.Model, converted: keras.Model) -> None:
    """Compiles the converted model as the model is, if it is."""
    config = model.get_compile_config()
    if not config:
        return
    try:
        converted.compile_from_config(config)
    except (TypeError, ValueError) as error:
        warnings.warn(
            f"{_OWNER}: the converted model is not compiled, because a part of what "
            f"{model.name!r} was compiled with cannot be copied; compile it yourself. Keras says: "
            f"{error}",
            stacklevel=3,
        )
