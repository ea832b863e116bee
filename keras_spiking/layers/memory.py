"""The state that a stateful layer keeps from call to call."""

from typing import Any

import keras
from keras import ops

from keras_spiking._types import Shape, Tensor
from keras_spiking.layers.cell import KerasSpikingCell


class Memory:
    """The variables of a stateful layer, out of sight of Keras's attribute tracking.

    JAX must track them, so they are in the layer's `variables`. But they are not weights: a
    stateless layer can take the weights of a stateful one, and files do not hold states.
    """

    def __init__(self) -> None:
        self.states: list[keras.Variable] | None = None
        # Only where the initial state is made of weights: whether a step has run since the last
        # reset. Until then, every call computes that state anew, because the weights may change.
        self.started: keras.Variable | None = None

    @property
    def variables(self) -> list[keras.Variable]:
        return [*(self.states or []), *([] if self.started is None else [self.started])]

    @property
    def batch_size(self) -> int:
        assert self.states, "a layer creates its memory when it is built"
        return int(self.states[0].shape[0])

    def create(self, cell: KerasSpikingCell, batch_size: int, path: str) -> None:
        def variable(index: int, shape: tuple[int, ...]) -> keras.Variable:
            def start(shape: Shape, dtype: str | None = None) -> Tensor:
                # A copy: on torch, the samples of a broadcast level share memory.
                initial = keras.tree.flatten(cell.get_initial_state(batch_size=batch_size))
                return ops.copy(initial[index])

            name = f"state_{index}"
            return keras.Variable(
                start,
                shape=(batch_size, *shape),
                dtype=cell.state_dtype,
                trainable=False,
                autocast=False,  # which would round voltages and levels to half precision
                name=name,
                layout=_layout(f"{path}/{name}", (batch_size, *shape)),
            )

        self.states = [variable(index, shape) for index, shape in enumerate(cell.state_shapes)]
        if cell.trainable_initial_state:
            self.started = keras.Variable(
                "zeros", shape=(), dtype="bool", trainable=False, name="started"
            )

    def read(self, cell: KerasSpikingCell) -> list[Tensor]:
        # Copies: on torch, `write` changes a variable in place while the gradient still needs it.
        states = [ops.copy(state) for state in self.states or []]
        if self.started is None:
            return states
        initial = keras.tree.flatten(cell.get_initial_state(batch_size=self.batch_size))
        started = ops.copy(self.started)
        return [
            ops.where(started, state, start) for state, start in zip(states, initial, strict=True)
        ]

    def write(self, states: list[Tensor]) -> None:
        for variable, state in zip(self.states or [], states, strict=True):
            variable.assign(state)
        if self.started is not None:
            self.started.assign(True)

    def reset(self, cell: KerasSpikingCell) -> None:
        self.write(keras.tree.flatten(cell.get_initial_state(batch_size=self.batch_size)))
        if self.started is not None:
            self.started.assign(False)


def _layout(path: str, shape: tuple[int, ...]) -> Any:
    """How a state is laid out on several devices: by default, each sample where its inputs are.

    Keras would keep a copy of all samples on every device, and update it after every step.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return None
    mesh = distribution.device_mesh
    num_parts = mesh.shape[list(mesh.axis_names).index(distribution.batch_dim_name)]
    by_sample = distribution.get_data_layout(shape) if shape[0] % num_parts == 0 else None
    return distribution.get_tensor_layout(path) or by_sample
