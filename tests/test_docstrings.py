"""Docstrings: their examples run, and they name every argument."""

import doctest
import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest

import keras_spiking
from keras_spiking.kernels import cpu
from tests.compiled import BACKEND

FRAMEWORKS = {"tensorflow", "jax", "torch"}
NEED_NUMBA = {"jax_ffi", "loops_filters", "loops_spikes", "numba_tools"}


def can_be_imported(name):
    """Whether what a module is written for is here."""
    last = name.rpartition(".")[2]
    # A module named after a framework imports it, and `pytorch` imports torch.
    if last.partition("_")[0] in FRAMEWORKS - {BACKEND}:
        return False
    if BACKEND != "torch" and name.startswith("keras_spiking.pytorch"):
        return False
    return cpu.is_available() or last not in NEED_NUMBA


MODULES = [
    "keras_spiking",
    *(
        info.name
        for info in pkgutil.walk_packages(keras_spiking.__path__, "keras_spiking.")
        if can_be_imported(info.name)
    ),
]

PUBLIC_MODULES = [
    keras_spiking.config,
    keras_spiking.layers,
    keras_spiking.regularizers,
    keras_spiking.constraints,
    keras_spiking.callbacks,
    keras_spiking.conversion,
    keras_spiking.energy,
    keras_spiking.nir,
    keras_spiking.recording,
    keras_spiking.visualization,
]
if BACKEND == "torch":
    PUBLIC_MODULES.append(importlib.import_module("keras_spiking.pytorch"))


def public_names(module):
    """What a module offers: its `__all__`, or what it defines itself."""
    if hasattr(module, "__all__"):
        return module.__all__
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


OBJECTS = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in PUBLIC_MODULES
    for name in public_names(module)
}
CLASSES = {name: value for name, value in OBJECTS.items() if inspect.isclass(value)}
FUNCTIONS = {name: value for name, value in OBJECTS.items() if inspect.isfunction(value)}
METHODS = {
    f"{name}.{method}": getattr(value, "fget", value)
    for name, cls in CLASSES.items()
    for method, value in vars(cls).items()
    if (inspect.isfunction(value) or isinstance(value, property))
    and not method.startswith("_")
    # Those that Keras or PyTorch calls are documented there: `build`, `call`, `get_config` ...
    and not any(hasattr(base, method) for base in cls.__mro__[1:])
}
BASE_CLASSES = ["keras_spiking.layers.KerasSpikingCell", "keras_spiking.layers.KerasSpikingLayer"]
# Not made by users, so they have attributes in place of arguments, and no example of their own.
RESULTS = [
    *(
        f"keras_spiking.conversion.{name}"
        for name in ("LayerResult", "OutputResult", "Report", "Result")
    ),
    "keras_spiking.recording.Figures",
    "keras_spiking.recording.LayerRecording",
]


def test_everything_in_the_package_is_among_them():
    for name in keras_spiking.__all__:
        value = getattr(keras_spiking, name)
        if callable(value):
            assert value in OBJECTS.values(), name


class Robust(doctest.OutputChecker):
    """Takes numbers for equal that agree in what an example shows of them."""

    NUMBER = re.compile(r"[-+]?\d+\.\d*(?:e[-+]?\d+)?")

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):
            return True
        wanted, given = (list(map(float, self.NUMBER.findall(text))) for text in (want, got))
        return (
            self.NUMBER.sub("#", want) == self.NUMBER.sub("#", got)
            and len(wanted) == len(given)
            and np.allclose(wanted, given, rtol=1e-5, atol=1e-6)
        )


def examples(module):
    """The examples in a module's docstrings, with nothing at hand but `keras_spiking`."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [
        test
        for test in finder.find(module, globs={"keras_spiking": keras_spiking})
        if test.examples
    ]


EXAMPLES = {test.name: test for name in MODULES for test in examples(importlib.import_module(name))}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report = []
    doctest.DocTestRunner(Robust(), optionflags=flags).run(EXAMPLES[name], out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("name", OBJECTS)
def test_public_objects_have_a_docstring(name):
    docstring = OBJECTS[name].__doc__
    assert docstring, name
    first, *rest = docstring.strip().splitlines()
    assert first.endswith(".")
    assert not rest or not rest[0].strip(), "a blank line follows the first"


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_is_documented(name):
    section = "Attributes" if name in RESULTS else "Args"
    documented = arguments_in(CLASSES[name].__doc__, section)
    parameters = list(inspect.signature(CLASSES[name].__init__).parameters.values())[1:]
    names = getattr(CLASSES[name], "_fields", [p.name for p in parameters])
    assert documented >= set(names), sorted(set(names) - documented)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_of_a_function_is_documented(name):
    names = set(inspect.signature(OBJECTS[name]).parameters)
    assert arguments_in(OBJECTS[name].__doc__) >= names


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_ours_are_documented(name):
    docstring = METHODS[name].__doc__
    assert docstring, name
    names = set(inspect.signature(METHODS[name]).parameters) - {"self"}
    # A sentence does for what little a small method takes, if it names each argument.
    in_words = {each for each in names if re.search(rf"\b{each}\b", docstring)}
    referred = re.search("arguments as in `|of the same arguments", docstring)
    assert referred or arguments_in(docstring) | in_words >= names


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {*BASE_CLASSES, *RESULTS}))
def test_classes_that_users_make_have_an_example(name):
    assert ">>> " in CLASSES[name].__doc__


def test_modules_have_a_docstring():
    for name in MODULES:
        assert importlib.import_module(name).__doc__, name


def arguments_in(docstring, section="Args"):
    """The names that a section of a docstring defines."""
    pattern = rf"^{section}:\n(.*?)(?=^\S|\Z)"
    section = re.search(pattern, inspect.cleandoc(docstring), re.DOTALL | re.MULTILINE)
    if section is None:
        return set()
    lines = inspect.cleandoc("\n" + section.group(1)).splitlines()
    # An entry begins where a line is not indented, and its names end at the colon.
    entries = re.findall(r"^(\S[^:]*):", "\n".join(lines), re.MULTILINE)
    return {name.strip().strip("*`") for entry in entries for name in entry.split(",")}
