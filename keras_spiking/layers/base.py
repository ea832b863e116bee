"""The contract of everything that runs over time: shapes, state, masks, reset, config."""

import functools
from typing import Any

import keras
from keras import ops

from keras_spiking import _checks, kernels
from keras_spiking._types import Shape, Tensor
from keras_spiking.kernels import tensors
from keras_spiking.layers.cell import KerasSpikingCell
from keras_spiking.layers.dt import DtLike
from keras_spiking.layers.masks import mask_of
from keras_spiking.layers.shapes import (
    as_shape,
    check_inputs,
    check_mask,
    check_states,
)
from keras_spiking.layers.stateful import Stateful
from keras_spiking.layers.stepping import step_through_time


class KerasSpikingLayer(Stateful):
    """A cell over a whole sequence: the base class of layers.

    A subclass defines `build_cell(input_shape)`, which returns its `KerasSpikingCell`. The layer
    steps that cell through time; a subclass that can do better overrides `run`.

    Args:
        dt: Length of a time step in seconds: a positive number, or a scalar variable, which
            other layers may share; it is never trained. Default: `keras_spiking.default.dt`.
        return_sequences: Whether to return the output of every step, or only the last.
        return_state: Whether to return the final states too.
        stateful: Whether the next call resumes from the final states of this one. Needs a fixed
            batch size.
        unroll: Whether a loop over steps, where there is one, is unrolled. Results do not
            depend on it.
        time_major: Whether inputs and outputs are `(time, batch, ...)`.
        go_backwards: Whether to begin at the last step and end at the first. The output is in
            the order in which it was computed, as in `keras.layers.RNN`: its first step belongs
            to the last of the input. `keras.layers.Bidirectional` sets it, and turns the output
            around.
        **kwargs: Arguments of `keras.layers.Layer`. An `activity_regularizer` applies, as in
            every Keras layer, to each output, final states included, divided by the length of
            the output's first axis.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, with at least one feature axis.
        mask: Tensor of shape `(batch, time)`, True for steps to use. Masked steps leave the
            states as they were, and repeat the previous output.
        training: Whether the model is training.
        initial_state: Tensor, or list of tensors, to start from: the cell's states.

    Output shape:
        `(batch, time, ...)`, or `(batch, ...)` if not `return_sequences`; with `return_state` a
        tuple of that and the final states.

    Raises:
        ValueError: If an argument or input has a wrong value or shape, or `stateful` is set and
            the batch size is unknown or changes.
        TypeError: If an argument or input has a wrong type.

    Attributes:
        zero_output_for_mask: Set to True in a subclass whose masked steps output zero, in place of
            the previous output.
        takes_unknown_sizes: Set to True in a subclass that needs no sizes of features when it is
            built, and overrides `initial_states`.
    """

    zero_output_for_mask = False
    takes_unknown_sizes = False

    def __init__(
        self,
        dt: DtLike = None,
        return_sequences: bool = True,
        return_state: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        time_major: bool = False,
        go_backwards: bool = False,
        **kwargs: Any,
    ):
        super().__init__(dt=dt, stateful=stateful, **kwargs)
        owner = type(self).__name__
        self.return_sequences = _checks.boolean(owner, "return_sequences", return_sequences)
        self.return_state = _checks.boolean(owner, "return_state", return_state)
        self.unroll = _checks.boolean(owner, "unroll", unroll)
        self.time_major = _checks.boolean(owner, "time_major", time_major)
        self.go_backwards = _checks.boolean(owner, "go_backwards", go_backwards)
        if go_backwards and time_major and return_sequences:
            raise ValueError(
                f"{owner}: `go_backwards` goes with `time_major` only if not `return_sequences`; "
                "received all three. keras.layers.Bidirectional would turn the batch around, not "
                "time. Use time_major=False, and keras.ops.swapaxes(inputs, 0, 1) before."
            )
        self.supports_masking = True
        self._rematerializes = False

    @property
    def time_axis(self) -> int:
        """Axis of time in inputs and outputs."""
        return 0 if self.time_major else 1

    @property
    def batch_axis(self) -> int:
        """Axis of the batch in inputs and outputs."""
        return 1 if self.time_major else 0

    @property
    def _needs_final_states(self) -> bool:
        """Whether the final states that `run` returns are used."""
        return self.stateful or self.return_state

    def build_cell(self, input_shape: Shape) -> KerasSpikingCell:
        """Makes the cell: what a subclass must define.

        Args:
            input_shape: Shape of the inputs, `(batch, time, ...)`, or `(time, batch, ...)` if
                `time_major`. Batch and time may be None.

        Returns:
            A `KerasSpikingCell`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `build_cell(input_shape)`, which returns a cell."
        )

    def build(self, input_shape: Shape) -> None:
        """Makes the cell, its weights, and the variables of a stateful layer."""
        input_shape = tuple(input_shape)
        check_inputs(self, input_shape, None)
        self.cell = self.build_cell(input_shape)
        if isinstance(self.cell.dtype_policy, keras.dtype_policies.DTypePolicyMap):
            # The map knows this layer by its path. The cell would get the default.
            self.cell.dtype_policy = self.cell.dtype_policy[self.path]
        batch_size = input_shape[self.batch_axis]
        if not self.cell.built:
            self.cell.build((batch_size, *input_shape[2:]))
        self._freeze_sublayers()
        if self.stateful:
            self._create_memory(batch_size)

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        training: bool | None = None,
        initial_state: Tensor | list[Tensor] | None = None,
    ) -> Any:
        if mask is None and initial_state is not None:
            # Keras fills in `mask` only where `inputs` is the one tensor argument.
            mask = mask_of(inputs)
        self._check_call(inputs, mask, initial_state)
        inputs = tensors.cast(inputs, self.compute_dtype)
        if self.stateful and inputs.shape[self.batch_axis] is None:
            inputs = tensors.of_batch(inputs, self.batch_axis, self._memory.batch_size)
        mask = None if mask is None else ops.cast(mask, "bool")
        if self.go_backwards:
            inputs = ops.flip(inputs, axis=self.time_axis)
            mask = None if mask is None else ops.flip(mask, axis=1)
        if initial_state is not None:
            states = keras.tree.flatten(initial_state)
        elif self.stateful:
            states = self._remembered_states()
        else:
            states = keras.tree.flatten(self.initial_states(inputs))
        states = [tensors.cast(state, self.state_dtype) for state in states]

        outputs, states = self._run_once(inputs, states, mask, bool(training))
        if self.stateful and not kernels.in_backward():
            self._memory.write(states)
        if not self.return_sequences:
            outputs = tensors.one_step(outputs, self.time_axis, -1)
        return (outputs, *states) if self.return_state else outputs

    def _run_once(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor | None, training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """What `run` returns; without the final states where they are not used."""

        def run(inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            if self._needs_final_states:
                return self.run(inputs, states, mask, training)
            return self._outputs(inputs, states, mask, training), states

        # `keras.RematScope` may run this again: it changes no state, and draws nothing.
        if self._rematerializes:
            run = super().rematerialized_call(run, inputs)
        return run(inputs, states)

    def initial_states(self, inputs: Tensor) -> Tensor | list[Tensor]:
        """The states before the first step of a layer that is not stateful: those of the cell.

        Args:
            inputs: Tensor of the shape that the layer was called with.

        Returns:
            A tensor, or a list of them, each `(batch, ...)`.
        """
        return self.cell.get_initial_state(batch_size=ops.shape(inputs)[self.batch_axis])

    def run(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor | None, training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs the whole sequence. Here the cell is stepped through time; override to do better.

        Args:
            inputs: Tensor of the shape that the layer was called with, in `compute_dtype`.
            states: List of tensors to start from, in `state_dtype`.
            mask: None, or Boolean tensor `(batch, time)`, True for steps to use.
            training: Whether the model is training.

        Returns:
            The outputs of every time step, and the list of final states.
        """
        return step_through_time(self, inputs, states, mask, training)

    def _outputs(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor | None, training: bool
    ) -> Tensor:
        """The outputs of `run` alone; override where they take less than the final states do."""
        return self.run(inputs, states, mask, training)[0]

    def rematerialized_call(self, layer_call: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer as it is, and has Keras run again only the part without side effects."""

        @functools.wraps(layer_call)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._rematerializes = True
            try:
                return layer_call(*args, **kwargs)
            finally:
                self._rematerializes = False

        return call

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None) -> Any:
        mask = previous_mask if self.return_sequences else None
        if self.go_backwards and mask is not None:
            mask = ops.flip(mask, axis=1)
        if not self.return_state:
            return mask
        return [mask] + [None] * len(self.cell.state_shapes)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        cell = self.cell if self.built else self.build_cell(tuple(input_shape))
        features = as_shape(cell.output_size)
        batch_size = input_shape[self.batch_axis]
        if self.return_sequences:
            shape = (*input_shape[:2], *features)
        else:
            shape = (batch_size, *features)
        if not self.return_state:
            return shape
        return (shape, *((batch_size, *state) for state in cell.state_shapes))

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        training: bool | None = None,
        initial_state: Tensor | list[Tensor] | None = None,
    ) -> Any:
        self._check_call(inputs, mask, initial_state)
        shape = self.compute_output_shape(inputs.shape)
        if not self.return_state:
            return keras.KerasTensor(shape, self.compute_dtype)
        outputs, *states = shape
        return (
            keras.KerasTensor(outputs, self.compute_dtype),
            *(keras.KerasTensor(state, self.state_dtype) for state in states),
        )

    def get_config(self) -> dict[str, Any]:
        config = {
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "unroll": self.unroll,
            "time_major": self.time_major,
            "go_backwards": self.go_backwards,
        }
        return {**super().get_config(), **config}

    def _check_call(self, inputs: Tensor, mask: Tensor | None, initial_state: Any) -> None:
        check_inputs(self, tuple(inputs.shape), inputs.dtype)
        batch_size, time = (inputs.shape[axis] for axis in (self.batch_axis, self.time_axis))
        if time == 0 and not self.return_sequences:
            raise ValueError(
                f"{type(self).__name__}: inputs must have at least one time step, of which "
                f"return_sequences=False returns the last; received shape {tuple(inputs.shape)}. "
                "Leave out empty chunks of a stream, or use return_sequences=True."
            )
        if mask is not None:
            check_mask(self, batch_size, time, mask)
        if initial_state is not None:
            check_states(self, batch_size, keras.tree.flatten(initial_state), "initial_state")
