"""Why layers cannot be converted, and what to do about it."""

from typing import Any

import keras

from keras_spiking.conversion import rules, trials
from keras_spiking.conversion.operations import Function
from keras_spiking.layers import (
    KerasSpikingLayer,
    LastStep,
    RepeatOverTime,
    TemporalAvgPool,
    TimeBatched,
)

_OVER_AN_AXIS = (keras.layers.RNN, keras.layers.Bidirectional, keras.layers.TimeDistributed)
_OVER_TIME = (KerasSpikingLayer, LastStep, RepeatOverTime, TemporalAvgPool, TimeBatched)
_ATTENTION = (
    keras.layers.Attention,  # and AdditiveAttention, which is one
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)

_OWN_LAYER = (
    "Put it in a layer of your own, and tell convert of that with "
    "keras_spiking.conversion.register."
)
_PARTS = "Convert the parts of the model before and after it, and connect those by hand."


def refusal(layer: keras.Layer | Function, outputs: list[keras.KerasTensor]) -> str | None:
    """Why a call of a layer cannot be converted, whatever neurons integrate; None if it can.

    Args:
        layer: A layer, or a `Function`.
        outputs: The symbolic tensors that the call returns.
    """
    if isinstance(layer, Function):
        return _refusal_of_function(layer, outputs)
    if isinstance(layer, _OVER_TIME):
        return f"runs over time itself. {_PARTS}"
    if getattr(layer, "stateful", False):
        return "keeps a state from sample to sample. Make it with stateful=False."
    if type(layer) is keras.layers.EinsumDense and _is_misread(layer):
        return (
            f"has an equation, {layer.equation!r}, of whose axes in `...` Keras reverses the order "
            "when it computes the output's shape. Name them, as in 'abcd,de->abce'."
        )
    if layer.quantization_mode is not None:
        return f"is quantized ({layer.quantization_mode}). Convert the model first, then quantize."
    if not _has_config(layer):
        return (
            "cannot be copied, because it has no config to make a new layer of. Define "
            "`get_config` in its class."
        )
    return None


def refusal_by_step(
    layer: keras.Layer | Function, keywords: dict[str, Any], has_constants: bool
) -> str | None:
    """Why a layer cannot run at each step by itself, which `integrate="activation"` needs.

    With `integrate="input"`, such a layer runs on the mean of its inputs, and does not spike. Ask
    `refusal` first.

    Args:
        layer: A layer, or a `Function`.
        keywords: The keywords of a call of the layer.
        has_constants: Whether the layer is called on anything but tensors of the model.
    """
    if isinstance(layer, Function):
        return None
    if isinstance(layer, _OVER_AN_AXIS):
        return f"runs over an axis of a sample itself. {_PARTS}"
    if isinstance(layer, _ATTENTION):
        return (
            "weighs its inputs by a softmax of products of them, which no rate of a neuron "
            f"expresses. {_PARTS}"
        )
    if rules.makes_mask(layer):
        return (
            "makes a mask of parts of a sample, which spikes do not carry. Leave out the layer, "
            "or use mask_zero=False, and keep samples of equal length."
        )
    if isinstance(layer, keras.layers.Lambda):
        return (
            "runs a function whose meaning cannot be read. Call the function on the tensors of the "
            "model, as in keras.ops.relu(2 * x), or use layers of Keras."
        )
    if isinstance(layer, keras.Model):
        return (
            "is a model whose graph cannot be read. Make it with keras.Sequential or "
            "keras.Model(inputs, outputs), and build it."
        )
    if not rules.is_known(layer):
        return (
            "is of a class that convert does not know. If it treats every sample by itself, and "
            "keeps nothing from one to the next, tell convert so with "
            "keras_spiking.conversion.register; or use layers of Keras that do the same."
        )
    if type(layer) is keras.layers.SpectralNormalization and not rules.is_linear(layer):
        return (
            "wraps a layer with an activation of its own. Put the activation in a layer after it, "
            'as in keras.layers.Activation("relu").'
        )
    if unknown := sorted(set(keywords) - {"training"}):
        return f"is called with {', '.join(unknown)}. Call it on its inputs only."
    if has_constants:
        return "is called with more than tensors of the model. Call it on its inputs only."
    return None


def _refusal_of_function(function: Function, outputs: list[keras.KerasTensor]) -> str | None:
    if any(isinstance(constant, keras.Variable) for constant in function.constants):
        return (
            "is called on a variable. It may be a weight of a layer, and a copy of the model has "
            f"weights of its own. {_OWN_LAYER}"
        )
    if function.settings is None:
        return f"has settings that Keras cannot copy. {_OWN_LAYER}"
    if not function.is_elementwise() and not trials.treats_samples_alike(function):
        return (
            "mixes samples, or moves or drops the axis of the batch, which is to hold time too. "
            "Use the axes behind the first only, and keep the length of the first."
        )
    if any(len(tensor.shape) < 2 for tensor in outputs):
        return (
            "returns one number for each sample, but samples over time need an axis of features. "
            "Keep one, as with keepdims=True."
        )
    return None


def _is_misread(layer: keras.layers.EinsumDense) -> bool:
    """Whether Keras reverses the axes that an equation leaves out on the left."""
    named = layer.equation.partition(",")[0].replace(" ", "")
    if not named.startswith("..."):
        return False
    left_out = layer.get_build_config()["input_shape"][1 : 3 - len(named)]
    return list(left_out) != list(reversed(left_out))


def _has_config(layer: keras.Layer) -> bool:
    if rules.is_known(layer) or isinstance(layer, keras.layers.Lambda):
        return True
    try:
        layer.get_config()
    except (NotImplementedError, TypeError):  # what Keras raises
        return False
    return True
