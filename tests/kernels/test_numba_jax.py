"""On JAX, loops of Numba give what the portable kernels do, wherever they run, and run safely."""

import functools
import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking import kernels
from keras_spiking.kernels import cpu, parallel
from tests.compiled import BACKEND, QUICK, run
from tests.kernels.test_kernels import (
    as_kernel,
    assert_kernels_agree,
    both_layouts,
    every_mode,
    filter_arguments,
    layout,
    spikes_in_integers,
)

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.skipif(
    BACKEND != "jax" or not cpu.is_available() or not hasattr(jax, "ffi"),
    reason="JAX with a foreign function interface, and Numba",
)
SMALL, LARGE = (2, 9, 3), (32, 70, 128)


@pytest.fixture(autouse=True)
def numba():
    keras_spiking.config.set_kernels("numba")


@pytest.fixture
def threads(monkeypatch):
    """Several, however small a sequence is."""
    monkeypatch.setattr(cpu, "cores", lambda: 3)
    monkeypatch.setattr(parallel, "_ELEMENTS_WORTH_A_THREAD", 4)


def spike(rates, voltage, **options):
    return kernels.spike(rates, voltage, 0.01, rectify=True, **options)


def zeros(shape=SMALL, dtype="float32"):
    return ops.zeros(shape, dtype), ops.zeros((shape[0], *shape[2:]), "float32")


def calls_numba(function, *arguments):
    return "custom_call @keras_spiking" in jax.jit(function).lower(*arguments).as_text()


def with_kernels(setting, function, *arguments):
    """What a choice of kernels gives for a function, which is compiled anew."""
    keras_spiking.config.set_kernels(setting)
    try:
        return run(lambda *each: function(*each), *arguments, mode=QUICK)
    finally:
        keras_spiking.config.set_kernels("numba")


def assert_same_bits(function, *arrays, mode="eager"):
    found = keras.tree.flatten(run(lambda *each: function(*each), *arrays, mode=mode))
    expected = keras.tree.flatten(with_kernels("portable", function, *arrays))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize(
    ("shape", "mode"),
    [((1, 1, 1), "jit"), ((5, 15, 2, 35), "jit"), ((5, 15, 2, 35), "eager")],
    ids=str,
)
def test_loops_of_numba_agree_with_the_portable_kernels(mode, shape, threads, rng):
    assert_kernels_agree(rng, "numba", shape, mode)


@every_mode
@both_layouts
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_spikes_in_hertz_are_the_same_bits(mode, time_axis, dtype, threads, rng):
    rates = rng.normal(scale=100, size=(3, 15, 37)).astype("float32")
    rates[0, 1, :4] = np.nan, np.inf, 6e4, -6e4
    voltage = layout(rng.uniform(size=(3, 1, 37)).astype("float32"), time_axis).squeeze(time_axis)

    def function(rates, voltage):
        spikes, final = spike(ops.cast(rates, dtype), voltage, time_axis=time_axis)
        assert spikes.dtype == dtype
        return ops.cast(spikes, "float32"), final

    assert calls_numba(function, layout(rates, time_axis), voltage)
    assert_same_bits(function, layout(rates, time_axis), voltage, mode=mode)


@both_layouts
@pytest.mark.parametrize("order", [1, 2])
def test_filters_agree_in_both_layouts(time_axis, order, threads, rng):
    inputs, *others = filter_arguments(rng, order, 15, (37,), 3)
    arrays = layout(inputs, time_axis), *others
    kernel = as_kernel(kernels, order, time_axis)

    def slopes(*arrays):
        return jax.grad(
            lambda *each: sum(ops.sum(level**2) for level in kernel(*each)),
            argnums=tuple(range(len(arrays))),
        )(*arrays)

    for function, tolerance in ((kernel, 1e-6), (slopes, 1e-5)):
        assert calls_numba(function, *arrays)
        found, expected = (
            with_kernels(setting, function, *arrays) for setting in ("numba", "portable")
        )
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


@every_mode
@both_layouts
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("negative_spikes", [False, True])
def test_neurons_that_remember_their_sum_agree(
    mode, time_axis, rectify, negative_spikes, threads, rng
):
    rates = rng.normal(0.1, 2, size=(3, 15, 37)).astype("float32")
    rates[1, 2, 3] = np.nan
    state = np.rint(rng.normal(scale=3, size=(4, 3, 37))).astype("float32")
    state[1], state[3] = np.rint(rng.uniform(size=(2, 3, 37)) * 2**20) / 2**21

    def fire(rates, *state):
        options = time_axis, rectify, negative_spikes
        return kernels.accumulate_and_fire(rates, state, 0.37, *options)

    def slope(rates, *state):
        return jax.grad(lambda rates: ops.sum(ops.sin(fire(rates, *state)[0])))(rates)

    arrays = layout(rates, time_axis), *state
    assert calls_numba(fire, *arrays)
    assert_same_bits(fire, *arrays, mode=mode)
    expected = with_kernels("native", slope, *arrays)
    np.testing.assert_allclose(run(slope, *arrays, mode=mode), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3), (2, 4, 0)], ids=str)
