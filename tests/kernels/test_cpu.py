"""Loops for CPUs by themselves: how work is parted among threads, compiled and kept."""

import concurrent.futures
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_spiking.kernels import cpu, parallel
from keras_spiking.kernels.contract import Filter, to_row

pytestmark = [
    pytest.mark.skipif(not cpu.is_available(), reason="Numba is not installed"),
    pytest.mark.slow,  # no framework is in the loops: one backend is enough
]
ROOT = Path(__file__).parents[2]


def everything(rng, shape, time_axis, threads, dtype="float32"):
    """Results of all functions for sequences of a shape."""
    state = shape[1 - time_axis], *shape[2:]
    settings = {"time_axis": time_axis, "threads": threads}

    def sequences(number):
        return [rng.normal(size=shape).astype(dtype) for _ in range(number)]

    def states(number):
        return [rng.normal(size=state).astype(dtype) for _ in range(number)]

    def room(arrays):
        return [np.empty_like(each) for each in arrays]

    rates, upstream, more = sequences(3)
    spikes, voltages, levels, gradients = room([rates] * 4)
    start = states(4)
    final, *finals = room(start)
    active = np.zeros(shape, "uint8")
    cpu.fire(rates, start[0], 0.3, 1.0, spikes, final, voltages=voltages, **settings)
    results = [spikes.copy(), voltages, final.copy()]
    for rectify in (False, True):
        choices = {"rectify": rectify, "negative_spikes": rectify}
        cpu.accumulate(rates, start, 0.3, 1.0, spikes, active, finals, **choices, **settings)
        results += [spikes.copy(), *map(np.copy, finals), active.copy()]
    cpu.accumulate_gradient(upstream, active, gradients, **settings)
    results += [gradients.copy()]
    log_decay, coupling, *gains = rng.uniform(size=(4, 1, *shape[2:])).astype(dtype) * 0.1
    for order in (1, 2):
        each = Filter(-log_decay, coupling, tuple(gains[:order])), rates, start[:order]
        levels = room([rates] * order)
        cpu.linear_filter(*each, levels, **settings)
        ups = [upstream, more][:order]
        found = cpu.linear_filter_gradients(*each, levels, ups, gradients, **settings)
        results += [np.copy(each) for each in (*levels, *to_row(*found))]
    return results


@pytest.mark.parametrize("time_axis", [0, 1])
@pytest.mark.parametrize("shape", [(40, 50, 70), (3, 70, 5, 200), (1, 20, 9000), (900, 90, 1)])
def test_the_number_of_threads_changes_nothing(shape, time_axis, rng):
    shape = shape if time_axis == 1 else (shape[1], shape[0], *shape[2:])
    alone = everything(np.random.default_rng(0), shape, time_axis, threads=1)
    for threads in (2, 5):
        together = everything(np.random.default_rng(0), shape, time_axis, threads)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 4, 0), (4, 9)])
@pytest.mark.parametrize("time_axis", [0, 1])
def test_there_may_be_no_sample_step_unit_or_axis_of_units(shape, time_axis, rng):
    *_, for_initial = everything(rng, shape, time_axis, threads=2)
    assert for_initial.shape == (shape[1 - time_axis], *shape[2:])


@pytest.mark.parametrize("samples", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("units", [1, 5, 16, 33, 2000])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_parts_are_everything_once(samples, units, threads):
    layout = parallel.Layout.of((samples, 10**6, units), 1)
    times = np.zeros((samples, units), int)
    for first, last, left, right in layout.parts(threads):
        times[first:last, left:right] += 1
    assert (times == 1).all()


def test_small_sequences_are_one_part():
    assert len(parallel.Layout.of((32, 10, 128), 1).parts(8)) == 1
    assert len(parallel.Layout.of((32, 1000, 128), 1).parts(8)) == 8


def test_several_threads_may_call_at_once():
    def call(seed):
        return everything(np.random.default_rng(seed), (20, 100, 70), 1, threads=2)

    alone = [call(seed) for seed in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(call, range(4)))
    for one, other in zip(alone, together, strict=True):
        for expected, got in zip(one, other, strict=True):
            np.testing.assert_array_equal(expected, got)


def program(code, **environment):
    """Runs a program of its own, and returns what it printed and logged."""
    done = subprocess.run(
        [sys.executable, "-c", "import tests.kernels.test_cpu as test\n" + code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


EVERYTHING = """
import numpy as np
for shape in [(3, 40, 2, 300), (0, 5, 3), (5, 0, 3), (2, 1, 1)]:
    for time_axis in (0, 1):
        test.everything(np.random.default_rng(0), shape, time_axis, threads=2)
print("done")
"""


def test_every_index_is_within_bounds_and_a_long_first_compile_is_told_and_kept(tmp_path):
    settings = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    code = "test.parallel._SECONDS_TO_TELL = 0.2\n" + EVERYTHING
    first, second = (program(code, **settings) for _ in range(2))
    assert "done" in first
    assert "to compile the loop" in first
    assert "done" in second
    assert "to compile the loop" not in second


def test_a_forked_process_has_threads_of_its_own():
    code = """
import os, numpy as np
big = 20, 400, 70
test.everything(np.random.default_rng(0), big, 1, threads=2)
child = os.fork()
test.everything(np.random.default_rng(0), big, 1, threads=2)
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("done")
else:
    os._exit(0)
"""
    assert "done" in program(code)


def test_it_is_quiet_otherwise(caplog, rng):
    with caplog.at_level(logging.DEBUG, logger="keras_spiking"):
        everything(rng, (2, 3, 4), 1, threads=1)
        caplog.clear()
        everything(rng, (2, 3, 4), 1, threads=1)
    assert not caplog.records


def test_importing_the_package_loads_no_numba():
    code = "import sys, keras_spiking; assert 'numba' not in sys.modules; print('done')"
    assert "done" in program(code)
