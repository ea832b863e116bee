"""MathJax from the package that carries its files, so that no page asks another site for it."""

import importlib.metadata
import pathlib
import shutil
from typing import Any

from sphinx.application import Sphinx

PACKAGE = "sphinx-mathjax-offline"
# What a page with LaTeX in it loads; the package holds 20 megabytes more.
WANTED = ("mathjax/tex-chtml.js", "mathjax/output/chtml/fonts/woff-v2/")


def copy(app: Sphinx, error: Any) -> None:
    """Copies the script and its fonts to the pages."""
    if error is not None or app.builder.format != "html":
        return
    for file in importlib.metadata.files(PACKAGE) or ():
        _, _, name = file.as_posix().partition("/static/")
        if name.startswith(WANTED):
            target = pathlib.Path(app.outdir, "_static", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Points Sphinx's own extension to the copy."""
    app.setup_extension("sphinx.ext.mathjax")
    app.config.mathjax_path = WANTED[0]
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
