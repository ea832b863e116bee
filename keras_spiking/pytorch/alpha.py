"""Second-order lowpass filters: the alpha function."""

import torch

from keras_spiking._types import Tensor
from keras_spiking.kernels.contract import Filter as Coefficients
from keras_spiking.kernels.torch import alpha_gain, expm1
from keras_spiking.pytorch.filter import Filter


class Alpha(Filter):
    r"""Smooths its input with an alpha filter (two equal lowpass filters) that trains.

    The zero-order hold of :math:`1 / (\tau s + 1)^2`, whose impulse response is the alpha
    function :math:`(t / \tau^2) e^{-t / \tau}`: it rises smoothly, as synaptic currents do.
    With :math:`\rho = \Delta t / \tau` and :math:`a = e^{-\rho}`:

    .. math::

        l_t &= a l_{t-1} + (1 - a) x_t \\
        y_t &= a y_{t-1} + a \rho l_{t-1} + (1 - a (1 + \rho)) x_t

    with input :math:`x`, output :math:`y` (from :math:`y_0 = l_0`, the initial level), time
    constant :math:`\tau` and step :math:`\Delta t` in seconds. A time constant below 1e-8 s
    counts as 1e-8 s.

    Each unit has its own time constant and initial level. The parameters are those of `Lowpass`:
    `level_var`, the initial level, and `smoothing_var`, the logit of :math:`a`, both of shape
    `(1, ...)`. The attribute `tau` has the time constants, in seconds, as training left them.
    Levels are computed in float32 at least, whatever the type of inputs and parameters.

    Args:
        tau: Time constant in seconds, of all units before training, a positive number.
        units: Number of units, or the shape of the feature axes.
        dt: Length of a time step in seconds, a positive number.
        apply_during_training: Whether the filter works in training mode. If False, the output in
            training mode is the input, and the parameters are not trained.
        initial_level: Output before the first step, before training, a tensor `(1, ...)`; None
            for zeros.
        return_sequences: Whether to return every time step, or the last one only.
        return_state: Whether to return the final state too, for the next call's `state`.
        stateful: Whether each call goes on from the final state of the one before, until
            `reset_state()`. No gradient flows from call to call.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, of any real type.
        state: Levels :math:`l` and :math:`y` to start from, `(batch, 2, ...)`, instead of
            `level_var`.
        mask: Boolean tensor of shape `(batch, time)`, True for steps to use. Masked steps leave the
            levels as they were and repeat the previous output.

    Input shape:
        `(batch, time, ...)`, with the feature axes of `units`.

    Output shape:
        As the input, and of its type; `(batch, ...)` if not `return_sequences`. With
        `return_state`, a tuple of that and the final state.

    Raises:
        ValueError: If an argument or input has a wrong value, shape or type of numbers.
        TypeError: If an argument or input has a wrong type.

    Example:

    >>> import torch
    >>> from keras_spiking.pytorch import Alpha
    >>> outputs = Alpha(tau=0.1, units=1, dt=0.1)(torch.ones(1, 3, 1))
    >>> [round(output, 3) for output in outputs[0, :, 0].tolist()]
    [0.264, 0.594, 0.801]

    References:
        - Rall, "Distinguishing theoretical synaptic potentials computed for different
          soma-dendritic distributions of synaptic input", Journal of Neurophysiology 30(5),
          1967, doi:10.1152/jn.1967.30.5.1138 (the alpha function).
    """

    _order = 2

    def _coefficients(self, log_decay: Tensor) -> Coefficients:
        ratio = -log_decay
        gains = -expm1(log_decay), alpha_gain(ratio)
        return Coefficients(log_decay, ratio * torch.exp(log_decay), gains)
