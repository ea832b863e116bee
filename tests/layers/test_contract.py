"""The contract of every layer that runs over time, ours and a user's."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from tests.check_layer import check_layer
from tests.compiled import BACKEND
from tests.layers.cases import MAKERS, SPIKING, CountingCell, assert_same, every_layer, run

# Tests share shapes, for JAX compiles every operation for every shape: 4 features, batches of 1 and
# 3, and 1, 6 and 12 steps.
BATCH, TIME = 3, 12


def data(rng, features=(4,), time=TIME, batch=BATCH):
    return rng.normal(size=(batch, time, *features)).astype("float32")


@every_layer
def test_layer_is_a_good_keras_layer(make, tmp_path):
    check_layer(make, (4,), tmp_path, exact=make in SPIKING)


@pytest.mark.parametrize("features", [(4,), (2, 3), (2, 1, 3)], ids=str)
@every_layer
def test_layer_equals_its_cell_stepped_through_time(make, features, rng):
    inputs = data(rng, features)
    layer = make(return_state=True)
    outputs, *states = run(layer, inputs)

    state = layer.cell.get_initial_state(batch_size=BATCH)
    steps = []
    for time in range(TIME):
        step, state = layer.cell(inputs[:, time], state)
        steps.append(ops.convert_to_numpy(step))
    state = [ops.convert_to_numpy(each) for each in state]
    assert_same([outputs, *states], [np.stack(steps, axis=1), *state], exact=make in SPIKING)


@every_layer
def test_time_major_is_only_a_layout(make, rng):
    inputs = data(rng)
    for return_sequences in (True, False):
        expected = run(make(return_state=True, return_sequences=return_sequences), inputs)
        layer = make(return_state=True, return_sequences=return_sequences, time_major=True)
        outputs, *states = run(layer, np.swapaxes(inputs, 0, 1))
        outputs = np.swapaxes(outputs, 0, 1) if return_sequences else outputs
        assert_same((outputs, *states), expected, exact=make in SPIKING)


@every_layer
def test_last_output_is_the_last_of_the_sequence(make, rng):
    inputs = data(rng)
    expected = run(make(), inputs)[:, -1]
    exact = make not in (MAKERS["lowpass"], MAKERS["alpha"])
    assert_same(run(make(return_sequences=False), inputs), expected, exact)


@every_layer
@pytest.mark.parametrize("cuts", [(1,), (6,), (1, 7, 8, 9, 10, 11), tuple(range(1, TIME))], ids=str)
def test_cutting_time_changes_nothing(make, cuts, rng):
    inputs = data(rng)
    layer = make(return_state=True)
    outputs, *states = run(layer, inputs)
    pieces, state = [], None
    for piece in np.split(inputs, cuts, axis=1):
        part, *state = run(layer, piece, **({} if state is None else {"initial_state": state}))
        pieces.append(part)
    whole = [np.concatenate(pieces, axis=1), *state]
    assert_same(whole, [outputs, *states], exact=make in SPIKING)


@every_layer
def test_stateful_layer_resumes_where_it_stopped(make, rng):
    inputs = data(rng)
    expected = run(make(), inputs)
    layer = make(stateful=True)
    for _ in range(2):
        parts = [run(layer, piece) for piece in np.split(inputs, 2, axis=1)]
        assert_same(np.concatenate(parts, axis=1), expected, exact=make in SPIKING)
        layer.reset_state()


@every_layer
def test_state_survives_predict_evaluate_and_fit(make, rng):
    inputs = data(rng)
    plain = make(return_state=True)
    _, *states = run(plain, inputs)
    _, *final = run(plain, inputs, initial_state=states)

    same = keras.layers.Dense(4, kernel_initializer="identity", use_bias=False)
    model = keras.Sequential([keras.Input(batch_shape=inputs.shape), same, make(stateful=True)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    layer = model.layers[1]
    model.predict(inputs, batch_size=BATCH, verbose=0)
    model.predict(inputs, batch_size=BATCH, verbose=0)
    assert_same([ops.convert_to_numpy(each) for each in layer.states], final)

    keras_spiking.reset_states(model)
    model.fit(inputs, inputs, batch_size=BATCH, shuffle=False, verbose=0)
    model.evaluate(inputs, inputs, batch_size=BATCH, verbose=0)
    assert_same([ops.convert_to_numpy(each) for each in layer.states], final)


@every_layer
def test_state_may_be_given(make, rng):
    inputs = data(rng)
    layer = make(stateful=True, return_state=True)
    _, *states = run(layer, inputs)
    expected = run(layer, inputs)
    layer.reset_states(states)
    assert_same(run(layer, inputs), expected, exact=True)
    layer.reset_state()
    # A call's own `initial_state` goes before the kept one.
    assert_same(run(layer, inputs, initial_state=states), expected, exact=True)
    if len(states) == 1:
        assert_same(run(layer, inputs, initial_state=states[0]), expected, exact=True)


@every_layer
def test_states_are_variables_but_no_weights(make, rng):
    inputs = data(rng)
    plain, stateful = make(), make(stateful=True)
    plain.build(inputs.shape)
    stateful.build(inputs.shape)
    stateful.set_weights([weight + 0.25 for weight in plain.get_weights()])
    plain.set_weights(stateful.get_weights())
    assert_same(run(stateful, inputs), run(plain, inputs), exact=True)
    for state in stateful.states:
        assert any(state is variable for variable in stateful.non_trainable_variables)
        assert not any(state is weight for weight in stateful.weights)


@pytest.mark.slow
@every_layer
def test_weights_loaded_after_building_set_where_a_stateful_layer_starts(make, rng, tmp_path):
    inputs = data(rng)
    model = keras.Sequential([keras.Input(batch_shape=inputs.shape), make(stateful=True)])
    model.set_weights([weight + 0.25 for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    expected = model.predict(inputs, batch_size=BATCH, verbose=0)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    outputs = loaded.predict(inputs, batch_size=BATCH, verbose=0)
    assert_same(outputs, expected, exact=make in SPIKING)


@pytest.mark.slow
@every_layer
def test_state_does_not_carry_gradients_from_call_to_call(make, rng):
    inputs = data(rng)
    model = keras.Sequential(
        [
            keras.Input(batch_shape=inputs.shape),
            keras.layers.Dense(4),
            make(stateful=True),
        ]
    )
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() == "torch")
    model.fit(inputs, inputs, batch_size=BATCH, epochs=3, verbose=0)


MASKS = {
    "right padding": [[1] * 12, [1] * 6 + [0] * 6, [1] * 1 + [0] * 11],
    "left padding": [[0] * 6 + [1] * 6, [0] * 11 + [1], [1] * 12],
    "scattered": [[1, 0] * 6, [0, 1] * 6, [0, 0, 1, 1, 1, 0] * 2],
    "nothing left": [[0] * 12, [1] * 12, [0] * 12],
}


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@every_layer
def test_masked_steps_are_left_out(make, mask, time_major, rng):
    inputs, mask = data(rng), np.array(mask, bool)
    layer = make(return_state=True, time_major=time_major)
    outputs, *states = run(layer, np.swapaxes(inputs, 0, 1) if time_major else inputs, mask=mask)
    outputs = np.swapaxes(outputs, 0, 1) if time_major else outputs

    start = [ops.convert_to_numpy(each) for each in layer.cell.get_initial_state(batch_size=BATCH)]
    level = {"lowpass": 0.5, "alpha": 0.5}
    for sample in range(BATCH):
        used = mask[sample]
        final = [state[sample] for state in start]
        previous = np.full(4, next((v for k, v in level.items() if make is MAKERS[k]), 0.0))
        if used.any():
            plain = make(return_state=True)
            own, *final = run(
                plain,
                inputs[sample : sample + 1, used],
                initial_state=[state[sample : sample + 1] for state in start],
            )
            final = [state[0] for state in final]
        exact = make in SPIKING
        assert_same([state[sample] for state in states], list(final), exact)
        seen = 0
        for time in range(TIME):
            if used[time]:
                previous = own[0, seen]
                seen += 1
                assert_same(outputs[sample, time], previous, exact)
            elif layer.zero_output_for_mask:
                assert not outputs[sample, time].any()
            else:
                assert_same(outputs[sample, time], previous, exact=False)


@every_layer
def test_masks_of_keras_are_used_and_passed_on(make, rng):
    inputs = data(rng)
    inputs[1, 5:] = 0.0
    mask = (inputs != 0).any(axis=2)
    expected = run(make(), inputs, mask=mask)

    symbolic = keras.Input((None, 4))
    masked = keras.layers.Masking()(symbolic)
    layer = make()
    model = keras.Model(symbolic, layer(masked))
    assert_same(model.predict(inputs, verbose=0), expected, exact=make in SPIKING)
    assert layer.compute_mask(inputs, mask) is mask
    assert make(return_sequences=False).compute_mask(inputs, mask) is None

    # Also where an initial state is given, for which Keras itself drops the mask.
    state = [
        np.zeros((BATCH, *shape), "float32") + 0.25 for shape in model.layers[-1].cell.state_shapes
    ]
    expected = run(make(), inputs, mask=mask, initial_state=state)
    outputs = run(make(), keras.layers.Masking()(inputs), initial_state=state)
    assert_same(outputs, expected, exact=True)


@every_layer
def test_mask_works_in_training_with_unknown_batch_and_time(make, rng):
    inputs = data(rng)
    inputs[1, 5:] = 0.0
    model = keras.Sequential(
        [keras.Input((None, 4)), keras.layers.Masking(), make(), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    model.fit(inputs, np.zeros((BATCH, TIME, 1)), batch_size=2, verbose=0)


@every_layer
def test_initial_state_may_be_symbolic(make, rng):
    inputs = data(rng)
    layer = make(return_state=True)
    _, *states = run(layer, inputs)
    symbolic = [keras.Input((None, 4)), *(keras.Input(state.shape[1:]) for state in states)]
    model = keras.Model(symbolic, layer(symbolic[0], initial_state=symbolic[1:]))
    assert_same(
        tuple(model.predict([inputs, *states], verbose=0)),
        run(layer, inputs, initial_state=states),
        exact=make in SPIKING,
    )


@every_layer
def test_a_variable_dt_is_followed_but_never_a_weight(make, rng):
    inputs = data(rng)
    dt = keras.Variable(0.3, name="dt")
    layer = make(dt=dt, return_state=True)
    layer.build(inputs.shape)
    assert layer.dt is dt
    assert not any(weight is dt for weight in layer.weights)
    assert not any(variable is dt for variable in layer.trainable_variables)
    assert any(variable is dt for variable in layer.non_trainable_variables)
    model = keras.Sequential([keras.Input((None, 4)), make(dt=dt)])
    for value in (0.3, 0.05):
        dt.assign(value)
        assert layer.get_config()["dt"] == pytest.approx(value)
        assert_same(run(layer, inputs), run(make(dt=value, return_state=True), inputs))
        # In a compiled model too: `dt` is read as it runs, not when it is traced.
        assert_same(model.predict(inputs, verbose=0), run(make(dt=value), inputs))


@every_layer
def test_unroll_changes_nothing(make, rng):
    inputs = data(rng)
    assert_same(run(make(unroll=True), inputs), run(make(), inputs), exact=True)


@every_layer
def test_integers_are_cast(make, rng):
    inputs = rng.integers(-3, 4, size=(BATCH, TIME, 4))
    assert_same(run(make(), inputs), run(make(), inputs.astype("float32")), exact=True)


@every_layer
def test_one_layer_runs_at_any_length_and_batch_size(make, rng):
    layer = make()
    for batch, time in ((1, 1), (BATCH, 6), (1, TIME)):
        inputs = data(rng, time=time, batch=batch)
        assert_same(run(layer, inputs), run(make(), inputs), exact=True)


def test_a_users_layer_trains_or_not_as_its_cell_says(rng):
    inputs = data(rng)[:, 0]
    states = [np.zeros((BATCH, 4), "float32")]
    for arguments, trains in (({}, False), ({"always_use_inference": False}, True)):
        cell = CountingCell(4, **arguments)
        _, (trained,) = cell(inputs, states, training=True)
        _, (inferred,) = cell(inputs, states, training=False)
        assert np.all(ops.convert_to_numpy(inferred) == 1.0)
        assert np.all(ops.convert_to_numpy(trained) == (0.0 if trains else 1.0))


def tensor_shape(sizes):
    return pytest.importorskip("tensorflow").TensorShape(sizes)


@pytest.mark.parametrize("form", [tuple, list, tensor_shape])
def test_a_cell_takes_sizes_in_any_form(form):
    if form is tensor_shape and BACKEND != "tensorflow":
        pytest.skip("users have TensorShapes where TensorFlow is the backend")
    cell = CountingCell(form([2, 3]), output_size=form([3]))
    assert (cell.size, cell.state_shapes, cell.output_size) == ((2, 3), [(2, 3)], (3,))
    assert type(cell).from_config(cell.get_config()).size == (2, 3)
    assert CountingCell(3, state_size=[form([2, 3])]).state_shapes == [(2, 3)]
    for wrong in ([2, None], []):
        with pytest.raises(TypeError, match="CountingCell: `size` must be a positive integer or"):
            CountingCell(form(wrong))


@pytest.mark.parametrize("unroll", [False, True])
def test_cells_work_inside_keras_rnn(unroll, rng):
    inputs = data(rng)
    cells = {
        "spiking": keras_spiking.SpikingActivationCell(4, "leaky_relu", dt=0.3, seed=1),
        "lowpass": keras_spiking.LowpassCell(4, 0.1, dt=0.03, level_initializer=0.5),
        "alpha": keras_spiking.AlphaCell(4, 0.1, dt=0.03, level_initializer=0.5),
        "custom": CountingCell(4),
    }
    for name, cell in cells.items():
        rnn = keras.layers.RNN(cell, return_sequences=True, unroll=unroll)
        assert_same(run(rnn, inputs), run(MAKERS[name](), inputs))
    stacked = keras.layers.RNN(list(cells.values())[:2], return_sequences=True)
    expected = run(MAKERS["lowpass"](), run(MAKERS["spiking"](), inputs))
    assert_same(run(stacked, inputs), expected)


@every_layer
@pytest.mark.parametrize("return_sequences", [True, False])
def test_run_gives_the_final_states_whether_the_layer_returns_them_or_not(
    make, return_sequences, rng
):
    inputs = data(rng)
    layer = make(return_sequences=return_sequences, return_state=True)
    _, *expected = run(layer, inputs)
    silent = make(return_sequences=return_sequences)
    silent.build(inputs.shape)
    states = silent.cell.get_initial_state(batch_size=len(inputs))
    _, states = silent.run(ops.convert_to_tensor(inputs), states, None, False)
    for got, end in zip(states, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(got), end, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
@pytest.mark.parametrize("cell", [keras_spiking.SpikingActivationCell, keras_spiking.LowpassCell])
def test_cells_inside_keras_rnn_refuse_states_in_half_precision(policy, cell, rng):
    inputs = data(rng)
    argument = "relu" if cell is keras_spiking.SpikingActivationCell else 0.1
    rnn = keras.layers.RNN(cell(4, argument, dtype=policy), dtype=policy)
    with pytest.raises(TypeError, match=r"states must be in float32, .* received b?float16"):
        rnn(inputs)
    # What the error says to do.
    rnn = keras.layers.RNN(cell(4, argument, dtype="float32"), dtype="float32")
    assert run(rnn, inputs).dtype == "float32"


def test_cells_load_from_their_config():
    for cell in (
        keras_spiking.SpikingActivationCell((2, 3), "tanh", dt=0.3, seed=1),
        keras_spiking.LowpassCell(4, 0.1, dt=0.03, apply_during_training=False),
        keras_spiking.AlphaCell((2, 2), "uniform", tau_constraint="non_neg"),
    ):
        assert type(cell).from_config(cell.get_config()).get_config() == cell.get_config()
