"""What the trainable filters share: a cell with weights, and a layer that runs a kernel."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_spiking import _checks, kernels
from keras_spiking._types import ConstraintLike, InitializerLike, Shape, Tensor
from keras_spiking.kernels import portable, tensors
from keras_spiking.layers.base import KerasSpikingLayer
from keras_spiking.layers.cell import KerasSpikingCell
from keras_spiking.layers.dt import DtLike, TimeStep
from keras_spiking.layers.filter_options import FilterOptions
from keras_spiking.layers.shapes import as_size
from keras_spiking.layers.used_steps import UsedSteps

# Below this time constant, in seconds, a filter passes its input through.
_SHORTEST_TAU = 1e-8
# Beyond this time constant, a filter keeps its level. Float16 makes infinity of 65,520 s.
_LONGEST_TAU = 1e30


class _LearnableTau(keras.constraints.Constraint):
    """Keeps `tau` where it can learn: after a step of an optimizer, at least a tenth of `dt`.

    At a tenth of `dt` the input passes through but for a part of 5e-5 (`Alpha`: 5e-4). Below
    that, the gradient soon is zero in floats, and `tau` would never change again.

    Args:
        constraint: The user's constraint, which is applied first, or None.
        time_step: The `TimeStep` that holds `dt`.
    """

    def __init__(self, constraint: Callable[[Tensor], Tensor] | None, time_step: TimeStep):
        self._constraint = constraint
        self._time_step = time_step

    def __call__(self, tau: Tensor) -> Tensor:
        if self._constraint is not None:
            tau = self._constraint(tau)
        tau, time_step = ops.convert_to_tensor(tau), self._time_step
        tenth = ops.cast(0.1 * time_step.in_optimizer(), tau.dtype)
        tenth = ops.where(tenth > 2.0 * _SHORTEST_TAU, tenth, 2.0 * _SHORTEST_TAU)
        # Where `dt` varies, a `tau` that is short beside it now may be long beside the next one.
        least = ops.zeros_like(tenth) if time_step.varies else tenth
        return ops.where(tau <= least, tenth, tau)  # NaN stays NaN


class FilterCell(FilterOptions, KerasSpikingCell):
    """A cell with the weights `initial_level` and `tau`.

    A subclass defines one step, `call_inference`, and for whole sequences the properties and
    methods below that raise `NotImplementedError`.
    """

    trainable_initial_state = True
    initial_level: keras.Variable
    tau: keras.Variable
    # Returns the cell whose weights this one uses too. None where it makes its own.
    _other: Callable[[], "FilterCell"] | None = None

    def __init__(
        self,
        size: int | Sequence[int],
        tau_initializer: InitializerLike,
        *,
        dt: DtLike = None,
        apply_during_training: bool = True,
        level_initializer: InitializerLike = "zeros",
        initial_level_constraint: ConstraintLike = None,
        tau_constraint: ConstraintLike = None,
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
        self._set_options(
            tau_initializer,
            apply_during_training,
            level_initializer,
            initial_level_constraint,
            tau_constraint,
        )

    @property
    def _weight_shape(self) -> tuple[int, ...]:
        """Shape of `initial_level` and `tau`."""
        raise NotImplementedError

    def build(self, input_shape: Shape) -> None:
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
            constraint=_LearnableTau(self.tau_constraint, self._time_step),
            trainable=self.apply_during_training,
            name="tau",
        )

    def _seconds(self) -> tuple[Tensor, Tensor]:
        """`tau` and `dt` as tensors, in seconds."""
        tau = ops.cast(self.tau, self.state_dtype)
        # Not ops.maximum, which on torch makes float64 float32.
        tau = ops.where(tau > _SHORTEST_TAU, tau, _SHORTEST_TAU)
        tau = ops.where(tau < _LONGEST_TAU, tau, _LONGEST_TAU)
        return tau, ops.convert_to_tensor(self._time_step.seconds(self.state_dtype), tau.dtype)

    def _coefficients(self, tau: Tensor, dt: Tensor) -> kernels.Filter:
        """The filter of these time constants, for a step of `dt`."""
        raise NotImplementedError

    def _levels(self, states: Sequence[Tensor], tau: Tensor) -> Sequence[Tensor]:
        """The cell's states as levels of `kernels.linear_filter`, each `(batch, ...)`."""
        raise NotImplementedError

    def _states(self, levels: Sequence[Tensor], tau: Tensor) -> list[Tensor]:
        """The levels as states of the cell."""
        raise NotImplementedError

    def call_training(self, inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return inputs, states


class FilterLayer(FilterOptions, KerasSpikingLayer):
    """A layer over a `FilterCell`, which a subclass names in `_cell_class`."""

    _cell_class: type[FilterCell]
    _other: Callable[[], FilterCell] | None = None

    def __init__(
        self,
        tau_initializer: InitializerLike,
        *,
        dt: DtLike = None,
        apply_during_training: bool = True,
        level_initializer: InitializerLike = "zeros",
        initial_level_constraint: ConstraintLike = None,
        tau_constraint: ConstraintLike = None,
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
        self._set_options(
            tau_initializer,
            apply_during_training,
            level_initializer,
            initial_level_constraint,
            tau_constraint,
        )

    def build_cell(self, input_shape: Shape) -> FilterCell:
        cell = self._cell_class(
            as_size(input_shape[2:]), dt=self.dt, dtype=self.dtype_policy, **self._options()
        )
        cell._other = self._other
        return cell

    def _share_weights(self, layer: "FilterLayer") -> None:
        """Makes this layer, which is not built yet, use the weights of one that is."""
        # In a function, so that Keras does not take that cell for a part of this layer.
        self._other = lambda: layer.cell

    def run(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor | None, training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        if mask is not None:
            return self._run_masked(inputs, states, mask, training)
        if self._passes_through(training):
            return inputs, states
        tau, dt = self.cell._seconds()
        starts = self.cell._levels(states, tau)
        kernel = kernels.linear_filter if self.return_sequences else portable.filter_ends
        levels = self._filter(kernel, inputs, starts, tau, dt)
        ends = [
            tensors.last_step(level, start, self.time_axis)
            for level, start in zip(levels, starts, strict=True)
        ]
        return tensors.cast(levels[-1], self.compute_dtype), self.cell._states(ends, tau)

    def _run_masked(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor, training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs over the steps that the mask keeps, as if the others were not there."""
        tau, dt = self.cell._seconds()
        starts = self.cell._levels(states, tau)
        steps = UsedSteps(mask, self.time_axis, len(inputs.shape))
        outputs = steps.gather(ops.cast(inputs, self.state_dtype))
        if not self._passes_through(training):
            levels = self._filter(kernels.linear_filter, outputs, starts, tau, dt)
            ends = list(map(steps.last, levels, starts))
            outputs, states = levels[-1], self.cell._states(ends, tau)
        outputs = steps.scatter(outputs, starts[-1])
        if self.zero_output_for_mask:  # as keras.layers.Bidirectional sets it
            outputs = steps.zero(outputs)
        return tensors.cast(outputs, self.compute_dtype), states

    def _outputs(
        self, inputs: Tensor, states: list[Tensor], mask: Tensor | None, training: bool
    ) -> Tensor:
        if mask is not None or self._passes_through(training):
            return super()._outputs(inputs, states, mask, training)
        tau, dt = self.cell._seconds()
        starts = self.cell._levels(states, tau)
        # Torch computes also what is not used: a readout by `run` would take twice as long.
        if self.return_sequences:
            outputs = self._filter(kernels.linear_filter, inputs, starts, tau, dt)[-1]
        else:
            outputs = self._filter(kernels.filter_end, inputs, starts, tau, dt)
        return tensors.cast(outputs, self.compute_dtype)

    def _passes_through(self, training: bool) -> bool:
        return training and not self.apply_during_training

    def _filter(
        self,
        kernel: Callable[..., Any],
        inputs: Tensor,
        starts: Sequence[Tensor],
        tau: Tensor,
        dt: Tensor,
    ) -> Any:
        """Calls a kernel that has the arguments of `kernels.linear_filter`."""
        drive = ops.cast(inputs, self.state_dtype)
        return kernel(self.cell._coefficients(tau, dt), drive, tuple(starts), self.time_axis)
