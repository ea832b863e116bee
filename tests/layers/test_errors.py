"""What every layer refuses, before any step runs, and in which words."""

import keras
import numpy as np
import pytest

import keras_spiking
from keras_spiking.layers import KerasSpikingCell, KerasSpikingLayer
from tests.layers.cases import SPIKING, CountingCell, every_layer


@pytest.mark.parametrize(
    "name", ["return_sequences", "return_state", "stateful", "unroll", "time_major"]
)
@every_layer
def test_options_are_booleans(make, name):
    with pytest.raises(TypeError, match=rf"`{name}` must be True or False; received {name}=1 of"):
        make(**{name: 1})


@every_layer
def test_unknown_arguments_are_refused(make):
    with pytest.raises((TypeError, ValueError), match="tua"):
        make(tua=0.1)


@pytest.mark.parametrize("shape", [(3,), (3, 4)], ids=str)
@every_layer
def test_inputs_need_a_time_axis_and_features(make, shape):
    words = r"inputs must have shape \(batch, time, ...\), .* received shape .*Add a time axis"
    with pytest.raises(ValueError, match=words):
        make()(np.zeros(shape, "float32"))
    with pytest.raises(ValueError, match=words):
        make()(keras.Input(shape[1:]))
    with pytest.raises(ValueError, match=r"\(time, batch, ...\)"):
        make(time_major=True)(np.zeros(shape, "float32"))


@pytest.mark.slow
@every_layer
def test_features_must_be_known_and_stay(make):
    stateful = {"stateful": True} if make in SPIKING else {}
    with pytest.raises(ValueError, match="feature axes of inputs must have known sizes"):
        make(**stateful)(keras.Input((None, None), batch_size=2))
    layer = make()
    layer(np.zeros((2, 3, 4), "float32"))
    for shape in ((2, 3, 5), (2, 3, 4, 1), (2, 4)):
        with pytest.raises(ValueError, match=r"feature axes \(4,\); received|with at least one"):
            layer(np.zeros(shape, "float32"))


@every_layer
def test_inputs_must_be_real_numbers(make):
    layer = make()
    layer.build((2, 3, 4))
    with pytest.raises(TypeError, match="inputs must be real numbers"):
        layer(np.zeros((2, 3, 4), "complex64"))


@every_layer
def test_mask_must_be_batch_by_time(make):
    for shape in ((2,), (3, 2), (2, 4), (2, 3, 1)):
        words = r"`mask` must have shape \(batch, time\), here \(2, 3\); received shape"
        with pytest.raises(ValueError, match=words):
            make()(np.zeros((2, 3, 4), "float32"), mask=np.ones(shape, bool))


@pytest.mark.slow
@every_layer
def test_initial_state_must_be_the_cells(make):
    layer = make()
    layer.build((2, 3, 4))
    inputs = np.zeros((2, 3, 4), "float32")
    right = [np.zeros((2, *shape), "float32") for shape in layer.cell.state_shapes]
    layer(inputs, initial_state=right)
    wrong = [
        [*right, right[0]],
        [right[0][:1]],
        [right[0][..., :-1]],
        [right[0][..., None]],
    ]
    for states in wrong:
        words = r"`initial_state` must have one tensor per state, of shapes .*; received shapes"
        with pytest.raises(ValueError, match=words):
            layer(inputs, initial_state=states)
    with pytest.raises(TypeError, match="`initial_state` must be real numbers"):
        layer(inputs, initial_state=[each.astype("complex64") for each in right])


@every_layer
def test_stateful_needs_a_fixed_batch_size(make):
    with pytest.raises(ValueError, match=r"needs a fixed batch size; .* batch_size=32"):
        make(stateful=True)(keras.Input((None, 4)))
    layer = make(stateful=True)
    layer(np.zeros((2, 3, 4), "float32"))
    with pytest.raises(ValueError, match=r"is stateful and was built for a batch size of 2; .*\(3"):
        layer(np.zeros((3, 3, 4), "float32"))


@every_layer
def test_only_stateful_layers_reset(make):
    layer = make(name="one")
    layer.build((2, 3, 4))
    for reset in (layer.reset_state, layer.reset_states):
        with pytest.raises(ValueError, match="layer 'one' has stateful=False"):
            reset()
    layer = make(stateful=True, name="two")
    layer.reset_state()  # Not built yet: there is no state, so it is the initial one.
    with pytest.raises(ValueError, match="layer 'two' cannot be set before it is built"):
        layer.reset_states([np.zeros((2, 4))])
    layer.build((2, 3, 4))
    with pytest.raises(ValueError, match="`states` must have one tensor per state, of shapes"):
        layer.reset_states([np.zeros((3, 4))])


def test_sizes_of_cells_are_positive_integers():
    cells = {
        "SpikingActivationCell": lambda size: keras_spiking.SpikingActivationCell(size, "relu"),
        "LowpassCell": lambda size: keras_spiking.LowpassCell(size, 0.1),
        "AlphaCell": lambda size: keras_spiking.AlphaCell(size, 0.1),
        "CountingCell": CountingCell,
    }
    for name, make in cells.items():
        for size in (0, -3, (2, 0)):
            with pytest.raises(ValueError, match=f"^{name}: `size` must be positive; received"):
                make(size)
        for size in (2.5, "3", None, (2, 1.5), (), True):
            with pytest.raises(TypeError, match=f"^{name}: `size` must be a positive integer or"):
                make(size)


def test_cells_check_the_shape_of_a_step():
    cell = CountingCell((2, 3))
    with pytest.raises(ValueError, match=r"feature axes of size=\(2, 3\); received shape \(5, 6\)"):
        cell(np.zeros((5, 6), "float32"), [np.zeros((5, 2, 3), "float32")])


def test_base_classes_say_what_to_define():
    with pytest.raises(NotImplementedError, match="KerasSpikingCell must define `call_inference"):
        KerasSpikingCell(3)(np.zeros((1, 3), "float32"), [np.zeros((1, 3), "float32")])
    with pytest.raises(NotImplementedError, match="KerasSpikingLayer must define `build_cell"):
        KerasSpikingLayer()(np.zeros((1, 2, 3), "float32"))
