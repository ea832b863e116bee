"""Loads the package's parts when they are first used, or as soon as Keras is.

`keras_spiking.pytorch` must import without Keras, so `keras_spiking` itself cannot import it.
Yet `keras.saving.load_model` finds our classes only if they are registered, which importing
them does. So they are imported on first use or together with Keras, whichever comes first.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType


def lazy_names(
    package: str, names_by_module: Mapping[str, Sequence[str]]
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Returns `__all__`, `__getattr__` and `__dir__` for a package with lazy names (PEP 562)."""
    module_of = {name: module for module, names in names_by_module.items() for name in names}
    public = sorted(module_of)

    def __getattr__(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if module_of[name] == package:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(module_of[name]), name)

    def __dir__() -> list[str]:
        return [*public, "__version__"]

    return public, __getattr__, __dir__


def load_with_keras(*submodules: str) -> None:
    """Imports these parts of the package now if Keras is loaded, else right after it loads."""
    if "keras" in sys.modules:
        _load(submodules)
    else:
        sys.meta_path.insert(0, _AfterKeras(submodules))


def _load(submodules: Sequence[str]) -> None:
    for name in submodules:
        importlib.import_module(f"keras_spiking.{name}")


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Lets the usual finders find Keras, and imports our parts once Keras has run."""

    def __init__(self, submodules: Sequence[str]):
        self.submodules = submodules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run_keras = spec.loader.exec_module

            def run_keras_then_ours(module: ModuleType) -> None:
                run_keras(module)
                _load(self.submodules)

            spec.loader.exec_module = run_keras_then_ours  # type: ignore[method-assign]
        return spec
