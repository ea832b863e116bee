"""What the modules refuse, before any work, and in which words."""

import math

import pytest
import torch

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation, TemporalAvgPool
from tests.pytorch.cases import every_module

ONES = torch.ones(2, 4, 3)

SPIKING = [
    ({"activation": "relu"}, TypeError, "`activation` must be .* such as torch.relu.*='relu'"),
    ({"activation": torch.nn.ReLU}, TypeError, "`activation` must be a function.*ReLU"),
    ({"dt": 0}, ValueError, "`dt` must be a number of seconds, positive and finite; .* dt=0"),
    ({"dt": -0.1}, ValueError, "`dt` must be .* positive .* dt=-0.1"),
    ({"dt": math.nan}, ValueError, "`dt` must be finite; received dt=nan"),
    ({"dt": "fast"}, TypeError, "`dt` must be a number of seconds; received dt='fast'"),
    ({"spiking_aware_training": 1}, TypeError, "`spiking_aware_training` must be True or False"),
    ({"return_sequences": None}, TypeError, "`return_sequences` must be True or False"),
    ({"initial_state": 0.5}, TypeError, "`initial_state` must be None or a torch.Tensor .*=0.5"),
    (
        {"initial_state": torch.zeros(2, 3, dtype=torch.int32)},
        ValueError,
        "`initial_state` must have a floating-point type; received .*int32.* initial_state.float()",
    ),
    (
        {"initial_state": torch.full((2, 3), math.inf)},
        ValueError,
        "`initial_state` must be finite; received initial_state=.*inf",
    ),
]
FILTER = [
    ({"tau": 0}, ValueError, "`tau` must be a number of seconds, positive and finite; .* tau=0"),
    ({"tau": -0.1}, ValueError, "`tau` must be .* positive .* tau=-0.1"),
    ({"tau": math.inf}, ValueError, "`tau` must be finite; received tau=inf"),
    ({"tau": None}, TypeError, "`tau` must be a number of seconds; received tau=None"),
    ({"dt": -1}, ValueError, "`dt` must be a number of seconds, positive .* dt=-1"),
    ({"units": 0}, ValueError, "`units` must be positive; received units=0"),
    ({"units": (2, -1)}, ValueError, r"`units` must be positive; received units=\(2, -1\)"),
    ({"units": 2.5}, TypeError, "`units` must be a positive integer or a tuple .* units=2.5"),
    ({"apply_during_training": "no"}, TypeError, "`apply_during_training` must be True or False"),
    ({"return_sequences": 0}, TypeError, "`return_sequences` must be True or False"),
    ({"initial_level": 1.0}, TypeError, r"`initial_level` must be None or .* \(1, 3\).*=1.0"),
    (
        {"initial_level": torch.zeros(3)},
        ValueError,
        r"`initial_level` must have shape \(1, \*units\), here \(1, 3\); received .* shape \(3,\)",
    ),
    (
        {"initial_level": torch.zeros(1, 3, dtype=torch.bool)},
        ValueError,
        "`initial_level` must have a floating-point type; received .*torch.bool",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "words"), SPIKING, ids=str)
def test_spiking_activation_checks_its_arguments(arguments, error, words):
    with pytest.raises(error, match=f"(?s)^SpikingActivation: {words}"):
        SpikingActivation(**{"activation": torch.relu, **arguments})


@pytest.mark.parametrize(("arguments", "error", "words"), FILTER, ids=str)
@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_filters_check_their_arguments(make, arguments, error, words):
    with pytest.raises(error, match=f"^{make.__name__}: {words}"):
        make(**{"tau": 0.1, "units": 3, **arguments})


@every_module
def test_inputs_need_a_time_axis_and_a_step(make):
    module = make()
    for shape in ((3,), (2, 3)):
        words = r"inputs must have shape \(batch, time, ...\), .* received shape .*unsqueeze"
        with pytest.raises(ValueError, match=f"^{type(module).__name__}: {words}"):
            module(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"at least one time step .* received shape \(2, 0, 3\)"):
        module(torch.zeros(2, 0, 3))


@every_module
def test_inputs_must_be_tensors_of_real_numbers(make):
    with pytest.raises(TypeError, match=r"inputs must be a torch\.Tensor; received list"):
        make()([[[1.0]]])
    with pytest.raises(TypeError, match=r"inputs must be real numbers; received torch\.complex64"):
        make()(torch.zeros(2, 4, 3, dtype=torch.complex64))


@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_inputs_must_have_the_units_of_a_filter(make):
    words = r"must be those of `units`, \(3,\); .* with \({}\). Make the module with units={}\."
    with pytest.raises(ValueError, match=words.format("4,", 4)):
        make(0.1, 3)(torch.zeros(2, 5, 4))
    with pytest.raises(ValueError, match=words.format("3, 1", r"\(3, 1\)")):
        make(0.1, 3)(torch.zeros(2, 5, 3, 1))


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 4), (2, 4, 3), (2, 3, 1)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_initial_state_must_be_one_step_of_the_inputs(shape, training):
    module = SpikingActivation(
        torch.relu, initial_state=torch.zeros(shape), spiking_aware_training=False
    ).train(training)
    words = r"`initial_state` must have the shape .* here \(2, 3\); received .*initial_state=None"
    with pytest.raises(ValueError, match=words):
        module(ONES)


def test_activation_must_keep_the_shape():
    words = r"`activation` must keep the shape .* turned \(2, 4, 3\) into \(2, 4, 6\)\. Put what"
    with pytest.raises(ValueError, match=words):
        SpikingActivation(torch.nn.Linear(3, 6))(ONES)


@pytest.mark.parametrize("activation", [lambda x: x.numpy(), lambda x: (x, x), lambda x: None])
def test_activation_must_return_a_tensor(activation):
    words = r"^SpikingActivation: `activation` must return a torch\.Tensor; it returned .*Wrap it"
    with pytest.raises(TypeError, match=words):
        SpikingActivation(activation)(ONES)


def test_pool_needs_an_axis_that_inputs_have():
    for dim in (3, -4):
        with pytest.raises(ValueError, match=rf"from -3 to 2; received dim={dim} and inputs of"):
            TemporalAvgPool(dim)(ONES)
    for dim in (1.0, True, (0, 1)):
        with pytest.raises(TypeError, match="TemporalAvgPool: `dim` must be an integer; received"):
            TemporalAvgPool(dim)
