"""Prints, for pip's `--constraint`, the oldest versions that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
BACKENDS = ("tensorflow", "jax", "torch")


def oldest_versions() -> dict[str, str]:
    """The lower bound of every package that users of the library need, by name."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(extras[name][0] for name in BACKENDS)]
    versions = {}
    for requirement in requirements:
        found = re.fullmatch(r"([a-z-]+)>=([0-9.]+)", requirement)
        if found is None:
            raise ValueError(
                f"pyproject.toml: requirements must be a name and the oldest version that works, "
                f"as in keras>=3.14; received {requirement!r}."
            )
        name, version = found.groups()
        versions[name] = version
    return versions


if __name__ == "__main__":
    for name, version in oldest_versions().items():
        print(f"{name}=={version}")
        if name == "tensorflow":
            print(f"tensorflow-cpu=={version}")
    # Newer ones need a newer ml_dtypes than TensorFlow 2.18 accepts; tests alone use it.
    print("onnx==1.17.0")
