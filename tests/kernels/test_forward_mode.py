"""Derivatives forwards, Jacobians and Hessians of whole layers, as the backends have them."""

import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests.compiled import BACKEND

LAYERS = {
    "spikes of relu": lambda: keras_spiking.SpikingActivation("relu", dt=0.1, initial_voltage=0.5),
    "spikes of tanh": lambda: keras_spiking.SpikingActivation("tanh", dt=0.1, initial_voltage=0.5),
    "lowpass": lambda: keras_spiking.Lowpass(0.01),
    "alpha": lambda: keras_spiking.Alpha(0.01),
    "lowpass's end": lambda: keras_spiking.Lowpass(0.01, return_sequences=False),
    "alpha's end": lambda: keras_spiking.Alpha(0.01, return_sequences=False),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="of JAX's transformations")
only_torch = pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch's transformations")
only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's accumulator")


def problem(name):
    """A layer, inputs, a tangent, and the derivative along it.

    Filters are linear, and spikes have the derivative of their activation.
    """
    layer = LAYERS[name]()
    inputs, tangent = np.random.default_rng(0).normal(size=(2, 2, 4, 3)).astype("float32")
    layer(inputs)
    if "spikes" in name:
        slope = inputs > 0 if "relu" in name else 1 - np.tanh(inputs) ** 2
        return layer, inputs, tangent, tangent * slope
    return layer, inputs, tangent, ops.convert_to_numpy(layer(tangent))


def transforms():
    """`jvp`, `jacfwd`, `jacrev`, `hessian` and `vmap` of the backend."""
    if BACKEND == "jax":
        import jax

        return jax
    import torch

    return torch.func


def assert_transforms_are_right(name):
    layer, inputs, tangent, expected = problem(name)
    of, close = transforms(), np.testing.assert_allclose
    inputs, tangent = ops.array(inputs), ops.array(tangent)
    outputs, slopes = compiled(lambda *each: of.jvp(layer, each[:1], each[1:]))(inputs, tangent)
    close(numpy(outputs), numpy(layer(inputs)), rtol=1e-5, atol=0 if "spikes" in name else 1e-6)
    close(numpy(slopes), expected, rtol=1e-5, atol=1e-6)

    rank = len(expected.shape)
    for jacobian in (of.jacfwd(layer), of.jacrev(layer)):
        got = np.tensordot(numpy(compiled(jacobian)(inputs)), numpy(tangent), axes=3)
        assert got.ndim == rank
        close(got, expected, rtol=1e-4, atol=1e-5)

    def loss(inputs):
        return ops.sum(layer(inputs) ** 2) / 2

    # A linear layer's Hessian is the square of its Jacobian.
    if "spikes" not in name:
        hessian = np.tensordot(numpy(compiled(of.hessian(loss))(inputs)), numpy(tangent), axes=3)
        got = np.sum(hessian * numpy(tangent))
        close(got, np.sum(expected**2), rtol=1e-4)

    batches = ops.stack([inputs, inputs * 2])
    expected = ops.stack([layer(inputs), layer(inputs * 2)])
    close(numpy(compiled(of.vmap(layer))(batches)), numpy(expected), rtol=1e-5, atol=1e-6)


def compiled(function):
    """Eager JAX would compile each operation of a transformation for itself."""
    return transforms().jit(function) if BACKEND == "jax" else function


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


@only_jax
@every_layer
def test_jax_transforms_layers_in_every_way(name):
    if name in ("lowpass", "alpha"):
        keras_spiking.config.set_kernels("portable")
    assert_transforms_are_right(name)


@only_jax
@pytest.mark.parametrize("name", ["lowpass", "alpha"])
def test_jax_says_with_which_kernels_forward_mode_works(name):
    import jax

    layer, inputs, tangent, _ = problem(name)
    for transform in (
        lambda: jax.jvp(layer, (inputs,), (tangent,)),
        lambda: jax.jacfwd(layer)(inputs),
        lambda: jax.hessian(lambda x: ops.sum(layer(x) ** 2))(inputs),
    ):
        with pytest.raises(TypeError, match=r'set_kernels\("portable"\)'):
            transform()


@only_torch
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # which PyTorch itself calls
@every_layer
def test_torch_func_transforms_layers_in_every_way(name):
    assert_transforms_are_right(name)


@only_tensorflow
@pytest.mark.parametrize("kernels", ["native", "portable"])
@every_layer
def test_a_forward_accumulator_works(name, kernels):
    import tensorflow as tf

    keras_spiking.config.set_kernels(kernels)
    layer, inputs, tangent, expected = problem(name)
    inputs, tangent = tf.constant(inputs), tf.constant(tangent)
    with tf.autodiff.ForwardAccumulator(inputs, tangent) as accumulator:
        outputs = layer(inputs)
    np.testing.assert_allclose(accumulator.jvp(outputs), expected, rtol=1e-5, atol=1e-6)
