"""One time step, and what cells and layers share."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking._types import Shape, Tensor
from keras_spiking.kernels import tensors
from keras_spiking.layers.dt import DtLike, TimeStep
from keras_spiking.layers.shapes import as_shape, fits
from keras_spiking.layers.sublayers import layers_within


class WithTimeStep(keras.layers.Layer):
    """What cells and layers share: `dt`, and state that is never in half precision.

    `autocast` is off, also for variables: state and time constants stay in `state_dtype`. Inputs
    are cast to `compute_dtype` when the layer is called.
    """

    def __init__(self, dt: DtLike, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self._time_step = TimeStep(type(self).__name__, dt)

    def add_weight(self, *args: Any, autocast: bool = False, **kwargs: Any) -> Any:
        """Makes a weight as Keras does, but one that is always read in its own type.

        Otherwise a layer that is called outside of a model would read it in half precision.
        """
        return super().add_weight(*args, autocast=autocast, **kwargs)

    @property
    def dt(self) -> float | keras.Variable:
        """Length of a time step in seconds: a number, or the variable it was made with."""
        return self._time_step.value

    @property
    def state_dtype(self) -> str:
        """Type of states: float32, or float64 in a float64 layer."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    @property
    def variables(self) -> list[keras.Variable]:
        """Every variable that the layer reads or writes: the weights, `dt`, seeds and states."""
        return unique(super().variables + self._time_step.variables)

    def _freeze_sublayers(self) -> None:
        """Freezes the layers within a frozen one. Keras leaves out those that are added later."""
        if not self.trainable:
            for layer in layers_within(self):
                layer.trainable = False

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dt": self._time_step.as_float()}


# Arguments that most subclasses set themselves, in place of taking them.
_ARGUMENTS = ("state_size", "output_size", "always_use_inference")


