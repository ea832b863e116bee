"""Exported models give what the original gives, for any batch and length of time."""

import functools

import keras
import numpy as np
import pytest

import keras_spiking
from tests import reference

BACKEND = keras.backend.backend()
UNITS = 4

on_tensorflow_or_jax = pytest.mark.skipif(
    BACKEND == "torch",
    reason="Keras 3.15 exports no model from torch to a SavedModel, not even one of a Dense",
)


def model(time=None, **voltage):
    """Every layer that runs over time, and one that does not."""
    inputs = keras.Input((time, UNITS), name="inputs")
    spikes = keras_spiking.SpikingActivation("relu", dt=0.5, **voltage)(inputs)
    x = keras_spiking.TimeBatched(keras.layers.Dense(3))(spikes)
    x = keras_spiking.Alpha(0.1, dt=0.03)(keras_spiking.Lowpass(0.1, dt=0.03)(x))
    last = keras_spiking.Lowpass(0.1, dt=0.03, return_sequences=False)(x)
    mean = keras_spiking.TemporalAvgPool()(x)
    made = keras.Model(inputs, [spikes, x, last, mean, keras_spiking.LastStep()(x)])
    made(np.zeros((1, time or 2, UNITS), "float32"))  # JAX asks for a call before an export
    return made


def data(batch, time):
    """Rates that no exporter rounds."""
    rng = np.random.default_rng(0)
    return (rng.integers(-64, 256, size=(batch, time, UNITS)) / 64).astype("float32")


def check(original, exported, shapes=((1, 1), (2, 7), (1, 600))):
    """Checks what an exported model gives, also at lengths where sums pass 2**31 on their grid."""
    for shape in shapes:
        expected = original.predict(data(*shape), verbose=0)
        outputs = [np.asarray(each) for each in exported(data(*shape))]
        assert len(outputs) == len(expected)
        np.testing.assert_array_equal(outputs[0], expected[0])
        for one, other in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert len(np.unique(expected[0])) > 2


def saved_model(original, folder):
    """What runs an exported SavedModel."""
    tensorflow = pytest.importorskip("tensorflow")
    original.export(folder / "saved_model", format="tf_saved_model", verbose=False)
    loaded = tensorflow.saved_model.load(folder / "saved_model")
    return lambda inputs: keras.tree.map_structure(np.asarray, loaded.serve(inputs))


