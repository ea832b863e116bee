"""Regularizers against NumPy, finite differences, and reference outputs of the old library."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking.regularizers import L1, L1L2, L2, Percentile, RangedRegularizer
from tests.compiled import BACKEND, MODES, finite_differences, gradients, run

REFERENCE = dict(np.load(Path(__file__).parent / "data" / "regularizers.npz"))
CASES = json.loads(str(REFERENCE["cases"]))

every_mode = pytest.mark.parametrize("mode", MODES)


def distance(x, target):
    """Distance from a target or range, as NumPy has it."""
    low, high = target if isinstance(target, tuple) else (target, target)
    return x - np.clip(x, low, high)


def penalty(x, l1=0.0, l2=0.0, target=0, percentile=None, axis=0):
    """The whole contract of the module in float64 NumPy."""
    x = np.asarray(x, "float64")
    if percentile is not None:
        x = np.percentile(x, percentile, axis=axis)
    d = distance(x, target)
    return l1 * np.abs(d).sum() + l2 * np.square(d).sum()


@every_mode
@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: CASES[i]["kind"] + str(i))
def test_equals_the_old_library(index, mode):
    arguments = dict(CASES[index])
    kind = getattr(keras_spiking.regularizers, arguments.pop("kind"))
    regularizer = kind(**arguments)
    x = REFERENCE["x"]
    np.testing.assert_allclose(
        run(regularizer, x, mode=mode), REFERENCE[f"{index}.penalty"], rtol=1e-5
    )
    np.testing.assert_allclose(
        gradients(regularizer, x, mode=mode)[0], REFERENCE[f"{index}.grad"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
@every_mode
@pytest.mark.parametrize("target", [0, 2.5, (1, 3), [1, 3], (2, 2), (-1, 0.5)])
def test_distances_are_from_the_target_or_the_nearest_end_of_the_range(target, mode, rng):
    x = rng.normal(2.0, 3.0, size=(4, 5, 3)).astype("float32")
    as_pair = tuple(target) if isinstance(target, list) else target
    for made, weights in (
        (L1(0.3, target=target), {"l1": 0.3}),
        (L2(0.2, target=target), {"l2": 0.2}),
        (L1L2(0.3, 0.2, target=target), {"l1": 0.3, "l2": 0.2}),
        (RangedRegularizer(target, keras.regularizers.L1(0.3)), {"l1": 0.3}),
    ):
        expected = penalty(x, **weights, target=as_pair)
        np.testing.assert_allclose(run(made, x, mode=mode), expected, rtol=1e-5)


@every_mode
@pytest.mark.parametrize("target", [(10, np.inf), (-np.inf, 10), (10, float("inf"))])
def test_a_range_may_be_open_on_one_side(target, mode):
    x = np.array([[2.0, 10.0, 17.0]], "float32")
    (gradient,) = gradients(L2(1.0, target=target), x, mode=mode)
    np.testing.assert_allclose(run(L2(1.0, target=target), x, mode=mode), penalty(x, 0, 1, target))
    np.testing.assert_allclose(gradient, 2 * distance(x, target))


def test_no_penalty_and_no_gradient_within_the_range():
    x = np.linspace(10, 20, 7).astype("float32")
    regularizer = L1L2(1.0, 1.0, target=(10, 20))
    assert run(regularizer, x) == 0
    np.testing.assert_array_equal(gradients(regularizer, x)[0][1:-1], 0)


def test_weights_default_to_those_of_keras():
    x = np.array([[3.0, -4.0]], "float32")
    np.testing.assert_allclose(run(RangedRegularizer(), x), 0.25, rtol=1e-6)
    np.testing.assert_allclose(run(L1(), x), 0.07, rtol=1e-6)
    np.testing.assert_allclose(run(L2(), x), 0.25, rtol=1e-6)


AXES = [0, -2, (1, 0), [0, -1], (-3,), (0, 1, 2)]


@pytest.mark.parametrize("percentile", [0, 33.3, 50, 100])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_percentile_equals_numpys(axis, percentile, rng):
    x = rng.normal(size=(7, 5, 3)).astype("float32")
    regularizer = Percentile(percentile, axis=axis, target=(0.5, 0.7), l1=0.3, l2=0.2)
    along = tuple(axis) if isinstance(axis, list) else axis
    expected = penalty(x, 0.3, 0.2, (0.5, 0.7), percentile, along)
    np.testing.assert_allclose(run(regularizer, x), expected, rtol=2e-5)


@every_mode
@pytest.mark.parametrize("percentile", [33.3, 100])
@pytest.mark.parametrize("axis", [0, (0, -1)])
def test_percentile_is_the_same_compiled_and_differentiable(axis, percentile, mode, rng):
    # Far enough apart that a finite difference does not change their order.
    x = rng.permutation(np.linspace(-3, 3, 4 * 5 * 3)).reshape(4, 5, 3).astype("float32")
    regularizer = Percentile(percentile, axis=axis, target=0.51, l1=0.3, l2=0.2)

    def expected(values):
        return penalty(values, 0.3, 0.2, 0.51, percentile, axis)

    np.testing.assert_allclose(run(regularizer, x, mode=mode), expected(x), rtol=2e-5)
    np.testing.assert_allclose(
        gradients(regularizer, x, mode=mode)[0],
        finite_differences(expected, [x], 0, 1e-4),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("percentile", [50, 100])
def test_equal_values_share_no_more_than_one_gradient(percentile):
    x = np.full((4, 3), 5.0, "float32")
    (gradient,) = gradients(Percentile(percentile, target=1, l1=1.0), x)
    np.testing.assert_allclose(gradient.sum(axis=0), np.ones(3), rtol=1e-6)


def test_percentile_indexes_large_tensors_exactly():
    # More than 2^24 values: float32 does not hold every index, and torch has no quantile.
    length = 2**24 + 3
    step = 2**24 - 101
    x = np.zeros((length, 1), "float32")
    x[step:] = 1.0
    percentile = 100 * (step - 0.25) / (length - 1)
    np.testing.assert_allclose(run(Percentile(percentile, l1=1.0), x), 0.75, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: L2(1.0),
        lambda: L2(1.0, target=(1, 10)),
        lambda: L1L2(1.0, 1.0),
        lambda: RangedRegularizer(0, keras.regularizers.L2(1.0)),
        lambda: Percentile(l2=1.0),
        lambda: Percentile(50, l2=1.0),
    ],
)
def test_half_precision_activity_does_not_overflow(make, dtype):
    # Rates in hertz: their squares, and the sums of those, exceed what float16 holds.
    x = np.tile(np.array([[1000.0], [2000.0]], "float32"), (2, 100))
    half = run(make(), ops.cast(ops.convert_to_tensor(x), dtype))
    assert np.isfinite(half)
    np.testing.assert_allclose(half, run(make(), x), rtol=0.01)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integers_are_interpolated_too(dtype):
    x = ops.convert_to_tensor(np.array([0, 1], dtype))
    assert float(Percentile(50, l1=1.0)(x)) == 0.5
    assert float(L1(1.0, target=0.25)(x)) == 1.0


def test_float64_is_kept():
    if BACKEND == "jax":
        pytest.skip("JAX computes in float32 unless its x64 mode is on")
    x = ops.convert_to_tensor(np.array([1.0, 1.0 + 1e-12]), dtype="float64")
    np.testing.assert_allclose(float(L1(1.0, target=1)(x)), 1e-12, rtol=1e-3)
    np.testing.assert_allclose(float(Percentile(75, target=1, l1=1.0)(x)), 7.5e-13, rtol=1e-3)


EVERY = {
    "RangedRegularizer": lambda: RangedRegularizer((10, 20), keras.regularizers.L1(0.5)),
    "L1": lambda: L1(0.001, target=10),
    "L2": lambda: L2(0.001, target=(10, 20)),
    "L1L2": lambda: L1L2(0.001, 0.002, target=(10, 20)),
    "Percentile": lambda: Percentile(90, axis=(0, 1), target=(10, 20), l1=0.1, l2=0.01),
    "open range": lambda: L2(0.001, target=(10, np.inf)),
}

every_regularizer = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


@every_regularizer
def test_config_round_trip_through_json(make, rng):
    regularizer = make()
    config = keras.regularizers.serialize(regularizer)
    assert config["registered_name"] == f"keras_spiking>{type(regularizer).__name__}"
    copy = keras.regularizers.deserialize(json.loads(json.dumps(config)))
    assert type(copy) is type(regularizer)
    assert copy.get_config() == regularizer.get_config()
    x = rng.normal(10, 10, size=(4, 5, 3)).astype("float32")
    assert run(copy, x) == run(regularizer, x)


@pytest.mark.parametrize(
    ("regularizer", "expected"),
    [
        (L1(0.5, target=3), {"l1": 0.5, "target": 3.0}),
        (L2(0.5, target=[3, 4]), {"l2": 0.5, "target": (3.0, 4.0)}),
        (L1L2(0.5, 0.25, 3), {"l1": 0.5, "l2": 0.25, "target": 3.0}),
        (
            Percentile(50, [0, 1], 3, 0.5),
            {"percentile": 50.0, "axis": (0, 1), "target": 3.0, "l1": 0.5, "l2": 0.0},
        ),
    ],
)
def test_config_has_every_argument(regularizer, expected):
    assert regularizer.get_config() == expected
    for name, value in expected.items():
        assert getattr(regularizer, name) == value


@pytest.mark.parametrize("given", ["l2", {"class_name": "L2", "config": {"l2": 0.01}}])
def test_ranges_take_any_regularizer_that_keras_knows(given):
    assert type(RangedRegularizer(1, given).regularizer) is keras.regularizers.L2


@keras.saving.register_keras_serializable("tests")
def sum_of_cubes(x):
    return ops.sum(ops.abs(x) ** 3)


def test_ranges_take_functions():
    regularizer = RangedRegularizer(1, sum_of_cubes)
    copy = RangedRegularizer.from_config(regularizer.get_config())
    assert copy.regularizer is sum_of_cubes
    assert run(copy, np.array([0.0, 3.0], "float32")) == 9


def spiking_model(regularizer):
    inputs = keras.Input((5, 3))
    hidden = keras.layers.Dense(4, kernel_initializer=keras.initializers.Constant(1.0))(inputs)
    outputs = keras_spiking.SpikingActivation(
        "relu", dt=0.5, seed=0, activity_regularizer=regularizer
    )(hidden)
    return keras.Model(inputs, outputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "run_eagerly"),
    [
        (EVERY["RangedRegularizer"], False),
        (EVERY["L1L2"], False),
        (EVERY["Percentile"], False),
        (EVERY["Percentile"], True),
    ],
    ids=["RangedRegularizer, jit", "L1L2, jit", "Percentile, jit", "Percentile, eager"],
)
def test_trains_saves_and_loads_as_activity_regularizer(make, run_eagerly, tmp_path):
    x = np.ones((7, 5, 3), "float32")
    model = spiking_model(make())

    def rate():
        return float(model.predict(x, verbose=0).mean())

    before = rate()  # 3 Hz, below the range
    # The regularizer alone drives training: the loss of the outputs is zero.
    model.compile(keras.optimizers.Adam(0.3), zero_loss, run_eagerly=run_eagerly)
    # Compiled, the last batch is smaller, so that TensorFlow does not know its size.
    batch_size = len(x) if run_eagerly else 4
    fitted = model.fit(x, x[..., :1], batch_size=batch_size, epochs=3, verbose=0)
    losses = fitted.history["loss"]
    assert losses[-1] < losses[0]
    assert rate() > before + 1

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    regularizer = loaded.layers[-1].activity_regularizer
    assert type(regularizer) is type(make())
    assert regularizer.get_config() == make().get_config()


def zero_loss(true, predicted):
    return 0.0 * ops.sum(predicted)


def test_loss_in_a_model_is_the_penalty_over_the_batch_size():
    x = np.full((4, 5, 3), 2.0, "float32")
    model = spiking_model(L2(0.1, target=10))
    outputs = run(model, x)
    (loss,) = model.losses
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss), penalty(outputs, 0, 0.1, 10) / 4, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: L1L2(), "L1L2"),
        (lambda: L1(0), "L1"),
        (lambda: L2(0.0), "L2"),
        (lambda: Percentile(50, target=3), "Percentile"),
    ],
)
def test_warns_where_every_weight_is_zero(make, name):
    with pytest.warns(UserWarning, match=rf"{name}: every weight \(l1, l2\) is zero") as record:
        regularizer = make()
    assert [warning.filename for warning in record] == [__file__]
    assert run(regularizer, np.ones((2, 3), "float32")) == 0


@pytest.mark.parametrize("percentile", [-0.1, 100.1, 1000])
def test_refuses_percentiles_that_are_none(percentile):
    message = rf"Percentile: `percentile` must be from 0 to 100; received percentile={percentile}"
    with pytest.raises(ValueError, match=message):
        Percentile(percentile, l1=1)


@pytest.mark.parametrize("make", [L1, L2, L1L2, lambda **kwargs: Percentile(l1=1, **kwargs)])
class TestTargetErrors:
    @pytest.mark.filterwarnings("ignore:.*every weight")
    @pytest.mark.parametrize("target", [(1,), (1, 2, 3), []])
    def test_pairs_have_two_elements(self, make, target):
        message = rf"`target` must be a number or a pair \(low, high\); received {len(target)} ele"
        with pytest.raises(ValueError, match=message):
            make(target=target)

    @pytest.mark.filterwarnings("ignore:.*every weight")
    def test_low_end_comes_first(self, make):
        with pytest.raises(ValueError, match=r"with low <= high; received target=\(2, 1\)"):
            make(target=(2, 1))

    @pytest.mark.filterwarnings("ignore:.*every weight")
    @pytest.mark.parametrize(
        "target", [np.nan, np.inf, (np.nan, 1), (0, np.nan)], ids=["nan", "inf", "low", "high"]
    )
    def test_numbers_are_finite(self, make, target):
        with pytest.raises(ValueError, match="`target` must be finite; received target="):
            make(target=target)

    @pytest.mark.filterwarnings("ignore:.*every weight")
    @pytest.mark.parametrize("target", [(np.inf, np.inf), (-np.inf, -np.inf)])
    def test_a_range_holds_a_number(self, make, target):
        with pytest.raises(ValueError, match=r"`target` must be .* with a finite number between"):
            make(target=target)

    @pytest.mark.filterwarnings("ignore:.*every weight")
    @pytest.mark.parametrize("target", ["3", None, True, (1, "2"), {1, 2}, 1j])
    def test_numbers_are_numbers(self, make, target):
        message = r"`target` must be a number or a pair \(low, high\); received target="
        with pytest.raises(TypeError, match=message):
            make(target=target)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda value: L1(value), "l1"),
        (lambda value: L2(value), "l2"),
        (lambda value: L1L2(l1=1, l2=value), "l2"),
        (lambda value: Percentile(l1=value, l2=1), "l1"),
    ],
)
class TestWeightErrors:
    def test_weights_are_not_negative(self, make, name):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 0; received {name}=-1"):
            make(-1)

    def test_weights_are_finite(self, make, name):
        with pytest.raises(ValueError, match=f"`{name}` must be finite; received {name}=inf"):
            make(float("inf"))

    def test_weights_are_numbers(self, make, name):
        with pytest.raises(TypeError, match=f"`{name}` must be a number; received {name}='1'"):
            make("1")


@pytest.mark.parametrize("percentile", ["50", None, True, (50,)])
def test_percentile_is_a_number(percentile):
    with pytest.raises(TypeError, match="`percentile` must be a number; received percentile="):
        Percentile(percentile, l1=1)


@pytest.mark.parametrize("axis", ["0", 1.0, None, True, (0, None), ()])
def test_refuses_an_axis_that_is_none(axis):
    message = "Percentile: `axis` must be an integer or a tuple of integers; received axis="
    with pytest.raises(TypeError, match=message):
        Percentile(axis=axis, l1=1)


def test_refuses_an_axis_given_twice():
    with pytest.raises(ValueError, match=r"`axis` must not name an axis twice; .* axis=\(0, 0\)"):
        Percentile(axis=(0, 0), l1=1)


@pytest.mark.parametrize("percentile", [50, 100])
@pytest.mark.parametrize("axis", [2, -3, (0, 2), (0, -2)])
def test_refuses_axes_that_the_values_have_not(axis, percentile):
    regularizer = Percentile(percentile, axis=axis, l1=1)
    message = r"`axis` must name axes of the values, which have 2, each once; received axis="
    with pytest.raises(ValueError, match=message):
        regularizer(ops.ones((2, 3)))


@pytest.mark.parametrize("regularizer", [5, "no such regularizer"])
def test_refuses_regularizers_that_keras_does_not_know(regularizer):
    message = "RangedRegularizer: `regularizer` must be a Keras regularizer.* received regularizer="
    with pytest.raises(ValueError, match=message):
        RangedRegularizer(1, regularizer)
