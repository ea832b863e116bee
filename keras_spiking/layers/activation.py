"""Activations by name, as functions of Keras or of its backends, or as layers."""

import importlib
import sys
from typing import Any

import keras

# Where a framework keeps its activations. A function found here is saved as its module and name.
_MODULES = ("keras.ops", "tensorflow.nn", "jax.nn", "torch.nn.functional", "torch")

# The names that may be loaded from these modules, so that a file cannot name any function.
_NAMES = frozenset(
    "celu elu gelu hard_sigmoid hard_silu hard_swish hard_tanh hardsigmoid hardswish hardtanh "
    "leaky_relu log_sigmoid logsigmoid mish relu relu6 selu sigmoid silu soft_sign softplus "
    "softsign squareplus swish tanh".split()
)

# Those that every framework defines as Keras does: saved by name alone, they load on any backend.
_SAME_EVERYWHERE = frozenset("elu relu relu6 selu sigmoid silu softplus softsign tanh".split())


def get_activation(owner: str, activation: Any) -> Any:
    """Returns the function or layer that `activation` stands for.

    Args:
        owner: Name of the layer's class, for errors.
        activation: Name, function, layer, or the config of one.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(activation, str) and "." in activation:
        return _framework_function(owner, activation)
    try:
        return keras.activations.get(activation)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: `activation` must be the name of a Keras activation (such as 'relu'), a "
            f"function of one tensor, or a layer; received activation={activation!r}. A function "
            "of your own that was saved with a model must be registered with "
            "keras.saving.register_keras_serializable before the model is loaded."
        ) from error


def serialize_activation(activation: Any) -> Any:
    """Returns the name or config from which `get_activation` finds the activation again."""
    name = getattr(activation, "__name__", "")
    if name in _NAMES and getattr(keras.activations, name, None) is not activation:
        for module in _MODULES:
            if getattr(sys.modules.get(module), name, None) is activation:
                return name if name in _SAME_EVERYWHERE else f"{module}.{name}"
    return keras.activations.serialize(activation)


def _framework_function(owner: str, path: str) -> Any:
    module, _, name = path.rpartition(".")
    if module not in _MODULES or name not in _NAMES:
        raise ValueError(
            f"{owner}: `activation` must be the name of a Keras activation or of an activation of "
            f"TensorFlow, JAX or PyTorch; received activation={path!r}."
        )
    framework = module.partition(".")[0]
    if framework not in ("keras", keras.backend.backend()):
        raise ValueError(
            f"{owner}: activation={path!r} runs on the {framework} backend only, and this is "
            f"{keras.backend.backend()}. Load the model there (KERAS_BACKEND={framework}), or make "
            "it with an activation of Keras."
        )
    function = getattr(importlib.import_module(module), name, None)
    if function is None:
        raise ValueError(f"{owner}: {module} has no activation {name!r}; received {path!r}.")
    return function
