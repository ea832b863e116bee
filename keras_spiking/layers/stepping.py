"""Steps a cell through time: how a layer without a kernel runs."""

from typing import Any

from keras import ops

from keras_spiking._types import Tensor
from keras_spiking.layers.shapes import as_shape


def step_through_time(
    layer: Any, inputs: Tensor, states: list[Tensor], mask: Tensor | None, training: bool
) -> tuple[Tensor, list[Tensor]]:
    """Runs a layer's cell over a whole sequence, one step after another.

    Args:
        layer: The `KerasSpikingLayer`.
        inputs: As in its `run`.
        states: As in its `run`.
        mask: As in its `run`.
        training: As in its `run`.

    Returns:
        The outputs of every time step, and the list of final states.
    """

    def by_time(tensor: Tensor) -> Tensor:
        return ops.moveaxis(tensor, 1, 0)

    steps = [inputs if layer.time_major else by_time(inputs)]
    if mask is not None:
        steps.append(by_time(mask))
    shape = (ops.shape(inputs)[layer.batch_axis], *as_shape(layer.cell.output_size))
    if inputs.shape[layer.time_axis] == 0:  # `scan` does not take it on every backend
        outputs = ops.zeros((0, *shape), layer.compute_dtype)
        return outputs if layer.time_major else by_time(outputs), states

    def step(carry: list[Tensor], at_step: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        before, *states = carry
        outputs, new_states = layer.cell(at_step[0], states, training=training)
        if mask is not None:
            kept = ops.zeros_like(before) if layer.zero_output_for_mask else before
            outputs = _choose(at_step[1], outputs, kept)
            new_states = [
                _choose(at_step[1], new, old) for new, old in zip(new_states, states, strict=True)
            ]
        # On TensorFlow, `scan` needs outputs of the same structure as what it carries.
        return [outputs, *new_states], [outputs, *new_states]

    start = [ops.zeros(shape, layer.compute_dtype), *states]
    (_, *states), (outputs, *_) = ops.scan(step, start, steps, unroll=layer.unroll)
    return outputs if layer.time_major else by_time(outputs), states


def _choose(use: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` for the samples to use, `old` for the others; `use` is Boolean `(batch,)`."""
    return ops.where(ops.reshape(use, (-1, *[1] * (len(new.shape) - 1))), new, old)
