"""Makes Keras layers of the nodes that run over time: neurons and filters."""

from typing import Any

import numpy as np

from keras_spiking.layers import Lowpass, SpikingActivation
from keras_spiking.nir.refusals import UnsupportedError
from keras_spiking.nir.values import Reading, Values, added, scaled


def _fire(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    values, gain = added(before, name), 1 / np.asarray(node.v_threshold, "float64")
    if reading.dialect.resistance == "1/dt":
        # As `to_nir` writes it, so that this is exactly 1.
        gain = gain * (np.asarray(node.r) / np.float32(1 / reading.dt))
    if np.any(gain != 1):
        values = scaled(values, gain, f"{name}_input")
    spikes = SpikingActivation(
        "relu",
        dt=reading.dt,
        rate_scale=1 / reading.dt,
        integrate="input",
        negative_spikes=False,
        initial_voltage=values.parameter(node.metadata.get("initial_voltage", 0.0)),
        name=name,
    )
    return values.then(spikes)


def _leak(reading: Reading, name: str, node: Any, before: list[Values]) -> Values:
    values, dt = added(before, name), reading.dt
    written = np.asarray(node.tau, "float64")
    if reading.dialect.leaky == "steps":
        tau = written * dt
        gain = np.asarray(node.r) / -np.expm1(-1 / written)
    else:
        if np.any(written < dt):
            raise UnsupportedError(f"has a tau below dt, {dt} s. Use shorter time steps.")
        with np.errstate(divide="ignore"):  # tau = dt: the input passes through
            tau = np.maximum(-dt / np.log1p(-dt / written), 1e-8)
        gain = np.asarray(node.r)
    exact = node.metadata.get("tau")
    if exact is not None and np.allclose(np.broadcast_to(exact, values.shape), tau, rtol=1e-4):
        tau = np.asarray(exact)  # before it was rounded
    if np.any(gain != 1):
        values = scaled(values, gain, f"{name}_input")
    tau = np.broadcast_to(values.parameter(tau), values.tensor.shape[2:])
    filtered = Lowpass(0.1, dt=dt, name=name)
    outputs = values.then(filtered)
    filtered.set_weights([np.zeros((1, *tau.shape)), tau[None]])
    return outputs


READERS = {"IF": _fire, "LI": _leak}
