"""`Mean` against `numpy.mean`, and in training."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking.constraints import Mean


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((5,), -1),
        ((1, 6), -1),
        ((4, 3), 0),
        ((2, 3, 4), (0, 2)),
        ((2, 3, 4), [1, -1]),
        ((2, 3, 4), (0, 1, 2)),
        ((2, 3, 4), np.int64(1)),
    ],
)
def test_every_value_becomes_the_mean_along_the_axis(shape, axis, rng):
    weight = rng.normal(size=shape).astype("float32")
    shared = ops.convert_to_numpy(Mean(axis)(ops.convert_to_tensor(weight)))
    along = tuple(axis) if isinstance(axis, (list, tuple)) else axis
    mean = np.mean(weight.astype("float64"), axis=along, keepdims=True)
    assert shared.dtype == weight.dtype
    np.testing.assert_allclose(shared, np.broadcast_to(mean, shape), rtol=1e-6, atol=1e-7)
    assert np.ptp(shared, axis=along).max() == 0


def test_last_axis_by_default():
    assert Mean().axis == -1


def test_a_mean_stays_as_it_is(rng):
    weight = ops.convert_to_tensor(np.full((1, 64), 0.125, "float32"))
    np.testing.assert_array_equal(ops.convert_to_numpy(Mean()(weight)), np.full((1, 64), 0.125))


@pytest.mark.parametrize("axis", [-1, 0, (0, 1), [0, -1]])
def test_config_round_trip(axis):
    config = keras.constraints.serialize(Mean(axis))
    assert config["registered_name"] == "keras_spiking>Mean"
    copy = keras.constraints.deserialize(config)
    assert type(copy) is Mean
    assert copy.axis == (tuple(axis) if isinstance(axis, list) else axis)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer_class", "run_eagerly"),
    [(keras_spiking.Lowpass, False), (keras_spiking.Lowpass, True), (keras_spiking.Alpha, False)],
    ids=["Lowpass, jit", "Lowpass, eager", "Alpha, jit"],
)
def test_a_filters_units_share_tau_through_training(layer_class, run_eagerly, rng, tmp_path):
    layer = layer_class(0.05, dt=0.01, tau_constraint=Mean(), initial_level_constraint=Mean())
    free = layer_class(0.05, dt=0.01)
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, [layer(inputs), free(inputs)])
    model.compile(keras.optimizers.SGD(0.01), ["mse", "mse"], run_eagerly=run_eagerly)
    x = rng.normal(size=(6, 6, 4)).astype("float32")
    y = rng.normal(size=(6, 6, 4)).astype("float32")
    model.fit(x, [y, y], batch_size=2, verbose=0)

    level, tau = (ops.convert_to_numpy(weight) for weight in layer.get_weights())
    assert np.ptp(tau) == 0
    assert np.ptp(level) == 0
    assert tau.flat[0] != np.float32(0.05)
    assert level.flat[0] != 0
    free_level, free_tau = (ops.convert_to_numpy(weight) for weight in free.get_weights())
    assert np.ptp(free_tau) > 0
    assert np.ptp(free_level) > 0

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer(layer.name).tau_constraint) is Mean
    for one, other in zip(loaded.predict(x, verbose=0), model.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("axis", ["0", 1.0, None, True, (0, "1"), ()])
def test_refuses_an_axis_that_is_none(axis):
    message = "Mean: `axis` must be an integer or a tuple of integers; received axis="
    with pytest.raises(TypeError, match=message):
        Mean(axis)


def test_refuses_an_axis_given_twice():
    with pytest.raises(ValueError, match=r"`axis` must not name an axis twice; .* axis=\(1, 1\)"):
        Mean((1, 1))


@pytest.mark.parametrize("axis", [2, -3, (0, 2), (1, -1)])
def test_refuses_axes_that_the_weight_has_not(axis):
    message = r"Mean: `axis` must name axes of the weight, which has 2, each once; received axis="
    with pytest.raises(ValueError, match=message):
        Mean(axis)(np.ones((2, 3), "float32"))
