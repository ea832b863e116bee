"""Writes the layers that run over time: neurons and filters."""

from typing import Any

import keras
import numpy as np

from keras_spiking._types import Array
from keras_spiking.layers import Alpha, Lowpass, SpikingActivation
from keras_spiking.nir.graph import FLOAT, Graph
from keras_spiking.nir.refusals import UnsupportedError
from keras_spiking.nir.signals import (
    Added,
    Nodes,
    Signal,
    by_channel,
    keras_array,
    plain,
    without_padding,
)
from keras_spiking.nir.write_connections import array


def spikes(name: str, layer: SpikingActivation, signal: Signal, graph: Graph) -> Signal:
    r"""`IF` with threshold 1, whose spikes are 1 high.

    With :math:`c` spikes in a step for a unit of input, ours emits :math:`N_t - N_{t-1}` spikes
    with :math:`N_t = \max(N_{t-1}, \lfloor v_0 + c \sum x \rfloor)`. That is a neuron that adds
    :math:`c x` to its voltage, and subtracts 1 for each spike. So c goes into the weights before
    it, and the height of a spike, 1 / c, into those behind it.
    """
    dt = seconds(layer)
    per_step = keras_array(np.asarray(layer.rate_scale * dt), signal)
    inputs = without_padding(signal.times(per_step).made(graph), graph)
    threshold = 1.0
    scale = np.asarray(inputs.scale)
    if np.any(inputs.offset) or scale.min() != scale.max() or scale.min() <= 0:
        inputs = plain(inputs, graph)
    else:
        threshold = 1 / float(scale.min())
    resistance = 1 / dt if graph.dialect.resistance == "1/dt" else 1.0
    node = graph.nir.IF(
        r=np.full(inputs.shape, resistance, FLOAT),
        v_threshold=np.full(inputs.shape, threshold, FLOAT),
    )
    voltage = keras_array(_voltage(layer, signal), signal)
    name = graph.add(
        name,
        node,
        inputs.names,
        inputs.shape,
        inputs.shape,
        reset="the threshold is subtracted; several spikes in a step are allowed",
        initial_voltage=voltage if np.any(voltage) else None,
    )
    return Nodes((name,), inputs.shape, 1 / per_step, order=inputs.order)


def _voltage(layer: SpikingActivation, signal: Signal) -> Array:
    """The initial voltage, without an axis for samples."""
    voltage = np.asarray(layer.initial_voltage)
    if voltage.ndim <= len(signal.shape):
        return voltage
    if len(voltage) > 1:
        raise UnsupportedError("has an initial voltage for each sample. Use the same for all.")
    return voltage[0]


def lowpass(name: str, layer: Lowpass, signal: Signal, graph: Graph) -> Signal:
    """`LI`."""
    return _filtered(name, keras_array(_tau(layer)[0], signal), seconds(layer), signal, graph)


def alpha(name: str, layer: Alpha, signal: Signal, graph: Graph) -> Signal:
    r"""Two `LI`. The second one gets the output of the first, and the input too.

    `Alpha` holds its input for a step, and two filters in a row would not. With the first filter's
    output l and :math:`p = (dt / \tau) / (1 - a)`, the second filter of
    :math:`p l_t + (1 - p) x_t` is what `Alpha` computes.
    """
    dt = seconds(layer)
    tau = _tau(layer).reshape(*signal.shape[1:], signal.shape[0])
    tau = keras_array(tau, signal)
    share = by_channel((dt / tau) / -np.expm1(-dt / tau), signal.shape)
    if share is None:
        raise UnsupportedError("has another tau at each position. Use the same in a channel.")
    share = share.reshape(-1, *[1] * (len(signal.shape) - 1))
    level = _filtered(f"{name}_level", tau, dt, signal, graph)
    drive = Added.of([level.times(share), signal.times(1 - share)], graph)
    return _filtered(name, tau, dt, drive, graph)


def _filtered(name: str, tau: Array, dt: float, signal: Signal, graph: Graph) -> Signal:
    inputs = without_padding(signal.made(graph), graph)
    if np.any(inputs.offset):
        inputs = plain(inputs, graph)
    tau, gain = np.array(np.broadcast_to(tau, inputs.shape)), -np.expm1(-dt / tau)
    scale: Any = inputs.scale
    if graph.dialect.leaky is None:
        raise UnsupportedError("is a filter, and this simulator does not read LI. Leave it out.")
    if graph.dialect.leaky == "euler":
        written = np.broadcast_to(dt / gain, tau.shape)
    else:
        written, scale = tau / dt, scale * gain
        if len(tau.shape) > 1:
            if np.ptp(written):
                raise UnsupportedError("has several tau, and this simulator takes one here.")
            written = written.ravel()[:1]
    ones = np.ones(written.shape, FLOAT)
    node = graph.nir.LI(tau=written.astype(FLOAT), r=ones, v_leak=0 * ones)
    name = graph.add(name, node, inputs.names, inputs.shape, inputs.shape, tau=tau)
    return Nodes((name,), inputs.shape, scale, order=inputs.order)


def _tau(layer: Any) -> Array:
    return np.maximum(array(layer.cell.tau), 1e-8)


def seconds(layer: Any) -> float:
    """The length of a time step."""
    return float(keras.ops.convert_to_numpy(layer.dt))


WRITERS = {SpikingActivation: spikes, Lowpass: lowpass, Alpha: alpha}
