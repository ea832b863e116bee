"""A layer whose state may be kept from call to call, read and reset."""

from typing import Any

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking._types import Tensor
from keras_spiking.layers.cell import KerasSpikingCell, WithTimeStep, unique
from keras_spiking.layers.dt import DtLike
from keras_spiking.layers.memory import Memory
from keras_spiking.layers.shapes import check_not_run_again, check_states


class Stateful(WithTimeStep):
    """A layer over a `KerasSpikingCell`, which keeps the cell's states if `stateful` is set."""

    cell: KerasSpikingCell

    def __init__(self, dt: DtLike, stateful: bool, **kwargs: Any):
        super().__init__(dt=dt, **kwargs)
        self.stateful = _checks.boolean(type(self).__name__, "stateful", stateful)
        self._memory = Memory()

    @property
    def states(self) -> list[keras.Variable] | None:
        """The variables that keep the states of a stateful layer, None before it is built."""
        return self._memory.states

    @property
    def variables(self) -> list[keras.Variable]:
        return unique(super().variables + self._memory.variables)

    def reset_state(self) -> None:
        """Returns a stateful layer to its cell's initial state."""
        self.reset_states()

    def reset_states(self, states: Tensor | list[Tensor] | None = None) -> None:
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
        check_states(self, self._memory.batch_size, states, "states")
        self._memory.write(states)

    def _create_memory(self, batch_size: int | None) -> None:
        """Makes the variables that keep the states, after the cell is built."""
        assert batch_size is not None  # as `check_inputs` made sure
        for shape in self.cell.state_shapes:
            _checks.size(type(self).__name__, "state", (batch_size, *shape))
        self._memory.create(self.cell, batch_size, self.path)

    def _remembered_states(self) -> list[Tensor]:
        """The states in which the call before ended."""
        check_not_run_again(
            self,
            "is stateful",
            "Make the model outside of that scope: a layer made in it is run again from the "
            "state it had.",
        )
        return self._memory.read(self.cell)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stateful": self.stateful}
