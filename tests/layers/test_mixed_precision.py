"""Half precision: what is kept in float32 all the same, whether a layer is in a model or alone."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.layers.cases import MAKERS, every_layer

BATCH, TIME = 2, 300

every_half = pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])


def call(layer, inputs):
    return ops.convert_to_numpy(ops.cast(layer(inputs), "float32"))


def data(rng):
    return (rng.integers(-64, 65, size=(BATCH, TIME, 3)) / 64).astype("float32")


@every_half
@every_layer
def test_a_layer_alone_computes_what_it_does_in_a_model(make, dtype, rng):
    inputs = data(rng)
    keras.config.set_dtype_policy(dtype)  # the model's too
    layer = make(dt=keras.Variable(0.0123))
    model = keras.Sequential([keras.Input((None, 3)), layer])
    np.testing.assert_array_equal(call(layer, inputs), call(model, inputs))


@every_half
@pytest.mark.parametrize("name", ["spiking", "lowpass", "alpha"])
def test_state_kept_from_call_to_call_is_in_float32(name, dtype, rng):
    inputs = data(rng)
    whole = call(MAKERS[name](dtype=dtype), inputs)
    layer = MAKERS[name](dtype=dtype, stateful=True)
    pieces = [call(layer, piece) for piece in np.split(inputs, 10, axis=1)]
    if name == "spiking":
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)
    else:
        # One unit in the last place of what is put out, and no drift of the state.
        step = {"mixed_float16": 2.0**-10, "mixed_bfloat16": 2.0**-7}[dtype]
        assert np.abs(np.concatenate(pieces, axis=1) - whole).max() <= step * np.abs(whole).max()
    assert {keras.backend.standardize_dtype(each.dtype) for each in layer.states} == {"float32"}
