"""The search with random models: it passes here, finds bugs that are planted, and replays."""

import pytest

import keras_spiking
from keras_spiking import kernels
from tests.fuzz import cases
from tests.fuzz.draw import Draw
from tests.fuzz.model_checks import check_conversion, check_model_over_time

# Small models: one over time, with a mask, and one to convert.
OVER_TIME, CONVERTED = 33, 42


@pytest.mark.slow
@pytest.mark.parametrize("seed", [OVER_TIME, CONVERTED])
def test_random_models_pass(seed):
    cases.run_case(seed)


def test_seeds_stand_for_both_kinds_of_models():
    checks = {cases.make_case(seed)[1] for seed in (OVER_TIME, CONVERTED)}
    assert checks == {check_model_over_time, check_conversion}


def test_a_seed_makes_the_same_model_again():
    first, second = cases.describe(OVER_TIME), cases.describe(OVER_TIME)
    assert first == second
    assert "SpikingActivation" in first


@pytest.mark.slow
def test_a_spike_too_many_is_found(monkeypatch):
    right = kernels.spike

    def one_more(rates, voltage, dt, *rest, **options):
        spikes, final = right(rates, voltage, dt, *rest, **options)
        return spikes + 1.0 / dt, final

    monkeypatch.setattr(kernels, "spike", one_more)
    with pytest.raises(AssertionError, match="too many or too few as float64 loops"):
        cases.run_case(OVER_TIME)


@pytest.mark.slow
def test_an_option_that_a_file_loses_is_found(monkeypatch):
    layer = keras_spiking.SpikingActivation
    right = layer.get_config

    def forgetful(self):
        return {**right(self), "activation": "sigmoid", "rate_scale": 1e4}

    monkeypatch.setattr(layer, "get_config", forgetful)
    with pytest.raises(AssertionError, match="outputs differ loaded from"):
        cases.run_case(OVER_TIME)


def test_failures_are_counted_and_told_with_their_seeds(monkeypatch):
    def fail_at_seven(seed):
        if seed == 7:
            raise ValueError("a bug")

    clock = iter(range(100))
    monkeypatch.setattr(cases, "run_case", fail_at_seven)
    monkeypatch.setattr(cases.time, "monotonic", lambda: next(clock))
    lines = []
    assert cases.run_until(5, first=5, report=lines.append) == ([7], 4)
    told = "\n".join(lines)
    assert "FAILED: seed 7" in told
    assert "ValueError: a bug" in told
    assert "--replay 7" in told
    assert "4 random models tried from seed 5 on, 1 failed: seeds [7]" in told


def test_draws_are_within_their_bounds():
    draw = Draw(0)
    assert {draw.integer(1, 3) for _ in range(100)} == {1, 2, 3}
    assert {draw.pick("ab") for _ in range(100)} == {"a", "b"}
    assert all(0.1 <= draw.log_uniform(0.1, 10) <= 10 for _ in range(100))
    assert 20 < sum(draw.chance(0.5) for _ in range(100)) < 80
