"""What the trainable filters share: time constants, initial levels, and masks."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_spiking import _checks, kernels
from keras_spiking._configs import get_named
from keras_spiking.kernels import portable
from keras_spiking.layers.base import KerasSpikingLayer
from keras_spiking.layers.cell import KerasSpikingCell
from keras_spiking.layers.initializers import get_initializer
from keras_spiking.layers.shapes import as_size

# Below this time constant, in seconds, a filter passes its input through.
_SHORTEST_TAU = 1e-8
# Beyond this one, as float16 makes it of 65,520 s, it keeps its level.
_LONGEST_TAU = 1e30


def _set_filter_arguments(
    filter: Any,
    tau_initializer: Any,
    apply_during_training: Any,
    level_initializer: Any,
    initial_level_constraint: Any,
    tau_constraint: Any,
) -> None:
    owner = type(filter).__name__
    filter.tau_initializer = get_initializer(
        owner, "tau_initializer", tau_initializer, positive=True
    )
    filter.apply_during_training = _checks.boolean(
        owner, "apply_during_training", apply_during_training
    )
    filter.level_initializer = get_initializer(owner, "level_initializer", level_initializer)
    filter.initial_level_constraint = _get_constraint(
        owner, "initial_level_constraint", initial_level_constraint
    )
    filter.tau_constraint = _get_constraint(owner, "tau_constraint", tau_constraint)


def _get_constraint(owner: str, name: str, value: Any) -> Any:
    try:
        return get_named(value, keras.constraints.get, keras.constraints.Constraint)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: `{name}` must be a Keras constraint, its name, or None; "
            f"received {name}={value!r}. The reason: {error}"
        ) from error


def _filter_config(filter: Any) -> dict[str, Any]:
    return {
        "tau_initializer": keras.initializers.serialize(filter.tau_initializer),
        "apply_during_training": filter.apply_during_training,
        "level_initializer": keras.initializers.serialize(filter.level_initializer),
        "initial_level_constraint": keras.constraints.serialize(filter.initial_level_constraint),
        "tau_constraint": keras.constraints.serialize(filter.tau_constraint),
    }


class _Learnable(keras.constraints.Constraint):
    """Puts `tau` back where a filter can learn from, after a step of an optimizer.

    At a tenth of `dt` the input passes through but for a part of 5e-5 (`Alpha`: 5e-4). Below, the
    gradient soon is zero in floats, and `tau` would stay there for good.

    Args:
        constraint: The user's, which comes first, or None.
        time_step: The `TimeStep` that holds `dt`.
    """

    def __init__(self, constraint: Any, time_step: Any):
        self._constraint = constraint
        self._time_step = time_step

    def __call__(self, tau: Any) -> Any:
        if self._constraint is not None:
            tau = self._constraint(tau)
        tau, time_step = ops.convert_to_tensor(tau), self._time_step
        tenth = ops.cast(0.1 * time_step.in_optimizer(), tau.dtype)
        tenth = ops.where(tenth > 2.0 * _SHORTEST_TAU, tenth, 2.0 * _SHORTEST_TAU)
        # Where `dt` varies, what is short beside it now may be long beside the next one.
        least = ops.zeros_like(tenth) if time_step.varies else tenth
        return ops.where(tau <= least, tenth, tau)  # what is no number stays that


class FilterCell(KerasSpikingCell):
    """A cell with the weights `initial_level` and `tau`, of shape `_weight_shape`."""

    trainable_initial_state = True

    def __init__(
        self,
        size: Any,
        tau_initializer: Any,
        *,
        dt: Any = None,
        apply_during_training: bool = True,
        level_initializer: Any = "zeros",
        initial_level_constraint: Any = None,
        tau_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            size,
            dt=dt,
            always_use_inference=_checks.boolean(
                type(self).__name__, "apply_during_training", apply_during_training
            ),
            **kwargs,
        )
        _set_filter_arguments(
            self,
            tau_initializer,
            apply_during_training,
            level_initializer,
            initial_level_constraint,
            tau_constraint,
        )

    initial_level: Any
    tau: Any
    # Returns the cell whose weights this one uses too, if it is not to make its own.
    _other: Callable[[], "FilterCell"] | None = None

    @property
    def _weight_shape(self) -> tuple[int, ...]:
        """Shape of `initial_level` and `tau`."""
        raise NotImplementedError

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self._other is not None:
            cell = self._other()
            self.initial_level, self.tau = cell.initial_level, cell.tau
            return
        self.initial_level = self.add_weight(
            shape=self._weight_shape,
            initializer=self.level_initializer,
            constraint=self.initial_level_constraint,
            trainable=self.apply_during_training,
            name="initial_level",
        )
        self.tau = self.add_weight(
            shape=self._weight_shape,
            initializer=self.tau_initializer,
            constraint=_Learnable(self.tau_constraint, self._time_step),
            trainable=self.apply_during_training,
            name="tau",
        )

    def _seconds(self) -> tuple[Any, Any]:
        """`tau` and `dt` as tensors, in seconds."""
        tau = ops.cast(self.tau, self.state_dtype)
        # Not ops.maximum, which on torch makes float64 float32.
        tau = ops.where(tau > _SHORTEST_TAU, tau, _SHORTEST_TAU)
        tau = ops.where(tau < _LONGEST_TAU, tau, _LONGEST_TAU)
        return tau, ops.convert_to_tensor(self._time_step.seconds(self.state_dtype), tau.dtype)

    def call_training(self, inputs: Any, states: list[Any]) -> Any:
        return inputs, states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **_filter_config(self)}


class FilterLayer(KerasSpikingLayer):
    """A layer over a `FilterCell`; a subclass names it in `_cell_class` and defines `_filter`."""

    _cell_class: type[FilterCell]

    def __init__(
        self,
        tau_initializer: Any,
        *,
        dt: Any = None,
        apply_during_training: bool = True,
        level_initializer: Any = "zeros",
        initial_level_constraint: Any = None,
        tau_constraint: Any = None,
        return_sequences: bool = True,
        return_state: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        time_major: bool = False,
        go_backwards: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            dt=dt,
            return_sequences=return_sequences,
            return_state=return_state,
            stateful=stateful,
            unroll=unroll,
            time_major=time_major,
            go_backwards=go_backwards,
            **kwargs,
        )
        _set_filter_arguments(
            self,
            tau_initializer,
            apply_during_training,
            level_initializer,
            initial_level_constraint,
            tau_constraint,
        )

    def build_cell(self, input_shape: tuple[int | None, ...]) -> FilterCell:
        cell = self._cell_class(
            as_size(input_shape[2:]),
            self.tau_initializer,
            dt=self.dt,
            apply_during_training=self.apply_during_training,
            level_initializer=self.level_initializer,
            initial_level_constraint=self.initial_level_constraint,
            tau_constraint=self.tau_constraint,
            dtype=self.dtype_policy,
        )
        cell._other = self._other
        return cell

    _other: Callable[[], FilterCell] | None = None

    def _share_weights(self, layer: "FilterLayer") -> None:
        """Has this layer, which is not built yet, use the weights of one that is."""
        # In a function, so that Keras does not take that cell for a part of this layer.
        self._other = lambda: layer.cell

    def _filter(self, kernel: Any, inputs: Any, states: list[Any]) -> tuple[Any, Any]:
        """Filters a whole sequence.

        Args:
            kernel: What runs it: `kernels.linear_filter`, or one of its last step alone.
            inputs: The sequence, in `state_dtype`.
            states: The cell's states.

        Returns:
            A pair of the starting values, each `(batch, ...)`, and the sequences that go on from
            them, each as the kernel makes them: the output first.
        """
        raise NotImplementedError

    def _states_from(self, last: list[Any]) -> list[Any]:
        """The cell's states from the last step of the sequences that `_filter` returns."""
        raise NotImplementedError

    def run(
        self, inputs: Any, states: list[Any], mask: Any, training: bool
    ) -> tuple[Any, list[Any]]:
        return self._run(inputs, states, mask, training, with_states=True)

    def _outputs(self, inputs: Any, states: list[Any], mask: Any, training: bool) -> Any:
        # On torch, where nothing is left out that is not used, a readout takes half the time.
        return self._run(inputs, states, mask, training, with_states=False)[0]

    def _run(
        self, inputs: Any, states: list[Any], mask: Any, training: bool, with_states: bool
    ) -> tuple[Any, list[Any]]:
        through = training and not self.apply_during_training
        if through and mask is None:
            return inputs, states
        drive = ops.cast(inputs, self.state_dtype)
        kernel: Any = kernels.linear_filter
        if mask is not None:
            steps = _UsedSteps(mask, self.time_axis, len(inputs.shape))
            drive = steps.gather(drive, mask)
        elif not self.return_sequences:
            kernel = portable.filter_ends if with_states else _end
        starts, sequences = self._filter(kernel, drive, states)
        if not with_states:
            starts, sequences = starts[:1], sequences[:1]
        if through:
            sequences = [drive, *sequences[1:]]
        if mask is not None:
            sequences = [
                steps.scatter(start, sequence)
                for start, sequence in zip(starts, sequences, strict=True)
            ]
        outputs = portable.cast(sequences[0], self.compute_dtype)
        if mask is not None and self.zero_output_for_mask:  # as keras.layers.Bidirectional sets it
            outputs = steps.zero(outputs, mask)
        if with_states and not through:
            states = self._states_from(
                [
                    portable.last_step(sequence, start, self.time_axis)
                    for start, sequence in zip(starts, sequences, strict=True)
                ]
            )
        return outputs, states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **_filter_config(self)}


