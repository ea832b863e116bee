"""How Sphinx builds the documentation: `make docs`."""

import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import sys

DOCS = pathlib.Path(__file__).parent
ROOT = DOCS.parent
# For what Sphinx imports here, and for the examples, each page of which runs in its own process.
for path in (ROOT, DOCS / "extensions"):
    sys.path.insert(0, str(path))
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(ROOT), str(ROOT / "examples"), os.environ.get("PYTHONPATH")])
)
os.environ["KERAS_BACKEND"] = "tensorflow"
# What TensorFlow and the debugger say of the machine at hand is no output of an example.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["MATPLOTLIBRC"] = str(DOCS / "matplotlibrc")
os.environ["PYTHONSTARTUP"] = str(DOCS / "startup.py")
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"

import keras_spiking  # noqa: E402

project = "keras_spiking"
author = "the developers of keras_spiking"
copyright = "the developers of keras_spiking (Apache License 2.0)"
version = release = keras_spiking.__version__
language = "en"

extensions = [
    "local_mathjax",
    "docstrings",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "myst_nb",
]
exclude_patterns = ["_build"]
default_role = "name"  # of `extensions/docstrings.py`: single backticks mark code, as in Markdown
nitpicky = True
nitpick_ignore_regex = [
    # Others' classes: a link would need their lists of names from the network at build time.
    (
        "py:.*",
        r"(keras(?!_spiking)|numpy|np|torch|tensorflow|tf|matplotlib|collections|pathlib|typing)\..*",
    ),
]

# The reference ---------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of Keras are for Keras
autodoc_typehints = "signature"
python_maximum_signature_line_length = 70
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    ("Input shape", "returns_style"),
    ("Output shape", "returns_style"),
]
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

# Pages with code that runs -----------------------------------------------------------------------

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 300  # seconds a cell
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove-warn"  # a warning in an example is a warning of the build


def cache_of_results() -> str:
    """The folder of results that came from this code and these versions, and from no other."""
    digest = hashlib.sha256()
    sources = [*ROOT.glob("keras_spiking/**/*.py"), *ROOT.glob("examples/*.py")]
    styles = [DOCS / "matplotlibrc", *DOCS.glob("tutorials/*.mplstyle")]
    for source in [*sorted(sources), *styles, DOCS / "startup.py"]:
        digest.update(source.read_bytes())
    for package in ("keras", "tensorflow-cpu", "tensorflow", "torch", "numpy", "matplotlib", "nir"):
        try:
            digest.update(f"{package} {importlib.metadata.version(package)}".encode())
        except importlib.metadata.PackageNotFoundError:
            continue
    caches = DOCS / "_build" / "results"
    current = caches / digest.hexdigest()[:16]
    for old in caches.glob("*"):
        if old != current:
            shutil.rmtree(old)
    return str(current)


nb_execution_cache_path = cache_of_results()

# How it looks ------------------------------------------------------------------------------------

# Furo brings its scripts with it, and uses the reader's own fonts: no page asks another site for
# anything.
html_theme = "furo"
html_title = "keras_spiking"
html_static_path = ["_static"]
html_logo = html_favicon = "_static/logo.svg"
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_remove_prompts = True
