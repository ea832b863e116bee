"""Loops of Numba on TensorFlow: the same results, and only where Python may run."""

import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from keras import ops

import keras_spiking
from keras_spiking import config, kernels
from keras_spiking.kernels import cpu
from keras_spiking.kernels.contract import Filter
from tests.compiled import BACKEND, MODES, compiled, gradients, run
from tests.kernels.test_kernels import as_kernel, assert_kernels_agree, filter_arguments
from tests.kernels.test_sums import arguments as sum_arguments

pytestmark = pytest.mark.skipif(
    BACKEND != "tensorflow" or not cpu.is_available(), reason="needs TensorFlow and Numba"
)
every_mode = pytest.mark.parametrize("mode", MODES)
python_modes = pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "xla"])
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
UNITS = 3


@pytest.fixture
def calls(monkeypatch):
    """The functions of `cpu.py` that were called."""
    made = []

    def counted(name, function):
        def call(*args, **kwargs):
            made.append(name)
            return function(*args, **kwargs)

        return call

    for name in ("fire", "accumulate", "linear_filter", "linear_filter_gradients"):
        monkeypatch.setattr(cpu, name, counted(name, getattr(cpu, name)))
    return made


@pytest.fixture
def no_tensor_is_small(monkeypatch):
    monkeypatch.setattr("keras_spiking.kernels.tensorflow_choice._ELEMENTS_WORTH_A_CALL", 0)


def with_each(settings, function, *arrays, mode="eager", of=run, portable_mode="eager"):
    """Results of a function with each choice of kernels."""
    results = []
    for setting in settings:
        config.set_kernels(setting)
        how = portable_mode if setting == "portable" else mode
        results.append(of(lambda *tensors: function(*tensors), *arrays, mode=how))
    return [keras.tree.flatten(each) for each in results]


def assert_same(pair):
    for one, other in zip(*pair, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@python_modes  # XLA compiles loops of its own: see `test_kernels.py`
@pytest.mark.parametrize("shape", [(3, 7, 2, 2), (2, 1, 5)], ids=str)
def test_spikes_and_filters_agree_with_the_portable_ones(shape, mode, rng):
    assert_kernels_agree(rng, "numba", shape, mode)


@every_mode
@every_dtype
@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("shape", [(2, 1, 3), (3, 40, 2, 2)], ids=str)
@pytest.mark.parametrize("time_axis", [0, 1])
def test_spikes_of_rates_are_the_same_bits(time_axis, shape, rectify, dtype, mode, rng):
    rates, weights = rng.normal(scale=20, size=(2, *shape)).astype(dtype)
    rates.flat[:4] = np.nan, np.inf, -np.inf, 1e30
    sample = np.delete(shape, time_axis)
    voltage = rng.uniform(-2, 2, size=sample).astype(dtype)

    def spike(rates, voltage):
        return kernels.spike(rates, voltage, 0.037, time_axis, rectify)

    def loss(rates):
        return ops.sum(spike(rates, ops.convert_to_tensor(voltage))[0] * weights)

    settings = "numba", "portable"
    assert_same(with_each(settings, spike, rates, voltage, mode=mode))
    if mode != "graph of unknown shape":
        assert_same(with_each(settings, loss, rates, mode=mode, of=gradients))


@every_mode
@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("time", [1, 9])
def test_spikes_by_channel_are_the_same(time, rectify, mode, rng):
    rates, weights = rng.normal(scale=20, size=(2, 2, time, 4, 3)).astype("float32")
    voltage = rng.uniform(size=(2, 4, 3)).astype("float32")
    dt = np.array([0.1, 0.037, 1.0], "float32")

    def spike(rates, voltage):
        scales = ops.convert_to_tensor(dt), ops.convert_to_tensor(1 / dt)
        return kernels.spike_by_channel(rates, voltage, *scales, rectify=rectify)

    def loss(rates):
        return ops.sum(spike(rates, ops.convert_to_tensor(voltage))[0] * weights)

    for setting in ("numba", "native"):
        pair = setting, "portable"
        assert_same(with_each(pair, spike, rates, voltage, mode=mode))
        if mode != "graph of unknown shape":
            assert_same(with_each(pair, loss, rates, mode=mode, of=gradients))


@every_mode
@every_dtype
def test_voltages_are_the_same_bits(dtype, mode, rng):
    increments = rng.normal(size=(3, 40, 5)).astype(dtype)
    voltage = rng.uniform(size=(3, 5)).astype(dtype)
    assert_same(with_each(("numba", "portable"), kernels.integrate, increments, voltage, mode=mode))


@python_modes  # XLA compiles a loop of its own: see `test_sums.py`
@every_dtype
@pytest.mark.parametrize("negative_spikes", [True, False])
@pytest.mark.parametrize("rectify", [True, False])
def test_sums_are_the_same_bits(rectify, negative_spikes, dtype, mode, rng):
    for shape, time_axis in (((3, 15, 5), 1), ((15, 3, 2, 2), 0)):

        def fire(rates, *state, axis=time_axis):
            return kernels.accumulate_and_fire(rates, state, 0.37, axis, rectify, negative_spikes)

        given = sum_arguments(rng, shape, dtype, time_axis)
        assert_same(with_each(("numba", "portable"), fire, *given, mode=mode))


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("rectify", [True, False])
def test_gradients_of_sums_are_the_same(rectify, mode, rng):
    rates, _, voltage, *_ = sum_arguments(rng, (3, 15, 5), "float32", 1)
    weights = rng.normal(size=rates.shape).astype("float32")
    state = 0 * voltage, voltage, 0 * voltage, voltage

    def loss(rates):
        tensors = tuple(map(ops.convert_to_tensor, state))
        return ops.sum(
            kernels.accumulate_and_fire(rates, tensors, 0.37, rectify=rectify)[0] * weights
        )

    found, expected = with_each(("numba", "portable"), loss, rates, mode=mode, of=gradients)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)


