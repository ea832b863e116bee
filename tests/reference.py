"""The oracle: float64 NumPy loops that say what each layer computes, step by step."""

import numpy as np


def integrate_and_fire(rates, dt, voltage, mask=None):
    """Spikes in hertz and final voltage from rates (batch, time, ...) in hertz."""
    voltage = np.array(voltage, "float64")
    spikes = np.zeros(rates.shape, "float64")
    for step in range(rates.shape[1]):
        raised = voltage + np.asarray(rates[:, step], "float64") * dt
        counts = np.floor(raised)
        used = _used(mask, step, raised)
        spikes[:, step] = np.where(used, counts / dt, 0.0)
        voltage = np.where(used, raised - counts, voltage)
    return spikes, voltage


def lowpass(inputs, dt, tau, level, mask=None):
    """Outputs and final level of a lowpass filter; tau and level are (1, ...)."""
    decay = np.exp(-dt / np.maximum(np.asarray(tau, "float64"), 1e-8))
    level = np.broadcast_to(np.asarray(level, "float64"), inputs[:, 0].shape)
    outputs = np.zeros(inputs.shape, "float64")
    for step in range(inputs.shape[1]):
        new = decay * level + (1 - decay) * np.asarray(inputs[:, step], "float64")
        level = np.where(_used(mask, step, new), new, level)
        outputs[:, step] = level
    return outputs, level


def alpha(inputs, dt, tau, level, mask=None, state=None):
    """Outputs and final state (batch, 2, units) of an alpha filter; tau and level are (units,).

    The state-space matrices are discretized by scipy, independently of the layer's formulas.
    """
    from scipy.signal import cont2discrete

    batch, steps = inputs.shape[:2]
    drive = np.asarray(inputs, "float64").reshape(batch, steps, -1)
    units = drive.shape[2]
    if state is None:
        state = np.stack([np.zeros(units), np.asarray(level, "float64")])
        state = np.broadcast_to(state, (batch, 2, units))
    state = np.array(state, "float64")
    outputs = np.zeros(drive.shape)
    for unit, each_tau in enumerate(np.maximum(np.asarray(tau, "float64").ravel(), 1e-8)):
        a = np.array([[-2 / each_tau, -1 / each_tau**2], [1, 0]])
        b = np.array([[1 / each_tau**2], [0]])
        a, b, *_ = cont2discrete((a, b, np.eye(2), np.zeros((2, 1))), dt, method="zoh")
        for step in range(steps):
            new = state[:, :, unit] @ a.T + drive[:, step, unit, None] * b[:, 0]
            used = _used(mask, step, new)
            state[:, :, unit] = np.where(used, new, state[:, :, unit])
            outputs[:, step, unit] = state[:, 1, unit]
    return outputs.reshape(inputs.shape), state


def slopes_in_tau(name, inputs, dt, tau, level, weights):
    """Derivatives in tau of the weighted sum of a filter's outputs, one for each unit.

    By a complex step, which takes no difference, and so cancels nothing; inputs are
    (batch, time, units), tau and level (units,).
    """
    step = 1e-30
    ratio = dt / (np.asarray(tau, "float64") + 1j * step)
    decay = np.exp(-ratio)
    first = second = np.asarray(level, "float64") + 0 * ratio
    total = 0.0
    for now, weight in zip(*(np.moveaxis(each, 1, 0) for each in (inputs, weights)), strict=True):
        now = now.astype("float64")
        second = decay * (second + ratio * first) + (1 - decay * (1 + ratio)) * now
        first = decay * first + (1 - decay) * now
        outputs = {"lowpass": first, "alpha": second}[name]
        total = total + np.sum(outputs.imag * weight, axis=0)
    return total / step


def _used(mask, step, like):
    if mask is None:
        return True
    return np.asarray(mask)[:, step].reshape(-1, *[1] * (like.ndim - 1))


def accumulate_and_fire(inputs, per_step, voltage, activation, mask=None, negative_spikes=True):
    """Spikes, in units of the activation, of neurons that integrate their input."""
    summed = np.zeros(inputs[:, 0].shape)
    steps = np.zeros((len(inputs), *[1] * (inputs.ndim - 2)))
    emitted = np.zeros(summed.shape)
    spikes = np.zeros(inputs.shape)
    for step in range(inputs.shape[1]):
        used = _used(mask, step, summed)
        summed = summed + np.where(used, np.asarray(inputs[:, step], "float64"), 0.0)
        steps = steps + np.where(used, 1.0, 0.0)
        due = np.floor(voltage + per_step * sum_of_mean(summed, steps, activation))
        due = due if negative_spikes else np.maximum(due, emitted)
        spikes[:, step] = np.where(used, (due - emitted) / per_step, 0.0)
        emitted = np.where(used, due, emitted)
    return spikes


def sum_of_mean(summed, steps, activation):
    """`t * f(sum / t)`, 0 before the first step."""
    return steps * activation(summed / np.maximum(steps, 1.0))
