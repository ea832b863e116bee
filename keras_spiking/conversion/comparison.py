"""Compares a spiking model with its original."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking import _checks
from keras_spiking._data import num_samples
from keras_spiking.conversion.data import checked_data
from keras_spiking.conversion.decisions import Decisions
from keras_spiking.conversion.report import Report
from keras_spiking.conversion.side_by_side import SideBySide
from keras_spiking.conversion.survey import Survey
from keras_spiking.conversion.totals import mean_share
from keras_spiking.layers import RepeatOverTime, SpikingActivation

_OWNER = "compare"


def compare(
    model: keras.Model,
    spiking_model: keras.Model,
    data: Any,
    labels: Any = None,
    dts: Sequence[float] | None = None,
    num_steps: Sequence[int] | None = None,
    batch_size: int = 32,
) -> Report:
    """Compares a converted model with its original: what it returns, and how much it spikes.

    The spiking model runs on all of the data once for each `dt`, for the largest number of steps.
    Neither model changes. Only one batch is in memory at a time, and many steps run in pieces.

    The report says how often the two models decide alike. What an output decides depends on its
    labels. Without labels it depends on the loss that `model` was compiled with, and without a
    loss on the final activation:

    - Classes: the greatest unit decides. This holds after a softmax, and where there are several
      units without activation (with several outputs, only if the labels or the loss say so).
    - Yes or no: each unit decides by a threshold. It is 0.5 after a sigmoid. Without activation, if
      the labels are 0 and 1 or the loss is binary, it is 0 (0.5 if the model was trained to return
      0 and 1 themselves).
    - Numbers, such as coordinates of boxes: they decide nothing, and have an error only.

    With several outputs, agreement and accuracy are means over the outputs that have them. The
    `outputs` of a `Result` have those of each output.

    Args:
        model: The original.
        spiking_model: What `convert(model, num_steps=..., readout=...)` returned, with the readout
            `"average"` or `"last"`. It may be trained further, or loaded from a file.
        data: Inputs: an array for each input of the model, in its structure or by name.
        labels: The correct decisions: classes as integers or as one-hot vectors, or 0 or 1 for each
            unit. With several outputs, labels for each, in the structure of the outputs or by name;
            None for an output without. An output whose labels are other numbers decides nothing.
            Default: no accuracy.
        dts: Lengths of a time step in seconds. Default: that of the spiking model.
        num_steps: Numbers of time steps. Default: that of the spiking model.
        batch_size: Number of samples in a batch.

    Returns:
        A `keras_spiking.conversion.Report`, with a `Result` for each pair of `dts` and `num_steps`.
        Each `Result` has a `LayerResult` for each spiking layer.

    Raises:
        ValueError: If a value or shape is wrong, or the spiking model was not made of `model`.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras, keras_spiking, numpy as np
    >>> inputs = keras.Input((4,))
    >>> hidden = keras.layers.Dense(8, activation="relu", name="hidden")(inputs)
    >>> model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(hidden))
    >>> spiking = keras_spiking.convert(model, num_steps=10, dt=0.1, rate_scale=10.0)
    >>> report = keras_spiking.compare(model, spiking, np.ones((2, 4)), num_steps=(10, 20))
    >>> [(result.num_steps, result.layers[0].name) for result in report.results]
    [(10, 'hidden_spikes'), (20, 'hidden_spikes')]
    """
    batch_size = _checks.positive_integer(_OWNER, "batch_size", batch_size)
    if dts is not None:
        dts = [
            _checks.positive_number(_OWNER, "dts", dt, "a list of numbers of seconds")
            for dt in _listed("dts", dts)
        ]
    if num_steps is not None:
        num_steps = [
            _checks.positive_integer(_OWNER, "num_steps", steps)
            for steps in _listed("num_steps", num_steps)
        ]
    survey = Survey(_OWNER, model, _integrate(spiking_model))
    data = checked_data(_OWNER, "data", data, survey.model)
    decisions = Decisions(_OWNER, survey, model.loss, labels, num_samples(data))
    own_dt, own_num_steps = _check_conversion(survey, spiking_model)
    dts = dts or [own_dt]
    num_steps = num_steps or [own_num_steps]

    totals = SideBySide(_OWNER, survey, spiking_model, num_steps).run(
        data, decisions, dts, batch_size
    )
    not_spiking = tuple(survey.not_spiking)
    results = tuple(totals[dt, steps].result(not_spiking) for steps in num_steps for dt in dts)
    accuracy = mean_share([output.original_accuracy for output in results[0].outputs])
    return Report(num_samples(data), accuracy, results)


def _integrate(spiking_model: Any) -> str:
    """What the neurons of a spiking model integrate."""
    layers = spiking_model.layers if isinstance(spiking_model, keras.Model) else []
    found = {layer.integrate for layer in layers if isinstance(layer, SpikingActivation)}
    return "input" if found == {"input"} else "activation"


def _listed(name: str, values: Any) -> list[Any]:
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise TypeError(
            f"{_OWNER}: `{name}` must be a list or tuple; received {name}={values!r} of type "
            f"{type(values).__name__}. For one value, give ({values},)."
        )
    if len(values) == 0:
        raise ValueError(f"{_OWNER}: `{name}` must not be empty; received {name}={values!r}.")
    return list(values)


def _check_conversion(survey: Survey, spiking_model: Any) -> tuple[float, int]:
    """Checks that the spiking model repeats its inputs, and returns its `dt` and steps."""
    layers = spiking_model.layers if isinstance(spiking_model, keras.Model) else []
    repeats = [layer for layer in layers if isinstance(layer, RepeatOverTime)]
    spiking = [layer for layer in layers if isinstance(layer, SpikingActivation)]
    if not repeats or not spiking:
        raise ValueError(
            f"{_OWNER}: `spiking_model` must be a model that convert(model, num_steps=...) "
            "returned, so that it repeats its inputs over a number of steps; received "
            f"{spiking_model!r}."
        )
    outputs = [tuple(tensor.shape) for tensor in spiking_model.outputs]
    expected = [tuple(tensor.shape) for tensor in survey.model.outputs]
    if outputs != expected:
        raise ValueError(
            f"{_OWNER}: `spiking_model` must return what `model` returns, of shapes {expected}; "
            f'received outputs of shapes {outputs}. Convert with readout="average" or "last".'
        )
    return float(ops.convert_to_numpy(spiking[0].dt)), repeats[0].num_steps