@python_modes
@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (0, 0, 3)], ids=str)
def test_nothing_gives_nothing(shape, mode, calls, rng):
    increments, sample = np.zeros(shape, "float32"), np.zeros((shape[0], 3), "float32")
    voltage, unit = sample + np.float32(0.25), np.full((1, 3), -0.5, "float32")

    def everything(x, voltage, unit):
        state = (0 * voltage, voltage, 0 * voltage, voltage)
        return [
            *kernels.spike(x, voltage, 0.5),
            *kernels.integrate(x, voltage),
            *kernels.accumulate_and_fire(x, state, 0.5, rectify=True)[1],
            *kernels.linear_filter(Filter(unit, unit, (unit, unit)), x, (voltage, voltage)),
        ]

    given = increments, voltage, unit
    options = {"mode": mode, "portable_mode": mode}
    assert_same(with_each(("numba", "portable"), everything, *given, **options))
    assert {"fire", "accumulate", "linear_filter"} <= set(calls)

    def loss(x, voltage, unit):
        return sum(map(ops.sum, everything(x, voltage, unit)))

    if any(shape[:2]):  # Without either, TensorFlow's own operations crash.
        assert_same(with_each(("numba", "portable"), loss, *given, mode=mode, of=gradients))


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("order", [1, 2])
def test_filters_have_second_derivatives(order, mode, calls, rng):
    import tensorflow as tf

    arrays = filter_arguments(rng, order, 9)
    kernel = as_kernel(kernels, order)
    weights = rng.normal(size=(2, *arrays[0].shape)).astype("float32")

    def loss(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = sum(ops.sum(each**2 * weights[0]) for each in kernel(*tensors))
        zero = tf.UnconnectedGradients.ZERO
        return sum(ops.sum(each**2) for each in tape.gradient(value, tensors, None, zero))

    found, expected = with_each(("numba", "portable"), loss, *arrays, mode=mode, of=gradients)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * np.abs(other).max() + 1e-12)
    assert "linear_filter_gradients" in calls


