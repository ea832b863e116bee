"""A million steps in chunks of random lengths: what the whole run gives, in constant memory."""

import pathlib
from fractions import Fraction

import numpy as np
import pytest
import scipy.signal
from keras import ops

from keras_spiking import Alpha, Lowpass, SpikingActivation
from tests.compiled import BACKEND
from tests.layers.cases import run

STEPS, UNITS, DT, TAU = 1_000_000, 3, 0.001, 0.5
LENGTHS = (1, 10, 1000, 10_000)  # a handful, for each of which XLA compiles a program
GRID = 2**23
STATM = pathlib.Path("/proc/self/statm")


def chunks(rng, total=STEPS):
    """Slices of random lengths that cover `total` steps."""
    first = 0
    while first < total:
        length = int(rng.choice([each for each in LENGTHS if each <= total - first]))
        yield slice(first, first + length)
        first += length


def resident_megabytes():
    """What this process holds in memory now; 0 where the system does not say."""
    return int(STATM.read_text().split()[1]) * 4096 / 2**20 if STATM.exists() else 0


def stream_of(layer):
    """A stateful layer as a function of arrays, compiled where its backend compiles."""
    if BACKEND == "torch":
        return lambda inputs: ops.convert_to_numpy(layer(inputs).detach())
    if BACKEND == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda inputs: layer(inputs))
        return lambda inputs: compiled(tf.constant(inputs)).numpy()
    import jax

    compiled = jax.jit(layer.stateless_call)
    weights = [each.value for each in layer.trainable_variables]

    def call(inputs):
        state = [each.value for each in layer.non_trainable_variables]
        outputs, state = compiled(weights, state, inputs)
        for variable, value in zip(layer.non_trainable_variables, state, strict=True):
            variable.assign(value)
        return np.asarray(outputs)

    return call


def feed(layer, inputs, rng, check):
    """Streams inputs through a stateful layer, checks each chunk, and bounds the memory taken."""
    layer.build((1, None, UNITS))
    stream = stream_of(layer)
    for length in LENGTHS:  # compiles, and takes what memory it takes
        stream(inputs[:, :length])
    layer.reset_state()
    before = resident_megabytes()
    for part in chunks(rng):
        check(part, stream(inputs[:, part]))
    assert resident_megabytes() - before < 50


def spikes_in_integers(rates, start):
    """Counts per step and voltages, in units of the grid, by NumPy's integers of 64 bits."""
    added = np.rint(rates * np.float32(DT * GRID)).astype("int64")
    total = np.cumsum(added, axis=1) + start[:, None]
    return np.diff(total // GRID, axis=1, prepend=0), total % GRID


@pytest.fixture(scope="module")
def rates():
    rates = np.random.default_rng(1).uniform(-50, 300, size=(1, STEPS, UNITS)).astype("float32")
    rates[..., 0] = 123.456  # the same at every step, so that rounding cannot average out
    return rates


START = np.array([[0, 1, GRID - 1]])


def test_spikes_of_a_million_steps_are_exact_in_chunks_and_at_once(rates, rng):
    counts, voltages = spikes_in_integers(rates, START)
    options = {"dt": DT, "initial_voltage": START / GRID}
    layer = SpikingActivation("linear", stateful=True, **options)

    def check(part, spikes):
        np.testing.assert_array_equal(np.rint(spikes * DT), counts[:, part])
        voltage = ops.convert_to_numpy(layer.states[0])
        assert (voltage >= 0).all()
        assert (voltage < 1).all()
        np.testing.assert_array_equal(voltage * GRID, voltages[:, part][:, -1])

    feed(layer, rates, rng, check)

    whole, voltage = run(SpikingActivation("linear", return_state=True, **options), rates)
    np.testing.assert_array_equal(np.rint(whole * DT), counts)
    np.testing.assert_array_equal(voltage * GRID, voltages[:, -1])


def test_the_mean_rate_of_a_million_steps_is_exact_to_one_spike(rates):
    spikes = run(SpikingActivation("linear", dt=DT, initial_voltage=START / GRID), rates)
    for unit in range(UNITS):
        count = int(np.rint(spikes[0, :, unit].astype("float64") * DT).sum())
        if unit == 0:
            expected = Fraction(float(rates[0, 0, 0])) * Fraction(DT) * STEPS
        else:
            expected = Fraction(rates[0, :, unit].astype("float64").sum()) * Fraction(DT)
        # A step is rounded by half of the grid at most, and that is the whole difference.
        bound = 1 + Fraction(STEPS, 2 * GRID)
        assert abs(count - expected - Fraction(int(START[0, unit]), GRID)) < bound


@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_levels_of_a_million_steps_are_right_in_chunks_and_at_once(make, rates, rng):
    decay, ratio = np.exp(-DT / TAU), DT / TAU
    if make is Lowpass:
        numerator, denominator = [1 - decay], [1, -decay]
    else:
        numerator = [1 - decay * (1 + ratio), decay * (decay + ratio - 1)]
        denominator = [1, -2 * decay, decay**2]
    expected = scipy.signal.lfilter(numerator, denominator, rates.astype("float64"), axis=1)
    largest = np.abs(expected).max()
    layer = make(TAU, dt=DT, stateful=True)

    def check(part, outputs):
        assert np.abs(outputs - expected[:, part]).max() < 1e-5 * largest

    feed(layer, rates, rng, check)
    assert np.abs(run(make(TAU, dt=DT), rates) - expected).max() < 1e-5 * largest


@pytest.mark.parametrize("make", [Lowpass, Alpha, SpikingActivation])
def test_state_passed_by_hand_is_as_good_as_state_that_is_kept(make, rates):
    arguments = ["linear"] if make is SpikingActivation else [TAU]
    kept = make(*arguments, dt=DT, stateful=True)
    passed = make(*arguments, dt=DT, return_state=True)
    for layer in (kept, passed):
        layer.build((1, None, UNITS))
    state = [ops.convert_to_numpy(each) for each in passed.cell.get_initial_state(batch_size=1)]
    kept.reset_states(state)
    for part in (slice(0, 1), slice(1, 11), slice(11, 12), slice(12, 22)):
        outputs, *state = run(passed, rates[:, part], initial_state=state)
        np.testing.assert_array_equal(run(kept, rates[:, part]), outputs)
