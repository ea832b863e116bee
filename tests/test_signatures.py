"""Names, order and defaults of arguments: those of KerasSpiking first, as its users know them."""

import inspect

import pytest

import keras_spiking
from keras_spiking import callbacks, constraints, energy, layers, regularizers
from tests.compiled import BACKEND

OVER_TIME = (
    "return_sequences=True, return_state=False, stateful=False, unroll=False, time_major=False, "
    "go_backwards=False"
)
SPIKING = (
    "dt=None, seed=None, spiking_aware_training=True, initial_voltage='random_uniform', "
    "rate_scale=1.0, integrate='activation', negative_spikes=True"
)
FILTER = (
    "dt=None, apply_during_training=True, level_initializer='zeros', "
    "initial_level_constraint=None, tau_constraint=None"
)
COLUMNS = "('name', 'output_shape', 'params', 'connections', 'neurons', 'energy cpu')"
RUNS = "timesteps_per_inference=1, dt=None"
SUMMARY = f"self, columns={COLUMNS}, {RUNS}, line_length=98, print_warnings=True"

SIGNATURES = [
    (layers.SpikingActivation, f"activation, *, {SPIKING}, {OVER_TIME}, **kwargs"),
    (layers.SpikingActivationCell, f"size, activation, *, {SPIKING}, **kwargs"),
    (layers.Lowpass, f"tau_initializer, *, {FILTER}, {OVER_TIME}, **kwargs"),
    (layers.LowpassCell, f"size, tau_initializer, *, {FILTER}, **kwargs"),
    (layers.Alpha, f"tau_initializer, *, {FILTER}, {OVER_TIME}, **kwargs"),
    (layers.AlphaCell, f"size, tau_initializer, *, {FILTER}, **kwargs"),
    (layers.KerasSpikingLayer, f"dt=None, {OVER_TIME}, **kwargs"),
    (
        layers.KerasSpikingCell,
        "size, state_size=None, dt=None, always_use_inference=True, *, output_size=None, **kwargs",
    ),
    (layers.TimeBatched, "layer, **kwargs"),
    (layers.TemporalAvgPool, "**kwargs"),
    (layers.RepeatOverTime, "num_steps, **kwargs"),
    (layers.RunningAverage, "layer, **kwargs"),
    (layers.LastStep, "**kwargs"),
    (layers.reset_states, "model"),
    (regularizers.RangedRegularizer, "target=0, regularizer=None"),
    (regularizers.L1L2, "l1=0.0, l2=0.0, target=0"),
    (regularizers.L1, "l1=0.01, target=0"),
    (regularizers.L2, "l2=0.01, target=0"),
    (regularizers.Percentile, "percentile=100, axis=0, target=0, l1=0, l2=0"),
    (constraints.Mean, "axis=-1"),
    (callbacks.DtScheduler, "dt, scheduler, verbose=False"),
    (energy.ModelEnergy, "model, example_data=None"),
    (energy.ModelEnergy.compute_layer_stats, "layer, node=None"),
    (energy.ModelEnergy.register_layer, "layer_class"),
    (
        energy.ModelEnergy.register_device,
        "device_name, energy_per_synop, energy_per_neuron, spiking",
    ),
    (energy.ModelEnergy.layer_energy, f"self, layer, device, {RUNS}"),
    (energy.ModelEnergy.total_energy, f"self, device, {RUNS}"),
    (energy.ModelEnergy.summary, SUMMARY),
    (energy.ModelEnergy.summary_string, SUMMARY),
]
CELLS = {
    keras_spiking.SpikingActivation: keras_spiking.SpikingActivationCell,
    keras_spiking.Lowpass: keras_spiking.LowpassCell,
    keras_spiking.Alpha: keras_spiking.AlphaCell,
}


def without_annotations(signature):
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(parameters))


@pytest.mark.parametrize(
    ("function", "arguments"), SIGNATURES, ids=[each[0].__qualname__ for each in SIGNATURES]
)
def test_arguments_have_their_names_order_and_defaults(function, arguments):
    assert without_annotations(inspect.signature(function)) == f"({arguments})"


def test_every_layer_is_among_them():
    functions = {function for function, _ in SIGNATURES}
    assert {getattr(layers, name) for name in layers.__all__} <= functions


def test_pytorch_modules_have_the_arguments_of_pytorch_spiking_first():
    if BACKEND != "torch":
        pytest.skip("needs PyTorch")
    import torch

    from keras_spiking import pytorch

    filters = "tau, units, dt=0.001, apply_during_training=True, initial_level=None"
    expected = {
        pytorch.SpikingActivation: "activation, dt=0.001, initial_state=None, "
        "spiking_aware_training=True",
        pytorch.Lowpass: filters,
        pytorch.Alpha: filters,
    }
    for module, arguments in expected.items():
        received = without_annotations(inspect.signature(module))
        assert received.startswith(f"({arguments}, return_sequences=True, "), module
    assert without_annotations(inspect.signature(pytorch.TemporalAvgPool)) == "(dim=1)"
    for module in expected:
        public = {name for name in dir(module) if not name.startswith("_")}
        assert public <= {*dir(torch.nn.Module), "feature_shape", "tau", "reset_state"}, module


@pytest.mark.parametrize("layer", CELLS, ids=lambda layer: layer.__name__)
def test_docstrings_describe_each_argument_of_a_layer(layer):
    base = set(inspect.signature(keras_spiking.layers.KerasSpikingLayer).parameters)
    for name in {*inspect.signature(layer).parameters, *base} - {"kwargs"}:
        assert f"\n    {name}: " in inspect.getdoc(layer), name


@pytest.mark.parametrize("layer", CELLS, ids=lambda layer: layer.__name__)
def test_a_layer_and_its_cell_offer_only_what_users_need(layer):
    for own, base in (
        (layer, layers.KerasSpikingLayer),
        (CELLS[layer], layers.KerasSpikingCell),
    ):
        public = {name for name in dir(own) if not name.startswith("_")}
        assert public <= set(dir(base)), own