def test_a_tape_gives_a_jacobian(rng):
    import tensorflow as tf

    arrays = filter_arguments(rng, 1, 4)

    def jacobian(inputs, *rest):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            (levels,) = as_kernel(kernels, 1)(inputs, *rest)
        return tape.jacobian(levels, inputs)

    (found,), (expected,) = with_each(("auto", "portable"), jacobian, *arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_nothing_is_copied(mode, monkeypatch):
    """TensorFlow copies what does not begin where its tensors do, and Numba writes elsewhere."""
    import tensorflow as tf

    addresses, fire = [], cpu.fire

    def watched(rates, voltage, dt, height, spikes, final, **options):
        addresses.append([each.ctypes.data for each in (rates, spikes)])
        fire(rates, voltage, dt, height, spikes, final, **options)

    monkeypatch.setattr(cpu, "fire", watched)
    config.set_kernels("numba")
    rates, voltage = tf.random.normal((32, 100, 16)), tf.zeros((32, 16))
    function = compiled(lambda *each: kernels.spike(*each, 0.5)[0], (rates, voltage), mode)
    spikes = function(rates, voltage)
    assert addresses == [[np.asarray(each).ctypes.data for each in (rates, spikes)]]


def test_loops_are_compiled_once_for_a_type():
    """And not again for arrays that may not be written to, such as those of eager tensors."""
    loops = pytest.importorskip("keras_spiking.kernels.loops_spikes")
    for mode in ("eager", "graph"):
        rates, voltage = np.ones((2, 3, 4), "float32"), np.zeros((2, 4), "float32")
        config.set_kernels("numba")
        run(lambda r, v: kernels.spike(r, v, 0.5), rates, voltage, mode=mode)
    arrays = [each for each in sum(loops.fire.signatures, ()) if hasattr(each, "layout")]
    assert arrays
    assert all(array.mutable for array in arrays)


def holds_python(function, *tensors):
    """Whether a function's graph, or one within it, calls Python."""
    graph = function.get_concrete_function(*tensors).graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    return any("PyFunc" in node.op for node in nodes)


def everything(inputs):
    """The gradient of all that runs over time."""
    import tensorflow as tf

    voltage, unit = tf.zeros_like(inputs[:, 0]), tf.fill((1, UNITS), -0.5)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = [
            kernels.spike(inputs, voltage, 0.5)[0],
            kernels.accumulate_and_fire(inputs, (voltage,) * 4, 0.5, rectify=True)[0],
            *kernels.linear_filter(Filter(unit, unit, (unit, unit)), inputs, (voltage, voltage)),
        ]
        total = sum(ops.sum(each**2) for each in outputs)
    return tape.gradient(total, inputs)


@pytest.mark.parametrize("setting", ["auto", "numba"])
@pytest.mark.usefixtures("no_tensor_is_small")
def test_what_xla_compiles_holds_no_python(setting):
    import tensorflow as tf

    config.set_kernels(setting)
    inputs = tf.random.normal((2, 5, UNITS))
    inner = tf.function(lambda x: everything(x))
    outer = tf.function(
        lambda x: tf.cond(ops.sum(x) > 0, lambda: inner(x), lambda: 2 * inner(x)), jit_compile=True
    )
    assert not holds_python(outer, inputs)
    assert outer(inputs).shape == inputs.shape
    assert holds_python(tf.function(everything), inputs) == (setting == "numba")


def test_a_graph_that_does_not_tell_is_taken_for_one_of_xla():
    from keras_spiking.kernels import tensorflow_choice

    assert tensorflow_choice._xla_compiles(types.SimpleNamespace())


def model():
    return keras.Sequential(
        [
            keras.Input((4, UNITS)),
            keras.layers.Dense(UNITS),
            keras_spiking.SpikingActivation("relu", dt=0.5, initial_voltage=0.25),
            keras_spiking.Lowpass(0.1, dt=0.03),
        ]
    )


def data(batch=8):
    return np.random.default_rng(0).uniform(size=(batch, 4, UNITS)).astype("float32")


# In batches of the same size, so that those of one kind share a graph.
STEPS = {
    "fit": lambda model, x: model.fit(x, x, batch_size=4, verbose=0),
    "evaluate": lambda model, x: model.evaluate(x, x, batch_size=4, verbose=0),
    "predict": lambda model, x: model.predict(x, batch_size=4, verbose=0),
    "train_on_batch": lambda model, x: model.train_on_batch(x[:4], x[:4]),
    "test_on_batch": lambda model, x: model.test_on_batch(x[:4], x[:4]),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x[:4]),
}


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.usefixtures("no_tensor_is_small")
def test_numba_runs_in_keras_steps_unless_xla_compiles_them(steps, jit_compile, calls):
    """Keras may change what it names its graphs: then this fails, and Numba runs no more there."""
    made = model()
    made.compile("sgd", "mse", jit_compile=jit_compile, steps_per_execution=steps)
    for name, step in STEPS.items():
        calls.clear()
        step(made, data())
        assert bool(calls) != jit_compile, name
        assert jit_compile or {"fire", "linear_filter"} <= set(calls), name