def onnx(original, folder, **kwargs):
    """What runs an exported ONNX file."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip({"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "onnx"}[BACKEND])
    original.export(folder / "model.onnx", format="onnx", verbose=False, **kwargs)
    session = runtime.InferenceSession(folder / "model.onnx")
    names = [each.name for each in session.get_inputs()]

    def run(*inputs):
        return session.run(None, dict(zip(names, inputs, strict=True)))

    return run


@on_tensorflow_or_jax
@pytest.mark.filterwarnings("ignore")  # the exporters' own
def test_a_saved_model_gives_the_same(tmp_path):
    original = model(seed=1)
    check(original, saved_model(original, tmp_path))


@on_tensorflow_or_jax
@pytest.mark.filterwarnings("ignore")  # the exporters' own
def test_a_saved_model_without_a_seed_draws_another_voltage_at_every_call(tmp_path):
    spikes = keras_spiking.SpikingActivation("relu", dt=0.02)
    original = keras.Sequential([keras.Input((None, UNITS)), spikes])
    rates = np.full((2, 50, UNITS), 20.0, "float32")
    original(rates)
    run = saved_model(original, tmp_path)
    once, again = run(rates), run(rates)
    assert not np.array_equal(once, again)
    for spikes in (once, again):
        np.testing.assert_allclose(spikes.sum(axis=1) * 0.02, 20, atol=1)


def streaming_archive(original):
    """A stateful model that runs in pieces and can begin anew: as the guide shows."""

    def reset():
        keras_spiking.reset_states(original)
        return keras.ops.ones(())  # an endpoint must return something

    archive = keras.export.ExportArchive()
    archive.track(original)
    signature = [keras.InputSpec(shape=original.inputs[0].shape, dtype="float32")]
    archive.add_endpoint("run", original.__call__, input_signature=signature)
    archive.add_endpoint("reset", reset, input_signature=[])
    return archive


def streaming_model():
    return keras.Sequential(
        [
            keras.Input((None, UNITS), batch_size=2),
            keras_spiking.SpikingActivation("relu", dt=0.5, initial_voltage=0.25, stateful=True),
            keras_spiking.Lowpass(0.1, dt=0.03, stateful=True, level_initializer=0.5),
        ]
    )


def filtered(rates):
    """What that model gives, in float64."""
    rates = np.maximum(rates, 0)
    spikes, _ = reference.integrate_and_fire(rates, 0.5, np.full(rates[:, 0].shape, 0.25))
    return reference.lowpass(spikes, 0.03, 0.1, np.full((1, UNITS), 0.5))[0]


@on_tensorflow_or_jax
@pytest.mark.filterwarnings("ignore")  # the exporters' own
def test_a_saved_model_that_is_stateful_goes_on_until_it_is_reset(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    streaming_archive(streaming_model()).write_out(tmp_path, verbose=False)
    loaded = tensorflow.saved_model.load(tmp_path)
    rates = data(2, 24)
    for reset in (loaded.reset, loaded.signatures["reset"]):
        pieces = [np.asarray(loaded.run(piece)) for piece in np.split(rates, 3, axis=1)]
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), filtered(rates), rtol=1e-5)
        reset()
    (signature,) = loaded.signatures["serving_default"].structured_input_signature[1].values()
    assert signature.shape.as_list() == [2, None, UNITS]
    with pytest.raises(TypeError, match=r"\(3, 4, 4\).*\(2, None, 4\)"):
        loaded.run(data(3, 4))


@on_tensorflow_or_jax
@pytest.mark.filterwarnings("ignore")  # the exporters' own
@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_a_stateful_model_takes_no_other_batch_however_it_is_exported(kernels, tmp_path):
    """Keras itself writes that any batch will do."""
    tensorflow = pytest.importorskip("tensorflow")
    keras_spiking.config.set_kernels(kernels)
    original = streaming_model()
    original(data(2, 1))
    if BACKEND == "jax":
        with pytest.raises(ValueError, match=r"batch size of 2; .*\(batch.* `input_signature`"):
            original.export(tmp_path, format="tf_saved_model", verbose=False)
        return
    original.export(tmp_path, format="tf_saved_model", verbose=False)
    loaded = tensorflow.saved_model.load(tmp_path)
    assert loaded.serve(data(2, 5)).shape == (2, 5, UNITS)
    for batch in (1, 3):
        with pytest.raises(tensorflow.errors.InvalidArgumentError, match="reshape"):
            loaded.serve(data(batch, 5))


@on_tensorflow_or_jax
@pytest.mark.filterwarnings("ignore")  # the exporters' own
def test_a_stateful_model_is_exported_with_the_batch_that_is_asked_for(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    original = streaming_model()
    original.build()
    signature = [keras.InputSpec(shape=(2, None, UNITS), dtype="float32")]
    original.export(tmp_path, format="tf_saved_model", verbose=False, input_signature=signature)
    loaded = tensorflow.saved_model.load(tmp_path)
    rates = data(2, 24)
    pieces = [np.asarray(loaded.serve(piece)) for piece in np.split(rates, 3, axis=1)]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), filtered(rates), rtol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="for torch alone")
def test_keras_does_not_export_a_dense_layer_from_torch_to_a_saved_model(tmp_path):
    """When it does, the tests above can run on torch."""
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    pytest.importorskip("tensorflow")
    with pytest.raises(Exception):  # noqa: B017, PT011
        dense.export(tmp_path / "saved_model", format="tf_saved_model", verbose=False)


@pytest.mark.skipif(BACKEND == "jax", reason="for jax, the next test")
@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_gives_the_same(tmp_path):
    if BACKEND == "tensorflow":
        # ONNX has no operation for the compiled loops.
        keras_spiking.config.set_kernels("portable")
    original = model(initial_voltage=0.25)
    check(original, onnx(original, tmp_path))


@pytest.mark.skipif(BACKEND != "jax", reason="of fixed shapes, for jax")
@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_of_fixed_shapes_gives_the_same(tmp_path):
    pytest.importorskip("jax2onnx")
    keras_spiking.config.set_kernels("portable")
    original = model(initial_voltage=0.25, time=7)
    signature = [keras.InputSpec(shape=(3, 7, UNITS), dtype="float32")]
    check(original, onnx(original, tmp_path, input_signature=signature), [(3, 7)])


@pytest.mark.skipif(BACKEND == "jax", reason="jax2onnx needs fixed shapes")
@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_takes_and_gives_states(tmp_path):
    """The voltage comes from outside, and the next call goes on from it."""
    keras_spiking.config.set_kernels("portable" if BACKEND == "tensorflow" else "auto")
    inputs, voltage = keras.Input((None, UNITS)), keras.Input((UNITS,))
    layer = keras_spiking.SpikingActivation("relu", dt=0.25, return_state=True)
    stepped = keras.Model([inputs, voltage], layer(inputs, initial_state=voltage))
    rates, state = data(2, 12), np.full((2, UNITS), 0.75, "float32")
    expected = [keras.ops.convert_to_numpy(each) for each in stepped([rates, state])]
    run = onnx(stepped, tmp_path)
    pieces = []
    for start in range(0, 12, 4):
        spikes, state = run(rates[:, start : start + 4], state)
        pieces.append(spikes)
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), expected[0])
    np.testing.assert_array_equal(state, expected[1])


def with_fixed_voltage(layer):
    """A copy of a layer, with a known initial voltage if it spikes: as the guide shows."""
    config = layer.get_config()
    if isinstance(layer, keras_spiking.SpikingActivation):
        config["initial_voltage"] = 0.5
    return type(layer).from_config(config)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_random_voltage_is_replaced_for_onnx(tmp_path):
    random = model(seed=1)
    if BACKEND == "torch":
        with pytest.raises(NotImplementedError, match=r"ONNX has no random numbers .*initial"):
            onnx(random, tmp_path)
    fixed = keras.models.clone_model(random, clone_function=with_fixed_voltage)
    fixed.set_weights(random.get_weights())
    original = model(initial_voltage=0.5)
    original.set_weights(random.get_weights())
    check(original, functools.partial(fixed.predict, verbose=0), [(2, 7)])
