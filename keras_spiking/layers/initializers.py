"""Initializers given as objects, names, configs or plain numbers."""

import keras

from keras_spiking import _checks
from keras_spiking._named_objects import get_named
from keras_spiking._types import InitializerLike


def get_initializer(
    owner: str, name: str, value: InitializerLike, positive: bool = False
) -> keras.initializers.Initializer:
    """Returns the Keras initializer that `value` stands for; a number means that constant.

    Raises:
        ValueError: If a number is not finite (or not positive, where it must be), or a name
            is unknown.
        TypeError: If it is none of these.
    """
    if isinstance(value, (str, dict)) or (callable(value) and not isinstance(value, type)):
        try:
            return get_named(value, keras.initializers.get, keras.initializers.Initializer)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{owner}: `{name}` must be a number or a Keras initializer; "
                f"received {name}={value!r}. The reason: {error}"
            ) from error
    meaning = "a number or a Keras initializer"
    check = _checks.positive_number if positive else _checks.number
    return keras.initializers.Constant(check(owner, name, value, meaning))
