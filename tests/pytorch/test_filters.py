"""Lowpass and Alpha: what they compute, how they train, in which precision."""

import json
import pathlib

import numpy as np
import pytest
import scipy.signal
import torch

from keras_spiking.pytorch import Alpha, Lowpass
from tests import reference

FOLDER = pathlib.Path(__file__).parents[1] / "data"
FILTERS = {"lowpass": Lowpass, "alpha": Alpha}
ORACLES = {"lowpass": reference.lowpass, "alpha": reference.alpha}
OLD = [
    (name, index, options)
    for name in FILTERS
    for index, options in enumerate(json.loads(str(np.load(FOLDER / f"{name}.npz")["cases"])))
    if (np.load(FOLDER / f"{name}.npz")[f"{index}.tau"] > 0).all()
]

every_filter = pytest.mark.parametrize("name", FILTERS)


def close(actual, expected, tolerance=1e-5):
    actual = torch.as_tensor(actual).detach().double().numpy()
    scale = np.abs(expected).max()
    assert np.abs(actual - expected).max() <= tolerance * scale


def with_weights(module, level, tau):
    """Sets the initial level and, by the logit of the decay in float64, the time constants."""
    decay = np.exp(-module.dt / np.asarray(tau, "float64"))
    state = {"level_var": level, "smoothing_var": np.log(decay) - np.log1p(-decay)}
    shape = module.level_var.shape
    module.load_state_dict({key: torch.tensor(value).view(shape) for key, value in state.items()})
    return module


@pytest.mark.parametrize(("name", "index", "options"), OLD, ids=str)
def test_equals_the_old_keras_library(name, index, options):
    data = {
        key.partition(".")[2]: value
        for key, value in np.load(FOLDER / f"{name}.npz").items()
        if key.startswith(f"{index}.")
    }
    units = data["inputs"].shape[2:]
    module = FILTERS[name](0.1, units, dt=options["dt"])
    with_weights(module, data["initial_level"], data["tau"])
    inputs = torch.tensor(data["inputs"], requires_grad=True)
    outputs = module(inputs)
    close(outputs, data["outputs"])
    (outputs * torch.tensor(data["loss_weights"])).sum().backward()
    close(inputs.grad, data["grad_inputs"], 2e-4)
    close(module.level_var.grad.ravel(), data["grad_initial_level"].ravel(), 2e-4)
    # By the chain rule: the logit is -log(exp(dt / tau) - 1).
    tau = data["tau"].astype("float64").ravel()
    slope = options["dt"] / tau**2 / -np.expm1(-options["dt"] / tau)
    close(module.smoothing_var.grad.ravel() * torch.tensor(slope), data["grad_tau"].ravel(), 2e-4)


@pytest.mark.parametrize("units", [4, (2, 2)], ids=str)
@pytest.mark.parametrize("dt", [0.001, 0.02, 3.0])
@every_filter
def test_equals_a_float64_loop(name, dt, units, rng):
    module = FILTERS[name](0.1, units, dt=dt)
    inputs = rng.normal(size=(2, 20, *module.feature_shape)).astype("float32")
    level = rng.normal(size=(1, *module.feature_shape)).astype("float32")
    tau = rng.uniform(0.01, 0.5, size=level.shape)
    with_weights(module, level, tau)
    weights = (level.ravel(), tau.ravel()) if name == "alpha" else (level, tau)
    expected, _ = ORACLES[name](inputs, dt, weights[1], weights[0])
    close(module(torch.tensor(inputs)), expected, 2e-6)
    module.return_sequences = False
    close(module(torch.tensor(inputs)), expected[:, -1], 2e-6)


