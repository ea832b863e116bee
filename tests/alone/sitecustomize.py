"""Where this folder is on `PYTHONPATH`, Python finds no backend but the one of `KERAS_BACKEND`.

Keras imports all that it finds, if only to seed them, and pandas and Matplotlib too. Without them a
process starts in less than half the time.
"""

import os
import sys
from importlib.machinery import PathFinder

HIDDEN = {"tensorflow", "jax", "torch", "matplotlib", "pandas"} - {os.environ["KERAS_BACKEND"]}


class FindsFew(PathFinder):
    """Finds no module of these, as where they are not installed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in HIDDEN else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = FindsFew
