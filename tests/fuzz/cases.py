"""One case, a model from a seed with all its checks, and many of them."""

import itertools
import pathlib
import tempfile
import time
import traceback
import warnings

import keras

import keras_spiking
from tests.compiled import BACKEND
from tests.fuzz.draw import Draw
from tests.fuzz.feed_forward import feed_forward
from tests.fuzz.model_checks import check_conversion, check_model_over_time
from tests.fuzz.over_time import model_over_time

# How many cases run between those of which the compiled programs are thrown away.
_CASES_IN_MEMORY = 10


def make_case(seed):
    """The case of a seed, with the check that it is for, and what further choices come from."""
    _start_afresh(seed)
    draw = Draw(seed)
    if draw.chance(0.7):
        return model_over_time(draw), check_model_over_time, draw
    return feed_forward(draw), check_conversion, draw


def run_case(seed):
    """Makes the model of a seed and checks it; an exception says what is wrong."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        try:
            case, check, draw = make_case(seed)
            check(case, draw, pathlib.Path(folder))
        finally:
            keras_spiking.config.set_kernels("auto")
            keras.config.set_dtype_policy("float32")


def describe(seed):
    """The layers of the model of a seed."""
    case, check, _ = make_case(seed)
    lines = [f"{check.__name__}: {case.policy}, inputs {case.inputs.shape} {case.inputs.dtype}"]
    for layer in case.model.layers:
        config = {
            key: value
            for key, value in layer.get_config().items()
            if value and key not in ("name", "trainable", "dtype")
        }
        lines.append(f"  {layer.name} ({type(layer).__name__}): {config}")
    return "\n".join(lines)


def run_until(seconds, first=0, report=print):
    """Runs one case after the other.

    Args:
        seconds: For how long; a case that has begun is finished.
        first: The first seed; the others follow it.
        report: Function that gets every line to show.

    Returns:
        The seeds that failed, and the number of cases tried.
    """
    failed, tried, end = [], 0, time.monotonic() + seconds
    for seed in itertools.count(first):
        if time.monotonic() >= end:
            break
        tried += 1
        try:
            run_case(seed)
        except Exception:  # noqa: BLE001 - whatever a model raises is a failure to report
            failed.append(seed)
            report(f"FAILED: seed {seed} on {BACKEND}\n{traceback.format_exc()}")
            report(f'Again: make fuzz BACKEND={BACKEND} ARGS="--replay {seed}"\n')
        if tried % 20 == 0:
            report(f"{tried} models tried, {len(failed)} failed")
        if tried % _CASES_IN_MEMORY == 0:
            _forget()
    report(
        f"{BACKEND}: {tried} random models tried from seed {first} on, {len(failed)} failed"
        + (f": seeds {failed}" if failed else "")
    )
    return failed, tried


def _start_afresh(seed):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed % 2**32)


def _forget():
    if BACKEND == "jax":
        import jax

        jax.clear_caches()
