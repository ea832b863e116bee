"""Every layer, cell, regularizer, constraint and callback comes back as it was, in every way."""

import copy
import inspect
import pickle

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking import callbacks
from tests.saving.cases import (
    BATCH,
    CELLS,
    LAYERS,
    PENALTIES,
    UNITS,
    assert_equal,
    change_weights,
    inputs,
    model_with,
    run,
    settings,
)


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))  # noqa: S301


def by_json(model):
    new = keras.models.model_from_json(model.to_json())
    new.set_weights(model.get_weights())
    return new


def by_clone(model):
    new = keras.models.clone_model(model)
    new.set_weights(model.get_weights())
    return new


def by_file(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def by_weights(model, folder):
    model.save_weights(folder / "model.weights.h5")
    new = keras.models.clone_model(model)
    new.load_weights(folder / "model.weights.h5")
    return new


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_model_comes_back_as_it_was(make, tmp_path):
    model = model_with(make())
    expected = run(model)
    for new in (
        by_json(model),
        by_clone(model),
        by_file(model, tmp_path),
        by_weights(model, tmp_path),
        pickled(model),
        copy.deepcopy(model),
    ):
        assert new is not model
        assert settings(new) == settings(model)
        # A copy of a stateful layer starts anew, as `model` did.
        assert_equal(run(new), expected)


@pytest.mark.slow
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_the_weights_make_a_difference(make):
    """Else the test above would not see that they were lost."""
    model = make()
    if isinstance(model, keras.Model):
        return
    model = model_with(model)
    before = run(model)
    change_weights(model)
    if hasattr(model.layers[-1], "reset_state") and getattr(model.layers[-1], "stateful", False):
        model.layers[-1].reset_state()
    after = run(model)
    same = all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert same == (not model.weights)


@pytest.mark.slow
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_on_its_own_comes_back(make):
    layer = make()
    if isinstance(layer, keras.Model):
        return
    for new in (pickled(layer), copy.deepcopy(layer)):
        assert not new.built
        assert settings(new) == settings(layer)
    expected = run(model_with(layer))
    given = keras.Input(batch_shape=inputs().shape)
    assert_equal(run(keras.Model(given, copy.deepcopy(layer)(given))), expected)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_comes_back(name):
    cell = CELLS[name]()
    cell.build((None, UNITS))
    change_weights(cell)
    step = inputs()[:, 0]

    def outputs(cell):
        start = cell.get_initial_state(batch_size=BATCH)
        results = [cell(step, start), cell(step, start, training=True)]
        return [ops.convert_to_numpy(each) for each in keras.tree.flatten(results)]

    def from_config(cell):
        new = type(cell).from_config(cell.get_config())
        new.build((None, UNITS))
        new.set_weights(cell.get_weights())
        return new

    for way in (from_config, pickled, copy.deepcopy):
        new = way(cell)
        assert settings(new) == settings(cell)
        assert_equal(outputs(new), outputs(cell))


@pytest.mark.parametrize("make", PENALTIES.values(), ids=PENALTIES)
def test_a_regularizer_or_constraint_comes_back(make):
    penalty = make()

    def from_config(penalty):
        return type(penalty).from_config(penalty.get_config())

    def by_keras(penalty):
        return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(penalty))

    for way in (from_config, by_keras, pickled, copy.deepcopy):
        new = way(penalty)
        assert type(new) is type(penalty)
        expected = ops.convert_to_numpy(penalty(inputs()))
        assert np.abs(expected).max() > 0
        np.testing.assert_array_equal(ops.convert_to_numpy(new(inputs())), expected)


def test_a_callback_comes_back():
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 10, 0.5)
    callback = callbacks.DtScheduler(keras.Variable(0.3), schedule, verbose=True)
    for way in (pickled, copy.deepcopy):
        new = way(callback)
        assert float(ops.convert_to_numpy(new.dt)) == np.float32(0.3)
        assert float(ops.convert_to_numpy(new.scheduler(7))) == pytest.approx(0.5**0.7)
        assert new.verbose
        new.dt.assign(0.5)
        assert float(ops.convert_to_numpy(callback.dt)) == np.float32(0.3)


def test_a_copy_of_a_shared_dt_keeps_its_value_only():
    dt = keras.Variable(0.4)
    model = model_with(keras_spiking.SpikingActivation("relu", dt=dt, seed=1))
    new = copy.deepcopy(model)
    dt.assign(0.1)
    assert model.layers[-1].get_config()["dt"] == pytest.approx(0.1)
    assert new.layers[-1].dt == pytest.approx(0.4)


def instances():
    """One of every registered class."""
    made = [make() for make in [*LAYERS.values(), *PENALTIES.values()]] + CELLS.values()
    return {type(each): each for each in made}


def test_no_class_and_no_argument_is_left_out():
    found = instances()
    objects = keras.saving.get_custom_objects()
    ours = {each for name, each in objects.items() if name.startswith("keras_spiking>")}
    assert len(ours) > 15
    assert ours <= set(found)
    for each in ours:
        config = found[each].get_config()
        for name, parameter in inspect.signature(each.__init__).parameters.items():
            if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                assert name in config, f"{each.__name__} loses {name}"


@keras.saving.register_keras_serializable("tests")
class PassThrough(keras_spiking.layers.KerasSpikingCell):
    """Takes the arguments of its base class as they are."""

    def call_inference(self, inputs, states):
        return inputs, states


@keras.saving.register_keras_serializable("tests")
class Fixed(keras_spiking.layers.KerasSpikingCell):
    """Sets some of them itself, and takes the others by name."""

    def __init__(self, size, **kwargs):
        super().__init__(size, state_size=[size, (2, 3)], **kwargs)

    def call_inference(self, inputs, states):
        return inputs, states


@pytest.mark.parametrize(
    "make",
    [
        lambda: PassThrough(4, [4, (2, 3)], 0.5, False, output_size=5),
        lambda: PassThrough((2, 2), output_size=(1, 4)),
        lambda: Fixed(4, always_use_inference=False, output_size=2),
        lambda: Fixed(4),
    ],
    ids=["by place", "by name", "some by name", "none"],
)
def test_a_users_cell_keeps_the_arguments_of_its_base_class(make):
    cell = make()
    config = cell.get_config()
    for new in (type(cell).from_config(config), pickled(cell), copy.deepcopy(cell)):
        for name in ("size", "state_size", "output_size", "always_use_inference", "dt"):
            assert getattr(new, name) == getattr(cell, name)


def test_weights_move_between_a_model_for_training_and_its_seeded_twin(tmp_path):
    def model(**kwargs):
        prelu = keras.layers.PReLU(alpha_initializer="uniform")
        return model_with(keras_spiking.SpikingActivation(prelu, dt=0.25, **kwargs))

    for source, target in (({}, {"seed": 1}), ({"seed": 1}, {}), ({}, {"stateful": True})):
        one, other = model(**source), model(**target)
        one.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        assert_equal(other.get_weights(), one.get_weights())
