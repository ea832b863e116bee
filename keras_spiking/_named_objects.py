"""Finds the object that a config names. A file may come from anyone, so not every name will do."""

from collections.abc import Callable
from typing import Any

import keras


def get_named(
    value: Any,
    get: Callable[[Any], Any],
    kind: type,
    is_known: Callable[[str], bool] = lambda name: False,
) -> Any:
    """Returns `get(value)`; a config may only name objects of `kind`, and what is registered.

    Keras itself would find any of its functions and classes, also those that download files.

    Args:
        value: What the user or a file gave: an object, a name, or a config.
        get: Function of Keras that finds what a name or config stands for.
        kind: Class of the objects that a config may name.
        is_known: Whether a function of this name may be named without being registered.

    Raises:
        ValueError: If a config names anything else; and what `get` raises.
    """
    if not isinstance(value, dict):
        return get(value)
    class_name = value.get("class_name")
    is_function, is_lambda = class_name == "function", class_name == "__lambda__"
    name = value.get("config" if is_function else "registered_name")
    is_registered = isinstance(name, str) and keras.saving.get_registered_object(name) is not None
    if is_function and not is_registered and not (isinstance(name, str) and is_known(name)):
        # Checked first, because `get` calls a class that it finds under the name of a function.
        raise ValueError(
            f"the config names the function {name!r}, which is not registered with "
            "keras.saving.register_keras_serializable."
        )
    found = get(value)
    # Keras itself refuses a lambda, unless the user allows it with `safe_mode=False`.
    is_allowed = is_function or is_lambda or is_registered or isinstance(found, kind)
    if isinstance(found, type) or not is_allowed:
        raise ValueError(f"the config names {found!r}, which is not a {kind.__name__}.")
    return found
