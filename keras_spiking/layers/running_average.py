"""A layer that is not linear, on spikes: applied to their mean so far."""

import functools
from typing import Any

import keras
from keras import ops

from keras_spiking.kernels import portable, running
from keras_spiking.layers.time import TimeBatched


@keras.saving.register_keras_serializable("keras_spiking")
class RunningAverage(TimeBatched):
    r"""Applies a layer to the mean of its inputs so far, so that its outputs average to that.

    .. math::

        y_t = t\, g(m_t) - (t - 1)\, g(m_{t-1}), \qquad m_t = \frac{1}{t} \sum_{u \le t} x_u

    with inputs :math:`x`, the wrapped layer :math:`g` and the number of steps :math:`t` so far.
    The mean of the outputs up to any step is :math:`g(m_t)`, however noisy the inputs are. For a
    layer that is linear in its inputs this is `TimeBatched`. For one that is not, such as max
    pooling or softmax, `TimeBatched` averages to something else: the mean of the maximum of spikes
    is more than the maximum of their means.

    Sums are in float32 or wider. As with `TimeBatched`, the layer sees one batch of
    `batch * time` samples.

    Args:
        layer: The layer to apply, or a model, as in `TimeBatched`.
        **kwargs: Arguments of `keras.layers.Layer`. The default `dtype` is that of `layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, with at least one feature axis; a list or
            dictionary of them, with the same batch and time, if the wrapped layer takes that.
        training: Whether the model is training; the wrapped layer gets it if it takes it.
        mask: Tensor of shape `(batch, time)`, True for steps to use; with several inputs also a
            list, one mask (or None) for each. Steps that any input leaves out count for nothing,
            and output zero.

    Input shape:
        `(batch, time, ...)`, where `(batch, ...)` is what the wrapped layer takes.

    Output shape:
        `(batch, time, ...)`, where `(batch, ...)` is what the wrapped layer returns, and the same
        structure.

    Raises:
        TypeError: If `layer` is not a layer, or it returns whole numbers.
        ValueError: If `layer` runs over time or is stateful, inputs have no time axis or
            different ones, or a mask has the wrong shape.

    Example:

    >>> import keras, keras_spiking, numpy as np
    >>> spikes = np.array([[[[2.0], [0.0]], [[0.0], [2.0]]]])  # two units, in two steps
    >>> pooled = keras_spiking.RunningAverage(keras.layers.MaxPooling1D(2))(spikes)
    >>> np.asarray(pooled).ravel().tolist()
    [2.0, 0.0]
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        self._check_call(inputs, mask)
        masks = [each for each in keras.tree.flatten(mask) if each is not None]
        used = functools.reduce(ops.logical_and, masks) if masks else None
        like = keras.tree.flatten(inputs)[0]
        used = ops.ones(ops.shape(like)[:2], "bool") if used is None else ops.cast(used, "bool")
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        ones = ops.cast(used, dtype)
        steps = running.running_sum(ones, ops.zeros_like(ones[:, 0]))
        counted = ops.where(steps > 1.0, steps, 1.0)

        def mean(tensor: Any) -> Any:
            tensor = ops.cast(tensor, dtype)
            # What is left out may be no number.
            tensor = ops.where(_beside(tensor, used), tensor, ops.zeros_like(tensor))
            total = running.running_sum(tensor, ops.zeros_like(tensor[:, 0]))
            return portable.cast(total / _beside(tensor, counted), self.compute_dtype)

        def change(tensor: Any) -> Any:
            total = ops.cast(tensor, dtype) * _beside(tensor, steps)
            return portable.cast(
                running.differences(total, ops.zeros_like(total[:, 0])), tensor.dtype
            )

        means = keras.tree.map_structure(mean, inputs)
        return keras.tree.map_structure(change, super().call(means, training=training))

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> Any:
        self._check_call(inputs, mask)
        means = keras.tree.map_structure(lambda each: ops.cast(each, self.compute_dtype), inputs)
        outputs = super().call(means, training=training)
        for tensor in keras.tree.flatten(outputs):
            if not keras.backend.is_float_dtype(tensor.dtype):
                raise TypeError(
                    f"{type(self).__name__}: the output of layer {self.layer.name!r} must be of a "
                    f"float type, for its changes from step to step are no whole numbers; it has "
                    f"dtype {tensor.dtype}. Apply that layer with TimeBatched."
                )
        return outputs


def _beside(tensor: Any, by_step: Any) -> Any:
    """Values by sample and step, with axes for the features of a tensor."""
    return ops.reshape(by_step, (*ops.shape(by_step), *[1] * (len(tensor.shape) - 2)))
