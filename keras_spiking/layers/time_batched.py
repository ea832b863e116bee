"""Any layer at every time step at once."""

import functools
import inspect
from typing import Any

import keras
from keras import ops

from keras_spiking.layers.base import KerasSpikingLayer
from keras_spiking.layers.cell import KerasSpikingCell
from keras_spiking.layers.shapes import check_rank, fits
from keras_spiking.layers.sublayers import layers_within

# Layers that run over time themselves. Keras's recurrent layers run over an axis of the sample.
_OVER_TIME = (KerasSpikingLayer, KerasSpikingCell)


@keras.saving.register_keras_serializable("keras_spiking")
class TimeBatched(keras.layers.Wrapper):
    r"""Applies a layer to every time step at once, by folding time into the batch.

    .. math::

        y_{b, t} = f(x_{b, t})

    for every sample :math:`b` and step :math:`t`, with the wrapped layer :math:`f`, which sees
    one batch of `batch * time` samples. This is how `Conv2D`, pooling, `Flatten` and whole models
    work on inputs that have a time axis. The numbers are those of `keras.layers.TimeDistributed`,
    which calls the layer once per step, but for these:

    - `BatchNormalization` in training uses the mean and variance over batch and time together,
      and updates its moving averages once per call. `TimeDistributed` uses those of each step's
      batch, and updates them once per step.
    - A loss that the wrapped layer adds is added once. Where it is divided by the batch size, as
      activity regularization is, that size is `batch * time`. (An `activity_regularizer` of the
      wrapper itself is divided by `batch`.) `TimeDistributed` leaves out activity regularization.
    - Random layers draw other numbers, independent for every sample and step in both.

    A recurrent layer, such as `LSTM`, runs over the first axis of each step's sample, such as the
    words of a sentence, and starts anew at every step.

    Args:
        layer: The layer to apply, or a model. Not a layer over time of this package, such as
            `SpikingActivation`, one that is stateful, or a model with one of these in it: time
            is not an axis to them once it is folded.
        **kwargs: Arguments of `keras.layers.Layer`. The default `dtype` is that of `layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, time, ...)`, with at least one feature axis; a list or
            dictionary of them, with the same batch and time, if the wrapped layer takes that.
        training: Whether the model is training; the wrapped layer gets it if it takes it.
        mask: Tensor of shape `(batch, time)`, True for steps to use; with several inputs also a
            list, one mask (or None) for each. The wrapped layer gets it if it takes one and has
            `supports_masking` (a model has not, unless that is set), folded and repeated over
            all axes of its samples but the last, as Keras's layers expect. So
            `BatchNormalization` leaves masked steps out; the outputs of masked steps mean
            nothing. A mask may have more axes, such as `(batch, time, words)`.

    Input shape:
        `(batch, time, ...)`, where `(batch, ...)` is what the wrapped layer takes.

    Output shape:
        `(batch, time, ...)`, where `(batch, ...)` is what the wrapped layer returns, and the same
        structure. The mask is passed on; of several inputs, the steps that all of them use.

    Raises:
        TypeError: If `layer` is not a layer.
        ValueError: If `layer` is one over time of this package or stateful, inputs have no time
            axis or different ones, a mask has the wrong shape, or the layer's output has lost the
            axis of the samples.

    Example:

    >>> import keras, keras_spiking
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((10, 28, 28, 1)),
    ...         keras_spiking.TimeBatched(keras.layers.Conv2D(32, 3)),
    ...         keras_spiking.SpikingActivation("relu"),
    ...         keras_spiking.TimeBatched(keras.layers.Flatten()),
    ...     ]
    ... )
    >>> [layer.output.shape for layer in model.layers[::2]]
    [(None, 10, 26, 26, 32), (None, 10, 21632)]
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        _check_layer(type(self).__name__, layer)
        if kwargs.get("dtype") is None and layer.quantization_mode is None:
            kwargs["dtype"] = layer.dtype_policy
        super().__init__(layer, **kwargs)
        if not self.trainable:
            layer.trainable = False
        self.supports_masking = True
        self._call_parameters = frozenset(inspect.signature(layer.call).parameters)
        self._num_outputs = 1

    def build(self, input_shape: Any = None) -> None:
        """Builds the wrapped layer for samples without the time axis."""
        shape = self._folded_shapes(input_shape)
        if self.layer.built:
            return
        if type(self.layer).build is keras.layers.Layer.build:
            # Without a `build` of its own, only a call makes the weights of the layers within.
            self.layer(keras.tree.map_shape_structure(keras.KerasTensor, shape))
        else:
            super().build(shape)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        batch, time = self._check_call(inputs, mask)
        folded = keras.tree.map_structure(_fold, inputs)
        arguments: dict[str, Any] = {}
        if "training" in self._call_parameters:
            arguments["training"] = training
        if "mask" in self._call_parameters and self.layer.supports_masking and _masks(mask):
            arguments["mask"] = _folded_masks(folded, mask)
        outputs = self.layer(folded, **arguments)

        tensors = keras.tree.flatten(outputs)
        self._num_outputs = len(tensors)
        samples = _product(batch, time)
        for tensor in tensors:
            if not fits(tuple(tensor.shape[:1]), (samples,)):
                raise ValueError(
                    f"{type(self).__name__}: the output of {_named(self.layer)} has shape "
                    f"{tuple(tensor.shape)}, and its first axis must be that of the samples, as "
                    f"in the input, {samples} long here. Use a layer that treats samples alike."
                )
        if not all(map(keras.backend.is_keras_tensor, tensors)):
            batch, time = ops.shape(keras.tree.flatten(inputs)[0])[:2]
        return keras.tree.map_structure(lambda tensor: _unfold(tensor, batch, time), outputs)

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> Any:
        # Only a symbolic call of the wrapped layer tells the types of its outputs.
        return self.call(inputs, training=training, mask=mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        outputs = self.layer.compute_output_shape(self._folded_shapes(input_shape))
        batch, time = _shapes(input_shape)[0][:2]
        return keras.tree.map_shape_structure(lambda shape: (batch, time, *shape[1:]), outputs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        masks = _masks(previous_mask)
        if not masks:
            return None
        if len(masks) > 1 or not self._keeps_mask(inputs, masks[0]):
            masks = [functools.reduce(ops.logical_and, map(_steps, masks))]
        return masks[0] if self._num_outputs == 1 else masks * self._num_outputs

    def _keeps_mask(self, inputs: Any, mask: Any) -> bool:
        """Whether the wrapped layer passes on a mask of parts of its samples as it is."""
        if len(mask.shape) == 2 or not self.layer.supports_masking:
            return False
        folded = _fold(mask)
        inputs = keras.tree.map_structure(_fold, inputs)
        return self.layer.compute_mask(inputs, folded) is folded

    def _folded_shapes(self, input_shape: Any) -> Any:
        self._check_shapes(_shapes(input_shape))
        return keras.tree.map_shape_structure(_folded_shape, input_shape)

    def _check_shapes(self, shapes: list[tuple[Any, ...]]) -> None:
        owner = type(self).__name__
        for shape in shapes:
            check_rank(owner, shape)
            if not fits(shape[:2], shapes[0][:2]):
                raise ValueError(
                    f"{owner}: inputs must have the same batch and time; received shapes {shapes}. "
                    "Repeat along time what is the same at every step."
                )

    def _check_call(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        """Checks inputs and mask, and returns batch and time, None where unknown."""
        owner = type(self).__name__
        shapes = [tuple(tensor.shape) for tensor in keras.tree.flatten(inputs)]
        self._check_shapes(shapes)
        masks = keras.tree.flatten(mask)
        if len(masks) not in (1, len(shapes)):
            raise ValueError(
                f"{owner}: `mask` must be one mask for all inputs, or a list of as many as there "
                f"are inputs, {len(shapes)}; received {len(masks)}."
            )
        for one in _masks(mask):
            received = tuple(getattr(one, "shape", ()))
            if not fits(received[:2], shapes[0][:2]):
                raise ValueError(
                    f"{owner}: `mask` must have shape (batch, time), here {shapes[0][:2]}, or "
                    f"these and more axes of the inputs; received shape {received}."
                )
        batch, time = shapes[0][:2]
        return batch, time


def _check_layer(owner: str, layer: Any) -> None:
    if not isinstance(layer, keras.layers.Layer):
        is_class = isinstance(layer, type) and issubclass(layer, keras.layers.Layer)
        advice = f"Make one: {layer.__name__}(...)." if is_class else "Wrap a function in a layer."
        raise TypeError(
            f"{owner}: `layer` must be a Keras layer; received layer={layer!r} "
            f"of type {type(layer).__name__}. {advice}"
        )
    for inner in layers_within(layer):
        if isinstance(inner, _OVER_TIME):
            problem, remedy = "runs over time itself", "use keras.layers.TimeDistributed"
        elif getattr(inner, "stateful", False):
            problem, remedy = "is stateful", "make it with stateful=False"
        else:
            continue
        where = "" if inner is layer else f" with {_named(inner)} in it"
        raise ValueError(
            f"{owner}: `layer` must treat every time step alike, as samples of one batch; received "
            f"{_named(layer)}{where}, which {problem}. Apply that layer to the inputs "
            f"(batch, time, ...) directly; to run it over another axis of each step, {remedy}."
        )


def _named(layer: keras.layers.Layer) -> str:
    return f"layer {layer.name!r} ({type(layer).__name__})"


def _product(batch: Any, time: Any) -> int | None:
    return batch * time if isinstance(batch, int) and isinstance(time, int) else None


def _folded_shape(shape: Any) -> tuple[Any, ...]:
    return (_product(*shape[:2]), *shape[2:])


def _fold(tensor: Any) -> Any:
    """(batch, time, ...) to (batch * time, ...)."""
    if keras.backend.is_keras_tensor(tensor):
        return keras.KerasTensor(_folded_shape(tensor.shape), tensor.dtype)
    batch, time, *features = ops.shape(tensor)
    return ops.reshape(tensor, (batch * time, *features))


def _unfold(tensor: Any, batch: Any, time: Any) -> Any:
    """(batch * time, ...) to (batch, time, ...)."""
    if keras.backend.is_keras_tensor(tensor):
        return keras.KerasTensor((batch, time, *tensor.shape[1:]), tensor.dtype)
    return ops.reshape(tensor, (batch, time, *ops.shape(tensor)[1:]))


def _shapes(input_shape: Any) -> list[tuple[Any, ...]]:
    """All shapes in a structure of them."""
    shapes: list[tuple[Any, ...]] = []
    keras.tree.map_shape_structure(lambda shape: shapes.append(tuple(shape)), input_shape)
    return shapes


def _masks(mask: Any) -> list[Any]:
    """The masks in a structure of masks and None."""
    return [one for one in keras.tree.flatten(mask) if one is not None]


def _folded_masks(folded: Any, mask: Any) -> Any:
    """The masks for folded inputs, in the structure of these."""
    inputs = keras.tree.flatten(folded)
    masks = keras.tree.flatten(mask)
    if len(masks) < len(inputs):
        masks = masks * len(inputs)
    spread = [_spread(one, tensor) for one, tensor in zip(masks, inputs, strict=True)]
    return keras.tree.pack_sequence_as(folded, spread)


def _spread(mask: Any, folded: Any) -> Any:
    """Folds a mask, and repeats it over all axes of the samples except the last one."""
    if mask is None:
        return None
    missing = len(folded.shape) - len(mask.shape)
    if keras.backend.is_keras_tensor(folded):
        shape = (*_folded_shape(mask.shape), *folded.shape[:-1][-missing:])
        return keras.KerasTensor(shape if missing > 0 else _folded_shape(mask.shape), "bool")
    mask = _fold(ops.cast(mask, "bool"))
    if missing <= 0:
        return mask
    mask = ops.reshape(mask, (*ops.shape(mask), *[1] * missing))
    return ops.broadcast_to(mask, ops.shape(folded)[:-1])


def _steps(mask: Any) -> Any:
    """A mask `(batch, time)` that keeps a step if any part of it is kept."""
    return ops.any(mask, axis=tuple(range(2, len(mask.shape)))) if len(mask.shape) > 2 else mask
