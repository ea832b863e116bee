"""Makes a spiking model of a trained one."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_spiking import _checks
from keras_spiking.conversion.calibrate import PERCENTILE, calibrated_scales
from keras_spiking.conversion.data import checked_data
from keras_spiking.conversion.spiking_copy import SpikingCopy
from keras_spiking.conversion.survey import Survey
from keras_spiking.layers.dt import TimeStep
from keras_spiking.layers.integration import INTEGRATE
from keras_spiking.layers.spiking_options import checked_voltage

_OWNER = "convert"
_ARRAYS = (list, tuple, np.ndarray)
# With fewer spikes than this for an activation of 1, hardly anything is left of it.
_FEW_SPIKES = 1


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
    integrate: str | None = None,
    negative_spikes: bool = True,
    percentile: float = PERCENTILE,
    initial_voltage: Any = None,
) -> keras.Model:
    r"""Makes a spiking model of a trained Keras model.

    The result is a new model with copies of the weights; the original stays as it is. Every
    activation that another layer follows, whether `activation=` of a layer or a layer of its own,
    becomes a `SpikingActivation`, and the layers between work on all time steps at once. What is
    the same at every step is computed once: inputs are repeated over time where the first
    activation spikes. A model that is compiled gives a compiled model, with the same settings.

    Where inputs stand still, which is so with `num_steps`, neurons integrate their input
    (`integrate="input"`), and layers that are not linear work on the mean of their inputs so far
    (`RunningAverage`). So with more steps the result converges on the original: after :math:`T`
    steps the mean output is that of the original with each activation rounded to a multiple of
    :math:`1 / (s \Delta t\, T)`, with the scale :math:`s` (`rate_scale`).

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
            models, several inputs and outputs. With `integrate="input"` its layers may be
            anything that is a function of its sample, also attention, recurrent layers over an
            axis of the sample, and layers of your own, which are tried on random numbers where
            they take them; those without activation of single elements do not spike, and a
            warning lists what one might expect to. With
            `"activation"` it may consist of Dense, EinsumDense, convolutions, pooling,
            BatchNormalization and other normalization, Dropout and noise, random augmentation,
            merges, reshapes, cropping, padding, upsampling, Rescaling, Resizing, Embedding,
            Identity, activations, layers that are told to `keras_spiking.conversion.register`,
            and operators and functions of `keras.ops` that treat each sample for itself.
        num_steps: Number of time steps for which the inputs are shown; the result takes the
            inputs of `model`, and returns outputs of the same shape. Default: the result takes
            inputs that change over time, `(batch, time, ...)`, for any number of steps.
        dt: Length of a time step in seconds: a positive number, or a scalar variable. Default:
            `keras_spiking.default.dt`.
        spiking_aware_training: Whether training sees spikes; see `SpikingActivation`.
        rate_scale: Factor of the firing rates, by which the height of spikes is divided, so that
            outputs are expected to be the same: a number for all layers; a mapping of names of
            layers (as in the result, without `_spikes`) to numbers, or to arrays with a number
            for each channel of the last axis, 1 for layers without; or `"calibrate"`, which
            finds one for each channel. Default: `"calibrate"` with `example_data`, else 1, with a
            warning if that makes few spikes.
        tau: Time constant, in seconds, of a `Lowpass` after each `SpikingActivation`, only with
            `integrate="activation"`. Default: no filter.
        readout: What is made of an output over time: `"average"`, `"last"` (the last step, only
            with `integrate="activation"`), or `"sequence"` (all steps, as `(batch, time, ...)`).
        max_pooling: `"keep"`, or `"average"` for average pooling in place of all max pooling:
            with `integrate="activation"`, the maximum of spikes is higher than that of the rates.
        seed: Integer for the same initial voltages at every call; None for fresh ones.
        example_data: Inputs as in training, to calibrate with: an array or as many as the model
            has inputs. Some hundred samples are enough.
        target_rate: With `example_data`: the firing rate in hertz, in each channel, of the
            percentile of its activation (its absolute value). Default: `1 / dt`, one spike in
            each step.
        integrate: What neurons integrate, `"input"` or `"activation"`; see `SpikingActivation`.
            Default: `"input"` with `num_steps`, for then inputs stand still, else `"activation"`.
        negative_spikes: Whether neurons take spikes back; see `SpikingActivation`.
        percentile: The percentile that is brought to `target_rate`, in percent.
        initial_voltage: As in `SpikingActivation`. Default: 0.5 with `integrate="input"`, which
            makes rounding of it, else `"random_uniform"`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If an argument has a value that it cannot have, the graph of the model cannot
            be read, nothing in it would spike, or it has layers that cannot be converted (that keep
            a state between samples; with `integrate="activation"` also recurrent layers,
            attention, or a softmax that other layers follow): all are listed, with the reason
            and what to do.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras, keras_spiking, numpy as np
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((28, 28, 1)),
    ...         keras.layers.Conv2D(8, 3, activation="relu"),
    ...         keras.layers.Flatten(),
    ...         keras.layers.Dense(10, activation="softmax"),
    ...     ]
    ... )
    >>> images = np.random.default_rng(0).random((100, 28, 28, 1))
    >>> spiking = keras_spiking.convert(model, num_steps=32, example_data=images)
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
    if integrate is None:
        integrate = "activation" if num_steps is None else "input"
    _checks.choice(_OWNER, "integrate", integrate, INTEGRATE)
    if integrate == "input":
        _check_for_input(tau, readout)
    negative_spikes = _checks.boolean(_OWNER, "negative_spikes", negative_spikes)
    if initial_voltage is None:
        initial_voltage = 0.5 if integrate == "input" else "random_uniform"
    checked_voltage(_OWNER, initial_voltage)
    if rate_scale is None and example_data is not None:
        rate_scale = "calibrate"
    _check_rate_scale(rate_scale, example_data, target_rate, percentile)

    survey = Survey(_OWNER, model, integrate)
    if not survey.spiking:
        raise ValueError(
            f"{_OWNER}: `model` must have an activation that another layer follows, or nothing "
            f"would spike; model {model.name!r} has none (a final activation does not spike)."
        )
    if rate_scale == "calibrate":
        example_data = checked_data(_OWNER, "example_data", example_data, survey.model)
        target_rate = 1 / seconds if target_rate is None else target_rate
        scales = calibrated_scales(survey, max_pooling, example_data, target_rate, percentile)
    else:
        if rate_scale is None:
            _warn_of_few_spikes(num_steps, seconds, integrate)
            rate_scale = 1.0
        scales = _scales(rate_scale, survey.spiking)
    if survey.not_spiking:
        warnings.warn(
            f"{_OWNER}: these layers of {model.name!r} run on the mean of their inputs, and do not "
            f"spike: {', '.join(survey.not_spiking)}.",
            stacklevel=2,
        )

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
        negative_spikes=negative_spikes,
        initial_voltage=initial_voltage,
    ).model
    compile_as(_OWNER, model, converted)
    return converted


