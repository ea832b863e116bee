"""What becomes of each class of layers: which can be converted, how, and why others cannot."""

import inspect
from typing import Any

import keras

from keras_spiking.conversion import registry, trials
from keras_spiking.conversion.operations import Function
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
    # The sample as it is, but in training.
    + [name for name in dir(_layers) if name.startswith("Random")]
).union(_MAX_POOLING, _MAX_POOLING.values())
# Of models in keras.applications, which Keras has no public name for. All are linear.
_OF_APPLICATIONS = ("CustomScaleLayer", "LayerScale", "StochasticDepth")
SUPPORTED = CONNECTIONS | ACTIVATIONS | _ELEMENTWISE | _BY_STEP
# In inference: the mean of their outputs is what they make of the mean of their inputs.
_LINEAR = (SUPPORTED - ACTIVATIONS - frozenset(_MAX_POOLING)) - {
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

_OVER_AN_AXIS = (_layers.RNN, _layers.Bidirectional, _layers.TimeDistributed)
_OVER_TIME = (KerasSpikingLayer, LastStep, RepeatOverTime, TemporalAvgPool, TimeBatched)
_ATTENTION = (
    _layers.Attention,  # and AdditiveAttention, which is one
    _layers.MultiHeadAttention,
    _layers.GroupQueryAttention,
)

_OWN_LAYER = (
    "Put it in a layer of your own, and tell convert of that with "
    "keras_spiking.conversion.register."
)
_PARTS = "Convert the parts of the model before and after it, and connect those by hand."


_KNOWN_ELEMENTWISE = [
    function
    for name, function in vars(keras.activations).items()
    if inspect.isfunction(function) and name not in ("glu", "log_softmax", "softmax", "sparsemax")
]


def is_activation(layer: Any) -> bool:
    """Whether a layer is an activation and nothing else."""
    return type(layer) in ACTIVATIONS or registry.is_activation(layer)


def activation_of(layer: Any) -> Any:
    """The function or layer that is a layer's activation, or None if it is linear or has none."""
    if type(layer) is _layers.Activation or type(layer) in CONNECTIONS:
        linear = layer.activation is keras.activations.linear
        return None if linear else layer.activation
    return layer if is_activation(layer) else None


def is_elementwise(
    activation: Any, shape: tuple[Any, ...] = (None, None), dtype: str = "float32"
) -> bool:
    """Whether each output of an activation depends on one input, so that a neuron can have it.

    Args:
        activation: Function or layer.
        shape: Shape of its inputs.
        dtype: Their type.
    """
    if isinstance(activation, _layers.Layer):
        if type(activation) is _layers.Activation:
            return is_elementwise(activation.activation, shape, dtype)
        if is_activation(activation):
            return type(activation) is not _layers.Softmax
        # The layer itself may not be built yet, and this would do it.
        activation = type(activation).from_config(activation.get_config())
    if any(activation is function for function in _KNOWN_ELEMENTWISE):
        return True
    return trials.is_elementwise(activation, shape, dtype)


def is_plain_relu(layer: Any) -> bool:
    """Whether a layer is `ReLU` as it is by default: as a function, it has a kernel of its own."""
    if type(layer) is not _layers.ReLU:
        return False
    return layer.max_value is None and layer.negative_slope == 0 and layer.threshold == 0


def is_linear(layer: Any) -> bool:
    """Whether a layer or `Function` keeps means: linear but for a constant, in inference.

    Its activation does not count: a copy of the layer is without.
    """
    if isinstance(layer, Function):
        return layer.is_linear()
    if type(layer) is _layers.SpectralNormalization:
        return is_linear(layer.layer) and activation_of(layer.layer) is None
    return type(layer) in _LINEAR or _is_of_applications(layer)


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
    if isinstance(layer, Function):
        return layer.as_model(name)
    if type(layer) is _layers.Lambda:
        return _copy_of_lambda(layer, name)
    functions = _functions(layer)
    config = {**_without(layer, functions).get_config(), "name": name}
    if type(layer) in CONNECTIONS and activation_of(layer) is not None:
        # The regularizer of what the layer returned goes where the activation goes.
        config.update(activation="linear", activity_regularizer=None)
        functions = {name: functions[name] for name in functions if "activ" not in name}
    make = type(layer)
    if max_pooling == "average":
        make = _MAX_POOLING.get(make, make)
    copy = make.from_config(config)
    for argument, function in functions.items():
        setattr(copy, argument, function)
    return copy


def _copy_of_lambda(layer: Any, name: str) -> Any:
    # With the functions as they are: Keras makes none from a config.
    return _layers.Lambda(
        layer.function,
        output_shape=vars(layer).get("_output_shape"),
        mask=layer.mask,
        arguments=layer.arguments,
        dtype=layer.dtype_policy,
        name=name,
    )


def _functions(layer: Any) -> dict[str, Any]:
    """The functions that a layer of Keras was given: not all have a config, so they are shared."""
    if not _is_known(layer):
        return {}
    arguments = {*inspect.signature(type(layer).__init__).parameters, "activity_regularizer"}
    return {
        name: value
        for name, value in vars(layer).items()
        if name in arguments and callable(value) and not hasattr(value, "get_config")
    }


def _without(layer: Any, functions: dict[str, Any]) -> Any:
    """What a layer would be without some functions, to ask for its config: the layer stays."""
    if not functions:
        return layer
    bare = object.__new__(type(layer))
    vars(bare).update(vars(layer))
    vars(bare).update(dict.fromkeys(functions))
    if "activation" in functions:
        bare.activation = keras.activations.linear
    return bare


def _is_misread(layer: Any) -> bool:
    """Whether Keras gets the order of the axes wrong that an equation leaves out on the left."""
    named = layer.equation.partition(",")[0].replace(" ", "")
    if not named.startswith("..."):
        return False
    left_out = layer.get_build_config()["input_shape"][1 : 3 - len(named)]
    return list(left_out) != list(reversed(left_out))


def refusal(
    layer: Any, keywords: dict[str, Any], has_constants: bool, outputs: list[Any]
) -> str | None:
    """Why a call of a layer cannot be converted whatever neurons integrate, or None if it can.

    Args:
        layer: A layer, or a `Function`.
        keywords: What it is called with by name.
        has_constants: Whether it is called on more than tensors of the model.
        outputs: The symbolic tensors that it returns.
    """
    if isinstance(layer, Function):
        return _refusal_of_function(layer, outputs)
    if isinstance(layer, _OVER_TIME):
        return f"runs over time itself. {_PARTS}"
    if getattr(layer, "stateful", False):
        return "keeps a state from sample to sample. Make it with stateful=False."
    if type(layer) is _layers.EinsumDense and _is_misread(layer):
        return (
            f"has an equation, {layer.equation!r}, of whose axes in `...` Keras reverses the order "
            "when it computes the output's shape. Name them, as in 'abcd,de->abce'."
        )
    if layer.quantization_mode is not None:
        return f"is quantized ({layer.quantization_mode}). Convert the model first, then quantize."
    if not _has_config(layer):
        return (
            "cannot be copied, for it has no config that a new one could be made of. Define "
            "`get_config` in its class."
        )
    return None


def refusal_by_step(
    layer: Any, keywords: dict[str, Any], has_constants: bool, outputs: list[Any]
) -> str | None:
    """Why a layer cannot run at each step alone, as `integrate="activation"` has it.

    With `integrate="input"` it runs on the mean of its inputs, and does not spike. The arguments
    are those of `refusal`, which goes before.
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
    if makes_mask(layer):
        return (
            "makes a mask of parts of a sample, which spikes do not carry. Leave out the layer, "
            "or use mask_zero=False, and keep samples of equal length."
        )
    if isinstance(layer, _layers.Lambda):
        return (
            "runs a function whose meaning cannot be read. Call the function on the tensors of the "
            "model, as in keras.ops.relu(2 * x), or use layers of Keras."
        )
    if isinstance(layer, keras.Model):
        return (
            "is a model whose graph cannot be read. Make it with keras.Sequential or "
            "keras.Model(inputs, outputs), and build it."
        )
    if not _is_known(layer):
        return (
            "is of a class that convert does not know. If it treats every sample for itself, and "
            "keeps nothing from one to the next, tell convert so with "
            "keras_spiking.conversion.register; or use layers of Keras that do the same."
        )
    if type(layer) is _layers.SpectralNormalization and not is_linear(layer):
        return (
            "wraps a layer with an activation of its own. Put the activation in a layer after it, "
            'as in keras.layers.Activation("relu").'
        )
    if unknown := sorted(set(keywords) - {"training"}):
        return f"is called with {', '.join(unknown)}. Call it on its inputs only."
    if has_constants:
        return "is called with more than tensors of the model. Call it on its inputs only."
    return None


def makes_mask(layer: Any) -> bool:
    """Whether a layer makes a mask of parts of its samples."""
    return type(layer) is _layers.Masking or bool(getattr(layer, "mask_zero", False))


def is_to_be_tried(layer: Any) -> bool:
    """Whether only a trial tells if a layer is a function of its sample: one of the user's."""
    if isinstance(layer, Function) or registry.is_registered(layer):
        return False
    return type(layer).__module__.partition(".")[0] != "keras"


def _has_config(layer: Any) -> bool:
    if _is_known(layer) or isinstance(layer, _layers.Lambda):
        return True
    try:
        layer.get_config()
    except (NotImplementedError, TypeError):  # as Keras has it
        return False
    return True


def _is_of_applications(layer: Any) -> bool:
    kind = type(layer)
    return kind.__name__ in _OF_APPLICATIONS and kind.__module__.partition(".")[0] == "keras"


def _is_known(layer: Any) -> bool:
    """Whether a layer is a function of its sample that can run at each step."""
    return type(layer) in SUPPORTED or _is_of_applications(layer) or registry.is_registered(layer)


def _refusal_of_function(function: Function, outputs: list[Any]) -> str | None:
    if any(isinstance(each, keras.Variable) for each in function.constants):
        return (
            "is called on a variable, which may be a weight of a layer, and a copy of the model "
            f"has weights of its own. {_OWN_LAYER}"
        )
    if function.settings is None:
        return f"has settings that Keras cannot copy. {_OWN_LAYER}"
    if not function.is_elementwise() and not trials.treats_samples_alike(function):
        return (
            "mixes samples, or moves or drops the axis of the batch, and time goes where the batch "
            "is. Keep to the axes behind the first, and leave that as long as it is."
        )
    if any(len(tensor.shape) < 2 for tensor in outputs):
        return (
            "returns one number for each sample, and where there is time, samples need an axis of "
            "features. Keep one, as with keepdims=True."
        )
    return None
