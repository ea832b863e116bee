"""The state of the modules: a million steps in chunks, and how it is given, kept and refused."""

import copy
import pathlib

import numpy as np
import pytest
import scipy.signal
import torch

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation

STEPS, UNITS, DT, TAU = 1_000_000, 3, 0.001, 0.5
LENGTHS = (1, 7, 1000, 9_973)
GRID = 2**23
STATM = pathlib.Path("/proc/self/statm")

MAKERS = {
    "spiking": lambda **kwargs: SpikingActivation(
        torch.nn.Identity(), dt=DT, initial_state=torch.full((1, UNITS), 0.25), **kwargs
    ),
    "lowpass": lambda **kwargs: Lowpass(TAU, UNITS, dt=DT, **kwargs),
    "alpha": lambda **kwargs: Alpha(TAU, UNITS, dt=DT, **kwargs),
}
every_module = pytest.mark.parametrize("name", MAKERS)


def chunks(rng, total=STEPS):
    """Slices of random lengths that cover `total` steps."""
    first = 0
    while first < total:
        length = min(int(rng.choice(LENGTHS)), total - first)
        yield slice(first, first + length)
        first += length


def resident_megabytes():
    """What this process holds in memory now; 0 where the system does not say."""
    return int(STATM.read_text().split()[1]) * 4096 / 2**20 if STATM.exists() else 0


@pytest.fixture(scope="module")
def rates():
    rates = np.random.default_rng(1).uniform(-50, 300, size=(1, STEPS, UNITS)).astype("float32")
    rates[..., 0] = 123.456  # the same at every step, so that rounding cannot average out
    return torch.from_numpy(rates)


