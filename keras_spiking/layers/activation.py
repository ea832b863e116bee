"""Activations by name, as functions of Keras or of its backends, or as layers."""

import functools
import importlib
import sys
from typing import Any

import keras

from keras_spiking._named_objects import get_named
from keras_spiking._types import ActivationLike

# Where a framework keeps its activations. A function found here is saved as its module and name.
_MODULES = (
    "keras.ops",
    "tensorflow.nn",
    "tensorflow.math",
    "jax.nn",
    "torch.nn.functional",
    "torch",
)

# The names that may be loaded from these modules, so that a file cannot name any function.
_NAMES = frozenset(
    """
    celu elu gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh hardshrink hardsigmoid
    hardswish hardtanh leaky_relu log_sigmoid log_softmax logsigmoid mish relu relu6 selu sigmoid
    silu soft_shrink soft_sign softmax softplus softshrink softsign sparse_plus sparse_sigmoid
    sparsemax squareplus swish tanh tanh_shrink tanhshrink
    """.split()
)

# Every framework defines these as Keras does. Saved by name alone, they load on any backend.
_SAME_EVERYWHERE = frozenset(
    ["elu", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh"]
)


def get_activation(owner: str, activation: ActivationLike) -> Any:
    """Returns the function or layer that `activation` stands for.

    Args:
        owner: Name of the layer's class, for errors.
        activation: Name, function, layer, or the config of one.

    Raises:
        ValueError: If it is none of these, or works on another backend only.
    """
    if isinstance(activation, str) and "." in activation:
        return _framework_function(owner, activation)
    if isinstance(activation, type):
        raise ValueError(
            f"{owner}: `activation` must be a layer, not its class; received {activation!r}. "
            f"Make one: activation={activation.__name__}()."
        )
    try:
        return get_named(activation, keras.activations.get, keras.layers.Layer, _is_activation)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: `activation` must be the name of a Keras activation (such as 'relu'), a "
            f"function of one tensor, or a layer; received activation={activation!r}. A function "
            "of your own that was saved with a model must be registered with "
            "keras.saving.register_keras_serializable before the model is loaded. "
            f"The reason: {error}"
        ) from error


def serialize_activation(activation: Any) -> str | dict[str, Any]:
    """Returns the name or config from which `get_activation` finds the activation again."""
    name = getattr(activation, "__name__", "")
    if getattr(keras.activations, name, None) is activation:
        return keras.activations.serialize(activation)
    path = _framework_path(activation)
    if path is not None:
        return path
    if name == "<lambda>":
        # `keras.activations.serialize` leaves out what `load_model(..., safe_mode=False)` needs.
        return keras.saving.serialize_keras_object(activation)
    config = keras.activations.serialize(activation)
    if isinstance(config, str):
        # The user's function has a name of one of Keras's. By that name alone, Keras would load
        # its own function.
        module = activation.__module__
        return {
            "module": "__main__" if module == "builtins" else module,
            "class_name": "function",
            "config": name,
            "registered_name": name,
        }
    return config


def _is_activation(name: str) -> bool:
    return name in _NAMES or name in ("exponential", "glu", "linear", "threshold")


def _framework_path(activation: Any) -> str | None:
    """The name of this function in one of the frameworks in use, None if it is not from one."""
    for module in _MODULES:
        root, *path = module.split(".")
        # Not `sys.modules[module]`: TensorFlow enters its parts only when they are imported.
        framework = functools.reduce(
            lambda of, name: getattr(of, name, None), path, sys.modules.get(root)
        )
        for name in sorted(_NAMES):
            if getattr(framework, name, None) is activation:
                return name if name in _SAME_EVERYWHERE else f"{module}.{name}"
    return None


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
