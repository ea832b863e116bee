"""Where each layer of a model is used, those in nested models included."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from keras_spiking._graph import Call, trace
from keras_spiking._types import Shape, Tensor
from keras_spiking.energy.graph import Reader, makes_mask, walk, without_masks
from keras_spiking.energy.spikes import OVER_STEPS, Content, behind
from keras_spiking.layers import RepeatOverTime


@dataclass(frozen=True)
class LayerUse:
    """One use of a layer in a model: what a rule of `register_layer` counts from.

    Args:
        layer: The layer.
        name: Its name, after those of the models that it is nested in.
        input_shapes: Shapes of the tensors that the layer gets, batch axis included. The axis of
            the steps that `RepeatOverTime` made is None too, like any axis of unknown length.
        output_shapes: Shapes of the tensors that it returns.

    Example:

    >>> import keras
    >>> layer = keras.layers.Dense(3)
    >>> use = keras_spiking.energy.LayerUse(layer, "dense", [(None, 4)], [(None, 3)])
    >>> use.output_shape
    (None, 3)
    """

    layer: keras.layers.Layer
    name: str
    input_shapes: list[Shape]
    output_shapes: list[Shape]

    @property
    def input_shape(self) -> Shape:
        """Shape of the first input."""
        return self.input_shapes[0]

    @property
    def output_shape(self) -> Shape:
        """Shape of the first output."""
        return self.output_shapes[0]


class Uses:
    """Every use of a layer in a model, and what the layer gets there.

    Args:
        model: A model that `is_graph`.
        read: Gives the graph of a model.

    Attributes:
        found: The uses, in an order in which the layers can run.
        contents: For each use, the contents of what the layer gets.
        outputs: For each call, the content of its first output. Other outputs are states.
    """

    def __init__(self, model: keras.Model, read: Reader = trace):
        self.found: list[LayerUse] = []
        self.contents: list[list[Content]] = []
        self.outputs: list[Content] = []
        walk(model, [Content()] * len(model.inputs), self, read)

    def enter(self, value: Content, tensor: Tensor) -> Content:
        return value

    def apply(self, name: str, call: Call, values: list[Content]) -> list[Content]:
        if makes_mask(call):
            self.outputs.append(Content())
            return [Content()] * len(call.outputs)
        values = without_masks(call, values)
        inputs = without_masks(call, call.tensors)
        over_time = [value.over_time for value in values]
        keeps_time = _keeps_time(call, inputs, over_time)
        shapes = _shapes(inputs, over_time), _shapes(call.outputs, [keeps_time])
        self.found.append(LayerUse(call.layer, name, *shapes))
        self.contents.append(values)
        output = behind(call.layer, values)._replace(over_time=keeps_time)
        self.outputs.append(output)
        return [output] + [Content()] * (len(call.outputs) - 1)

    def fold(self, value: Content) -> Content:
        return value._replace(over_time=False)

    def unfold(self, value: Content, like: Content) -> Content:
        return value._replace(over_time=like.over_time)


def use_of_tensors(layer: keras.Layer, inputs: list[Tensor], outputs: list[Tensor]) -> LayerUse:
    """The use of a layer between these tensors, whatever model it is in."""
    # Masks are Boolean. An input layer gets no tensor: it counts what it returns.
    inputs = [tensor for tensor in inputs if tensor.dtype != "bool"] or inputs or outputs
    return LayerUse(layer, layer.name, _shapes(inputs), _shapes(outputs))


def _shapes(tensors: list[Tensor], over_time: Sequence[bool] = ()) -> list[Shape]:
    """The shapes of tensors, with None for axis 1 where it is time."""
    shapes: list[Shape] = [tuple(tensor.shape) for tensor in tensors]
    for index, is_over_time in enumerate(over_time):
        if is_over_time:
            shapes[index] = (shapes[index][0], None, *shapes[index][2:])
    return shapes


def _keeps_time(call: Call, inputs: list[Tensor], over_time: list[bool]) -> bool:
    """Whether axis 1 of a call's output is time, where it is of these inputs."""
    layer = call.layer
    if isinstance(layer, RepeatOverTime):
        return True
    if isinstance(layer, OVER_STEPS):
        return any(over_time)
    if isinstance(layer, (keras.layers.Permute, keras.layers.Reshape)):
        return False
    shape = call.outputs[0].shape
    return any(
        is_over_time and len(tensor.shape) == len(shape) and tensor.shape[1] == shape[1]
        for tensor, is_over_time in zip(inputs, over_time, strict=True)
    )