def expected_of(name, rates):
    """The outputs of the whole run, in whole numbers or in float64."""
    if name == "spiking":
        added = np.rint(rates.numpy() * np.float32(DT * GRID)).astype("int64")
        counts = np.diff((np.cumsum(added, axis=1) + GRID // 4) // GRID, axis=1, prepend=0)
        return counts / DT
    decay, ratio = np.exp(-DT / TAU), DT / TAU
    numerator, denominator = [1 - decay], [1, -decay]
    if name == "alpha":
        numerator = [1 - decay * (1 + ratio), decay * (decay + ratio - 1)]
        denominator = [1, -2 * decay, decay**2]
    return scipy.signal.lfilter(numerator, denominator, rates.double().numpy(), axis=1)


@torch.no_grad()
@every_module
def test_a_million_steps_are_right_in_chunks_and_at_once(name, rates, rng):
    expected = expected_of(name, rates)
    tolerance = 1e-7 if name == "spiking" else 1e-5  # of the rounding of 1 / dt alone
    largest = np.abs(expected).max()
    module = MAKERS[name](stateful=True, return_state=True)
    module(rates[:, :1000])
    module.reset_state()
    before = resident_megabytes()
    for part in chunks(rng):
        outputs, state = module(rates[:, part])
        assert np.abs(outputs.numpy() - expected[:, part]).max() <= tolerance * largest
        if name == "spiking":
            assert (state >= 0).all()
            assert (state < 1).all()
    assert resident_megabytes() - before < 50
    whole = MAKERS[name]()(rates).numpy()
    assert np.abs(whole - expected).max() <= tolerance * largest


@every_module
@pytest.mark.parametrize("return_sequences", [True, False])
def test_state_is_passed_or_kept(name, return_sequences, rates, rng):
    options = {"return_sequences": return_sequences}
    passed, kept = (
        MAKERS[name](return_state=True, **options),
        MAKERS[name](stateful=True, **options),
    )
    state = None
    for part in chunks(rng, 5000):
        outputs, state = passed(rates[:, part], state)
        assert kept(rates[:, part]).equal(outputs)
    if return_sequences:
        assert not kept(rates[:, :50]).equal(MAKERS[name](**options)(rates[:, :50]))
    kept.reset_state()
    # The end of a filter alone is a weighted sum, not a recurrence.
    rtol = 0 if return_sequences or name == "spiking" else 1e-6
    fresh = MAKERS[name](**options)(rates[:, :50])
    torch.testing.assert_close(kept(rates[:, :50]), fresh, rtol=rtol, atol=0)
    assert not kept.state_dict().keys() - {"level_var", "smoothing_var"}
    other = copy.deepcopy(kept)
    assert other(rates[:, :50]).equal(kept(rates[:, :50]))


@every_module
def test_state_stays_in_float32_where_inputs_are_in_half_precision(name, rates):
    module = MAKERS[name](stateful=True).half()
    inputs = rates[:, :300].half()
    whole = MAKERS[name]().half()(inputs)
    pieces = torch.cat([module(piece) for piece in inputs.split(30, dim=1)], dim=1)
    torch.testing.assert_close(pieces, whole, rtol=2e-3, atol=0)
    if name == "spiking":
        assert pieces.equal(whole)


@pytest.mark.parametrize("name", ["lowpass", "alpha"])
def test_gradients_flow_through_a_state_that_is_passed_but_not_one_that_is_kept(name, rates):
    inputs = rates[:, :20].clone().requires_grad_()
    first, second = inputs.split(10, dim=1)
    passed = MAKERS[name](return_state=True)
    _, state = passed(first)
    passed(second, state)[0].sum().backward()
    in_pieces, inputs.grad = inputs.grad, None
    MAKERS[name]()(inputs)[:, 10:].sum().backward()
    torch.testing.assert_close(in_pieces, inputs.grad)

    inputs.grad = None
    kept = MAKERS[name](stateful=True)
    kept(first)
    kept(second).sum().backward()
    assert not inputs.grad[:, :10].any()
    assert inputs.grad[:, 10:].all()


@pytest.mark.parametrize("compiles", [False, True])
@every_module
def test_a_state_kept_in_inference_mode_serves_in_training(name, compiles, rates):
    torch.compiler.reset()
    first, second = rates[:, :10], rates[:, 10:20]
    module, other = MAKERS[name](stateful=True), MAKERS[name](stateful=True)
    run = torch.compile(module, backend="aot_eager", fullgraph=True) if compiles else module
    with torch.inference_mode():
        run(first)
    with torch.no_grad():
        other(first)
    results = []
    for each in (run, other):
        inputs = second.clone().requires_grad_()
        each(inputs).square().sum().backward()
        results.append(inputs.grad)
    assert results[0].equal(results[1])


@pytest.mark.parametrize("name", ["lowpass", "alpha"])
def test_a_state_returned_in_inference_mode_serves_in_training(name, rates):
    module, inputs = MAKERS[name](return_state=True), rates[:, :10].clone().requires_grad_()
    with torch.inference_mode():
        _, state = module(rates[:, :10])
    module(inputs, state)[0].sum().backward()
    assert inputs.grad.all()


def test_training_without_spikes_leaves_the_state():
    module = SpikingActivation(torch.relu, spiking_aware_training=False, return_state=True)
    start = torch.rand(2, 3)
    _, state = module.train()(torch.rand(2, 5, 3), start)
    assert state.equal(start)
    module = Lowpass(0.1, 3, apply_during_training=False, return_state=True)
    _, state = module.train()(torch.rand(2, 5, 3), start)
    assert state.equal(start)


@every_module
def test_a_state_of_another_shape_is_refused(name, rates):
    words = r"`state` must have shape .* for these inputs; received shape \(2, 3\)"
    with pytest.raises(ValueError, match=words):
        MAKERS[name]()(rates[:, :5], torch.zeros(2, 3))


@every_module
def test_a_stateful_module_compiles_and_is_not_compiled_anew(name, rates, rng):
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    module, other = MAKERS[name](stateful=True), MAKERS[name](stateful=True)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=backend)
    with torch.no_grad():
        for length in (20, 1, 1, 50, 50, 10, 300):
            inputs = rates[:, :length]
            assert compiled(inputs).equal(other(inputs))
    assert len(graphs) <= 4  # without a state, with one, and each for a single step