@pytest.mark.parametrize("sequences", [True, False], ids=["sequence", "last output"])
@every_filter
def test_gradients_of_time_constants_are_exact_however_short(name, sequences, rng):
    ratio = np.array([1e-4, 1e-3, 0.01, 0.1, 0.3, 2, 3, 8, 10, 15, 20, 25, 30])
    dt, units = 0.01, len(ratio)
    module = FILTERS[name](0.1, units, dt=dt, return_sequences=sequences)
    with_weights(module, np.zeros(units, "float32"), dt / ratio)
    inputs = rng.uniform(1, 2, size=(3, 25, units)).astype("float32")
    weights = rng.uniform(size=inputs.shape).astype("float32")
    if not sequences:
        weights[:, :-1] = 0
    factors = torch.tensor(weights if sequences else weights[:, -1])
    (module(torch.tensor(inputs)) * factors).sum().backward()
    # By the chain rule: the logit is -log(exp(dt / tau) - 1). It is what float32 rounded.
    ratio = np.logaddexp(0, -module.smoothing_var.detach().double().numpy()[0])
    slopes = reference.slopes_in_tau(name, inputs, dt, dt / ratio, np.zeros(units), weights)
    expected = slopes * dt / ratio**2 * -np.expm1(-ratio)
    np.testing.assert_allclose(module.smoothing_var.grad[0].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0, 10.0])
@every_filter
def test_error_stays_small_over_10000_steps(name, tau, rng):
    inputs = rng.uniform(size=(1, 10_000, 2)).astype("float32")
    outputs = FILTERS[name](tau, 2, dt=0.001)(torch.tensor(inputs))
    decay = np.exp(-0.001 / tau)
    expected = inputs.astype("float64")
    if name == "lowpass":
        expected = scipy.signal.lfilter([1 - decay], [1, -decay], expected, axis=1)
    else:
        ratio = 0.001 / tau
        gain, other = 1 - decay * (1 + ratio), decay * (decay + ratio - 1)
        expected = scipy.signal.lfilter([gain, other], [1, -2 * decay, decay**2], expected, axis=1)
    close(outputs, expected, 1e-5)


@every_filter
def test_step_response_is_that_of_the_transfer_function(name):
    tau, dt, steps = 0.05, 0.001, 400
    system = {"lowpass": ([1], [tau, 1]), "alpha": ([1], [tau**2, 2 * tau, 1])}[name]
    _, expected = scipy.signal.step(system, T=np.arange(steps + 1) * dt)
    close(FILTERS[name](tau, 1, dt=dt)(torch.ones(1, steps, 1))[0, :, 0], expected[1:], 1e-5)


@pytest.mark.parametrize("steps", [1, 7, 40])
@every_filter
def test_gradients_are_those_of_finite_differences(name, steps):
    module = FILTERS[name](0.1, (2, 2), dt=0.03).double()
    inputs = torch.randn(2, steps, 2, 2, dtype=torch.float64, requires_grad=True)
    level = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    smoothing = torch.tensor([[[-2.0, 0.5], [1.5, 6.0]]], dtype=torch.float64, requires_grad=True)

    def run(inputs, level, smoothing):
        weights = {"level_var": level, "smoothing_var": smoothing}
        return torch.func.functional_call(module, weights, (inputs,))

    assert torch.autograd.gradcheck(run, (inputs, level, smoothing))


@pytest.mark.parametrize(
    ("tau", "dt"), [(10.0, 0.001), (0.1, 0.1), (0.001, 0.05), (1e-12, 1e-3), (1e12, 1e-9)]
)
@every_filter
def test_tau_reads_as_it_was_given(name, tau, dt, rng):
    module = FILTERS[name](tau, 3, dt=dt)
    expected = max(tau, 1e-8)  # the shortest there is
    torch.testing.assert_close(module.tau, torch.full((1, 3), expected), rtol=1e-5, atol=0)
    inputs = torch.tensor(rng.normal(size=(2, 20, 3)).astype("float32"), requires_grad=True)
    outputs = module(inputs)
    assert outputs.isfinite().all()
    if dt > 1e3 * tau:
        torch.testing.assert_close(outputs, inputs)
    outputs.sum().backward()
    for each in (inputs, *module.parameters()):
        assert each.grad.isfinite().all()


@every_filter
def test_parameters_are_level_and_logit_of_shape_1_by_units(name):
    for units, shape in ((3, (1, 3)), ((2, 3), (1, 2, 3))):
        module = FILTERS[name](0.1, units)
        names = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        assert names == {"level_var": shape, "smoothing_var": shape}
        assert list(names) == ["level_var", "smoothing_var"]


