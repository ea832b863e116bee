"""A layer applied to the mean of its inputs so far, for layers that are not linear."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_spiking._types import Tensor
from keras_spiking.kernels import running
from keras_spiking.kernels.tensors import cast, last_step
from keras_spiking.layers.time_batched import TimeBatched


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

    Inputs that are whole numbers or Booleans, such as indices or conditions, have no mean: the
    layer sees each step's value. Outputs of these types are :math:`g(m_t)` itself.

    Sums are in float32 or wider. As with `TimeBatched`, the layer sees one batch of
    `batch * time` samples. With a single step it is just called.

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
        TypeError: If `layer` is not a layer.
        ValueError: If `layer` is one over time of this package or stateful, inputs have no time
            axis or different ones, or a mask has the wrong shape.

    Example:

    >>> import keras, keras_spiking, numpy as np
    >>> spikes = np.array([[[[2.0], [0.0]], [[0.0], [2.0]]]])  # two units, in two steps
    >>> pooled = keras_spiking.RunningAverage(keras.layers.MaxPooling1D(2))(spikes)
    >>> np.asarray(pooled).ravel().tolist()
    [2.0, 0.0]
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return self.run(inputs, None, training=training, mask=mask)[0]

    def run(
        self,
        inputs: Any,
        states: list[Tensor] | None,
        training: bool | None = None,
        mask: Any = None,
    ) -> tuple[Any, list[Tensor]]:
        """Runs one piece of time after another. The layer must be built.

        Args:
            inputs: As in a call.
            states: None for the first piece, then what the piece before returned.
            training: As in a call.
            mask: As in a call.

        Returns:
            The outputs, and a flat list of states in float32 or wider: the number of steps so
            far, `(batch,)`; for each input of a float type the sum of its steps, `(batch, ...)`;
            for each output of a float type `t g(m_t)` at the last step, `(batch, ...)`.
        """
        self._check_call(inputs, mask)
        used = self._used(mask)
        tensors = keras.tree.flatten(inputs)
        if states is None and used is None and tensors[0].shape[1] == 1:
            return self._one_step(inputs, training)
        before = None if states is None else iter(states)
        ends = []

        def go_on(
            run: Callable[[Tensor, Tensor], Tensor], sequence: Tensor
        ) -> tuple[Tensor, Tensor]:
            """Runs on from the end of the piece before; returns the result, and that end."""
            start = _zero_state(sequence) if before is None else next(before)
            result = run(sequence, start)
            ends.append(last_step(result, start, 1))
            return result, start

        def without_masked(tensor: Tensor) -> Tensor:
            if used is None:
                return tensor
            # Not a product: a masked step may hold NaN.
            return ops.where(_beside(tensor, used), tensor, ops.zeros_like(tensor))

        ones = ops.ones(ops.shape(tensors[0])[:2], "bool") if used is None else used
        steps, _ = go_on(running.running_sum, ops.cast(ones, self._sum_dtype))
        at_least_one = ops.where(steps > 1.0, steps, 1.0)

        def mean(tensor: Tensor) -> Tensor:
            if not _is_float(tensor):
                return tensor
            tensor = without_masked(ops.cast(tensor, self._sum_dtype))
            total, _ = go_on(running.running_sum, tensor)
            return cast(total / _beside(tensor, at_least_one), self.compute_dtype)

        def hold(total: Tensor, start: Tensor) -> Tensor:
            return total if used is None else _held(total, start, used)

        def change(tensor: Tensor) -> Tensor:
            if not _is_float(tensor):
                return without_masked(tensor)
            total = ops.cast(tensor, self._sum_dtype) * _beside(tensor, steps)
            total, start = go_on(hold, total)
            return cast(running.differences(total, start), tensor.dtype)

        means = keras.tree.map_structure(mean, inputs)
        outputs = super().call(means, training=training)
        return keras.tree.map_structure(change, outputs), ends

    def _one_step(self, inputs: Any, training: bool | None) -> tuple[Any, list[Tensor]]:
        """Runs the first step alone, which takes no mean."""

        def at_end(sequence: Any) -> list[Tensor]:
            tensors = filter(_is_float, keras.tree.flatten(sequence))
            return [ops.cast(tensor[:, 0], self._sum_dtype) for tensor in tensors]

        first = keras.tree.map_structure(self._in_compute_dtype, inputs)
        outputs = super().call(first, training=training)
        batch = ops.shape(keras.tree.flatten(inputs)[0])[0]
        return outputs, [ops.ones((batch,), self._sum_dtype), *at_end(inputs), *at_end(outputs)]

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> Any:
        self._check_call(inputs, mask)
        means = keras.tree.map_structure(self._in_compute_dtype, inputs)
        return super().call(means, training=training)

    @property
    def _sum_dtype(self) -> str:
        return "float64" if self.compute_dtype == "float64" else "float32"

    def _in_compute_dtype(self, tensor: Tensor) -> Tensor:
        return cast(tensor, self.compute_dtype) if _is_float(tensor) else tensor

    def _used(self, mask: Any) -> Tensor | None:
        """The steps that every mask uses, None if there is no mask."""
        masks = [ops.cast(one, "bool") for one in keras.tree.flatten(mask) if one is not None]
        return functools.reduce(ops.logical_and, masks) if masks else None

    def _check_call(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        for one in keras.tree.flatten(mask):
            shape = tuple(getattr(one, "shape", ()))
            if len(shape) > 2:
                raise ValueError(
                    f"{type(self).__name__}: `mask` must have shape (batch, time); received shape "
                    f"{shape}. What is masked within a step has no mean: use TimeBatched."
                )
        return super()._check_call(inputs, mask)


def _is_float(tensor: Tensor) -> bool:
    """Whether a tensor can be averaged, and is no index or condition."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def _zero_state(sequence: Tensor) -> Tensor:
    """Zero for each sample, also of a sequence without a step."""
    batch, _, *features = ops.shape(sequence)
    return ops.zeros((batch, *features), sequence.dtype)


def _held(sequence: Tensor, start: Tensor, used: Tensor) -> Tensor:
    """A sequence in which steps that are not used repeat the step before, and at first `start`."""
    batch, time, *features = ops.shape(sequence)
    with_start = ops.concatenate([ops.expand_dims(start, 1), sequence], axis=1)
    flat = ops.reshape(with_start, (batch * (time + 1), *features))
    numbers = ops.where(used, ops.arange(1, time + 1, dtype="int32"), 0)
    last_used = running.running_max(numbers, _zero_state(numbers))
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * (time + 1), 1)
    return ops.take(flat, first + last_used, axis=0)


def _beside(tensor: Tensor, by_step: Tensor) -> Tensor:
    """Values by sample and step, with axes for the features of a tensor."""
    return ops.reshape(by_step, (*ops.shape(by_step), *[1] * (len(tensor.shape) - 2)))
