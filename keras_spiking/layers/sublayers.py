"""The layers within a layer."""

from typing import Any

import keras


def layers_within(root: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all layers in it, however deep."""
    found: dict[int, keras.layers.Layer] = {}

    def visit(value: Any) -> None:
        if isinstance(value, keras.layers.Layer):
            if id(value) not in found:
                found[id(value)] = value
                for attribute in vars(value).values():
                    visit(attribute)
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)
        elif isinstance(value, dict):
            for item in value.values():
                visit(item)

    visit(root)
    return list(found.values())