def test_nothing_is_called_for_no_elements(shape):
    assert not calls_numba(spike, *zeros(shape))
    assert_same_bits(spike, *map(np.asarray, zeros(shape)))


def test_float64_has_a_finer_grid(threads, rng):
    increments = rng.normal(size=(2, 100, 3))
    voltage = np.floor(rng.uniform(size=(2, 3)) * 2.0**52) * 2.0**-52
    expected, end = spikes_in_integers(increments, voltage, 2**52)
    with jax.enable_x64(True):
        assert calls_numba(kernels.integrate_and_fire, increments, voltage)
        counts, final = map(np.asarray, kernels.integrate_and_fire(increments, voltage))
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(final, end)


def test_vmap_gives_what_one_call_after_another_gives(rng):
    rates = rng.normal(scale=100, size=(4, *SMALL)).astype("float32")
    _, voltage = zeros()
    found = jax.vmap(spike, in_axes=(0, None))(rates, voltage)
    for index, each in enumerate(rates):
        for one, other in zip(found, spike(each, voltage), strict=True):
            np.testing.assert_array_equal(one[index], other)

    inputs, *others = filter_arguments(rng, 2, 9, (3,))

    def slope(inputs):
        loss = as_kernel(kernels, 2)
        return jax.grad(lambda inputs: ops.sum(loss(inputs, *others)[1] ** 2))(inputs)

    found = jax.vmap(slope)(np.stack([inputs, 2 * inputs]))
    np.testing.assert_allclose(found[1], slope(2 * inputs), rtol=1e-5, atol=1e-5)


def slope_of(function, *arrays):
    return jax.grad(lambda *each: ops.sum(ops.sin(function(*each))))(*arrays)


@pytest.mark.parametrize("order", [1, 2])
def test_filters_have_second_derivatives(order, rng):
    arrays = filter_arguments(rng, order, 9, (3,))

    def slope(*arrays):
        return slope_of(lambda *each: as_kernel(kernels, order)(*each)[-1], *arrays)

    def second(*arrays):
        return jax.grad(lambda *each: ops.sum(slope(*each) ** 2))(*arrays)

    found = with_kernels("numba", second, *arrays)
    expected = with_kernels("portable", second, *arrays)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_neurons_that_remember_their_sum_have_second_derivatives(rng):
    rates = rng.normal(0.1, 2, size=(3, 20, 4)).astype("float32")
    state = (np.full((3, 4), 0.0, "float32"),) * 4

    def fire(rates):
        return rates**2 * kernels.accumulate_and_fire(rates, state, 0.37, rectify=True)[0]

    def second(rates):
        slope = functools.partial(slope_of, fire)
        backwards = jax.grad(lambda rates: ops.sum(slope(rates) ** 2))(rates)
        return backwards, jax.jvp(slope, (rates,), (ops.ones_like(rates),))[1]

    found, expected = (with_kernels(setting, second, rates) for setting in ("numba", "native"))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_calls_from_several_threads_at_once(rng):
    rates = rng.normal(scale=100, size=(8, 300, 64)).astype("float32")
    voltage = np.full((8, 64), 0.5, "float32")
    step = jax.jit(lambda rates, voltage: spike(rates, voltage))
    inputs = [rates * (index + 1) for index in range(4)]
    expected = [np.asarray(step(each, voltage)[0]) for each in inputs]
    found = [[] for _ in inputs]

    def work(index):
        for _ in range(50):
            found[index].append(step(inputs[index], voltage)[0])

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for results, one in zip(found, expected, strict=True):
        assert all(np.array_equal(each, one) for each in results)


def test_memory_does_not_grow():
    resource = pytest.importorskip("resource")
    rates, voltage = zeros((8, 200, 64))
    step = jax.jit(lambda *each: spike(*each))

    def megabytes():
        for _ in range(500):
            step(rates, voltage)[0].block_until_ready()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000

    megabytes()
    before = megabytes()
    # The results of 1000 calls are 400 megabytes.
    assert megabytes() - before < 20
    assert megabytes() - before < 20


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_a_loop_is_an_error_of_jax(error, monkeypatch):
    def fail(*arguments, **options):
        raise error("no such neuron")

    monkeypatch.setattr(cpu, "fire", fail)
    with pytest.raises(Exception, match=r"keras_spiking: a loop of Numba(.|\n)*no such neuron"):
        jax.block_until_ready(jax.jit(lambda *each: spike(*each))(*zeros()))


def python(code, **environment):
    """Runs lines in a process of their own, which must end soon; returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


LONG = """
import jax, jax.numpy as jnp, keras_spiking
from keras_spiking import kernels
keras_spiking.config.set_kernels("numba")
spike = jax.jit(lambda rates, voltage: kernels.spike(rates, voltage, 0.001))
rates, voltage = jnp.ones((32, 1000, 128)), jnp.zeros((32, 128))
spike(rates, voltage)[0].block_until_ready()
"""


# What waits for a result lets calls have the lock.
WAIT = """
import numpy as np
for use in (
    np.asarray, np.from_dlpack, memoryview, repr, lambda last: float(last[0, 0, 0]),
    lambda last: last.delete(), lambda _: jax.clear_caches(), jax.jit(jnp.sin, donate_argnums=0),
):
    last = rates
    for _ in range(5):
        last = spike(last + 1, voltage)[0]
    use(last)
