"""What kind of layer each class of Keras is, as far as conversion needs to know."""

import inspect
from typing import Any

import keras

from keras_spiking._types import Shape
from keras_spiking.conversion import registry, trials
from keras_spiking.conversion.operations import Function

_layers = keras.layers

# These have an activation of their own, which their output goes through.
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
# These treat each element by itself, or the last axis only. So they can take an axis of time.
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
AVERAGE_POOLING = {
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
    # They change samples in training only.
    + [name for name in dir(_layers) if name.startswith("Random")]
).union(AVERAGE_POOLING, AVERAGE_POOLING.values())
# Layers of models in keras.applications, without a public name in Keras. All are linear.
_OF_APPLICATIONS = ("CustomScaleLayer", "LayerScale", "StochasticDepth")
SUPPORTED = CONNECTIONS | ACTIVATIONS | _ELEMENTWISE | _BY_STEP
# Linear in inference, or linear plus a constant.
_LINEAR = (SUPPORTED - ACTIVATIONS - frozenset(AVERAGE_POOLING)) - {
    _layers.Dot,
    _layers.GroupNormalization,
    _layers.LayerNormalization,
    _layers.Maximum,
    _layers.Minimum,
    _layers.Multiply,
    _layers.RMSNormalization,
    _layers.SpectralNormalization,
    _layers.UnitNormalization,
}
# Functions of Keras that treat each element by itself.
_KNOWN_ELEMENTWISE = [
    function
    for name, function in vars(keras.activations).items()
    if inspect.isfunction(function) and name not in ("glu", "log_softmax", "softmax", "sparsemax")
]


def is_activation(layer: keras.Layer | Function) -> bool:
    """Whether a layer is an activation and nothing else."""
    return type(layer) in ACTIVATIONS or registry.is_activation(layer)


def activation_of(layer: Any) -> Any:
    """The function or layer that is a layer's activation, or None if it is linear or has none."""
    if type(layer) is _layers.Activation or type(layer) in CONNECTIONS:
        linear = layer.activation is keras.activations.linear
        return None if linear else layer.activation
    return layer if is_activation(layer) else None


def is_elementwise(activation: Any, shape: Shape = (None, None), dtype: str = "float32") -> bool:
    """Whether each element of the output depends on one element of the input, as in a neuron.

    Args:
        activation: Function or layer.
        shape: Shape of its inputs.
        dtype: Data type of its inputs.
    """
    if isinstance(activation, _layers.Layer):
        if type(activation) is _layers.Activation:
            return is_elementwise(activation.activation, shape, dtype)
        if is_activation(activation):
            return type(activation) is not _layers.Softmax
        # A trial on the layer itself would build it.
        activation = type(activation).from_config(activation.get_config())
    if any(activation is function for function in _KNOWN_ELEMENTWISE):
        return True
    return trials.is_elementwise(activation, shape, dtype)


def is_plain_relu(layer: keras.Layer) -> bool:
    """Whether a layer is `ReLU` with default settings. `keras.activations.relu` runs faster."""
    if type(layer) is not _layers.ReLU:
        return False
    return layer.max_value is None and layer.negative_slope == 0 and layer.threshold == 0


def is_linear(layer: keras.Layer | Function) -> bool:
    """Whether a layer or `Function` is linear in inference, or linear plus a constant.

    Such a layer keeps means: the mean of its outputs is its output for the mean of its inputs.
    The activation of the layer does not count, since a copy of the layer has none.
    """
    if isinstance(layer, Function):
        return layer.is_linear()
    if type(layer) is _layers.SpectralNormalization:
        return is_linear(layer.layer) and activation_of(layer.layer) is None
    return type(layer) in _LINEAR or _is_of_applications(layer)


def takes_time(layer: keras.Layer, inputs: list[keras.KerasTensor]) -> bool:
    """Whether a layer can be called on `(batch, time, ...)` and treats each step by itself."""
    if type(layer) is _layers.Dense:
        return True
    if type(layer) is _layers.Dropout:
        return layer.noise_shape is None
    # To merge tensors of different rank, Keras inserts axes behind the batch, where time is.
    return type(layer) in _ELEMENTWISE and len({len(tensor.shape) for tensor in inputs}) == 1


def makes_mask(layer: keras.Layer | Function) -> bool:
    """Whether a layer makes a mask of parts of its samples."""
    return type(layer) is _layers.Masking or bool(getattr(layer, "mask_zero", False))


def is_to_be_tried(layer: keras.Layer | Function) -> bool:
    """Whether a layer must be tried: it is one of the user's, and not registered."""
    if isinstance(layer, Function) or registry.is_registered(layer):
        return False
    return type(layer).__module__.partition(".")[0] != "keras"


def is_known(layer: keras.Layer | Function) -> bool:
    """Whether a layer is known to be a function of its sample, and can run at each step."""
    return type(layer) in SUPPORTED or _is_of_applications(layer) or registry.is_registered(layer)


def _is_of_applications(layer: keras.Layer) -> bool:
    kind = type(layer)
    return kind.__name__ in _OF_APPLICATIONS and kind.__module__.partition(".")[0] == "keras"
