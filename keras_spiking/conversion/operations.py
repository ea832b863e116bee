"""Operations in a graph, such as `x + y` or `keras.ops.relu(x)`, in the form of layers."""

import functools
import inspect
from typing import Any

import keras

# Activations with settings, as layers that take the same settings.
_WITH_SETTINGS = {
    "elu": keras.layers.ELU,
    "leakyrelu": keras.layers.LeakyReLU,
    "relu": keras.layers.ReLU,
    "softmax": keras.layers.Softmax,
}
# Where they get one tensor and numbers, these are activations too: relu by hand.
_BY_HAND = frozenset(["clip", "maximum", "minimum"])
# Each element on its own: functions of their sample, so they need not be tried.
_ELEMENTWISE = frozenset(
    """
    absolute add cast clip divide maximum minimum multiply negative power sqrt square subtract
    truedivide
    """.split()
)

# Linear in the tensors that they get, or they only move elements.
_LINEAR = frozenset(
    """
    add average averagepool broadcastto concatenate cropimages diff expanddims flip getitem hstack
    mean moveaxis negative pad padimages ravel repeat reshape roll squeeze stack subtract sum
    swapaxes tile transpose vstack
    """.split()
)
# Linear in one tensor if the rest are constants.
_LINEAR_IN_ONE = frozenset("dot einsum matmul multiply tensordot".split())

_FLOATS = ("bfloat16", "float16", "float32", "float64")


class Function:
    """One call of an operation that is no activation: a function of the tensors that it gets.

    Args:
        operation: The operation, which stays as it is.
        arguments: What it is called on: symbolic tensors, and constants.
        keywords: The same by name.

    Attributes:
        name: Name of the operation.
        tensors: The tensors, in order.
        constants: The rest.
    """

    def __init__(self, operation: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]):
        self.name = operation.name
        self.operation = operation
        self._arguments = (arguments, keywords)
        self._leaves = leaves = keras.tree.flatten(self._arguments)
        self.tensors = [leaf for leaf in leaves if keras.backend.is_keras_tensor(leaf)]
        self.constants = [leaf for leaf in leaves if not keras.backend.is_keras_tensor(leaf)]

    def __call__(self, tensors: list[Any]) -> Any:
        """Runs the operation on other tensors of any kind."""
        return self._run(self.operation, tensors)

    def spec(self, tensors: list[Any]) -> Any:
        """What it returns for other symbolic tensors, without a trace in their graph."""
        return self._run(self.operation.compute_output_spec, tensors)

    @property
    def dtype(self) -> str | None:
        """The widest type of floating-point numbers among the tensors, if there is one."""
        dtypes = {keras.backend.standardize_dtype(each.dtype) for each in self.tensors}
        return max((each for each in dtypes if each in _FLOATS), key=_FLOATS.index, default=None)

    @property
    def settings(self) -> dict[str, Any] | None:
        """The operation's own settings, None if Keras cannot tell."""
        try:
            config = self.operation.get_config()
        except (NotImplementedError, TypeError):
            return None
        return {key: value for key, value in config.items() if key != "name"}

    def is_elementwise(self) -> bool:
        """Whether it is known that each element of the output depends on its like in the inputs."""
        numbers = all(isinstance(each, (int, float, str, type(None))) for each in self.constants)
        same_rank = len({len(tensor.shape) for tensor in self.tensors}) == 1
        return numbers and same_rank and _keras_name(self.operation) in _ELEMENTWISE

    def is_linear(self) -> bool:
        """Whether it is known to keep means: linear but for a constant."""
        if not all(keras.backend.is_float_dtype(each.dtype) for each in self.tensors):
            return False
        name, is_only = _keras_name(self.operation), len(self.tensors) == 1
        if name in ("divide", "truedivide"):
            return is_only and keras.backend.is_keras_tensor(self._leaves[0])
        return name in _LINEAR or (is_only and name in _LINEAR_IN_ONE)

    def as_model(self, name: str) -> keras.Model:
        """A model that does the same, with a copy of the operation."""
        inputs = [keras.Input(each.shape[1:], dtype=each.dtype) for each in self.tensors]
        operation = type(self.operation).from_config(self.operation.get_config())
        outputs = self._run(operation, inputs)
        model = keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=name)
        # Else what is called on it would be cast to the type that is usual now.
        model.dtype_policy = keras.DTypePolicy(self.dtype or keras.config.floatx())
        return model

    def _run(self, run: Any, tensors: list[Any]) -> Any:
        remaining = iter(tensors)
        arguments, keywords = keras.tree.map_structure(
            lambda leaf: next(remaining) if keras.backend.is_keras_tensor(leaf) else leaf,
            self._arguments,
        )
        return run(*arguments, **keywords)


def as_layer(
    operation: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """A layer for a call of an operation that is an activation, a `Function` for any other.

    Returns:
        The layer, and the tensors that it is called on.
    """
    function = Function(operation, arguments, keywords)
    return _activation(function) or function, function.tensors


def _activation(function: Function) -> Any:
    """A layer for what is an activation, None for what is not."""
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


def _keras_name(operation: Any) -> str:
    """The name of an operation's class in small letters, if it is one of Keras."""
    kind = type(operation)
    return kind.__name__.lower() if kind.__module__.partition(".")[0] == "keras" else ""


@functools.cache
def _activations() -> dict[str, Any]:
    """The activations of Keras, by the names that classes of operations have in small letters."""
    names = [name for name in dir(keras.activations) if not name.startswith("_")]
    functions = {name.replace("_", ""): getattr(keras.activations, name) for name in names}
    return {name: each for name, each in functions.items() if inspect.isfunction(each)}
