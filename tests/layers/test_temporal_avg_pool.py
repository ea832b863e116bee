"""TemporalAvgPool: the mean over time, against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_spiking import TemporalAvgPool
from tests.compiled import BACKEND, MODES, gradients
from tests.compiled import run as run_compiled
from tests.layers.cases import assert_same, run

BATCH, TIME = 3, 5


def data(rng, features):
    return rng.normal(size=(BATCH, TIME, *features)).astype("float32")


@pytest.mark.parametrize("features", [(4,), (2, 3), (2, 1, 3)], ids=str)
def test_average_is_the_mean_over_time(features, rng):
    inputs = data(rng, features)
    outputs = run(TemporalAvgPool(), inputs)
    expected = inputs.astype("float64").mean(axis=1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    mask = rng.random((BATCH, TIME)) < 0.5
    mask[0], mask[1] = True, False
    inputs[~mask] = np.nan
    outputs = run(TemporalAvgPool(), inputs, mask=mask)
    for sample in (0, 2):
        expected = inputs[sample, mask[sample]].astype("float64").mean(axis=0)
        np.testing.assert_allclose(outputs[sample], expected, rtol=1e-5, atol=1e-6)
    assert not outputs[1].any(), "nothing to average gives 0"
    assert TemporalAvgPool().compute_mask(inputs, mask) is None
    assert TemporalAvgPool().compute_output_shape((None, None, *features)) == (None, *features)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_average_compiles(mode, masked, rng):
    inputs, mask = data(rng, (2, 3)), rng.random((BATCH, TIME)) < 0.7
    mask[:, 0] = True
    layer = TemporalAvgPool()
    layer.build(inputs.shape)
    if masked:
        outputs = run_compiled(lambda x, m: layer(x, mask=m), inputs, mask, mode=mode)
        expected = [each[used].mean(axis=0) for each, used in zip(inputs, mask, strict=True)]
    else:
        outputs, expected = run_compiled(layer, inputs, mode=mode), inputs.mean(axis=1)
    assert_same(outputs, np.stack(expected))


def test_gradient_of_the_average_goes_to_the_steps_used(rng):
    inputs = data(rng, (2,))
    mask = np.array([[1] * 5, [1, 0, 0, 0, 1], [0] * 5], bool)
    inputs[~mask] = np.inf
    (gradient,) = gradients(lambda x: ops.sum(TemporalAvgPool()(x, mask=mask)), inputs)
    expected = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(gradient, np.repeat(expected[..., None], 2, axis=2), rtol=1e-6)


def test_average_of_no_steps_is_zero():
    outputs = run(TemporalAvgPool(), np.zeros((2, 0, 3), "float32"))
    np.testing.assert_array_equal(outputs, np.zeros((2, 3)))
    assert run(TemporalAvgPool(), np.zeros((0, 4, 3), "float32")).shape == (0, 3)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "mixed_bfloat16"])
def test_average_sums_in_single_precision(policy):
    # In float16 the sum would overflow; in bfloat16 it would stop growing at 256.
    inputs = np.full((1, 1000, 1), 100.0 if "float16" in policy else 1.0, "float32")
    layer = TemporalAvgPool(dtype=policy)
    for mask in (None, np.ones((1, 1000), bool)):
        outputs = layer(inputs, mask=mask)
        assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
        assert float(outputs[0, 0]) == inputs[0, 0, 0]
    assert layer(keras.KerasTensor(inputs.shape)).dtype == layer.compute_dtype


def test_average_of_integers_and_of_double_precision(rng):
    counts = rng.integers(0, 9, size=(BATCH, TIME, 2))
    assert_same(run(TemporalAvgPool(), counts), counts.mean(axis=1).astype("float32"))
    assert_same(run(TemporalAvgPool(), counts > 4), (counts > 4).mean(axis=1).astype("float32"))
    with pytest.raises(TypeError, match="inputs must be real numbers; received dtype complex64"):
        TemporalAvgPool()(np.zeros((1, 2, 3), "complex64"))
    if BACKEND != "jax":
        inputs = 1.0 + 1e-12 * rng.normal(size=(BATCH, TIME, 2))
        # A tensor, because Keras makes NumPy's float64 float32 on torch.
        tensor = ops.convert_to_tensor(inputs, dtype="float64")
        outputs = run(TemporalAvgPool(dtype="float64"), tensor)
        np.testing.assert_allclose(outputs - 1.0, inputs.mean(axis=1) - 1.0, atol=1e-15)


def test_average_survives_saving(rng, tmp_path):
    inputs = data(rng, (4,))
    inputs[1, 2:] = 0.0
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.Masking(), TemporalAvgPool()])
    expected = model.predict(inputs, verbose=0)
    assert_same(expected[1], inputs[1, :2].mean(axis=0))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[-1]) is TemporalAvgPool
    assert_same(loaded.predict(inputs, verbose=0), expected)
