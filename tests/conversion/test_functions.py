"""convert: activations and other arguments of layers that are functions of any kind."""

import functools

import keras
import pytest
from keras import layers

import keras_spiking
from tests.compiled import BACKEND
from tests.conversion.models import data_for, sequential
from tests.conversion.test_convert import LONG, assert_equal


def softmax_of_the_framework():
    """What frameworks call softmax."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.nn.softmax
    if BACKEND == "jax":
        import jax

        return jax.nn.softmax
    import torch

    return functools.partial(torch.nn.functional.softmax, dim=-1)


@keras.saving.register_keras_serializable("tests")
class Normalized(layers.Layer):
    """An activation of the user's in which all units depend on each other."""

    def call(self, x):
        return keras.ops.softmax(x)


FRAMEWORK = "of the framework"
SOFTMAXES = {
    FRAMEWORK: softmax_of_the_framework,
    "of keras.ops": lambda: keras.ops.softmax,
    "partial": lambda: functools.partial(keras.ops.softmax, axis=-1),
    "lambda": lambda: lambda x: keras.ops.softmax(x),
    "layer": lambda: layers.Activation("softmax"),
    "layer of the user": Normalized,
    "over another axis": lambda: lambda x: x / (1 + keras.ops.sum(x, axis=1, keepdims=True)),
}


@pytest.mark.parametrize(
    "make",
    [
        # That of the framework is another function on every backend.
        pytest.param(make, id=name, marks=[pytest.mark.every_backend] if name == FRAMEWORK else [])
        for name, make in SOFTMAXES.items()
    ],
)
@pytest.mark.parametrize("as_layer", [True, False])
def test_a_softmax_by_any_name_is_refused_but_at_the_end(as_layer, make, rng):
    softmax = make()
    last = (
        [layers.Dense(3), layers.Activation(softmax)]
        if as_layer
        else [layers.Dense(3, activation=softmax)]
    )
    model = sequential((2, 4), layers.Dense(6, activation="relu"), *last)
    with pytest.raises(ValueError, match=r"has a softmax \(or the like\) that another"):
        keras_spiking.convert(keras.Model(model.inputs, layers.Dense(2)(model.outputs[0])))
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    data = data_for(model, rng)
    assert_equal(spiking.predict_on_batch(data), model.predict_on_batch(data))


class Rate:
    """A function that is an object, and knows of no config."""

    def __call__(self, x):
        return keras.ops.relu(x) ** 2


FUNCTIONS = {
    "partial": functools.partial(keras.ops.leaky_relu, negative_slope=0.3),
    "lambda": lambda x: keras.ops.relu(x) * 2,
    "object": Rate(),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_activations_and_regularizers_may_be_any_functions(function, rng):
    def penalty(x):
        return 0.1 * keras.ops.sum(x**2)

    if keras.__version__.startswith("3.14."):
        penalty = None  # it takes no function as a regularizer
    model = sequential(
        (4,),
        layers.Dense(
            6, activation=function, kernel_regularizer=penalty, activity_regularizer=penalty
        ),
        layers.Dense(6),
        layers.Activation(function),
        layers.Dense(3, activation=function),
    )
    before = [vars(layer).copy() for layer in model.layers]
    spiking = keras_spiking.convert(model, num_steps=2, dt=LONG)
    assert [vars(layer) for layer in model.layers] == before
    data = data_for(model, rng)
    assert_equal(spiking.predict_on_batch(data), model.predict_on_batch(data))
    spikes = [each for each in spiking.layers if isinstance(each, keras_spiking.SpikingActivation)]
    assert [each.activation for each in spikes] == [function, function]
    assert spiking.layers[1].kernel_regularizer is penalty
    assert spikes[0].activity_regularizer is penalty
