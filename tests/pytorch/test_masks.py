"""Masked steps: left out of states, means and gradients, whatever is in them."""

import math

import numpy as np
import pytest
import torch

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation, TemporalAvgPool
from tests import reference
from tests.pytorch.cases import any_length

STEPS, FEATURES, DT, TAU = 12, (2, 3), 0.03, 0.1
LEVEL = torch.linspace(-1, 1, 6).reshape(1, *FEATURES)
VOLTAGE = torch.linspace(0, 0.9, 24).reshape(4, *FEATURES)
MASK = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],  # a shorter sample
        [0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1],
        [0] * STEPS,
        [1] * STEPS,
    ],
    bool,
)

MAKERS = {
    "spiking": lambda **kwargs: SpikingActivation(
        torch.nn.LeakyReLU(), dt=DT, initial_state=VOLTAGE, **kwargs
    ),
    "relu": lambda **kwargs: SpikingActivation(torch.relu, dt=DT, initial_state=VOLTAGE, **kwargs),
    "lowpass": lambda **kwargs: Lowpass(TAU, FEATURES, dt=DT, initial_level=LEVEL, **kwargs),
    "alpha": lambda **kwargs: Alpha(TAU, FEATURES, dt=DT, initial_level=LEVEL, **kwargs),
    "pool": lambda **kwargs: TemporalAvgPool(),
}
every_module = pytest.mark.parametrize("name", MAKERS)
every_filter = pytest.mark.parametrize("name", ["lowpass", "alpha"])


def data(rng, masked=math.nan):
    inputs = torch.tensor(rng.normal(scale=40, size=(4, STEPS, *FEATURES)).astype("float32"))
    inputs[torch.tensor(~MASK)] = masked
    return inputs, torch.tensor(MASK)


def expected_of(name, inputs):
    """Outputs and final state, in float64."""
    inputs = inputs.double().numpy()
    if name == "lowpass":
        return reference.lowpass(inputs, DT, TAU, LEVEL.numpy(), MASK)
    if name == "alpha":
        return reference.alpha(inputs, DT, np.full(6, TAU), LEVEL.numpy().ravel(), MASK)
    if name == "pool":
        used = np.where(MASK[..., None, None], inputs, 0).sum(1)
        return used / np.maximum(MASK.sum(1), 1)[:, None, None], None
    rates = np.maximum(inputs, (0 if name == "relu" else 0.01) * inputs)
    return reference.integrate_and_fire(rates, DT, VOLTAGE.numpy(), MASK)


@every_module
def test_masked_steps_are_left_out_even_where_they_are_no_numbers(name, rng):
    inputs, mask = data(rng)
    expected, state = expected_of(name, inputs)
    outputs = MAKERS[name]()(inputs, mask=mask).detach()
    np.testing.assert_allclose(outputs.numpy(), expected, rtol=2e-5, atol=1e-4)
    if name == "pool":
        return
    last, final = MAKERS[name](return_sequences=False, return_state=True)(inputs, mask=mask)
    assert last.equal(outputs[:, -1])
    if name == "alpha":  # (l - y) / tau and y there
        x1, x2 = np.moveaxis(state.reshape(4, 2, *FEATURES), 1, 0)
        state = np.stack([TAU * x1 + x2, x2], 1)
    np.testing.assert_allclose(final.detach().numpy(), state, rtol=2e-5, atol=1e-4)


