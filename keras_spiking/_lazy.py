"""Loads the package's parts when they are first used, or as soon as Keras is.

`keras_spiking.pytorch` must import without Keras, so `keras_spiking` cannot import Keras itself.
But `keras.saving.load_model` finds our classes only if they are registered, and importing them
does that. So they are imported on first use or together with Keras, whichever comes first.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType


def lazy_names(
    package: str, names_by_module: Mapping[str, Sequence[str]]
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Returns `__all__`, `__getattr__` and `__dir__` for a package with lazy names (PEP 562)."""
    module_of = {name: module for module, names in names_by_module.items() for name in names}
    public = sorted(module_of)

    def get(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if module_of[name] == package:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(module_of[name]), name)

    def names() -> list[str]:
        return [*public, "__version__"]

    return public, get, names


def load_with_keras(*submodules: str) -> None:
    """Imports these parts of the package now if Keras is loaded, else right after it loads."""
    if sys.modules.get("keras") is not None:
        _load(submodules)
    else:
        sys.meta_path.insert(0, _AfterKeras(submodules))


def _load(submodules: Sequence[str]) -> None:
    for name in submodules:
        importlib.import_module(f"keras_spiking.{name}")


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Lets the other finders find Keras, and imports our parts once Keras has run."""

    # No plainer way has this. Keras loads registered classes only, and has no entry points for
    # packages. `import keras_spiking, tensorflow`, in the order that tools sort them, would leave
    # `load_model` without our classes; importing Keras here costs users of PyTorch alone seconds.

    def __init__(self, submodules: Sequence[str]):
        self.submodules = submodules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "keras":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec is not None and spec.loader is not None:
            self._load_after(spec.loader)
        return spec

    def _load_after(self, loader: importlib.abc.Loader) -> None:
        run = loader.exec_module

        def run_keras_then_ours(module: ModuleType) -> None:
            run(module)
            # `importlib.util.find_spec` only asks for Keras, so the finder stays until it has run.
            if module.__name__ == "keras" and self in sys.meta_path:
                sys.meta_path.remove(self)
                _load(self.submodules)

        loader.exec_module = run_keras_then_ours  # type: ignore[method-assign]
