"""Operations in a graph, such as `x + y` or `keras.ops.relu(x)`, in the form of layers."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_spiking._graph import Call
from keras_spiking._types import Tensor

# Activations with settings, as layers that take the same settings.
_WITH_SETTINGS = {
    "elu": keras.layers.ELU,
    "leakyrelu": keras.layers.LeakyReLU,
    "relu": keras.layers.ReLU,
    "softmax": keras.layers.Softmax,
}
# With one tensor and numbers, these are activations too, such as relu written by hand.
_BY_HAND = frozenset(["clip", "maximum", "minimum"])
# These treat each element by itself. So they are functions of their sample, and need no trial.
_ELEMENTWISE = frozenset(
    """
    absolute add cast clip divide maximum minimum multiply negative power sqrt square subtract
    truedivide
    """.split()
)

# Linear in their tensors, or they only move elements.
_LINEAR = frozenset(
    """
    add average averagepool broadcastto concatenate cropimages diff expanddims flip getitem hstack
    mean moveaxis negative pad padimages ravel repeat reshape roll squeeze stack subtract sum
    swapaxes tile transpose vstack
    """.split()
)
# Linear in one tensor if all other arguments are constants.
_LINEAR_IN_ONE = frozenset("dot einsum matmul multiply tensordot".split())

_FLOATS = ("bfloat16", "float16", "float32", "float64")


class Function:
    """One call of an operation, as a function of its tensors.

    Args:
        call: The call, on symbolic tensors and constants. The operation does not change.

    Attributes:
        name: Name of the operation.
        operation: The operation.
        tensors: The tensors among arguments and keywords, in order.
        constants: All other arguments and keywords.
    """

    def __init__(self, call: Call):
        self.name = call.layer.name
        self.operation = call.layer
        self.tensors = call.tensors
        self._leaves = leaves = keras.tree.flatten((call.arguments, call.keywords))
        self.constants = [leaf for leaf in leaves if not keras.backend.is_keras_tensor(leaf)]
        self._call = call

    def __call__(self, tensors: list[Tensor]) -> Any:
        """Runs the operation on other tensors, symbolic or not."""
        return self._run(self.operation, tensors)

    def spec(self, tensors: list[keras.KerasTensor]) -> Any:
        """The specs of its outputs for other symbolic tensors. Their graph does not record it."""
        return self._run(self.operation.compute_output_spec, tensors)

    @property
    def dtype(self) -> str | None:
        """The widest floating-point type of the tensors; None if there is none."""
        dtypes = {keras.backend.standardize_dtype(tensor.dtype) for tensor in self.tensors}
        return max(dtypes & set(_FLOATS), key=_FLOATS.index, default=None)

    @property
    def settings(self) -> dict[str, Any] | None:
        """The operation's own settings; None if Keras does not know them."""
        try:
            config = self.operation.get_config()
        except (NotImplementedError, TypeError):
            return None
        return {key: value for key, value in config.items() if key != "name"}

    def is_elementwise(self) -> bool:
        """Whether it is known to treat each element by itself."""
        plain = (int, float, str, type(None))
        is_plain = all(isinstance(constant, plain) for constant in self.constants)
        same_rank = len({len(tensor.shape) for tensor in self.tensors}) == 1
        return is_plain and same_rank and _keras_name(self.operation) in _ELEMENTWISE

    def is_linear(self) -> bool:
        """Whether it is known to be linear, or linear plus a constant. Then it keeps means."""
        if not all(keras.backend.is_float_dtype(tensor.dtype) for tensor in self.tensors):
            return False
        name, is_only = _keras_name(self.operation), len(self.tensors) == 1
        if name in ("divide", "truedivide"):
            return is_only and keras.backend.is_keras_tensor(self._leaves[0])
        return name in _LINEAR or (is_only and name in _LINEAR_IN_ONE)

    def as_model(self, name: str) -> keras.Model:
        """A model that does the same, with a copy of the operation."""
        inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in self.tensors]
        operation = type(self.operation).from_config(self.operation.get_config())
        outputs = self._run(operation, inputs)
        model = keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=name)
        # Otherwise the model would cast its inputs to the current default type.
        model.dtype_policy = keras.DTypePolicy(self.dtype or keras.config.floatx())
        return model

    def _run(self, function: Callable[..., Any], tensors: list[Tensor]) -> Any:
        arguments, keywords = self._call.filled(tensors)
        return function(*arguments, **keywords)


def as_layer(call: Call) -> keras.Layer | Function:
    """A layer for a call of an operation that is an activation, a `Function` for any other call.

    Both are to be called on the tensors of the call.
    """
    function = Function(call)
    return _activation(function) or function


def _activation(function: Function) -> keras.Layer | None:
    """A layer for an operation that is an activation; None if it is not."""
    name, settings = _keras_name(function.operation), function.settings
    if len(function.tensors) != 1 or settings is None:
        return None
    options = {"name": function.name, "dtype": function.dtype}
    if name in _BY_HAND and function.is_elementwise():
        return keras.layers.Activation(function.as_model(name), **options)
    activation = _activations().get(name)
    if activation is None or function.constants:
        return None
    if settings.get("axis") in (0, -len(function.tensors[0].shape)):
        return None
    parameters = inspect.signature(activation).parameters
    if all(key in parameters and parameters[key].default == settings[key] for key in settings):
        return keras.layers.Activation(activation, **options)
    if name in _WITH_SETTINGS:
        return _WITH_SETTINGS[name](**settings, **options)
    return keras.layers.Activation(function.as_model(name), **options)


def _keras_name(operation: keras.Operation) -> str:
    """The name of an operation's class in small letters; "" if the class is not of Keras."""
    kind = type(operation)
    return kind.__name__.lower() if kind.__module__.partition(".")[0] == "keras" else ""


@functools.cache
def _activations() -> dict[str, Any]:
    """The activations of Keras, by names as `_keras_name` returns them."""
    names = [name for name in dir(keras.activations) if not name.startswith("_")]
    functions = {name.replace("_", ""): getattr(keras.activations, name) for name in names}
    return {name: value for name, value in functions.items() if inspect.isfunction(value)}