def _end(filter_: kernels.Filter, *arguments: Any) -> tuple[Any, ...]:
    """The last step of the last level, and None for the others."""
    end = kernels.filter_end(filter_, *arguments)
    return (*[None] * (len(filter_.gains) - 1), end)


class _UsedSteps:
    """Runs a filter over the steps that a mask keeps, as if the others were not there."""

    def __init__(self, mask: Any, time_axis: int, rank: int):
        # With a type: Keras would take one of 16 bits where `floatx` has 16.
        time = ops.arange(ops.shape(mask)[1], dtype="int32")
        self.time_axis = time_axis
        # Unmasked steps first, both kinds in their order.
        order = ops.argsort(ops.where(mask, time, time + ops.shape(mask)[1]), axis=1)
        self.order = self._index(order, rank)
        self.number = self._index(ops.cumsum(ops.cast(mask, "int32"), axis=1), rank)

    def _index(self, index: Any, rank: int) -> Any:
        index = index if self.time_axis == 1 else ops.transpose(index)
        return ops.reshape(index, (*ops.shape(index), *[1] * (rank - 2)))

    def gather(self, sequence: Any, mask: Any) -> Any:
        """Moves the unmasked steps to the front, and zeroes the others.

        Whatever they are: times a gradient of zero, what is not finite would be no number.
        """
        return ops.take_along_axis(self.zero(sequence, mask), self.order, axis=self.time_axis)

    def zero(self, sequence: Any, mask: Any) -> Any:
        """Zeroes the masked steps."""
        mask = self._index(mask, len(sequence.shape))
        return ops.where(mask, sequence, ops.zeros_like(sequence))

    def scatter(self, start: Any, sequence: Any) -> Any:
        """Moves them back; masked steps repeat the step before, at first `start`."""
        whole = ops.concatenate(
            [ops.expand_dims(start, self.time_axis), sequence], axis=self.time_axis
        )
        return ops.take_along_axis(whole, self.number, axis=self.time_axis)
