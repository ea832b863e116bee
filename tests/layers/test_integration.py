"""Neurons that integrate their input, and neurons that take no spike back."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_spiking import SpikingActivation, SpikingActivationCell, TemporalAvgPool, TimeBatched
from tests import reference
from tests.compiled import MODES, finite_differences, gradients
from tests.compiled import run as run_function
from tests.layers.cases import run

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "tanh": np.tanh,
}
EXACT = ("relu", "linear")


def on_grid(rng, shape, scale=1.0):
    """Values that every sum of products with a power of two represents exactly."""
    return (np.rint(rng.normal(size=shape) * scale * 2**12) / 2**12).astype("float32")


def neuron(activation="relu", **kwargs):
    return SpikingActivation(
        activation, **{"dt": 0.25, "integrate": "input", "initial_voltage": 0.5, **kwargs}
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("negative_spikes", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equals_a_float64_loop(activation, negative_spikes, mode, rng):
    inputs = on_grid(rng, (2, 60, 5), scale=3) + np.float32(0.5)
    layer = neuron(activation, negative_spikes=negative_spikes)
    layer.build(inputs.shape)
    spikes = run_function(lambda x: layer(x, training=False), inputs, mode=mode)
    expected = reference.accumulate_and_fire(
        inputs, 0.25, 0.5, ACTIVATIONS[activation], negative_spikes=negative_spikes
    )
    if activation in EXACT:
        np.testing.assert_array_equal(spikes, expected)
    else:  # Rounding may move a spike by one step where the mean comes near enough.
        assert np.mean(spikes != expected) < 0.01
    assert (spikes.min() >= 0) != negative_spikes


@pytest.mark.slow
@pytest.mark.parametrize("negative_spikes", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_masked_steps_count_for_nothing(activation, negative_spikes, rng):
    inputs = on_grid(rng, (3, 20, 4), scale=4)
    # As many steps in each sample: JAX compiles every operation for every length.
    mask = rng.permuted(np.tile(np.arange(20) < 12, (3, 1)), axis=1)
    mask[0] = np.arange(20) >= 8
    layer = neuron(activation, negative_spikes=negative_spikes, return_state=True)
    hidden = np.where(mask[..., None], inputs, np.nan)
    spikes, *states = run(layer, hidden, mask=mask)
    for sample in range(3):
        used = inputs[sample : sample + 1, mask[sample]]
        alone, *alone_states = run(layer, used)
        np.testing.assert_array_equal(spikes[sample, mask[sample]], alone[0])
        assert not spikes[sample, ~mask[sample]].any()
        for state, other in zip(states, alone_states, strict=True):
            np.testing.assert_array_equal(state[sample : sample + 1], other)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_time_may_be_cut_anywhere_off_the_grid_too(activation, rng):
    inputs = rng.normal(size=(2, 300, 5)).astype("float32")
    layer = neuron(activation, dt=0.0173, initial_voltage=rng.random(5), return_state=True)
    whole, *final = run(layer, inputs)
    for cut in (13, 287):
        first, *state = run(layer, inputs[:, :cut])
        rest, *state = run(layer, inputs[:, cut:], initial_state=state)
        np.testing.assert_array_equal(np.concatenate([first, rest], axis=1), whole)
        for one, other in zip(state, final, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", ["relu", "linear", "tanh"])
def test_gradient_is_that_of_the_change_of_the_sum(activation, masked, rng):
    inputs = rng.normal(size=(2, 7, 3)).astype("float32")
    weights = rng.normal(size=inputs.shape)
    mask = rng.random((2, 7)) < 0.7 if masked else None

    def loss(inputs):
        steps = np.ones((2, 7, 1)) if mask is None else mask[..., None]
        summed, steps = np.cumsum(inputs * steps, axis=1), np.cumsum(steps, axis=1)
        level = reference.sum_of_mean(summed, steps, ACTIVATIONS[activation])
        return np.sum(weights * np.diff(level, axis=1, prepend=0.0))

    expected = finite_differences(loss, [inputs], 0, 1e-6)
    for aware in (True, False):
        layer = neuron(activation, spiking_aware_training=aware)
        (gradient,) = gradients(
            lambda x, layer=layer: ops.sum(
                layer(x, mask=None if mask is None else ops.array(mask), training=True)
                * ops.array(weights, "float32")
            ),
            inputs,
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_without_spikes_training_sees_the_change_of_the_sum(activation, rng):
    inputs = rng.normal(size=(2, 9, 3)).astype("float32")
    outputs = run(neuron(activation, spiking_aware_training=False), inputs, training=True)
    steps = np.arange(1, 10).reshape(1, -1, 1)
    level = steps * ACTIVATIONS[activation](np.cumsum(inputs, axis=1, dtype="float64") / steps)
    np.testing.assert_allclose(outputs, np.diff(level, axis=1, prepend=0.0), atol=1e-5)


@pytest.mark.parametrize("negative_spikes", [True, False])
def test_after_a_million_steps_and_spikes_none_is_lost(negative_spikes, rng):
    layer = neuron(dt=0.5, negative_spikes=negative_spikes, return_state=True)
    chunks, length = 10, 10_000
    spikes_before = 1_000_003
    inputs = np.rint(rng.normal(1, 3, size=(1, chunks * length, 2)) * 2**10)
    due = spikes_before + np.floor(0.5 + np.cumsum(inputs, axis=1) / 2**11)
    due = due if negative_spikes else np.maximum.accumulate(due, axis=1)
    due = np.maximum(due, spikes_before) if not negative_spikes else due
    before = np.full((1, 2), float(spikes_before))
    state = [before, 0 * before, np.full((1, 1), 1e6), before, 0 * before + 0.5]
    state = [each.astype("float32") for each in state]
    for chunk in np.split(np.arange(chunks * length), chunks):
        given = (inputs[:, chunk] / 2**10).astype("float32")
        spikes, *state = run(layer, given, initial_state=state)
        emitted = due[:, chunk]
        np.testing.assert_array_equal(spikes / 2, np.diff(emitted, axis=1, prepend=before[:, None]))
        before = emitted[:, -1]
    assert before.min() > 1_040_000
    assert state[2] == 1_000_000 + chunks * length
    np.testing.assert_array_equal(state[3], before)


def test_sums_and_spikes_stop_at_2_to_the_24():
    layer = neuron(dt=1.0, return_state=True)
    spikes, *states = run(layer, np.full((1, 4, 1), 1e7, "float32"))
    np.testing.assert_array_equal(spikes.ravel(), [1e7, 2**24 - 1e7, 0, 0])
    assert states[0] == states[3] == 2**24
    spikes = run(layer, np.array([[[1.0], [np.inf]]], "float32"))[0]
    np.testing.assert_array_equal(spikes.ravel(), [1, 2**24 - 1])


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_what_is_not_a_number_spoils_its_own_step_alone(activation):
    inputs = np.array([[[3.0], [np.nan], [2.5]]], "float32")
    spikes, *states = run(neuron(activation, dt=4.0, return_state=True), inputs)
    np.testing.assert_array_equal(np.isnan(spikes.ravel()), [False, True, False])
    assert np.isfinite(np.concatenate([state.ravel() for state in states])).all()


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_steps=st.integers(1, 40))
def test_many_steps_say_what_one_long_step_says(seed, num_steps):
    rng = np.random.default_rng(seed)
    inputs = on_grid(rng, (2, 1, 5), scale=4)
    for activation in EXACT:
        many = run(neuron(activation, dt=0.25), np.repeat(inputs, num_steps, axis=1))
        one = run(neuron(activation, dt=0.25 * num_steps), inputs)
        np.testing.assert_allclose(many.mean(axis=1), one[:, 0], rtol=1e-6)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_steps=st.integers(1, 16), depth=st.integers(1, 4))
def test_a_network_averages_to_the_network_of_rounded_activations(seed, num_steps, depth):
    """The theorem. Weights of few digits, so that no sum is rounded: ties are ties for both."""
    rng = np.random.default_rng(seed)
    weights = [np.rint(rng.normal(size=(6, 6)) * 4) / 8 for _ in range(depth + 1)]
    inputs = np.rint(rng.normal(size=(3, 6)) * 16) / 8
    per_step = 0.5

    total = inputs * num_steps  # over time: means of some numbers of steps have no exact float
    tensor = given = keras.Input((None, 6))
    for index, kernel in enumerate(weights):
        dense = keras.layers.Dense(6, use_bias=False)
        tensor = TimeBatched(dense)(tensor)
        dense.set_weights([kernel])
        total = total @ kernel
        if index < depth:
            tensor = neuron(dt=per_step)(tensor)
            total = np.floor(0.5 + per_step * np.maximum(total, 0)) / per_step
    model = keras.Model(given, TemporalAvgPool()(tensor))
    outputs = run(model, np.repeat(inputs[:, None], num_steps, axis=1).astype("float32"))
    np.testing.assert_allclose(outputs, total / num_steps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_neurons_without_negative_spikes_make_up_for_negative_rates(mode, rng):
    inputs = on_grid(rng, (2, 80, 5), scale=8) + np.float32(0.25)
    layer = SpikingActivation("linear", dt=0.25, initial_voltage=0.5, negative_spikes=False)
    layer.build(inputs.shape)
    spikes = run_function(lambda x: layer(x, training=False), inputs, mode=mode)
    due = np.floor(0.5 + 0.25 * np.cumsum(inputs, axis=1, dtype="float64"))
    due = np.maximum(np.maximum.accumulate(due, axis=1), 0)
    np.testing.assert_array_equal(spikes, 4 * np.diff(due, axis=1, prepend=0.0))


def test_relu_has_no_negative_spikes_to_leave_out(rng):
    inputs = rng.normal(size=(2, 30, 5)).astype("float32")
    plain, without = (
        run(SpikingActivation("relu", dt=0.3, seed=1, negative_spikes=negative), inputs)
        for negative in (True, False)
    )
    np.testing.assert_array_equal(plain, without)


@pytest.mark.parametrize(
    "make", [SpikingActivation, lambda *a, **k: SpikingActivationCell(3, *a, **k)]
)
def test_unknown_options_are_refused(make):
    with pytest.raises(ValueError, match='`integrate` must be one of "activation", "input"'):
        make("relu", integrate="inputs")
    with pytest.raises(TypeError, match="`negative_spikes` must be True or False; received"):
        make("relu", negative_spikes="yes")


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("scale", [1.0, [0.5, 3.0, 20.0]])
def test_one_step_alone_is_the_first_of_many(activation, scale, rng):
    inputs = rng.normal(scale=3, size=(40, 1, 3)).astype("float32")
    options = {"dt": 0.7, "rate_scale": scale, "initial_voltage": 0.5, "integrate": "input"}
    alone = SpikingActivation(activation, **options)(inputs)
    with_state = SpikingActivation(activation, return_state=True, **options)
    first, *_ = with_state(np.concatenate([inputs, inputs], axis=1))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(alone)[:, 0], ops.convert_to_numpy(first)[:, 0]
    )
