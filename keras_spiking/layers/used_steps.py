"""The time steps that a mask keeps, moved together so that a filter runs over them alone."""

from keras import ops

from keras_spiking._types import Tensor
from keras_spiking.kernels import tensors


class UsedSteps:
    """Moves the steps to use to the front of a sequence, and its results back.

    Args:
        mask: Boolean tensor, `(batch, time)`, True for steps to use.
        time_axis: Axis of time in the sequences, 0 or 1.
        rank: Number of axes of the sequences.
    """

    def __init__(self, mask: Tensor, time_axis: int, rank: int):
        self._time_axis, self._rank = time_axis, rank
        # With a type: Keras would take one of 16 bits where `floatx` has 16.
        time = ops.arange(ops.shape(mask)[1], dtype="int32")
        # Steps to use first. Both kinds keep their order.
        order = ops.argsort(ops.where(mask, time, time + ops.shape(mask)[1]), axis=1)
        self._mask = self._beside_sequence(mask)
        self._order = self._beside_sequence(order)
        self._num_used = self._beside_sequence(ops.cumsum(ops.cast(mask, "int32"), axis=1))

    def _beside_sequence(self, values: Tensor) -> Tensor:
        """Values `(batch, time)` with the axes of a sequence."""
        values = values if self._time_axis == 1 else ops.transpose(values)
        return ops.reshape(values, (*ops.shape(values), *[1] * (self._rank - 2)))

    def gather(self, sequence: Tensor) -> Tensor:
        """Moves the steps to use to the front, and zeroes the others.

        A masked step may hold NaN or infinity, which times a gradient of zero would be NaN.
        """
        return ops.take_along_axis(self.zero(sequence), self._order, axis=self._time_axis)

    def scatter(self, sequence: Tensor, start: Tensor) -> Tensor:
        """Moves the steps back. Masked steps repeat the step before, and at first `start`."""
        return self._take(sequence, start, self._num_used)

    def last(self, sequence: Tensor, start: Tensor) -> Tensor:
        """The last of the steps to use; `start` if there is none."""
        num_used = tensors.step_slice(self._num_used, self._time_axis, -1, None)
        return tensors.last_step(self._take(sequence, start, num_used), start, self._time_axis)

    def _take(self, sequence: Tensor, start: Tensor, num_used: Tensor) -> Tensor:
        """Steps by their number: 0 is `start`, and 1 the first of the sequence."""
        with_start = ops.concatenate(
            [ops.expand_dims(start, self._time_axis), sequence], axis=self._time_axis
        )
        return ops.take_along_axis(with_start, num_used, axis=self._time_axis)

    def zero(self, sequence: Tensor) -> Tensor:
        """Zeroes the masked steps."""
        return ops.where(self._mask, sequence, ops.zeros_like(sequence))
