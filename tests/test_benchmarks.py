"""`python -m benchmarks` measures what has a target, and reports it; no test asserts a time."""

import dataclasses
import gc
import json
import subprocess
import sys

import pytest

pytest.importorskip("matplotlib")

from benchmarks import __main__ as program
from benchmarks import cores, growth, layers, report, steps, targets, time_batched, training
from tests.compiled import BACKEND
from tests.processes import environment


@pytest.fixture(scope="module")
def results(module_patch):
    """Everything measured once, at sizes that take no time."""
    if BACKEND != "torch":
        pytest.skip("one backend is enough, and this one compiles nothing")
    module_patch.setattr(layers, "QUICK_SHAPES", ((2, 3, 4),))
    module_patch.setattr(growth, "QUICK_LENGTHS", (3, 5))
    module_patch.setattr(growth, "BATCH", 2)
    module_patch.setattr(growth, "UNITS", 4)
    peaks = {"limit": 10**9, "SpikingActivation": 2 * 10**9, "Lowpass": 10**9, "Alpha": 10**9}
    module_patch.setattr(growth, "_peak_of_process", lambda backend, name, shape: peaks[name])
    size = training.Size(num_steps=2, hidden=4, batch=2, batches=2, epochs=1)
    module_patch.setattr(training, "QUICK_SIZES", {training.SMALL: size, training.LARGE: size})
    module_patch.setattr(cores, "QUICK_SHAPES", ((2, 3, 4),))
    one_core = dict.fromkeys(("limit", *layers.LAYERS), 1.5)
    module_patch.setattr(cores, "_in_process", lambda backend, shape, count: one_core)
    module_patch.setattr(time_batched, "SHAPE", (2, 3, 8, 8, 1))
    module_patch.setattr(gc, "collect", int)  # a suite has much in memory
    for module in (layers, growth, time_batched, cores):
        module_patch.setattr(module, "alternate", once)
    return json.loads(json.dumps(program.measure(BACKEND, True), default=dataclasses.asdict))


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def once(functions, seconds, fewest=1, most=1):
    from benchmarks.timing import alternate

    return alternate(functions, 0.0, fewest=1, most=1)


@pytest.mark.parametrize("way", steps.WAYS[BACKEND])
def test_a_step_gives_outputs_and_then_gradients(way):
    x, g = layers.arrays((2, 3, 4))
    layer = layers.make_layers(x.shape)["Lowpass"]
    (outputs,) = steps.make_step(BACKEND, way, steps.FORWARD, layer, x, g)()
    everything = steps.make_step(BACKEND, way, steps.BOTH, layer, x, g)()
    shapes = [tuple(each.shape) for each in (outputs, *everything)]
    assert shapes == [x.shape, x.shape, (1, 4), (1, 4), x.shape]


def test_every_layer_is_timed(results):
    timed = {(each["way"], each["passes"], each["name"]) for each in results["layers"]}
    names = ("limit", *layers.LAYERS)
    assert timed == {
        (steps.WAYS[BACKEND][0], passes, name)
        for passes in (steps.FORWARD, steps.BOTH)
        for name in names
    }
    assert all(each["ms"]["median"] > 0 for each in results["layers"])
    looped = {each["name"] for each in results["layers"] if each["loop_ms"]}
    assert looped == set(layers.LAYERS)


def test_graphs_do_not_grow_with_time(results):
    counts = {}
    for row in results["growth"]["rows"]:
        counts.setdefault(row["name"], set()).add(row["operations"])
    assert set(counts) == {"limit", *layers.LAYERS}
    assert all(len(operations) == 1 for operations in counts.values())


def test_the_report_has_every_figure_beside_its_target(results, tmp_path):
    size = 4 * 32 * 1000 * 256
    assert results["growth"]["tensors"]["SpikingActivation"] == pytest.approx(10**9 / size)
    page = report.page({BACKEND: results})
    goals = list(targets.goals(BACKEND, results))
    assert {goal.layer for goal in goals} == {*layers.LAYERS, "TimeBatched"}
    for goal in goals:
        assert goal.what in page
    for name in (*layers.LAYERS, "TimeDistributed", training.TWIN, results["machine"]["versions"]):
        assert name in page
    report.plot({BACKEND: results}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_targets_of_long_sequences_are_judged():
    timing = {
        "way": steps.WAYS[BACKEND][0],
        "passes": steps.BOTH,
        "shape": [32, 1000, 128],
        "name": "Alpha",
        "ms": {"median": 100.0},
        "over_limit": {"median": 17.0},
        "loop_ms": 1900.0,
    }
    results = {
        "layers": [timing],
        "training": {
            size: {name: {"over_twin": {"median": 1.0}} for name in layers.LAYERS}
            for size in (training.SMALL, training.LARGE)
        },
        "cores": {"kernels": [], "cores": None},
        "lengths": None,
        "growth": {
            "tensors": dict.fromkeys(layers.LAYERS, 1.0),
            "rows": [
                {"name": name, "length": length, "ms": ms}
                for name in layers.LAYERS
                for length, ms in [(10, 1.0), (100, 21.0)]
            ],
        },
        "time_batched": {"faster": {"median": 3.0}},
    }
    every = list(targets.goals(BACKEND, results))
    growth_goals = [(goal.value, goal.reached) for goal in every if "per element" in goal.what]
    assert growth_goals == [(pytest.approx(2.1), False)] * 3
    goals = [goal for goal in every if "T = 1000:" in goal.what]
    expected = {
        # 5 times `limit` at most; 837 ms of the old library over 15 at least.
        "tensorflow": [(17.0, 5, False), (8.37, 15, False)],
        "jax": [(17.0, 5, False)],
        "torch": [(17.0, 5, False), (19.0, 20, False)],
    }[BACKEND]
    assert [(goal.value, goal.target, goal.reached) for goal in goals] == expected


@pytest.mark.skipif(BACKEND != "jax", reason="one backend is enough, and this one starts soonest")
def test_a_process_of_its_own_times_every_layer_on_few_cores(monkeypatch):
    monkeypatch.setattr(cores, "SECONDS", 0)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    found = cores._in_process(BACKEND, (2, 3, 4), 1)
    assert set(found) == {"limit", *layers.LAYERS}
    assert all(milliseconds > 0 for milliseconds in found.values())


def test_one_core_is_paired_with_two(monkeypatch):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda process: {0, 1})
    taken = {1: 3.0, 2: 2.0}
    monkeypatch.setattr(
        cores,
        "_in_process",
        lambda backend, shape, count: dict.fromkeys(("limit", *layers.LAYERS), taken[count]),
    )
    found = cores._one_against_two(BACKEND, (2, 3, 4), rounds=2)
    assert {name: spread.median for name, spread in found.items()} == dict.fromkeys(
        ("limit", *layers.LAYERS), 1.5
    )


def test_memory_is_that_of_a_process_which_trains(capsys):
    growth.run_steps(BACKEND, "Lowpass", (2, 3, 4))
    assert int(capsys.readouterr().out) > 2**20


def test_refuses_a_backend_that_does_not_exist():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--backend", "theano"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "invalid choice: 'theano'" in done.stderr