def _check_for_input(tau: Any, readout: str) -> None:
    """Refuses what neurons that integrate their input cannot go with."""
    if tau is not None:
        raise ValueError(
            f'{_OWNER}: `tau` must be None with integrate="input", the default with `num_steps`; '
            f"received tau={tau!r}. A filter changes the mean of the spikes, which is what "
            'converges. Leave out `tau`, or use integrate="activation".'
        )
    if readout == "last":
        raise ValueError(
            f'{_OWNER}: `readout` must be "average" or "sequence" with integrate="input", the '
            'default with `num_steps`; received readout="last". A single step may hold spikes '
            "that take back others; their mean is what converges. Use "
            'readout="average", or integrate="activation".'
        )


def _check_rate_scale(
    rate_scale: Any, example_data: Any, target_rate: Any, percentile: Any
) -> None:
    """Checks what can be checked without the model."""
    percentile = _checks.positive_number(_OWNER, "percentile", percentile, "a number of percent")
    if percentile > 100:
        raise ValueError(
            f"{_OWNER}: `percentile` must be at most 100; received percentile={percentile!r}."
        )
    if isinstance(rate_scale, str) and rate_scale == "calibrate":
        if example_data is None:
            raise ValueError(
                f'{_OWNER}: rate_scale="calibrate" needs `example_data`; received '
                "example_data=None. Give some hundred inputs as in training."
            )
        if target_rate is not None:
            _checks.positive_number(_OWNER, "target_rate", target_rate, "a number of hertz")
        return
    own_percentile = None if percentile == PERCENTILE else percentile
    for name, value in (
        ("example_data", example_data),
        ("target_rate", target_rate),
        ("percentile", own_percentile),
    ):
        if value is not None:
            raise ValueError(
                f'{_OWNER}: `{name}` is for rate_scale="calibrate" only, which needs '
                f"`example_data`; received rate_scale={rate_scale!r}."
            )
    if rate_scale is None:
        return
    if isinstance(rate_scale, Mapping):
        for name, scale in rate_scale.items():
            for each in np.ravel(scale) if isinstance(scale, _ARRAYS) else [scale]:
                _checks.positive_number(_OWNER, f"rate_scale[{name!r}]", each)
    elif isinstance(rate_scale, (str, *_ARRAYS)):
        error = ValueError if isinstance(rate_scale, str) else TypeError
        raise error(
            f"{_OWNER}: `rate_scale` must be a positive number, a mapping of layer names to them "
            f'or to arrays of them, or "calibrate"; received rate_scale={rate_scale!r}.'
        )
    else:
        _checks.positive_number(_OWNER, "rate_scale", rate_scale)


def _warn_of_few_spikes(num_steps: int | None, dt: float, integrate: str) -> None:
    """Warns if few spikes stand for an activation near 1, which nobody has thought of."""
    if num_steps is None or num_steps * dt >= _FEW_SPIKES:
        return
    effect = (
        f"activations are rounded to multiples of {1 / (num_steps * dt):.3g}"
        if integrate == "input"
        else "neurons hardly fire"
    )
    warnings.warn(
        f"{_OWNER}: an activation of 1 makes {num_steps * dt:.3g} spikes in all {num_steps} steps "
        f"of {dt:g} s, so if activations are near 1, {effect}, and outputs may be close to chance. "
        "Give some hundred inputs as `example_data`, with which each layer is brought to one "
        "spike in a step, or a `rate_scale` of your own, such as rate_scale=1.0 if that is meant.",
        stacklevel=3,
    )


def _scales(rate_scale: Any, names: list[str]) -> dict[str, Any]:
    """The scale of each layer that spikes: a number, or one for each channel."""
    if not isinstance(rate_scale, Mapping):
        return dict.fromkeys(names, float(rate_scale))
    unknown = [name for name in rate_scale if name not in names]
    if unknown:
        raise ValueError(
            f"{_OWNER}: `rate_scale` must name layers whose activation spikes, which are {names}; "
            f"received {unknown}."
        )
    return {name: rate_scale.get(name, 1.0) for name in names}


def compile_as(owner: str, model: keras.Model, converted: keras.Model) -> None:
    """Compiles a model made of another as that is, if it is."""
    config = model.get_compile_config()
    if not config:
        return
    try:
        converted.compile_from_config(config)
    except (TypeError, ValueError) as error:
        warnings.warn(
            f"{owner}: the new model is not compiled, because a part of what "
            f"{model.name!r} was compiled with cannot be copied; compile it yourself. Keras says: "
            f"{error}",
            stacklevel=3,
        )
