"""Activations: by name, as functions of Keras or its backend, as layers; saved, loaded, refused."""

import functools
import os

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking.layers.activation import get_activation, serialize_activation
from tests.compiled import BACKEND


def model_with(activation):
    """A model whose output shows its activation: at a large `dt`, spikes are near the rates."""
    inputs = keras.Input((None, 3))
    spikes = keras_spiking.SpikingActivation(activation, dt=1e4, initial_voltage=0.0)
    return keras.Model(inputs, spikes(inputs))


def signal():
    return np.linspace(-3, 3, 2 * 5 * 3).reshape(2, 5, 3).astype("float32")


def assert_loads_with_equal_outputs(model, tmp_path, **arguments):
    expected = model.predict(signal(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", **arguments)
    np.testing.assert_array_equal(loaded.predict(signal(), verbose=0), expected)
    return loaded


def backend_functions():
    """Functions of the running backend, and what NumPy says of them."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        names = "elu gelu leaky_relu relu relu6 selu sigmoid silu softmax softplus softsign swish"
        functions = {f"tf.nn.{name}": getattr(tf.nn, name) for name in names.split()}
        return functions | {"tf.tanh": tf.tanh, "tf.math.log_sigmoid": tf.math.log_sigmoid}
    if BACKEND == "jax":
        import jax

        names = (
            "celu elu gelu hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu log_sigmoid mish "
            "relu relu6 selu sigmoid silu soft_sign softmax softplus squareplus swish tanh"
        )
        functions = {f"jax.nn.{name}": getattr(jax.nn, name) for name in names.split()}
        return functions | {"jax.numpy.tanh": jax.numpy.tanh}
    import torch

    names = (
        "celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu "
        "relu6 selu sigmoid silu softplus softshrink softsign tanh tanhshrink"
    )
    functions = {name: getattr(torch.nn.functional, name) for name in names.split()}
    functions = {f"torch.nn.functional.{name}": each for name, each in functions.items()}
    return functions | {
        f"torch.{name}": getattr(torch, name) for name in "relu sigmoid tanh".split()
    }


def keras_functions():
    names = "celu elu gelu hard_silu leaky_relu log_sigmoid relu silu softmax softsign tanh"
    functions = {f"keras.ops.{name}": getattr(ops, name) for name in names.split()}
    names += " exponential linear mish"
    return functions | {
        f"keras.activations.{name}": getattr(keras.activations, name) for name in names.split()
    }


FUNCTIONS = backend_functions() | keras_functions()

# Those that Keras has under the same name with another default, so that the name alone would
# load another function.
OTHERS = {
    "tensorflow": ["keras.ops.gelu"],
    "jax": ["keras.ops.gelu", "jax.nn.gelu", "jax.nn.leaky_relu"],
    "torch": ["keras.ops.gelu", "torch.nn.functional.leaky_relu"],
}[BACKEND]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_backend_and_of_keras_come_back_from_a_config(name):
    function = FUNCTIONS[name]
    config = serialize_activation(get_activation("Layer", function))
    assert isinstance(config, str)
    loaded = get_activation("Layer", config)
    x = ops.convert_to_tensor(signal()[0])
    # A name that every backend knows may stand for another implementation of the same function.
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(function(x)), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", OTHERS)
def test_a_name_that_keras_uses_for_another_function_is_saved_in_full(name):
    function = FUNCTIONS[name]
    x = ops.convert_to_tensor(signal()[0])
    of_keras = getattr(keras.activations, name.rpartition(".")[2])
    assert not np.allclose(ops.convert_to_numpy(of_keras(x)), ops.convert_to_numpy(function(x)))
    assert serialize_activation(function) == name
    assert get_activation("Layer", name) is function


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "softplus", "elu", "selu"])
def test_what_every_backend_has_loads_on_every_backend(name):
    module = {"tensorflow": "tf.nn", "jax": "jax.nn", "torch": "torch.nn.functional"}[BACKEND]
    function = FUNCTIONS.get(f"{module}.{name}") or FUNCTIONS["tf.tanh"]
    assert serialize_activation(function) == name
    assert get_activation("Layer", name) is getattr(keras.activations, name)


@pytest.mark.parametrize("name", ["relu", "gelu", "leaky_relu", None])
def test_takes_what_keras_takes(name):
    assert get_activation("Layer", name) is keras.activations.get(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(name for name in FUNCTIONS if name.endswith((".relu", ".gelu", ".leaky_relu"))),
        *{"tensorflow": ["tf.nn.silu"], "jax": [], "torch": ["torch.nn.functional.logsigmoid"]}[
            BACKEND
        ],
    ],
)
def test_a_model_with_a_function_saves_and_loads(name, tmp_path):
    model = model_with(FUNCTIONS[name])
    rates = ops.convert_to_numpy(FUNCTIONS[name](ops.convert_to_tensor(signal())))
    np.testing.assert_allclose(model.predict(signal(), verbose=0), rates, atol=2e-4)
    assert_loads_with_equal_outputs(model, tmp_path)


@keras.saving.register_keras_serializable("tests")
def tripled(x):
    return 3 * x


def doubled(x):
    return 2 * x


def relu(x):
    """Not what Keras calls by this name."""
    return ops.maximum(x, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "softplus", tripled])
def test_a_model_with_a_name_or_a_registered_function_saves_and_loads(activation, tmp_path):
    assert_loads_with_equal_outputs(model_with(activation), tmp_path)


def test_a_model_with_a_function_of_a_custom_object_scope_saves_and_loads(tmp_path):
    objects = {"doubled": doubled}
    assert_loads_with_equal_outputs(model_with(doubled), tmp_path, custom_objects=objects)


@pytest.mark.parametrize("function", [doubled, relu])
def test_a_function_that_is_not_registered_fails_to_load(function, tmp_path):
    # `relu` is here because by its name alone, Keras would silently load its own.
    model = model_with(function)
    model.save(tmp_path / "model.keras")
    message = "`activation` must be the name.* must be registered with keras.saving.register_keras"
    with pytest.raises((TypeError, ValueError), match=message):
        keras.saving.load_model(tmp_path / "model.keras")


def test_a_function_named_like_one_of_keras_loads_where_it_is_registered(tmp_path):
    assert_loads_with_equal_outputs(model_with(relu), tmp_path, custom_objects={"relu": relu})


def test_a_function_without_a_module_is_saved_no_differently():
    names = {}
    exec("def relu(x):\n    return x", names)  # noqa: S102
    with pytest.raises(ValueError, match="must be registered"):
        get_activation("Layer", serialize_activation(names["relu"]))


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_lambda_loads_only_where_that_is_asked_for(tmp_path):
    model = model_with(lambda x: 3 * x)
    assert_loads_with_equal_outputs(model, tmp_path, safe_mode=False)
    with pytest.raises((TypeError, ValueError), match="Requested the deserialization of a Python"):
        keras.saving.load_model(tmp_path / "model.keras")


def test_what_has_no_config_says_so_when_it_is_saved(tmp_path):
    leaky = functools.partial(keras.activations.leaky_relu, negative_slope=0.3)
    model = model_with(leaky)
    np.testing.assert_allclose(
        model.predict(signal(), verbose=0), np.maximum(signal(), 0.3 * signal()), atol=2e-4
    )
    with pytest.raises(TypeError, match=r"Cannot serialize object functools\.partial"):
        model.save(tmp_path / "model.keras")


LAYERS = {
    "ReLU": lambda: keras.layers.ReLU(max_value=2.0, negative_slope=0.1),
    "LeakyReLU": lambda: keras.layers.LeakyReLU(negative_slope=0.4),
    "Activation": lambda: keras.layers.Activation("softplus"),
    "PReLU": lambda: keras.layers.PReLU(alpha_initializer="ones"),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_model_with_a_layer_trains_saves_and_loads(make, tmp_path):
    layer = make()
    model = model_with(layer)
    before = [ops.convert_to_numpy(weight) for weight in layer.trainable_weights]
    assert len(model.trainable_weights) == len(before)
    if before:
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(signal(), 0 * signal(), batch_size=1, verbose=0)
        assert not np.allclose(ops.convert_to_numpy(layer.trainable_weights[0]), before[0])
    steps = ops.convert_to_tensor(signal().reshape(-1, 3))
    rates = ops.convert_to_numpy(layer(steps)).reshape(signal().shape)
    np.testing.assert_allclose(model.predict(signal(), verbose=0), rates, atol=2e-4)
    loaded = assert_loads_with_equal_outputs(model, tmp_path)
    assert type(loaded.layers[-1].activation) is type(layer)


def test_a_cell_takes_a_layer_too():
    cell = keras_spiking.SpikingActivationCell(3, LAYERS["PReLU"](), initial_voltage=0.0)
    cell.build((None, 3))
    assert [tuple(weight.shape) for weight in cell.trainable_weights] == [(3,)]


@pytest.mark.parametrize("activation", ["no_such", "", "Relu", 3, {"no": "config"}, ["relu"]])
@pytest.mark.parametrize(
    "make",
    [
        lambda activation: keras_spiking.SpikingActivation(activation),
        lambda activation: keras_spiking.SpikingActivationCell(3, activation),
    ],
    ids=["SpikingActivation", "SpikingActivationCell"],
)
def test_unknown_activations_are_refused_at_construction(make, activation):
    message = (
        r"SpikingActivation(Cell)?: `activation` must be the name of a Keras activation "
        r"\(such as 'relu'\), a function of one tensor, or a layer; received activation="
    )
    with pytest.raises(ValueError, match=message):
        make(activation)


def test_the_class_of_a_layer_is_refused():
    message = r"`activation` must be a layer, not its class; .*Make one: activation=ReLU\(\)"
    with pytest.raises(ValueError, match=message):
        keras_spiking.SpikingActivation(keras.layers.ReLU)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.nn.functional.__builtins__",
        "tensorflow.nn.__builtins__",
        "tensorflow.io.read_file",
        "tensorflow.nn.conv2d",
        "jax.nn.__loader__",
        "jax.nn.initializers.zeros",
        "keras.ops.__dict__",
        "keras.saving.load_model",
        "keras.src.ops.relu",
        ".relu",
        "relu.",
        "os.relu",
        "tensorflow.nn.relu.__globals__",
    ],
)
def test_only_activations_may_be_named_by_their_module(name):
    message = "`activation` must be the name of a Keras activation or of an activation of Tens"
    with pytest.raises(ValueError, match=message):
        get_activation("Layer", name)


@pytest.mark.parametrize(
    "config",
    [
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        {"module": "os", "class_name": "system", "config": {}, "registered_name": None},
        {
            "module": "keras.saving",
            "class_name": "function",
            "config": "load_model",
            "registered_name": "load_model",
        },
        {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}},
    ],
    ids=["function", "class", "keras", "lambda"],
)
def test_a_file_cannot_name_any_function(config):
    layer_config = keras_spiking.SpikingActivation("relu").get_config() | {"activation": config}
    with pytest.raises((TypeError, ValueError), match=r"`activation` must be.* The reason: "):
        keras_spiking.SpikingActivation.from_config(layer_config)


def test_nothing_was_run_to_find_that_out(monkeypatch):
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("ran os.system"))
    config = {"module": "os", "class_name": "function", "config": "system"}
    for activation in ("os.system", config):
        with pytest.raises(ValueError, match="`activation` must be"):
            get_activation("Layer", activation)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("tensorflow.nn.gelu", "tensorflow"),
        ("jax.nn.gelu", "jax"),
        ("torch.nn.functional.gelu", "torch"),
        ("torch.celu", "torch"),
    ],
)
def test_a_function_of_another_backend_says_where_it_runs(name, backend):
    if backend == BACKEND:
        assert get_activation("Layer", name) is FUNCTIONS.get(name, get_activation("Layer", name))
        return
    message = (
        rf"Layer: activation='{name}' runs on the {backend} backend only, and this is {BACKEND}\. "
        rf"Load the model there \(KERAS_BACKEND={backend}\)"
    )
    with pytest.raises(ValueError, match=message):
        get_activation("Layer", name)


def test_a_backend_may_lack_an_activation():
    name = {
        "tensorflow": "tensorflow.nn.mish",
        "jax": "jax.nn.hardtanh",
        "torch": "torch.hard_silu",
    }[BACKEND]
    module, _, function = name.rpartition(".")
    with pytest.raises(ValueError, match=f"Layer: {module} has no activation '{function}'"):
        get_activation("Layer", name)


def test_an_activation_that_changes_the_shape_is_refused():
    layer = keras_spiking.SpikingActivation(lambda x: ops.concatenate([x, -x], axis=-1))
    with pytest.raises(ValueError, match="`activation` must keep the shape of its input; it turn"):
        layer(signal())
