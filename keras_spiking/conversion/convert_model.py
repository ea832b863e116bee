"""Makes a spiking model of a trained one."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_spiking import _checks
from keras_spiking._types import InitializerLike
from keras_spiking.conversion.calibrate import PERCENTILE, calibrated_scales
from keras_spiking.conversion.data import checked_data
from keras_spiking.conversion.models import compile_like
from keras_spiking.conversion.rate_scale import (
    check_rate_scale,
    scale_of_each,
    warn_of_few_spikes,
)
from keras_spiking.conversion.spiking_copy import SpikingCopy, SpikingOptions
from keras_spiking.conversion.survey import Survey
from keras_spiking.layers.dt import TimeStep
from keras_spiking.layers.integration import INTEGRATE
from keras_spiking.layers.spiking_options import checked_voltage

_OWNER = "convert"


def convert(
    model: keras.Model,
    *,
    num_steps: int | None = None,
    dt: float | keras.Variable | None = None,
    spiking_aware_training: bool = True,
    rate_scale: float | str | Mapping[str, Any] | None = None,
    tau: float | None = None,
    readout: str = "average",
    max_pooling: str = "keep",
    seed: int | None = None,
    example_data: Any = None,
    target_rate: float | None = None,
    integrate: str | None = None,
    negative_spikes: bool = True,
    percentile: float = PERCENTILE,
    initial_voltage: float | np.ndarray | InitializerLike | None = None,
) -> keras.Model:
    r"""Makes a spiking model of a trained Keras model.

    The result is a new model with copies of the weights. The original does not change. If the
    original is compiled, the result is compiled with the same settings.

    An activation spikes if another layer follows it: a `SpikingActivation` takes its place. This
    holds for the `activation` of a layer, for activation layers, and for operations such as
    `keras.ops.relu`. The layers between activations work on all time steps at once, and so do
    other operations, such as `x + y` or `keras.ops.concatenate`.

    The final activation of an output, such as softmax, sigmoid or none, does not spike. It is
    applied to the readout: for a softmax, the weighted spikes are averaged over time, and the
    softmax is taken of that average.

    With `num_steps`, the inputs are the same at every step. What comes before the first spiking
    activation is then computed once, and its result is repeated over time. Neurons integrate their
    input (`integrate="input"`), and layers that are not linear work on the mean of their inputs so
    far (`RunningAverage`). The result converges on the original with more steps: after :math:`T`
    steps, the mean output is that of the original with each activation rounded to a multiple of
    :math:`1 / (s \Delta t\, T)`, where :math:`s` is the scale (`rate_scale`).

    `BatchNormalization`, dropout and random augmentation work as before in inference. In training,
    they treat each time step as a sample of its own; those that are computed once treat each
    sample as one.

    The layers of nested models become layers of the result: layer `conv` of a nested model `block`
    is called `block_conv`. The spiking activation of a layer `conv` is called `conv_spikes`. The
    spikes of an activation layer have the name of that layer. Outputs keep their names, so an
    output layer `classes` has its weights in a layer `classes_over_time`. `get_weights` returns
    the weights in the order of the result's `layers`.

    Args:
        model: A trained model, Sequential or functional. It may have branches, shared layers,
            nested models, several inputs and several outputs. With `integrate="input"`, a layer
            may be anything that is a function of its sample: also attention, a recurrent layer
            over an axis of the sample, or a layer of your own, which is tried on random numbers
            if it takes them. Such layers do not spike, and a warning names them. With
            `integrate="activation"`, these layers can be converted: Dense, EinsumDense,
            convolutions, pooling, BatchNormalization and other normalization, Dropout and noise,
            random augmentation, merges, reshapes, cropping, padding, upsampling, Rescaling,
            Resizing, Embedding, Identity, activations, layers that
            `keras_spiking.conversion.register` was told about, and operations and functions of
            `keras.ops` that treat each sample by itself.
        num_steps: Number of time steps for which the inputs are shown. The result takes the
            inputs of `model`, and returns outputs of the same shape. Default: the result takes
            inputs that change over time, `(batch, time, ...)`, with any number of steps.
        dt: Length of a time step in seconds: a positive number, or a scalar variable. Default:
            `keras_spiking.default.dt`.
        spiking_aware_training: Whether training sees spikes; see `SpikingActivation`.
        rate_scale: Factor by which firing rates are multiplied. The height of spikes is divided
            by it, so the expected output stays the same. It is one number for all layers; or a
            mapping of layer names (those of the result, without `_spikes`) to numbers, or to
            arrays with a number for each channel of the last axis (layers that are not in it have
            1); or `"calibrate"`, which finds a scale for each channel. Default: `"calibrate"` with
            `example_data`, else 1, with a warning if that makes few spikes.
        tau: Time constant, in seconds, of a `Lowpass` after each `SpikingActivation`; only with
            `integrate="activation"`. Default: no filter.
        readout: How an output over time becomes the result: `"average"` (the mean over time),
            `"last"` (the last step, only with `integrate="activation"`), or `"sequence"` (all
            steps, `(batch, time, ...)`).
        max_pooling: `"keep"`, or `"average"` to replace all max pooling by average pooling. With
            `integrate="activation"`, the maximum of spikes is higher than that of the rates.
        seed: An integer gives the same initial voltages at every call, None gives new ones.
        example_data: Inputs as in training, to calibrate with: an array for each input of the
            model. Some hundred samples are enough.
        target_rate: With `example_data`: the firing rate in hertz that the percentile of the
            absolute activation gets, in each channel. Default: `1 / dt`, one spike in each step.
        integrate: What neurons integrate, `"input"` or `"activation"`; see `SpikingActivation`.
            Default: `"input"` with `num_steps`, where the inputs are constant, else
            `"activation"`.
        negative_spikes: Whether neurons can take spikes back; see `SpikingActivation`.
        percentile: The percentile, in percent, that gets the `target_rate`.
        initial_voltage: As in `SpikingActivation`. Default: 0.5 with `integrate="input"`, so that
            activations are rounded to the nearest multiple, else `"random_uniform"`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If an argument has a wrong value, the graph of the model cannot be read, no
            activation would spike, or layers cannot be converted. Those are layers that keep a
            state between samples; with `integrate="activation"` also recurrent layers, attention,
            and a softmax that other layers follow. The message lists all of them, each with the
            reason and what to do.
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
    if tau is not None:
        tau = _checks.positive_number(_OWNER, "tau", tau, "a number of seconds")
    seconds = TimeStep(_OWNER, dt).as_float()
    if integrate is None:
        integrate = "activation" if num_steps is None else "input"
    if initial_voltage is None:
        initial_voltage = 0.5 if integrate == "input" else "random_uniform"
    if rate_scale is None and example_data is not None:
        rate_scale = "calibrate"
    options = SpikingOptions(
        num_steps=num_steps,
        dt=dt,
        spiking_aware_training=_checks.boolean(
            _OWNER, "spiking_aware_training", spiking_aware_training
        ),
        tau=tau,
        readout=_checks.choice(_OWNER, "readout", readout, ("average", "last", "sequence")),
        seed=_checks.seed(_OWNER, seed),
        negative_spikes=_checks.boolean(_OWNER, "negative_spikes", negative_spikes),
        initial_voltage=initial_voltage,
    )
    checked_voltage(_OWNER, initial_voltage)
    _checks.choice(_OWNER, "max_pooling", max_pooling, ("keep", "average"))
    _checks.choice(_OWNER, "integrate", integrate, INTEGRATE)
    if integrate == "input":
        _check_for_input(options)
    check_rate_scale(rate_scale, example_data, target_rate, percentile)

    survey = _survey(model, integrate)
    if rate_scale == "calibrate":
        example_data = checked_data(_OWNER, "example_data", example_data, survey.model)
        target_rate = 1 / seconds if target_rate is None else target_rate
        scales = calibrated_scales(survey, max_pooling, example_data, target_rate, percentile)
    else:
        if rate_scale is None:
            warn_of_few_spikes(num_steps, seconds, integrate)
            rate_scale = 1.0
        scales = scale_of_each(rate_scale, survey.spiking)
    spiking_model = SpikingCopy(survey, max_pooling, scales, options).build()
    compile_like(_OWNER, model, spiking_model)
    return spiking_model