@every_module
def test_gradients_are_those_of_the_used_steps_alone(name, rng):
    inputs, mask = data(rng, math.inf)
    weights = torch.randn(4, STEPS, *FEATURES)
    module = MAKERS[name]()
    inputs.requires_grad_()
    outputs = module(inputs, mask=mask)
    used = mask[..., None, None] if name != "pool" else mask.any(1)[:, None, None]
    weights = weights if name != "pool" else weights[:, 0]
    leaves = [inputs, *module.parameters()]
    of = torch.autograd.grad((outputs * weights * used).sum(), leaves)

    each = []
    for sample in range(4):
        if not mask[sample].any():
            continue
        steps = inputs[sample : sample + 1, mask[sample]]
        if hasattr(module, "initial_state"):
            module.initial_state = VOLTAGE[sample : sample + 1]
        weight = weights[sample : sample + 1]
        weight = weight if name == "pool" else weight[:, mask[sample]]
        each.append((module(steps) * weight).sum())
    expected = torch.autograd.grad(sum(each), leaves)
    for one, other in zip(of, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert not of[0][~mask].any()


@every_module
def test_a_mask_of_all_steps_changes_nothing(name, rng):
    inputs, _ = data(rng, 1.0)
    mask = torch.ones(4, STEPS, dtype=torch.int64)
    outputs = MAKERS[name]()(inputs, mask=mask)
    torch.testing.assert_close(outputs, MAKERS[name]()(inputs))


def test_training_without_spikes_zeroes_masked_steps(rng):
    inputs, mask = data(rng)
    module = SpikingActivation(torch.exp, spiking_aware_training=False, return_state=True)
    outputs, state = module(inputs / 40, VOLTAGE, mask=mask)
    assert outputs.equal(torch.where(mask[..., None, None], (inputs / 40).exp(), 0))
    assert state.equal(VOLTAGE)


@every_filter
def test_a_filter_that_is_off_in_training_repeats_inputs_at_masked_steps(name, rng):
    inputs, mask = data(rng)
    outputs = MAKERS[name](apply_during_training=False).train()(inputs, mask=mask)
    expected, before = torch.zeros_like(inputs), LEVEL.expand(4, *FEATURES)
    for step in range(STEPS):
        before = torch.where(mask[:, step, None, None], inputs[:, step], before)
        expected[:, step] = before
    assert outputs.equal(expected)


@pytest.mark.parametrize("name", ["spiking", "lowpass", "alpha"])
def test_a_stream_with_masks_goes_on_from_the_last_used_step(name, rng):
    inputs, mask = data(rng)
    whole = MAKERS[name]()(inputs, mask=mask)
    module = MAKERS[name](stateful=True)
    pieces = [
        module(piece, mask=of)
        for piece, of in zip(inputs.split(5, 1), mask.split(5, 1), strict=True)
    ]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
@pytest.mark.parametrize("name", ["relu", "lowpass", "alpha", "pool"])
def test_masks_work_in_every_type(name, dtype, rng):
    inputs, mask = data(rng, 7.0)
    inputs = inputs.to(dtype)
    outputs = MAKERS[name]()(inputs, mask=mask)
    assert outputs.dtype == (dtype if dtype.is_floating_point else torch.float32)
    expected, _ = expected_of(name, inputs)
    if name != "relu":  # of which a step early or late is another number
        tolerance = 2e-3 if dtype == torch.float16 else 1e-5
        np.testing.assert_allclose(
            outputs.detach().double().numpy(), expected, rtol=tolerance, atol=tolerance
        )


@every_module
def test_a_module_with_a_mask_compiles_whole(name, rng):
    torch.compiler.reset()
    inputs, mask = data(rng)
    compiled = torch.compile(MAKERS[name](), fullgraph=True, backend="aot_eager")
    for steps in (STEPS, 7):
        part, of = any_length(inputs[:, :steps]), any_length(mask[:, :steps])
        torch.testing.assert_close(compiled(part, mask=of), MAKERS[name]()(part, mask=of))


@every_module
def test_other_masks_are_refused(name):
    module, inputs = MAKERS[name](), torch.zeros(4, STEPS, *FEATURES)
    words = r"`mask` must have shape \(batch, time\), here \(4, 12\); received shape \(4, 11\)"
    with pytest.raises(ValueError, match=words):
        module(inputs, mask=torch.ones(4, STEPS - 1, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"`mask` must be a Boolean .* received torch.float32"):
        module(inputs, mask=torch.ones(4, STEPS))
    with pytest.raises(TypeError, match=r"`mask` must be a Boolean .* received list"):
        module(inputs, mask=[[True] * STEPS] * 4)


def test_a_mask_is_one_of_time():
    mask = torch.ones(4, STEPS, dtype=torch.bool)
    with pytest.raises(ValueError, match="`dim` must be 1, the axis of time; received dim=2"):
        TemporalAvgPool(dim=2)(torch.zeros(4, STEPS, *FEATURES), mask=mask)
    assert TemporalAvgPool(dim=-3)(torch.ones(4, STEPS, *FEATURES), mask=mask).all()
