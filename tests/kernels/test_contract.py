"""Every backend's module has the functions of the contract, with its arguments."""

import importlib
import inspect

import keras
import pytest

from keras_spiking import kernels
from keras_spiking.kernels.contract import Filter, Kernels, from_row, to_row

FUNCTIONS = [name for name in vars(Kernels) if not name.startswith("_")]
MODULES = ["portable", keras.backend.backend()]
if keras.backend.backend() == "torch":
    MODULES.append("torch_onnx")


def arguments(function):
    parameters = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.default) for parameter in parameters]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_modules_are_as_the_contract_says(module, name):
    function = getattr(importlib.import_module(f"keras_spiking.kernels.{module}"), name)
    _, *expected = arguments(getattr(Kernels, name))
    if name != "expm1":  # which may be the framework's own, with other names
        assert arguments(function) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_package_offers_what_the_contract_says(name):
    _, *expected = arguments(getattr(Kernels, name))
    assert arguments(getattr(kernels, name)) == expected


@pytest.mark.parametrize("order", [1, 2])
def test_a_row_holds_all_arguments_of_a_filter(order):
    row = tuple(range(3 + 2 * order))
    arguments = from_row(row)
    assert arguments.filter == Filter(0, 1, row[2 : 2 + order])
    assert (arguments.inputs, arguments.initial) == (2 + order, row[3 + order :])
    assert to_row(*arguments) == row