"""
# Some are kept, some not, and some have others to wait for.
LEAVE_CALLS_UNDER_WAY = """
kept = [spike(rates + step, voltage) for step in range(20)]
[spike(kept[0][0] + step, voltage) for step in range(20)]
"""
# JAX's own functions for the end are registered later, so they run before this one.
COMPUTE_AT_THE_END = """
import atexit
def last():
    try:
        spike(rates, voltage)[0].block_until_ready()
    except Exception as error:
        print("about to end" in str(error))
atexit.register(last)
"""


def test_processes_wait_and_end_and_share_the_programs_that_jax_keeps_on_disk(tmp_path):
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    program = LONG + "print(float(spike(rates + 500, voltage)[0].sum()))\n"
    first = python(COMPUTE_AT_THE_END + program + WAIT, **environment)
    total, refused = first.splitlines()
    assert refused == "True"
    assert list(tmp_path.iterdir())
    assert python(program + LEAVE_CALLS_UNDER_WAY, **environment) == f"{total}\n"


def test_programs_for_several_devices_do_not_call():
    assert calls_numba(lambda *each: spike(*each), *zeros())
    code = """
import jax, jax.numpy as jnp, keras_spiking
from keras_spiking import kernels
keras_spiking.config.set_kernels("numba")
spike = jax.jit(lambda rates, voltage: kernels.spike(rates, voltage, 0.001))
arguments = jnp.ones((2, 9, 3)), jnp.zeros((2, 3))
print(jax.device_count(), "custom_call @keras" in spike.lower(*arguments).as_text())
"""
    flags = "--xla_force_host_platform_device_count=2"
    assert python(code, XLA_FLAGS=flags) == "2 False\n"


def test_auto_calls_for_long_sequences_alone():
    keras_spiking.config.set_kernels("auto")
    assert calls_numba(lambda *each: spike(*each), *zeros(LARGE))
    assert not calls_numba(lambda *each: spike(*each), *zeros())
    for setting in ("native", "portable"):
        keras_spiking.config.set_kernels(setting)
        assert not calls_numba(lambda *each: spike(*each), *zeros(LARGE))


def test_an_unknown_version_of_the_interface_is_not_called(monkeypatch):
    from keras_spiking.kernels import jax_ffi

    monkeypatch.setattr(jax_ffi, "_KNOWN_VERSIONS", ((0, 1),))
    known = jax_ffi.is_supported.__wrapped__()
    monkeypatch.setattr(jax_ffi, "is_supported", lambda: known)
    assert not calls_numba(lambda *each: spike(*each), *zeros())


def test_what_jax_exports_for_any_size_does_not_call():
    shape = jax.export.symbolic_shape("batch, time, 3")
    arguments = (
        jax.ShapeDtypeStruct(shape, "float32"),
        jax.ShapeDtypeStruct((shape[0], 3), "float32"),
    )
    exported = jax.export.export(jax.jit(lambda *each: spike(*each)))(*arguments)
    assert "@keras_spiking" not in exported.mlir_module()


def test_jax_refuses_to_export_calls_and_exports_the_native_kernels():
    with pytest.raises(ValueError, match=r"custom calls(.|\n)*@keras_spiking"):
        jax.export.export(jax.jit(lambda *each: spike(*each)))(*zeros())
    keras_spiking.config.set_kernels("native")
    jax.export.export(jax.jit(lambda *each: spike(*each)))(*zeros())


@pytest.mark.filterwarnings("ignore")  # the exporters' own
def test_a_saved_model_of_fixed_shape_calls_neither_numba_nor_python(tmp_path, rng):
    tensorflow = pytest.importorskip("tensorflow")
    inputs = keras.Input(SMALL[1:], batch_size=SMALL[0])
    x = keras_spiking.SpikingActivation("relu", dt=0.25, initial_voltage=0.5)(inputs)
    x = keras_spiking.Alpha(0.1)(keras_spiking.Lowpass(0.1)(x))
    model = keras.Model(inputs, x)
    rates = rng.normal(size=SMALL).astype("float32")
    expected = model(rates)
    assert calls_numba(functools.partial(model, training=False), rates)
    # Keras would leave the size of the batch open.
    options = {"input_signature": [keras.InputSpec("float32", SMALL)], "verbose": False}
    model.export(tmp_path / "model", format="tf_saved_model", **options)
    # TensorFlow has an XLA of its own, where nobody registers loops of Numba.
    assert b"PyFunc" not in (tmp_path / "model" / "saved_model.pb").read_bytes()
    loaded = tensorflow.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.serve(rates), expected, rtol=1e-4, atol=1e-5)
