"""Files of arrays in lists and dictionaries: `.npz` without pickle."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_CONTENTS = "contents"
_ARRAY = "__array__"


def save(path: str | Path, contents: Any) -> None:
    """Writes a structure of lists, dictionaries, arrays, numbers, strings and None."""
    arrays: dict[str, np.ndarray] = {}

    def described(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: described(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [described(item) for item in value]
        if isinstance(value, np.ndarray):
            arrays[str(len(arrays))] = value
            return {_ARRAY: str(len(arrays) - 1)}
        return value.item() if isinstance(value, np.generic) else value

    arrays[_CONTENTS] = np.array(json.dumps(described(contents)))
    with Path(path).open("wb") as file:  # by its name, NumPy might add a suffix
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load(owner: str, path: str | Path) -> Any:
    """Reads what `save` wrote.

    Args:
        owner: Name of the public function, for errors.
        path: The file.
    """
    if not zipfile.is_zipfile(path):
        Path(path).open("rb").close()  # says so where there is no file
        raise _not_ours(owner, path)
    with np.load(path, allow_pickle=False) as arrays:
        if _CONTENTS not in arrays:
            raise _not_ours(owner, path)

        def restored(value: Any) -> Any:
            if isinstance(value, list):
                return [restored(item) for item in value]
            if not isinstance(value, dict):
                return value
            if set(value) == {_ARRAY}:
                return arrays[value[_ARRAY]]
            return {name: restored(item) for name, item in value.items()}

        return restored(json.loads(str(arrays[_CONTENTS])))


def _not_ours(owner: str, path: str | Path) -> ValueError:
    return ValueError(
        f"{owner}: `path` must be a file that Recording.save wrote; received {str(path)!r}."
    )
