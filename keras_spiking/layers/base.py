"""The contract of everything that runs over time: shapes, state, masks, reset, config."""

from typing import Any

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking.kernels.portable import step_slice
from keras_spiking.layers.shapes import check_inputs, check_mask, check_states, per_sample
from keras_spiking.layers.time_step import TimeStep


class _WithTimeStep(keras.layers.Layer):
    """What cells and layers share: `dt`, and arithmetic on state that is never in half precision.

    `autocast` is off: state and time constants stay in `state_dtype`, and inputs are cast to
    `compute_dtype` where they enter.
    """

    def __init__(self, dt: Any, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self._time_step = TimeStep(type(self).__name__, dt)

    @property
    def dt(self) -> Any:
        """Length of a time step in seconds: a number, or the variable it was made with."""
        return self._time_step.value

    @property
    def state_dtype(self) -> str:
        """Type of states: float32, or float64 in a float64 layer."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    @property
    def variables(self) -> list[keras.Variable]:
        """Every variable that the layer reads or writes: the weights, `dt`, seeds and states."""
        return _unique(super().variables + self._time_step.variables)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dt": self._time_step.as_float()}


class KerasSpikingCell(_WithTimeStep):
    """One time step: the base class of cells.

    A subclass defines `call_inference(inputs, states)` and, where training differs,
    `call_training(inputs, states)`. Both take inputs `(batch, ...)` and a list of states, and
    return `(outputs, new_states)`. A cell runs in a `KerasSpikingLayer`, or, with one feature
    axis, in `keras.layers.RNN`.

    Args:
        size: Number of units, or the shape of the feature axes.
        state_size: Size or shape of the state, or a list of them, one per state tensor, each
            without the batch axis. Default: one state of shape `size`.
        output_size: Shape of the output's feature axes. Default: `size`.
        dt: Length of a time step in seconds: a positive number or a scalar variable. Default:
            `keras_spiking.default.dt`.
        always_use_inference: If True, `call_inference` runs in training too.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`, with the feature axes of `size`.
        states: List of the cell's states, each `(batch, ...)`.
        training: Whether the model is training.

    Output shape:
        `(outputs, new_states)`: outputs `(batch, ...)` and a list of states.

    Raises:
        ValueError: If a size or `dt` is not positive.
        TypeError: If a size is not an integer or a tuple of integers, or `dt` not a number or
            variable.

    Attributes:
        trainable_initial_state: Set to True in a subclass whose `get_initial_state` depends on
            weights. A stateful layer then starts from the weights as they are at its first step.
    """

    trainable_initial_state = False

    def __init__(
        self,
        size: Any,
        state_size: Any = None,
        output_size: Any = None,
        dt: Any = None,
        always_use_inference: bool = False,
        **kwargs: Any,
    ):
        super().__init__(dt=dt, **kwargs)
        owner = type(self).__name__
        self.size = _checks.size(owner, "size", size)
        self.output_size = (
            self.size if output_size is None else _checks.size(owner, "output_size", output_size)
        )
        if state_size is None:
            state_size = self.size if isinstance(self.size, int) else [self.size]
        several = isinstance(state_size, list)
        sizes = [
            _checks.size(owner, "state_size", each)
            for each in (state_size if several else [state_size])
        ]
        self.state_size = sizes if several or not isinstance(sizes[0], int) else sizes[0]
        self.always_use_inference = _checks.boolean(
            owner, "always_use_inference", always_use_inference
        )

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of the inputs' feature axes."""
        return per_sample(self.size)

    @property
    def state_shapes(self) -> list[tuple[int, ...]]:
        """Shape of each state, without the batch axis."""
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [per_sample(size) for size in sizes]

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """The states before the first step, each `(batch_size, ...)`; zeros unless overridden."""
        return [ops.zeros((batch_size, *shape), self.state_dtype) for shape in self.state_shapes]

    def build(self, input_shape: Any) -> None:
        """Creates weights; `input_shape` is `(batch, ...)`, with the feature axes of `size`."""
        if tuple(input_shape)[1:] != self.feature_shape:
            raise ValueError(
                f"{type(self).__name__}: inputs of one step must have shape (batch, ...) with the "
                f"feature axes of size={self.size}; received shape {tuple(input_shape)}."
            )

    def call(self, inputs: Any, states: Any, training: bool | None = None) -> Any:
        inputs = ops.cast(inputs, self.compute_dtype)
        states = [ops.cast(state, self.state_dtype) for state in keras.tree.flatten(states)]
        if training and not self.always_use_inference:
            outputs, new_states = self.call_training(inputs, states)
        else:
            outputs, new_states = self.call_inference(inputs, states)
        return ops.cast(outputs, self.compute_dtype), keras.tree.flatten(new_states)

    def call_training(self, inputs: Any, states: list[Any]) -> Any:
        """Runs one step of training; as in inference unless overridden."""
        return self.call_inference(inputs, states)

    def call_inference(self, inputs: Any, states: list[Any]) -> Any:
        """Runs one step."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `call_inference(inputs, states)`, "
            "which returns `(outputs, new_states)`."
        )

    def compute_output_spec(self, inputs: Any, states: Any, training: bool | None = None) -> Any:
        batch = inputs.shape[0]
        outputs = keras.KerasTensor((batch, *per_sample(self.output_size)), self.compute_dtype)
        return outputs, [
            keras.KerasTensor((batch, *shape), self.state_dtype) for shape in self.state_shapes
        ]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


class KerasSpikingLayer(_WithTimeStep):
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
    """

    zero_output_for_mask = False

    def __init__(
        self,
        dt: Any = None,
        return_sequences: bool = True,
        return_state: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        time_major: bool = False,
        **kwargs: Any,
    ):
        super().__init__(dt=dt, **kwargs)
        owner = type(self).__name__
        self.return_sequences = _checks.boolean(owner, "return_sequences", return_sequences)
        self.return_state = _checks.boolean(owner, "return_state", return_state)
        self.stateful = _checks.boolean(owner, "stateful", stateful)
        self.unroll = _checks.boolean(owner, "unroll", unroll)
        self.time_major = _checks.boolean(owner, "time_major", time_major)
        self.supports_masking = True
        self._memory = _Memory()

    @property
    def time_axis(self) -> int:
        """Axis of time in inputs and outputs."""
        return 0 if self.time_major else 1

    @property
    def batch_axis(self) -> int:
        """Axis of the batch in inputs and outputs."""
        return 1 if self.time_major else 0

    @property
    def states(self) -> list[keras.Variable] | None:
        """The variables that keep the states of a stateful layer, None before it is built."""
        return self._memory.states

    @property
    def variables(self) -> list[keras.Variable]:
        return _unique(super().variables + self._memory.variables)

    def build_cell(self, input_shape: tuple[int | None, ...]) -> KerasSpikingCell:
        """Makes the cell for inputs of this shape, batch and time included."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `build_cell(input_shape)`, which returns a cell."
        )

    def build(self, input_shape: Any) -> None:
        """Makes the cell, its weights, and the variables of a stateful layer."""
        input_shape = tuple(input_shape)
        check_inputs(self, input_shape, None)
        self.cell = self.build_cell(input_shape)
        batch_size = input_shape[self.batch_axis]
        if self.stateful and not isinstance(batch_size, int):
            raise ValueError(
                f"{type(self).__name__}: a layer with stateful=True needs a fixed batch size; "
                f"received inputs of shape {input_shape}. Give it to the model's input, as in "
                "keras.Input(shape, batch_size=32)."
            )
        if not self.cell.built:
            self.cell.build((batch_size, *input_shape[2:]))
        if self.stateful:
            self._memory.create(self.cell, batch_size)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = None,
        initial_state: Any = None,
    ) -> Any:
        if mask is None and initial_state is not None:
            # Keras fills in the mask itself only where `inputs` is the one tensor argument.
            mask = getattr(inputs, "_keras_mask", None)
        self._check_call(inputs, mask, initial_state)
        inputs = ops.cast(inputs, self.compute_dtype)
        mask = None if mask is None else ops.cast(mask, "bool")
        if initial_state is not None:
            states = keras.tree.flatten(initial_state)
        elif self.stateful:
            states = self._memory.read(self.cell)
        else:
            states = self.cell.get_initial_state(batch_size=ops.shape(inputs)[self.batch_axis])
        states = [ops.cast(state, self.state_dtype) for state in keras.tree.flatten(states)]

        outputs, states = self.run(inputs, states, mask, bool(training))
        if self.stateful:
            self._memory.write(states)
        if not self.return_sequences:
            outputs = outputs[-1] if self.time_major else outputs[:, -1]
        return (outputs, *states) if self.return_state else outputs

    def run(
        self, inputs: Any, states: list[Any], mask: Any, training: bool
    ) -> tuple[Any, list[Any]]:
        """Runs the whole sequence: `(outputs, final_states)`, outputs with every time step.

        Here the cell is stepped through time. `inputs` are in `compute_dtype`, `states` in
        `state_dtype`, and `mask` is None or Boolean `(batch, time)`.
        """

        def by_time(tensor: Any) -> Any:
            return ops.moveaxis(tensor, 1, 0)

        steps = [inputs if self.time_major else by_time(inputs)]
        if mask is not None:
            steps.append(by_time(mask))
        shape = (ops.shape(inputs)[self.batch_axis], *per_sample(self.cell.output_size))

        def step(carry: list[Any], at_step: list[Any]) -> tuple[list[Any], list[Any]]:
            before, *states = carry
            outputs, new_states = self.cell(at_step[0], states, training=training)
            if mask is not None:
                kept = ops.zeros_like(before) if self.zero_output_for_mask else before
                outputs = choose(at_step[1], outputs, kept)
                new_states = [
                    choose(at_step[1], new, old)
                    for new, old in zip(new_states, states, strict=True)
                ]
            # On TensorFlow, `scan` needs outputs of the same structure as what it carries.
            return [outputs, *new_states], [outputs, *new_states]

        start = [ops.zeros(shape, self.compute_dtype), *states]
        (_, *states), (outputs, *_) = ops.scan(step, start, steps, unroll=self.unroll)
        return outputs if self.time_major else by_time(outputs), states

    def reset_state(self) -> None:
        """Returns a stateful layer to its cell's initial state."""
        self.reset_states()

    def reset_states(self, states: Any = None) -> None:
        """Returns a stateful layer to its cell's initial state, or sets it to `states`.

        Args:
            states: Array, or list of arrays, one per state, each `(batch, ...)`.

        Raises:
            ValueError: If the layer is not stateful, not built, or the shapes do not fit.
        """
        owner = type(self).__name__
        if not self.stateful:
            raise ValueError(
                f"{owner}: only a layer made with stateful=True has a state to reset; "
                f"layer {self.name!r} has stateful=False."
            )
        if states is None:
            if self.built:
                self._memory.reset(self.cell)
            return
        if not self.built:
            raise ValueError(
                f"{owner}: the state of layer {self.name!r} cannot be set before it is built; "
                "call the layer or its model once, or build it."
            )
        states = [
            ops.convert_to_tensor(state, dtype=self.state_dtype)
            for state in (states if isinstance(states, (list, tuple)) else [states])
        ]
        check_states(self, self.states[0].shape[0], states, "states")
        self._memory.write(states)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        mask = previous_mask if self.return_sequences else None
        if not self.return_state:
            return mask
        return [mask] + [None] * len(self.cell.state_shapes)

    def compute_output_shape(self, input_shape: Any) -> Any:
        cell = self.cell if self.built else self.build_cell(tuple(input_shape))
        features = per_sample(cell.output_size)
        batch_size = input_shape[self.batch_axis]
        if self.return_sequences:
            shape = (*input_shape[:2], *features)
        else:
            shape = (batch_size, *features)
        if not self.return_state:
            return shape
        return (shape, *((batch_size, *each) for each in cell.state_shapes))

    def compute_output_spec(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = None,
        initial_state: Any = None,
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
            "stateful": self.stateful,
            "unroll": self.unroll,
            "time_major": self.time_major,
        }
        return {**super().get_config(), **config}

    def _check_call(self, inputs: Any, mask: Any, initial_state: Any) -> None:
        check_inputs(self, tuple(inputs.shape), inputs.dtype)
        batch_size, time = (inputs.shape[axis] for axis in (self.batch_axis, self.time_axis))
        if mask is not None:
            check_mask(self, batch_size, time, mask)
        if initial_state is not None:
            check_states(self, batch_size, keras.tree.flatten(initial_state), "initial_state")


class _Memory:
    """The variables of a stateful layer, out of sight of Keras's attribute tracking.

    JAX must track them, so they are in the layer's `variables`; but they are no weights: weights
    move freely between a stateless layer and its stateful twin, and files do not hold states.
    """

    def __init__(self) -> None:
        self.states: list[keras.Variable] | None = None
        # False while the initial state still follows the weights that it is made of.
        self.started: keras.Variable | None = None

    @property
    def variables(self) -> list[keras.Variable]:
        return [*(self.states or []), *([] if self.started is None else [self.started])]

    def create(self, cell: KerasSpikingCell, batch_size: int) -> None:
        def variable(index: int, shape: tuple[int, ...]) -> keras.Variable:
            def start(shape: Any, dtype: Any = None) -> Any:
                return keras.tree.flatten(cell.get_initial_state(batch_size=batch_size))[index]

            return keras.Variable(
                start,
                shape=(batch_size, *shape),
                dtype=cell.state_dtype,
                trainable=False,
                name=f"state_{index}",
            )

        self.states = [variable(index, shape) for index, shape in enumerate(cell.state_shapes)]
        if cell.trainable_initial_state:
            self.started = keras.Variable(
                "zeros", shape=(), dtype="bool", trainable=False, name="started"
            )

    def read(self, cell: KerasSpikingCell) -> list[Any]:
        # Copies: on torch, `write` changes a variable in place while the gradient still needs it.
        states = [ops.copy(state) for state in self.states or []]
        if self.started is None:
            return states
        initial = keras.tree.flatten(cell.get_initial_state(batch_size=states[0].shape[0]))
        return [
            ops.where(self.started, state, start)
            for state, start in zip(states, initial, strict=True)
        ]

    def write(self, states: list[Any]) -> None:
        for variable, state in zip(self.states or [], states, strict=True):
            variable.assign(state)
        if self.started is not None:
            self.started.assign(True)

    def reset(self, cell: KerasSpikingCell) -> None:
        assert self.states is not None
        batch_size = self.states[0].shape[0]
        self.write(keras.tree.flatten(cell.get_initial_state(batch_size=batch_size)))
        if self.started is not None:
            self.started.assign(False)


def choose(keep: Any, new: Any, old: Any) -> Any:
    """`new` for the samples to keep, `old` for the others; `keep` is Boolean `(batch,)`."""
    return ops.where(ops.reshape(keep, (-1, *[1] * (len(new.shape) - 1))), new, old)


def last_step(sequence: Any, time_axis: int) -> Any:
    """The last step of a sequence."""
    return ops.squeeze(step_slice(sequence, time_axis, -1, None), time_axis)


def _unique(variables: list[keras.Variable]) -> list[keras.Variable]:
    return list({id(variable): variable for variable in variables}.values())