def _survey(model: keras.Model, integrate: str) -> Survey:
    """Looks through a model in which something must spike; warns of layers that do not."""
    survey = Survey(_OWNER, model, integrate)
    if not survey.spiking:
        raise ValueError(
            f"{_OWNER}: `model` must have an activation that another layer follows, or nothing "
            f"would spike; model {model.name!r} has none (a final activation does not spike)."
        )
    if survey.not_spiking:
        warnings.warn(
            f"{_OWNER}: these layers of {model.name!r} run on the mean of their inputs, and do not "
            f"spike: {', '.join(survey.not_spiking)}.",
            stacklevel=3,
        )
    return survey


def _check_for_input(options: SpikingOptions) -> None:
    """Refuses arguments that do not work with neurons that integrate their input."""
    if options.tau is not None:
        raise ValueError(
            f'{_OWNER}: `tau` must be None with integrate="input", the default with `num_steps`; '
            f"received tau={options.tau!r}. A filter changes the mean of the spikes, which is what "
            'converges. Leave out `tau`, or use integrate="activation".'
        )
    if options.readout == "last":
        raise ValueError(
            f'{_OWNER}: `readout` must be "average" or "sequence" with integrate="input", the '
            'default with `num_steps`; received readout="last". A single step may have spikes '
            "that take back others; their mean is what converges. Use "
            'readout="average", or integrate="activation".'
        )