class _WithGivenArguments(WithTimeStep):
    """Remembers which of `_ARGUMENTS` its constructor was given.

    These are in the config. Others are not, because a subclass that sets one itself need not take
    it as an argument, and could not be made from a config that has it.

    `__new__` sees what the constructor was given. It is in a class of its own, because editors and
    `inspect.signature` show the arguments of `__new__` if a class has both that and `__init__`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> "_WithGivenArguments":
        cell = super().__new__(cls, *args, **kwargs)
        given = inspect.signature(cls.__init__).bind_partial(cell, *args, **kwargs).arguments
        cell._given = [name for name in _ARGUMENTS if name in given or name in kwargs]
        return cell


class KerasSpikingCell(_WithGivenArguments):
    """One time step: the base class of cells.

    A subclass defines `call_inference(inputs, states)` and, where training differs,
    `call_training(inputs, states)`, which runs if `always_use_inference` is False. Both take
    inputs `(batch, ...)` and a list of states, and return `(outputs, new_states)`. A cell runs in
    a `KerasSpikingLayer`, or, with one feature axis and in float32 or float64, in
    `keras.layers.RNN`, which would round states to half precision.

    Args:
        size: Number of units, or the shape of the feature axes: an integer, a tuple, a list or a
            `tf.TensorShape`.
        state_size: Size or shape of the state, or a list of them, one per state tensor, each
            without the batch axis. Default: one state of shape `size`.
        dt: Length of a time step in seconds: a positive number or a scalar variable. Default:
            `keras_spiking.default.dt`.
        always_use_inference: Whether `call_inference` runs in training too. If False,
            `call_training` does.
        output_size: Shape of the output's feature axes. Default: `size`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`, with the feature axes of `size`.
        states: List of the cell's states, each `(batch, ...)`.
        training: Whether the model is training.

    Output shape:
        `(outputs, new_states)`: outputs `(batch, ...)` and a list of states.

    Raises:
        ValueError: If a size or `dt` is not positive.
        TypeError: If a size is not an integer or a tuple of integers, `dt` not a number or
            variable, or a state in half precision.

    Attributes:
        trainable_initial_state: Set to True in a subclass whose `get_initial_state` depends on
            weights. A stateful layer then starts from the weights as they are at its first step.
    """

    trainable_initial_state = False

    def __init__(
        self,
        size: int | Sequence[int],
        state_size: int | tuple[int, ...] | list[int | tuple[int, ...]] | None = None,
        dt: DtLike = None,
        always_use_inference: bool = True,
        *,
        output_size: Any = None,
        **kwargs: Any,
    ):
        super().__init__(dt=dt, **kwargs)
        owner = type(self).__name__
        self.size = self._checked_size(size)
        self.output_size = (
            self.size if output_size is None else _checks.size(owner, "output_size", output_size)
        )
        if state_size is None:
            self.state_size = self._default_state_size
        else:
            given = state_size if isinstance(state_size, list) else [state_size]
            sizes = [_checks.size(owner, "state_size", size) for size in given]
            is_number = given is not state_size and isinstance(sizes[0], int)
            self.state_size = sizes[0] if is_number else sizes
        self.always_use_inference = _checks.boolean(
            owner, "always_use_inference", always_use_inference
        )

    def _checked_size(self, size: Any) -> Any:
        return _checks.size(type(self).__name__, "size", size)

    @property
    def _default_state_size(self) -> Any:
        """`state_size` where it is not given."""
        return self.size if isinstance(self.size, int) else [self.size]

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of the inputs' feature axes."""
        return as_shape(self.size)

    @property
    def state_shapes(self) -> list[tuple[int, ...]]:
        """Shape of each state, without the batch axis."""
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [as_shape(size) for size in sizes]

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """The states before the first step, each `(batch_size, ...)`; zeros unless overridden."""
        return [ops.zeros((batch_size, *shape), self.state_dtype) for shape in self.state_shapes]

    def _per_sample(self, state: Tensor, batch_size: int | Tensor | None) -> Tensor:
        """Repeats the state of one sample `batch_size` times.

        The result is a copy: torch cannot assign to a variable whose elements share memory.
        """
        return ops.copy(ops.broadcast_to(state, (batch_size, *self.state_shapes[0])))

    def build(self, input_shape: Shape) -> None:
        """Creates weights; `input_shape` is `(batch, ...)`, with the feature axes of `size`."""
        if not fits(tuple(input_shape)[1:], self.feature_shape):
            raise ValueError(
                f"{type(self).__name__}: inputs of one step must have shape (batch, ...) with the "
                f"feature axes of size={self.size}; received shape {tuple(input_shape)}."
            )

    def call(
        self, inputs: Tensor, states: Tensor | list[Tensor], training: bool | None = None
    ) -> Any:
        inputs = tensors.cast(inputs, self.compute_dtype)
        states = [self._checked_state(state) for state in keras.tree.flatten(states)]
        if training and not self.always_use_inference:
            outputs, new_states = self.call_training(inputs, states)
        else:
            outputs, new_states = self.call_inference(inputs, states)
        return tensors.cast(outputs, self.compute_dtype), keras.tree.flatten(new_states)

    def _checked_state(self, state: Tensor) -> Tensor:
        """Casts a state to `state_dtype`, and refuses one that was rounded to half precision."""
        received = keras.backend.standardize_dtype(state.dtype)
        if received in ("float16", "bfloat16"):
            raise TypeError(
                f"{type(self).__name__}: states must be in {self.state_dtype}, for half precision "
                f"would round small steps away; received {received}. keras.layers.RNN casts them "
                "to the cell's compute dtype: under a mixed or half-precision policy use "
                "SpikingActivation, Lowpass, Alpha or a KerasSpikingLayer of your own instead, or "
                'make both cell and RNN with dtype="float32".'
            )
        return ops.cast(state, self.state_dtype)

    def call_training(self, inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Runs one step in training.

        Args:
            inputs: As in `call_inference`, which this calls unless overridden.
            states: As in `call_inference`.

        Returns:
            As `call_inference`.
        """
        return self.call_inference(inputs, states)

    def call_inference(self, inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Runs one step: what a subclass must define.

        Args:
            inputs: Tensor of shape `(batch, ...)`, in `compute_dtype`.
            states: List of tensors `(batch, ...)`, of the shapes `state_shapes`, in `state_dtype`.

        Returns:
            The outputs, `(batch, ...)`, and the list of new states.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `call_inference(inputs, states)`, "
            "which returns `(outputs, new_states)`."
        )

    def compute_output_spec(
        self, inputs: Tensor, states: Tensor | list[Tensor], training: bool | None = None
    ) -> Any:
        batch = inputs.shape[0]
        outputs = keras.KerasTensor((batch, *as_shape(self.output_size)), self.compute_dtype)
        return outputs, [
            keras.KerasTensor((batch, *shape), self.state_dtype) for shape in self.state_shapes
        ]

    def get_config(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in self._given}
        return {**super().get_config(), "size": self.size, **given}


def unique(variables: list[keras.Variable]) -> list[keras.Variable]:
    """Each variable once, in order."""
    return list({id(variable): variable for variable in variables}.values())