@every_filter
def test_parameters_train_only_if_the_filter_works_in_training(name, rng):
    inputs = torch.tensor(rng.normal(size=(2, 9, 3)).astype("float32"))
    applied = FILTERS[name](0.1, 3, dt=0.1)
    bypassed = FILTERS[name](0.1, 3, dt=0.1, apply_during_training=False)
    assert all(each.requires_grad for each in applied.parameters())
    assert not any(each.requires_grad for each in bypassed.parameters())
    assert bypassed.train()(inputs).equal(inputs)
    filtered = applied.train()(inputs)
    assert not filtered.equal(inputs)
    assert applied.eval()(inputs).equal(filtered)
    assert bypassed.eval()(inputs).equal(filtered)
    bypassed.return_sequences = False
    assert bypassed.train()(inputs).equal(inputs[:, -1])


@every_filter
def test_trained_decay_stays_between_0_and_1(name):
    module = FILTERS[name](0.1, 4, dt=0.01)
    optimizer = torch.optim.SGD([module.smoothing_var], lr=1e4)
    for _ in range(20):
        optimizer.zero_grad()
        outputs = module(torch.randn(3, 12, 4))
        (outputs - 100).square().mean().backward()
        optimizer.step()
    assert module.smoothing_var.abs().max() > 100  # far from where it began
    assert (module.tau > 0).all()
    assert module(torch.randn(3, 12, 4)).isfinite().all()


@every_filter
def test_initial_level_is_the_output_before_the_first_step(name):
    level = torch.tensor([[1.0, -2.0]], requires_grad=True)
    module = FILTERS[name](0.1, 2, dt=1e-6, initial_level=level)
    assert module.level_var.data_ptr() != level.data_ptr()
    outputs = module(torch.zeros(3, 1, 2))[:, 0]
    torch.testing.assert_close(outputs, level.expand(3, 2), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_filter
def test_level_is_never_in_half_precision(name, dtype):
    # In half precision, a level near 1 could not rise by the 2**-8 of what is left to 1.
    inputs = torch.ones(1, 4096, 1, dtype=dtype)
    outputs = FILTERS[name](0.256, 1, dt=0.001)(inputs)
    assert outputs.dtype == dtype
    assert outputs[0, -1, 0] == 1
    halved = FILTERS[name](0.256, 1, dt=0.001).to(dtype)
    assert halved(inputs)[0, -1, 0] == 1


@every_filter
def test_output_has_the_type_of_the_inputs(name):
    for inputs, parameters, expected in (
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.float64, torch.float32),
        (torch.int64, torch.float32, torch.float32),
    ):
        module = FILTERS[name](0.1, 3).to(parameters)
        assert module(torch.ones(2, 4, 3, dtype=inputs)).dtype == expected


@every_filter
def test_double_is_exact_to_its_precision(name, rng):
    inputs = rng.normal(size=(1, 500, 2))
    outputs = FILTERS[name](0.1, 2, dt=0.04).double()(torch.tensor(inputs))
    expected, _ = ORACLES[name](inputs, 0.04, np.full((1, 2), 0.1), np.zeros((1, 2)).squeeze())
    close(outputs, expected, 1e-6)  # the parameter was made in float32


@every_filter
def test_batch_may_be_empty(name):
    assert FILTERS[name](0.1, 3)(torch.zeros(0, 5, 3)).shape == (0, 5, 3)


@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_an_initial_level_in_float64_keeps_its_digits(make):
    level = torch.full((1, 3), 0.1, dtype=torch.float64)
    module = make(1e6, 3, initial_level=level)
    assert module.double().level_var.equal(level)
    outputs = module(torch.full((2, 5, 3), 0.1, dtype=torch.float64))
    torch.testing.assert_close(outputs, outputs.new_full((2, 5, 3), 0.1), rtol=1e-15, atol=0)
    single = make(0.1, 3, initial_level=level)(torch.ones(2, 5, 3))
    assert single.dtype == torch.float32
    assert make(0.1, 3, initial_level=level.half()).level_var.dtype == torch.float32
