"""The energy that a model would take."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras

from keras_spiking import _checks
from keras_spiking._graph import is_graph
from keras_spiking.config import default
from keras_spiking.energy import layer_stats, plot, report
from keras_spiking.energy.columns import parse_columns
from keras_spiking.energy.devices import DEVICES, Device, register_device
from keras_spiking.energy.estimate import Estimate, Time

COLUMNS = ("name", "output_shape", "params", "connections", "neurons", "energy cpu")


class ModelEnergy:
    r"""Estimates the energy that a model takes per inference on a device.

    For each layer, in joules:

    .. math::

        E_\text{synops} &= e_\text{synop} \, c \, r \, \Delta t \, n \\
        E_\text{neurons} &= e_\text{neuron} \, u \, n

    with :math:`c` connections, :math:`u` neurons, the rate :math:`r` of the input in hertz, the
    step :math:`\Delta t` in seconds, :math:`n` time steps per inference, and :math:`e`, the joules
    that the device needs for one operation. A device that does not spike computes each connection
    and each neuron once per inference: :math:`r = 1 / \Delta t`, :math:`n = 1`.

    *Connections* are the weights through which elements of the input reach units of the output. The
    padding of a convolution counts as input. *Neurons* are the units that an activation or a filter
    updates in a time step. Time does not count: neither axis 1 where its length is None, nor the
    axis that `TimeDistributed`, `TimeBatched` and the layers of `keras_spiking` run over, nor the
    steps that `RepeatOverTime` makes, as in models that `convert` made. Layers that pool, merge,
    normalize or only move elements count nothing: they are part of the connections around them.
    `register_layer` says how a layer of yours counts.

    The *rate* is the mean of `abs(input)` over `example_data`. Where the input comes from a
    `SpikingActivation`, directly or through layers that pass spikes on, `abs(input)` is measured in
    spikes. A spike has the height :math:`1 / (\Delta t \, s)` for a `rate_scale` :math:`s`, and a
    value of :math:`k` heights counts as :math:`k` spikes. So the rate is the number of spikes per
    unit and second. With the same `dt` here and there, a model costs what its spikes cost. With
    another `dt` here, the rates in hertz stay as they are, as for all layers.

    These layers pass spikes on: those that move elements (`Flatten`, `Reshape`, `Permute`, padding,
    cropping, dropout ...), pooling, upsampling, `Concatenate`, `Add` and other merges, averages and
    filters over time (`TemporalAvgPool`, `Lowpass` ...), and `TimeDistributed` and `TimeBatched` of
    these. Averages and filters return parts of spikes: half a height counts as half a spike. Where
    spikes of several heights come together, each counts by its own height; the rate behind
    `Subtract` and `Minimum` is then the largest that is possible. `BatchNormalization`,
    `Normalization` and `Rescaling` do not change the number of spikes. `Multiply` has a spike where
    all of its factors that are spikes have one. Behind any other layer, such as one with weights or
    an activation, the rate is the mean of `abs(input)`.

    If a layer is used :math:`k` times, the connections, neurons and rates of all its uses are added
    up. Then both factors of :math:`c \, r` grow, and devices that spike charge its synapses
    :math:`k` times too much. KerasSpiking did the same, and these are its figures.

    Args:
        model: A Functional model, or a Sequential one that is built; others may be nested in it.
        example_data: Arrays of samples, as `model.predict` takes them, to measure rates. Without
            it, devices that spike have no estimate. The model runs on it in batches; its states
            and random seeds stay as they were.

    Attributes:
        devices: By name, every registered device, a `keras_spiking.energy.Device`. It cannot be
            written to: `register_device` adds others.
        layer_stats: By layer, a dictionary with `"connections"`, `"neurons"` and `"spiking"`
            (whether it runs on a spiking device as it is). It has the layers of nested models, not
            the nested models.
        layer_rates: By layer, the rate of its input in hertz; empty without `example_data`.
        uses: By layer, where it is used: a list of `keras_spiking.energy.LayerUse`.
        spike_dts: By layer, for each use, the time step in seconds of the spikes in its input (the
            shortest of several); None if the input is not spikes.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If Keras does not know the model's graph, a shape that counts is not
            defined, or `example_data` does not fit.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu", name="hidden")])
    >>> energy = keras_spiking.ModelEnergy(model, np.ones((1, 4)))
    >>> energy.layer_stats[model.layers[0]]
    {'connections': 12, 'neurons': 3, 'spiking': False}
    >>> round(1e9 * energy.total_energy("cpu"), 3)  # 8.6 nJ for each of them
    129.0
    >>> round(1e12 * energy.total_energy("loihi", timesteps_per_inference=10), 3)
    2433.252
    """

    devices: Mapping[str, Device] = MappingProxyType(DEVICES)
    register_device = staticmethod(register_device)
    register_layer = staticmethod(layer_stats.register_layer)
    compute_layer_stats = staticmethod(layer_stats.compute_layer_stats)

    def __init__(self, model: keras.Model, example_data: Any = None):
        _check_model(model)
        self.model = model
        self._estimate = estimate = Estimate(model, example_data)
        self.uses = estimate.uses
        self.layer_stats = estimate.stats
        self.layer_rates = estimate.rates
        self.spike_dts = estimate.spike_dts

    def layer_energy(
        self,
        layer: keras.layers.Layer,
        device: str,
        timesteps_per_inference: int = 1,
        dt: float | None = None,
    ) -> tuple[float, float]:
        """The energy of a layer, or of a nested model, per inference.

        Args:
            layer: A layer of the model.
            device: Name of a device.
            timesteps_per_inference: Number of steps of an inference on a device that spikes.
            dt: Length of a step in seconds. Default: `keras_spiking.default.dt`.

        Returns:
            Joules for its synaptic operations, and joules for its neurons.

        Raises:
            ValueError: If the layer is not in the model, the device is unknown, the device spikes
                and there was no `example_data`, or a number is not positive.
            TypeError: If a number is not one.
        """
        chosen = self._estimate.device(device)
        time = _checked_time(timesteps_per_inference, dt)
        layers = self._estimate.layers_of(layer)
        if not layers:
            names = ", ".join(map(self._estimate.name, self.uses))
            raise ValueError(
                f"ModelEnergy: `layer` must be a layer of the model, one of {names}; "
                f"received {layer!r}."
            )
        energies = [self._estimate.joules(found, chosen, time) for found in layers]
        return sum(synops for synops, _ in energies), sum(neurons for _, neurons in energies)

    def total_energy(
        self, device: str, timesteps_per_inference: int = 1, dt: float | None = None
    ) -> float:
        """Joules that the whole model takes per inference; arguments as in `layer_energy`."""
        return sum(self.layer_energy(self.model, device, timesteps_per_inference, dt))

    def table(
        self,
        columns: Sequence[str] = COLUMNS,
        timesteps_per_inference: int = 1,
        dt: float | None = None,
    ) -> list[dict[str, Any]]:
        """A row for each layer, those of nested models included, as `pandas.DataFrame` takes them.

        Args:
            columns: Names of columns: `"name"`, `"output_shape"`, `"params"`, `"connections"`,
                `"neurons"`, `"rate"` (hertz), `"rate_from"` (`"spikes"` where they were counted,
                `"abs(input)"` elsewhere, or both), and, with any device D and in joules per
                inference, `"energy D"`, `"synop_energy D"` and `"neuron_energy D"`.
            timesteps_per_inference: As in `layer_energy`.
            dt: As in `layer_energy`.

        Returns:
            Dictionaries from columns to values.

        Raises:
            ValueError: If a column is unknown or needs `example_data`; or as `layer_energy`.
            TypeError: As `layer_energy`.
        """
        parsed = parse_columns(columns, self._estimate)
        return report.rows(self._estimate, parsed, _checked_time(timesteps_per_inference, dt))

    def summary_string(
        self,
        columns: Sequence[str] = COLUMNS,
        timesteps_per_inference: int = 1,
        dt: float | None = None,
        line_length: int = 98,
        print_warnings: bool = True,
    ) -> str:
        """The table as text, with totals, a note on how rates were measured, and warnings.

        Args:
            columns: As in `table`.
            timesteps_per_inference: As in `layer_energy`.
            dt: As in `layer_energy`.
            line_length: Characters in a line. Long names are cut to fit; numbers are not.
            print_warnings: Whether warnings follow.

        Returns:
            The text.

        Raises:
            ValueError, TypeError: As `table`.
        """
        _checks.positive_integer("ModelEnergy", "line_length", line_length)
        _checks.boolean("ModelEnergy", "print_warnings", print_warnings)
        parsed = parse_columns(columns, self._estimate)
        time = _checked_time(timesteps_per_inference, dt)
        return report.text(self._estimate, parsed, time, line_length, print_warnings)

    def summary(
        self,
        columns: Sequence[str] = COLUMNS,
        timesteps_per_inference: int = 1,
        dt: float | None = None,
        line_length: int = 98,
        print_warnings: bool = True,
    ) -> None:
        """Prints the table as text; arguments as in `summary_string`."""
        print(
            self.summary_string(columns, timesteps_per_inference, dt, line_length, print_warnings)
        )

    def plot(
        self,
        devices: str | Sequence[str],
        timesteps_per_inference: int = 1,
        dt: float | None = None,
    ) -> Any:
        """Draws the energy of each layer, in a panel per device: neurons stacked on synapses.

        Layers without connections or neurons are left out.

        Args:
            devices: Names of devices, or one.
            timesteps_per_inference: As in `layer_energy`.
            dt: As in `layer_energy`.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError, TypeError: As `layer_energy`.
        """
        names: Sequence[Any] = devices if isinstance(devices, (list, tuple)) else [devices]
        if not names:
            raise ValueError(
                "ModelEnergy: `devices` must name one or more devices; received none. Give one, as "
                "in plot('loihi'), or a list."
            )
        chosen = [self._estimate.device(name) for name in names]
        return plot.draw(self._estimate, chosen, _checked_time(timesteps_per_inference, dt))

    def _repr_html_(self) -> str:
        columns = parse_columns(COLUMNS, self._estimate)
        return report.html(self._estimate, columns, Time(1, default.dt))


def _check_model(model: Any) -> None:
    owner = "ModelEnergy"
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{owner}: `model` must be a Functional or Sequential Keras model; "
            f"received {model!r} of type {type(model).__name__}."
        )
    if is_graph(model):
        return
    if isinstance(model, keras.Sequential):
        problem = (
            f"a Sequential model that is not built, {model.name!r}. Begin it with keras.Input, or "
            "call its `build(input_shape)`."
        )
    else:
        problem = (
            f"{model.name!r} of class {type(model).__name__}, of which Keras does not know which "
            "layer feeds which. Build it as keras.Model(inputs, outputs) from its layers."
        )
    raise ValueError(
        f"{owner}: `model` must be a Functional model or a built Sequential one; received {problem}"
    )


def _checked_time(timesteps_per_inference: float, dt: float | None) -> Time:
    owner = "ModelEnergy"
    num_steps = _checks.positive_number(
        owner, "timesteps_per_inference", timesteps_per_inference, "a number of steps"
    )
    if dt is None:
        return Time(num_steps, default.dt)
    return Time(num_steps, _checks.positive_number(owner, "dt", dt, "a number of seconds"))
