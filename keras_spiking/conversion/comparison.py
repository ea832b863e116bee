"""Runs a spiking model beside its original, over lengths and numbers of steps."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spiking import _checks
from keras_spiking.conversion.data import batches, checked_data, num_samples
from keras_spiking.conversion.decisions import Decisions
from keras_spiking.conversion.probe import Probe
from keras_spiking.conversion.report import Report
from keras_spiking.conversion.rounded import RoundedNetwork, StagedCopy
from keras_spiking.conversion.survey import Survey
from keras_spiking.conversion.totals import ResultTotals, mean_share
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
    """Shows what a converted model does and costs beside its original.

    The spiking model runs on all of the data once for each length of a step, for the largest number
    of steps, and neither model changes. Memory is needed for one batch at a time; many steps run in
    pieces.

    What an output decides is said by its labels, or else by the loss that `model` was compiled
    with, or else by its final activation:

    - The greatest unit counts for classes: after a softmax, and where there are several units
      without activation (of several outputs, only if the labels or the loss say so).
    - Each unit counts for yes or no: after a sigmoid, at 0.5; without activation, if the labels
      are 0 and 1 or the loss is binary, at 0 (at 0.5 if it was trained towards 0 and 1 itself).
    - An output that is numbers, such as coordinates of boxes, has an error only.

    With several outputs, agreement and accuracy are means over those that have them; a `Result`
    has those of each output too.

    Args:
        model: The original.
        spiking_model: What `convert(model, num_steps=..., readout=...)` made of it, with
            `"average"` or `"last"` as readout; perhaps trained further, or loaded from a file.
        data: Inputs, an array or as many as the model has inputs, by their names if need be.
        labels: What is right: classes as integers, or as one-hot vectors; or 0 or 1 for each
            unit. With several outputs, in the structure of the outputs or by their names, with
            None for an output without. Labels of an output that are other numbers say that it
            decides nothing. Default: no accuracy.
        dts: Lengths of a time step in seconds. Default: that of the spiking model.
        num_steps: Numbers of time steps. Default: that of the spiking model.
        batch_size: Number of samples at a time.

    Returns:
        A `keras_spiking.conversion.Report`, with a `Result` for each pair of `dts` and `num_steps`
        and a `LayerResult` for each layer in it.

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
    original = StagedCopy(survey)
    original.build()
    num_steps = num_steps or [own_num_steps]
    dts = dts or [own_dt]
    probe = Probe(spiking_model, num_steps)
    _check_layers(survey, original, probe)

    names = [layer.name for layer in probe.layers]
    totals = {
        (dt, steps): ResultTotals(names, survey.output_names, num_samples(data), dt, steps)
        for dt in dts
        for steps in num_steps
    }
    order = _order(original, probe)
    rounded = RoundedNetwork(original, spiking_model, [probe.layers[index] for index in order])
    _run(original, probe, rounded, totals, data, decisions, batch_size)
    not_spiking = tuple(survey.not_spiking)
    found = {setting: total.result(not_spiking) for setting, total in totals.items()}
    results = tuple(found[dt, steps] for steps in num_steps for dt in dts)
    accuracy = mean_share([each.original_accuracy for each in results[0].outputs])
    return Report(num_samples(data), accuracy, results)


def _run(
    original: StagedCopy,
    probe: Probe,
    rounded: RoundedNetwork,
    totals: dict[tuple[float, int], ResultTotals],
    data: Any,
    decisions: Decisions,
    batch_size: int,
) -> None:
    """Runs all data with each length and number of steps, and adds to its totals."""
    num_outputs = len(original.model.outputs)
    reference = keras.Model(
        original.model.input,
        [*original.model.outputs, *(active.tensor for active in original.activations)],
    )
    order = _order(original, probe)
    done = 0
    for batch in batches(data, batch_size):
        expected = [np.asarray(array) for array in reference.predict_on_batch(batch)]
        wanted, activations = expected[:num_outputs], expected[num_outputs:]
        part = slice(done, done + num_samples(batch))
        done = part.stop
        labels = [None if each is None else each[part] for each in decisions.labels]
        theirs = decisions.of(wanted)
        for dt in dict.fromkeys(dt for dt, _ in totals):
            probe.dt.assign(dt)
            for steps, (outputs, in_calls) in probe.run(batch).items():
                total = totals[dt, steps]
                counts = [in_calls[index] for index in order]
                off = rounded.off(batch, [each.mean for each in counts], dt * steps)
                for active, count, values, wrong in zip(
                    original.activations, counts, activations, off, strict=True
                ):
                    total.add_layer(active.name, count, values, wrong)
                total.add_outputs(decisions.of(outputs), theirs, labels, outputs, wanted)


def _order(original: StagedCopy, probe: Probe) -> list[int]:
    """For each activation of the original, the number of its spiking call in the probe."""
    calls: dict[str, list[int]] = {}
    for index, layer in enumerate(probe.layers):
        calls.setdefault(layer.name, []).append(index)
    return [calls[active.name].pop(0) for active in original.activations]


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
            "returned, with a number of steps, over which it repeats its inputs; received "
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


def _check_layers(survey: Survey, original: StagedCopy, probe: Probe) -> None:
    """Checks that the spiking layers are those that the model would have."""
    expected = sorted(active.name for active in original.activations)
    names = sorted(layer.name for layer in probe.layers)
    if names != expected:
        raise ValueError(
            f"{_OWNER}: `spiking_model` must be what convert made of `model` ({survey.model.name!r}"
            f"), with the spiking layers {expected}; received one with {names}."
        )
