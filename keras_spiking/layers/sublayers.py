"""The layers within a layer."""

from typing import Any

import keras


def layers_within(root: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all layers in it, however deep."""
    return [layer for _, layer in paths_within(root)]


def paths_within(root: keras.layers.Layer) -> list[tuple[str, keras.layers.Layer]]:
    """The same, each with its name after those of the layers that it is in, as in "block/dense"."""
    found: dict[int, tuple[str, keras.layers.Layer]] = {}

    def visit(value: Any, prefix: str) -> None:
        if isinstance(value, keras.layers.Layer):
            if id(value) not in found:
                path = f"{prefix}{value.name}" if found else ""
                found[id(value)] = path, value
                for attribute in vars(value).values():
                    visit(attribute, f"{path}/" if path else "")
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item, prefix)
        elif isinstance(value, dict):
            for item in value.values():
                visit(item, prefix)

    visit(root, "")
    return list(found.values())
