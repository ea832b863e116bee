"""A float64 NumPy loop that trains a spiking model: the oracle of loss curves.

Gradients are written out by hand: those of the filters from their state-space matrices, which scipy
discretizes, and so independent of the recurrences and kernels of the layers.
"""

import numpy as np
from scipy.signal import cont2discrete

from tests import reference


class StateSpaceFilter:
    """`s_t = A s_{t-1} + B x_t` for each unit, whose output is the last component of `s`."""

    def __init__(self, order, level, tau, dt):
        self.order, self.tau, self.dt = order, tau.ravel(), dt
        self.a, self.b = self.discretized(self.tau)
        self.start = np.zeros((len(self.tau), order))
        self.start[:, -1] = level.ravel()

    def discretized(self, tau):
        pairs = []
        for each in tau:
            if self.order == 1:
                a, b = np.array([[-1 / each]]), np.array([[1 / each]])
            else:
                a = np.array([[-2 / each, -1 / each**2], [1, 0]])
                b = np.array([[1 / each**2], [0]])
            c, d = np.eye(self.order), np.zeros((self.order, 1))
            a, b, *_ = cont2discrete((a, b, c, d), self.dt, method="zoh")
            pairs.append((a, b[:, 0]))
        return map(np.array, zip(*pairs, strict=True))

    def forward(self, inputs):
        self.inputs = inputs
        self.states = [np.broadcast_to(self.start, (len(inputs), *self.start.shape))]
        for step in range(inputs.shape[1]):
            carried = np.einsum("uij,buj->bui", self.a, self.states[-1])
            self.states.append(carried + self.b * inputs[:, step, :, None])
        return np.stack(self.states[1:], axis=1)[..., -1]

    def backward(self, upstream):
        """Gradients in the inputs, the level and tau."""
        adjoint = np.zeros_like(self.states[0])
        for_inputs, for_a, for_b = np.zeros_like(self.inputs), np.zeros_like(self.a), 0.0
        for step in reversed(range(self.inputs.shape[1])):
            adjoint[..., -1] += upstream[:, step]
            for_inputs[:, step] = np.sum(adjoint * self.b, axis=-1)
            for_a += np.einsum("bui,buj->uij", adjoint, self.states[step])
            for_b += np.sum(adjoint * self.inputs[:, step, :, None], axis=0)
            adjoint = np.einsum("uij,bui->buj", self.a, adjoint)
        (more_a, more_b), (less_a, less_b) = (
            self.discretized(self.tau + sign * 1e-6) for sign in (1, -1)
        )
        for_tau = np.sum(for_a * (more_a - less_a), axis=(1, 2))
        for_tau = (for_tau + np.sum(for_b * (more_b - less_b), axis=1)) / 2e-6
        return for_inputs, adjoint[..., -1].sum(axis=0), for_tau


def train(weights, inputs, targets, dts, voltage, learning_rate):
    """Losses of gradient descent on the mean squared error, one step for each of `dts`.

    The model: dense, spikes of relu, lowpass, the last output of alpha, dense. Also returns the
    final weights, and how near any voltage came to a spike that rounding could move.
    """
    kernel, bias, *filters, out_kernel, out_bias = (np.array(w, "float64") for w in weights)
    losses, margin = [], np.inf
    for dt in dts:
        currents = inputs @ kernel + bias
        rates = np.maximum(currents, 0)
        spikes, _ = reference.integrate_and_fire(rates, dt, np.full(rates[:, 0].shape, voltage))
        integral = voltage + np.cumsum(rates * dt, axis=1)
        margin = min(margin, np.abs(integral - np.round(integral)).min(), np.abs(currents).min())
        lowpass = StateSpaceFilter(1, *filters[:2], dt)
        alpha = StateSpaceFilter(2, *filters[2:], dt)
        last = alpha.forward(lowpass.forward(spikes))[:, -1]
        errors = last @ out_kernel + out_bias - targets
        losses.append(np.mean(errors**2))

        for_outputs = 2 * errors / errors.size
        for_last = np.zeros_like(spikes)
        for_last[:, -1] = for_outputs @ out_kernel.T
        for_levels, for_alpha_level, for_alpha_tau = alpha.backward(for_last)
        for_spikes, for_level, for_tau = lowpass.backward(for_levels)
        for_currents = for_spikes * (currents > 0)  # straight through the spikes
        gradients = [for_level, for_tau, for_alpha_level, for_alpha_tau]
        filters = [
            weight - learning_rate * gradient.reshape(weight.shape)
            for weight, gradient in zip(filters, gradients, strict=True)
        ]
        out_kernel = out_kernel - learning_rate * last.T @ for_outputs
        out_bias = out_bias - learning_rate * for_outputs.sum(axis=0)
        kernel = kernel - learning_rate * np.einsum("bti,btu->iu", inputs, for_currents)
        bias = bias - learning_rate * for_currents.sum(axis=(0, 1))
    return losses, [kernel, bias, *filters, out_kernel, out_bias], margin
