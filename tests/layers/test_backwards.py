"""Layers that go back in time, alone and within `keras.layers.Bidirectional`."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests.layers.cases import SPIKING, assert_same, every_layer, run

BATCH, TIME, UNITS = 3, 7, 4
MASK = np.array([[1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1]], bool)

MERGED = {
    "concat": lambda one, other: np.concatenate([one, other], axis=-1),
    "sum": lambda one, other: one + other,
    "mul": lambda one, other: one * other,
    "ave": lambda one, other: (one + other) / 2,
    None: lambda one, other: (one, other),
}

with_and_without_mask = pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])


def data(rng):
    return rng.normal(size=(BATCH, TIME, UNITS)).astype("float32")


def flipped(array, axis=1):
    return None if array is None else np.flip(array, axis)


def both_ways(make, inputs, mask=None):
    """What a layer returns forwards, and backwards in the order of time."""
    forwards = run(make(), inputs, mask=mask)
    backwards = flipped(run(make(), flipped(inputs), mask=flipped(mask)))
    if mask is not None:  # `Bidirectional` zeroes what is masked
        forwards, backwards = (each * mask[..., None] for each in (forwards, backwards))
    return forwards, backwards


@pytest.mark.slow
@with_and_without_mask
@pytest.mark.parametrize("return_sequences", [True, False])
@every_layer
def test_going_backwards_is_running_over_what_is_turned_around(make, return_sequences, mask, rng):
    inputs = data(rng)
    options = {"return_sequences": return_sequences, "return_state": True}
    expected = run(make(**options), flipped(inputs), mask=flipped(mask))
    layer = make(go_backwards=True, **options)
    assert_same(run(layer, inputs, mask=mask), expected, exact=True)
    assert layer.get_config()["go_backwards"] is True
    assert type(layer).from_config(layer.get_config()).go_backwards is True
    if not return_sequences:
        layer = make(go_backwards=True, time_major=True, **options)
        outputs = run(layer, np.swapaxes(inputs, 0, 1), mask=mask)
        assert_same(outputs, expected, exact=make in SPIKING)


@every_layer
def test_the_mask_that_is_passed_on_is_turned_around_too(make):
    layer = make(go_backwards=True, return_state=True)
    layer.build((BATCH, TIME, UNITS))
    mask, *others = layer.compute_mask(None, ops.convert_to_tensor(MASK))
    np.testing.assert_array_equal(ops.convert_to_numpy(mask), flipped(MASK))
    assert set(others) == {None}
    assert make(go_backwards=True, return_sequences=False).compute_mask(None, MASK) is None


@pytest.mark.slow
@with_and_without_mask
@pytest.mark.parametrize("merge_mode", MERGED)
@every_layer
def test_bidirectional_merges_both_ways(make, merge_mode, mask, rng):
    inputs = data(rng)
    layer = keras.layers.Bidirectional(make(), merge_mode=merge_mode)
    expected = MERGED[merge_mode](*both_ways(make, inputs, mask))
    assert_same(run(layer, inputs, mask=mask), expected)


@with_and_without_mask
@every_layer
def test_bidirectional_gives_the_last_step_of_each_way_and_the_states(make, mask, rng):
    inputs = data(rng)
    options = {"return_sequences": False, "return_state": True}
    one, *states = run(make(**options), inputs, mask=mask)
    other, *others = run(make(**options), flipped(inputs), mask=flipped(mask))
    layer = keras.layers.Bidirectional(make(**options))
    expected = (np.concatenate([one, other], axis=-1), *states, *others)
    assert_same(run(layer, inputs, mask=mask), expected)

    given = [state + 0.25 for state in (*states, *others)]
    half = len(states)
    one = run(make(**options), inputs, mask=mask, initial_state=given[:half])[0]
    backwards = {"mask": flipped(mask), "initial_state": given[half:]}
    other = run(make(**options), flipped(inputs), **backwards)[0]
    outputs = run(layer, inputs, mask=mask, initial_state=[ops.array(each) for each in given])
    assert_same(outputs[0], np.concatenate([one, other], axis=-1))


@pytest.mark.slow
@every_layer
def test_a_stateful_bidirectional_resumes_both_ways(make, rng):
    pieces = [data(rng) for _ in range(2)]
    layer = keras.layers.Bidirectional(make(stateful=True), merge_mode=None)
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, TIME, UNITS)), layer])
    one, other = make(stateful=True), make(stateful=True)
    for _ in range(2):
        for piece in pieces:
            expected = run(one, piece), flipped(run(other, flipped(piece)))
            assert_same(tuple(model.predict(piece, batch_size=BATCH, verbose=0)), expected)
        for each in (model, one, other):
            keras_spiking.reset_states(each)


@pytest.mark.slow
@every_layer
def test_a_bidirectional_model_trains_saves_and_loads(make, rng, tmp_path):
    inputs = data(rng)
    model = keras.Sequential(
        [
            keras.Input((None, UNITS)),
            keras.layers.Masking(),
            keras.layers.Bidirectional(make()),
            keras.layers.Bidirectional(make(return_sequences=False), merge_mode="sum"),
            keras.layers.Dense(2),
        ]
    )
    inputs[:, -2:] = 0
    model.compile("sgd", "mse")
    model.fit(inputs, np.ones((BATCH, 2)), verbose=0)
    expected = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(loaded.predict(inputs, verbose=0), expected)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_same(clone.predict(inputs, verbose=0), expected)


@pytest.mark.slow
@every_layer
def test_time_major_goes_backwards_only_where_no_sequence_is_returned(make, rng):
    words = "`go_backwards` goes with `time_major` only if not `return_sequences`.*time_major=False"
    with pytest.raises(ValueError, match=words):
        make(go_backwards=True, time_major=True)
    with pytest.raises((TypeError, ValueError), match=words):
        keras.layers.Bidirectional(make(time_major=True))
    inputs = data(rng)
    options = {"return_sequences": False}
    expected = run(keras.layers.Bidirectional(make(**options)), inputs)
    layer = keras.layers.Bidirectional(make(time_major=True, **options))
    assert_same(run(layer, np.swapaxes(inputs, 0, 1)), expected)


def test_go_backwards_is_true_or_false():
    with pytest.raises(TypeError, match="SpikingActivation: `go_backwards` must be True or False"):
        keras_spiking.SpikingActivation("relu", go_backwards=1)
