"""RepeatOverTime and LastStep: into time and out of it."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_spiking import LastStep, RepeatOverTime
from tests.layers.cases import run


@pytest.mark.parametrize("features", [(), (3,), (4, 3, 2)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_the_same_inputs_at_every_step(features, dtype, rng):
    inputs = (9 * rng.normal(size=(2, *features))).astype(dtype)
    layer = RepeatOverTime(3)
    outputs = run(layer, inputs)
    assert outputs.dtype == dtype
    np.testing.assert_array_equal(outputs, np.stack([inputs] * 3, axis=1))
    symbolic = layer(keras.KerasTensor((None, *features), dtype))
    assert (symbolic.shape, symbolic.dtype) == ((None, 3, *features), dtype)


def test_half_precision_does_not_round_indices():
    inputs = ops.array([[2049]], "int32")  # float16 has no 2049
    assert run(RepeatOverTime(2, dtype="mixed_float16"), inputs).ravel().tolist() == [2049, 2049]


@pytest.mark.parametrize("features", [(3,), (4, 3, 2)], ids=str)
def test_the_last_step_alone(features, rng):
    inputs = rng.normal(size=(2, 5, *features)).astype("float32")
    layer = LastStep()
    np.testing.assert_array_equal(run(layer, inputs), inputs[:, -1])
    assert layer(keras.KerasTensor((None, None, *features))).shape == (None, *features)


def test_models_with_both_save_and_load(tmp_path, rng):
    inputs = rng.normal(size=(2, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), RepeatOverTime(4), LastStep()])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].num_steps == 4
    np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), inputs)


def test_wrong_arguments_and_inputs_raise():
    for value, error in ((0, ValueError), (2.5, TypeError), (True, TypeError), (None, TypeError)):
        words = (
            f"RepeatOverTime: `num_steps` must be a positive integer; received num_steps={value}"
        )
        with pytest.raises(error, match=words):
            RepeatOverTime(value)
    with pytest.raises(ValueError, match="LastStep: inputs must have shape"):
        LastStep()(np.zeros((2, 3)))
