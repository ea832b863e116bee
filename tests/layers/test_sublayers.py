"""What is said of a layer holds for the layers within it, made when it is built or before."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests.layers.cases import MAKERS, SPIKING, every_layer

# Everything that holds layers with weights.
HOLDERS = {
    **{name: make for name, make in MAKERS.items() if make not in SPIKING},
    "activation": lambda **kwargs: keras_spiking.SpikingActivation(
        keras.layers.PReLU(keras.initializers.Constant(0.25)), **{"dt": 0.1, "seed": 1, **kwargs}
    ),
    "time batched": lambda **kwargs: keras_spiking.TimeBatched(keras.layers.Dense(4), **kwargs),
}


def model_of(layer):
    dense = keras.layers.Dense(4, kernel_initializer="identity", use_bias=False)
    return keras.Sequential([keras.Input((6, 4)), dense, layer])


def trained(model):
    """The weights of a model's last layer before and after some training."""
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(size=(2, 3, 6, 4)).astype("float32")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = model.layers[-1].get_weights()
    model.fit(inputs, targets, epochs=2, shuffle=False, verbose=0)
    return before, model.layers[-1].get_weights()


def assert_frozen(model):
    assert len(model.trainable_weights) == 1
    assert not model.layers[-1].trainable_weights
    before, after = trained(model)
    assert len(before) > 0
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def frozen_at_first(make):
    return make(trainable=False)


def frozen_later(make):
    layer = make()
    layer.trainable = False
    return layer


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [frozen_at_first, frozen_later])
@pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)
def test_a_frozen_layer_stays_as_it_is_also_copied_and_loaded(make, freeze, tmp_path):
    model = model_of(freeze(make))
    assert_frozen(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    layer = model.layers[-1]
    copy = model_of(type(layer).from_config(layer.get_config()))
    for each in (loaded, clone, copy):
        assert_frozen(each)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [frozen_at_first, frozen_later])
@pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)
def test_a_layer_that_is_freed_again_trains_as_if_never_frozen(make, freeze):
    model = model_of(freeze(make))
    model.layers[-1].trainable = True
    free = model_of(make())
    free.set_weights(model.get_weights())
    assert len(model.trainable_weights) == len(free.trainable_weights) > 1
    before, after = trained(model)
    _, expected = trained(free)
    for old, new, other in zip(before, after, expected, strict=True):
        assert not np.array_equal(old, new)
        np.testing.assert_allclose(new, other, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [frozen_at_first, frozen_later])
@pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)
def test_a_frozen_layer_that_fit_builds_stays_as_it_is(make, freeze):
    model = keras.Sequential([keras.layers.Dense(4), freeze(make)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    inputs = np.random.default_rng(1).normal(size=(3, 6, 4)).astype("float32")
    model.fit(inputs, inputs, verbose=0)
    assert len(model.trainable_weights) == 2


@pytest.mark.parametrize("name", ["lowpass", "alpha"])
def test_freeing_a_filter_does_not_train_what_apply_during_training_excludes(name):
    model = model_of(MAKERS[name](apply_during_training=False, trainable=False))
    model.layers[-1].trainable = True
    assert len(model.trainable_weights) == 1


def test_a_frozen_activation_stays_frozen_in_a_layer_that_is_not():
    model = model_of(keras_spiking.SpikingActivation(keras.layers.PReLU(trainable=False)))
    assert model.layers[-1].trainable
    assert len(model.trainable_weights) == 1


def test_a_frozen_cell_freezes_its_activation():
    for cell in (
        keras_spiking.SpikingActivationCell(4, keras.layers.PReLU(), trainable=False),
        keras_spiking.LowpassCell(4, 0.1, trainable=False),
    ):
        model = model_of(keras.layers.RNN(cell, return_sequences=True))
        assert len(model.trainable_weights) == 1


@pytest.mark.slow
@every_layer
def test_a_cell_has_the_dtype_that_a_map_of_policies_gives_its_layer(make):
    policy = keras.dtype_policies.DTypePolicyMap(
        policy_map={"named": keras.dtype_policies.DTypePolicy("bfloat16")}
    )
    layer = make(dtype=policy, name="named")
    outputs = layer(np.ones((2, 6, 4), "float32"))
    assert layer.compute_dtype == layer.cell.compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    for weight in layer.weights:
        assert weight.dtype == "bfloat16"
    assert np.isfinite(ops.convert_to_numpy(ops.cast(outputs, "float32"))).all()
