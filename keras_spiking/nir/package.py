"""The package `nir`, which is imported only where it is needed."""

from typing import Any


def load(owner: str) -> Any:
    """Imports the package `nir`.

    Args:
        owner: Name of the public function that needs it, for the error.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import nir
    except ImportError as error:
        raise ImportError(
            f"{owner}: the package `nir` must be installed, and is not. Install it: "
            'pip install "keras-spiking[nir]"'
        ) from error
    return nir
