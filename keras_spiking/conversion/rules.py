"""What becomes of each class of layers: which can be converted, how, and why others cannot."""

from typing import Any

import keras

from keras_spiking.layers import (
    KerasSpikingLayer,
    LastStep,
    RepeatOverTime,
    TemporalAvgPool,
    TimeBatched,
)

_layers = keras.layers

# Connections: what they return goes through an activation of their own.
CONNECTIONS = frozenset(
    {
        _layers.Dense,
        _layers.EinsumDense,
        _layers.Conv1D,
        _layers.Conv2D,
        _layers.Conv3D,
        _layers.Conv1DTranspose,
        _layers.Conv2DTranspose,
        _layers.Conv3DTranspose,
        _layers.DepthwiseConv1D,
        _layers.DepthwiseConv2D,
        _layers.SeparableConv1D,
        _layers.SeparableConv2D,
    }
)
ACTIVATIONS = frozenset(
    {
        _layers.Activation,
        _layers.ELU,
        _layers.LeakyReLU,
        _layers.PReLU,
        _layers.ReLU,
        _layers.Softmax,
    }
)
# Each element on its own, or the last axis only: these take a time axis as they are.
_ELEMENTWISE = frozenset(
    {
        _layers.ActivityRegularization,
        _layers.Add,
        _layers.Average,
        _layers.GaussianDropout,
        _layers.GaussianNoise,
        _layers.Identity,
        _layers.Maximum,
        _layers.Minimum,
        _layers.Multiply,
        _layers.Rescaling,
        _layers.Subtract,
    }
)
_MAX_POOLING = {
    getattr(_layers, name): getattr(_layers, name.replace("Max", "Average"))
    for name in (
        f"{kind}MaxPooling{rank}D" for kind in ("", "Global", "Adaptive") for rank in (1, 2, 3)
    )
}
_BY_STEP = frozenset(
    getattr(_layers, name)
    for name in """
    AlphaDropout BatchNormalization CenterCrop Concatenate Cropping1D Cropping2D Cropping3D Dot
    Dropout Embedding Flatten GroupNormalization LayerNormalization Normalization Permute
    RMSNormalization RepeatVector Reshape Resizing SpatialDropout1D SpatialDropout2D
    SpatialDropout3D SpectralNormalization UnitNormalization UpSampling1D UpSampling2D
    UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()
).union(_MAX_POOLING, _MAX_POOLING.values())
SUPPORTED = CONNECTIONS | ACTIVATIONS | _ELEMENTWISE | _BY_STEP

_OVER_TIME = (
    _layers.RNN,
    _layers.Bidirectional,
    _layers.TimeDistributed,
    KerasSpikingLayer,
    LastStep,
    RepeatOverTime,
    TemporalAvgPool,
    TimeBatched,
)
_ATTENTION = (
    _layers.Attention,  # and AdditiveAttention, which is one
    _layers.MultiHeadAttention,
    _layers.GroupQueryAttention,
)

_PARTS = "Convert the parts of the model before and after it, and connect those by hand."


def activation_of(layer: Any) -> Any:
    """The function or layer that is a layer's activation, or None if it is linear or has none."""
    if type(layer) in ACTIVATIONS and type(layer) is not _layers.Activation:
        return layer
    if type(layer) is _layers.Activation or type(layer) in CONNECTIONS:
        linear = layer.activation is keras.activations.linear
        return None if linear else layer.activation
    return None


def is_elementwise(activation: Any) -> bool:
    """Whether each output of an activation depends on one input, so that a neuron can have it."""
    names = ("softmax", "log_softmax", "sparsemax", "glu")
    return not isinstance(activation, _layers.Softmax) and all(
        activation is not getattr(keras.activations, name, None) for name in names
    )


def takes_time(layer: Any, inputs: list[Any]) -> bool:
    """Whether a layer computes the same on `(batch, time, ...)` as at each step."""
    if type(layer) is _layers.Dense:
        return True
    if type(layer) is _layers.Dropout:
        return layer.noise_shape is None
    # Merges of tensors of different rank put the new axes after the first, where time is.
    return type(layer) in _ELEMENTWISE and len({len(tensor.shape) for tensor in inputs}) == 1


def copy_of(layer: Any, name: str, max_pooling: str) -> Any:
    """A new layer with the same settings, without its activation."""
    config = {**layer.get_config(), "name": name}
    if type(layer) in CONNECTIONS and activation_of(layer) is not None:
        # The regularizer of what the layer returned goes where the activation goes.
        config.update(activation="linear", activity_regularizer=None)
    make = type(layer)
    if max_pooling == "average":
        make = _MAX_POOLING.get(make, make)
    return make.from_config(config)


def _is_misread(layer: Any) -> bool:
    """Whether Keras gets the order of the axes wrong that an equation leaves out on the left."""
    named = layer.equation.partition(",")[0].replace(" ", "")
    if not named.startswith("..."):
        return False
    left_out = layer.get_build_config()["input_shape"][1 : 3 - len(named)]
    return list(left_out) != list(reversed(left_out))


def refusal(layer: Any, keywords: dict[str, Any]) -> str | None:
    """Why a call of a layer cannot be converted and what to do, or None if it can."""
    if not isinstance(layer, _layers.Layer):
        return (
            "is a function of keras.ops, not a layer. Use a layer, such as keras.layers.Add for +, "
            "or keras.layers.Activation for an activation."
        )
    if isinstance(layer, _OVER_TIME):
        return f"runs over time (or another axis of a sample) itself. {_PARTS}"
    if isinstance(layer, _ATTENTION):
        return (
            "weighs its inputs by a softmax of products of them, which no rate of a neuron "
            f"expresses. {_PARTS}"
        )
    if type(layer) is _layers.Masking or getattr(layer, "mask_zero", False):
        return (
            "makes a mask of parts of a sample, which spikes do not carry. Leave out the layer, "
            "or use mask_zero=False, and keep samples of equal length."
        )
    if isinstance(layer, _layers.Lambda):
        return (
            "runs a function whose meaning cannot be read. Use layers of Keras, such as "
            "keras.layers.Rescaling or keras.layers.Activation."
        )
    if isinstance(layer, keras.Model):
        return (
            "is a model whose graph cannot be read. Make it with keras.Sequential or "
            "keras.Model(inputs, outputs), and build it."
        )
    if type(layer) not in SUPPORTED:
        return (
            "is of a class that convert does not know. Use layers of Keras that do the same, or "
            "leave it out if it works in training only (random images are better made in the data "
            "pipeline)."
        )
    if type(layer) is _layers.SpectralNormalization and (
        refusal(layer.layer, {}) or activation_of(layer.layer) is not None
    ):
        return (
            "wraps a layer with an activation of its own. Put the activation in a layer after it, "
            'as in keras.layers.Activation("relu").'
        )
    if type(layer) is _layers.EinsumDense and _is_misread(layer):
        return (
            f"has an equation, {layer.equation!r}, of whose axes in `...` Keras reverses the order "
            "when it computes the output's shape. Name them, as in 'abcd,de->abce'."
        )
    if layer.quantization_mode is not None:
        return f"is quantized ({layer.quantization_mode}). Convert the model first, then quantize."
    if unknown := sorted(set(keywords) - {"training"}):
        return f"is called with {', '.join(unknown)}. Call it on its inputs only."
    return None
