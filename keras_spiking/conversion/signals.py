"""What runs through the graph of a copy while it is built."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import keras


@dataclass
class Signal:
    """A tensor of the copy, and the activation that is not applied to it yet.

    An activation spikes if another layer follows. So it is applied only when a layer or an output
    needs it.

    Attributes:
        tensor: The symbolic tensor.
        over_time: Whether its axis 1 is time.
        name: Name of the layer whose activation is not applied yet.
        layer: That layer, or None.
        activated: The signal after the activation, once a layer needed it.
        repeated: The tensor repeated over time, once a layer needed it.
    """

    tensor: keras.KerasTensor
    over_time: bool = False
    name: str = ""
    layer: Any = None
    activated: "Signal | None" = None
    repeated: keras.KerasTensor | None = None

    def at_one_step(self) -> keras.KerasTensor:
        """A symbolic tensor of the shape that this one has at one step."""
        features = self.tensor.shape[2 if self.over_time else 1 :]
        return keras.KerasTensor((None, *features), self.tensor.dtype)


def signals_of(outputs: Any, over_time: bool = False) -> list[Signal]:
    """A signal for each output of a layer."""
    return [Signal(tensor, over_time) for tensor in keras.tree.flatten(outputs)]


class Active(NamedTuple):
    """One call of an activation.

    Attributes:
        name: Name of the copy's layer that applies it.
        original: Name of the original's layer that has it.
        tensor: What it returns in the copy.
    """

    name: str
    original: str
    tensor: keras.KerasTensor
