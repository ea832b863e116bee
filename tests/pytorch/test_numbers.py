"""Where numbers end in the modules: half precision, huge rates, extreme time constants."""

import pytest
import torch

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation, TemporalAvgPool

every_filter = pytest.mark.parametrize("make", [Lowpass, Alpha])


@pytest.mark.parametrize("compiled", [False, True])
def test_spikes_that_float16_cannot_hold_are_its_largest_number(compiled):
    module = SpikingActivation(torch.nn.Identity(), dt=1e-5, initial_state=torch.full((1, 2), 0.5))
    function = torch.compile(module, backend="aot_eager") if compiled else module
    inputs = torch.tensor([6e4, -6e4], dtype=torch.float16).expand(1, 4, 2).clone()
    outputs = function(inputs.requires_grad_())
    assert outputs.unique().tolist() == [-65504, 0, 65504]
    outputs.float().sum().backward()
    assert (inputs.grad == 1).all()


@every_filter
def test_levels_that_float16_cannot_hold_are_its_largest_number(make):
    module = make(1.0, 1, initial_level=torch.full((1, 1), 1e6), return_state=True)
    outputs, state = module(torch.zeros(1, 3, 1, dtype=torch.float16))
    assert outputs.dtype == torch.float16
    assert (outputs == 65504).all()
    assert state.min() > 9e5


def test_mean_of_large_numbers_in_float16_is_finite():
    inputs = torch.full((1, 1000, 2), 6e4, dtype=torch.float16)
    torch.testing.assert_close(TemporalAvgPool()(inputs), inputs[:, 0])


@pytest.mark.parametrize(("rate", "dt"), [(1e9, 1e8), (1e9, 1e-9), (-1e9, 1.0), (3e38, 1e-3)])
def test_spikes_of_large_rates_are_finite_and_of_their_sign(rate, dt):
    spikes = SpikingActivation(torch.nn.Identity(), dt=dt)(torch.full((1, 5, 2), rate))
    # A step counts 2**104 spikes at most.
    expected = min(abs(rate), 2.0**104 / dt) * (1 if rate > 0 else -1)
    torch.testing.assert_close(spikes, torch.full_like(spikes, expected), rtol=1e-6, atol=1.1 / dt)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("tau", [1e-12, 1e-5, 1e5, 1e12])
@pytest.mark.parametrize("dt", [1e-9, 1e9])
@every_filter
def test_filters_and_their_gradients_are_finite_in_every_precision(make, dt, tau, dtype):
    module = make(tau, 3, dt=dt, initial_level=torch.full((1, 3), 0.5)).to(dtype)
    inputs = torch.linspace(-100, 100, 12, dtype=dtype).reshape(1, 4, 3).requires_grad_()
    outputs = module(inputs)
    outputs.sum().backward()
    for each in (outputs, inputs.grad, module.level_var.grad, module.smoothing_var.grad):
        assert each.isfinite().all()
    if dt > 1e3 * max(tau, 1e-8):
        torch.testing.assert_close(outputs, inputs, rtol=0.02, atol=0)
    if dt < 1e-9 * tau:
        torch.testing.assert_close(outputs, torch.full_like(outputs, 0.5), rtol=1e-3, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_in_its_unit_and_sample(value):
    inputs = torch.rand(3, 40, 4) * 100
    modules = [
        SpikingActivation(torch.relu, dt=0.01, initial_state=torch.rand(3, 4)),
        Lowpass(0.1, 4),
        Alpha(0.1, 4),
    ]
    for module in modules:
        expected = module(inputs)
        spoilt = inputs.clone()
        spoilt[1, 5, 2] = value
        outputs = module(spoilt)
        outputs[1, 5:, 2] = expected[1, 5:, 2]
        assert outputs.equal(expected)


def test_a_step_that_is_no_number_leaves_the_voltage_as_it_was():
    inputs = torch.tensor([0.5, float("nan"), 0.5, 0.25]).reshape(1, 4, 1)
    module = SpikingActivation(torch.nn.Identity(), dt=1, initial_state=torch.zeros(1, 1))
    spikes = module(inputs)[0, :, 0].tolist()
    assert spikes[0] == 0
    assert spikes[2:] == [1, 0]