def test_small_tensors_and_single_steps_stay_with_xla(calls):
    made = model()
    made.predict(data(), verbose=0)
    assert not calls


@pytest.mark.usefixtures("no_tensor_is_small")
def test_numba_runs_in_a_replica(calls):
    import tensorflow as tf

    alone = model()
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        replicated = model()
        replicated.compile("sgd", "mse")
    alone.compile("sgd", "mse")
    replicated.set_weights(alone.get_weights())
    for each in (alone, replicated):
        calls.clear()
        each.fit(data(), data(), batch_size=4, shuffle=False, verbose=0)
        assert "linear_filter" in calls
    for one, other in zip(alone.get_weights(), replicated.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


class InAFunction(keras.layers.Layer):
    """A layer that runs in a function of its own, which TensorFlow keeps."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, shape):
        import tensorflow as tf

        self.layer.build(shape)
        self.function = tf.function(self.layer)

    def call(self, inputs):
        return self.function(inputs)


RUN = """
import sys, numpy as np, tensorflow as tf
inputs, *models = sys.argv[1:]
for folder in models:
    loaded = tf.saved_model.load(folder)
    run = getattr(loaded, "serve", None) or loaded.signatures["serving_default"]
    (outputs,) = tf.nest.flatten(run(tf.constant(np.load(inputs))))
    np.save(f"{folder}.npy", outputs)
assert not {"keras_spiking", "numba"} & set(sys.modules)
"""


@pytest.mark.filterwarnings("ignore")  # the exporters' own
@pytest.mark.usefixtures("no_tensor_is_small")
def test_an_exported_model_holds_no_python_also_after_fit(calls, tmp_path):
    import tensorflow as tf

    original = model()
    original.add(InAFunction(keras_spiking.Lowpass(0.1, dt=0.03)))
    original.compile("sgd", "mse")
    original.fit(data(), data(), verbose=0)
    expected = original.predict(data(), verbose=0)
    assert calls
    folders = [tmp_path / name for name in ("by Keras", "by TensorFlow")]
    original.export(folders[0], verbose=False)
    tf.saved_model.save(original, folders[1])
    np.save(tmp_path / "inputs.npy", data())
    subprocess.run([sys.executable, "-c", RUN, tmp_path / "inputs.npy", *folders], check=True)
    for folder in folders:
        assert b"PyFunc" not in (folder / "saved_model.pb").read_bytes()
        found = np.load(f"{folder}.npy")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@python_modes
def test_numba_leaves_numbers_that_are_checked_to_tensorflow(mode, calls, rng):
    import tensorflow as tf

    config.set_kernels("numba")
    arrays = filter_arguments(rng, 2, 5)
    tf.debugging.enable_check_numerics()
    try:
        run(as_kernel(kernels, 2), *arrays, mode=mode)
    finally:
        tf.debugging.disable_check_numerics()
    assert not calls
    run(as_kernel(kernels, 2), *arrays, mode=mode)
    assert calls


def test_half_precision_runs_in_float32(calls, rng):
    import tensorflow as tf

    config.set_kernels("numba")
    rates, voltage = tf.cast(rng.normal(size=(2, 9, UNITS)), "float16"), tf.zeros((2, UNITS))
    spikes, _ = kernels.spike(rates, voltage, 0.5)
    assert spikes.dtype == tf.float16
    assert calls == ["fire"]
