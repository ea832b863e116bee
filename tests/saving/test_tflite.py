"""TFLite files need builtin operations alone, and give what loops in float64 give."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_spiking
from tests import reference
from tests.compiled import BACKEND
from tests.processes import environment
from tests.saving.test_export import streaming_archive

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras needs litert-torch on torch"),
    pytest.mark.filterwarnings("ignore"),  # the converter's and the interpreter's own
]
all_kernels = pytest.mark.parametrize("kernels", ["auto", "portable"])
STEP, TAU, SLOW = 0.5, 0.1, 0.03
UNITS = 4


def signals(batch, time):
    """Rates whose sums are exact in binary."""
    rng = np.random.default_rng(0)
    return (rng.integers(-64, 256, size=(batch, time, UNITS)) / 64).astype("float32")


def expected(inputs, mask=None):
    """What the model below gives, in float64."""
    spikes, _ = reference.integrate_and_fire(inputs, STEP, np.full(inputs[:, 0].shape, 0.25), mask)
    slow, _ = reference.lowpass(spikes, SLOW, TAU, np.full((1, UNITS), 0.5), mask)
    outputs, _ = reference.alpha(slow, SLOW, np.full(UNITS, TAU), np.zeros(UNITS), mask)
    return outputs


def model(batch=None, masked=False, stateful=False, **voltage):
    inputs = keras.Input((None, UNITS), batch_size=batch)
    x = keras.layers.Masking(-1.0)(inputs) if masked else inputs
    voltage = voltage or {"initial_voltage": 0.25}
    spikes = keras_spiking.SpikingActivation("linear", dt=STEP, stateful=stateful, **voltage)(x)
    options = {"dt": SLOW, "stateful": stateful}
    slow = keras_spiking.Lowpass(TAU, level_initializer=0.5, **options)(spikes)
    return keras.Model(inputs, keras_spiking.Alpha(TAU, **options)(slow))


def converted(original, folder=None, **kwargs):
    """A file's content, by way of a SavedModel in `folder`, or without one.

    The converter refuses what is not builtin, unless told otherwise.
    """
    import tensorflow as tf

    if folder is None:
        return tf.lite.TFLiteConverter.from_keras_model(original).convert()
    return tf.lite.TFLiteConverter.from_saved_model(str(folder), **kwargs).convert()


def interpreter(content):
    """Runs a file, as a function of arrays."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=content)
    (inputs,) = (each["index"] for each in interpreter.get_input_details())
    (outputs,) = (each["index"] for each in interpreter.get_output_details())

    def run(array):
        interpreter.resize_tensor_input(inputs, array.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs, array)
        interpreter.invoke()
        return interpreter.get_tensor(outputs)

    return run


def close(outputs, wanted):
    np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-5)


@all_kernels
def test_a_file_gives_the_same_for_any_batch_and_length(kernels):
    keras_spiking.config.set_kernels(kernels)
    run = interpreter(converted(model()))
    for shape in [(1, 1), (3, 7), (2, 300)]:
        close(run(signals(*shape)), expected(signals(*shape)))


ELSEWHERE = """
import sys
import numpy as np
import tensorflow as tf

interpreter = tf.lite.Interpreter("model.tflite")
runner = interpreter.get_signature_runner()
(name,) = runner.get_input_details()
(outputs,) = runner(**{name: np.load("inputs.npy")}).values()
np.save("outputs.npy", outputs)
assert "keras_spiking" not in sys.modules
"""


def test_a_file_that_keras_writes_runs_without_this_library(tmp_path):
    keras_spiking.config.set_kernels("portable")
    # Keras 3.14 takes no path that is not a string.
    model().export(str(tmp_path / "model.tflite"), format="litert", verbose=False)
    np.save(tmp_path / "inputs.npy", signals(2, 30))
    command = [sys.executable, "-c", ELSEWHERE]
    ran = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    close(np.load(tmp_path / "outputs.npy"), expected(signals(2, 30)))


def test_masked_steps_are_left_out():
    keras_spiking.config.set_kernels("portable")
    inputs, mask = signals(2, 20), np.ones((2, 20), bool)
    mask[0, 3:6] = mask[1, 12:] = False
    inputs[~mask] = -1.0
    close(interpreter(converted(model(masked=True)))(inputs), expected(inputs, mask))


@all_kernels
def test_a_file_of_a_stateful_model_goes_on_where_it_was(kernels, tmp_path):
    keras_spiking.config.set_kernels(kernels)
    model(batch=2, stateful=True).export(tmp_path, format="tf_saved_model", verbose=False)
    run, inputs = interpreter(converted(None, tmp_path)), signals(2, 30)
    pieces = [run(piece) for piece in np.split(inputs, 3, axis=1)]
    close(np.concatenate(pieces, axis=1), expected(inputs))
    # Keras writes that any batch will do.
    with pytest.raises(RuntimeError, match=r"num_input_elements"):
        run(signals(3, 5))


def test_a_file_of_a_stateful_model_can_be_reset(tmp_path):
    import tensorflow as tf

    keras_spiking.config.set_kernels("portable")
    streaming_archive(model(batch=2, stateful=True)).write_out(tmp_path, verbose=False)
    content = converted(None, tmp_path, signature_keys=["run", "reset"])
    loaded = tf.lite.Interpreter(model_content=content)
    run, reset = map(loaded.get_signature_runner, ("run", "reset"))
    (name,) = run.get_input_details()
    inputs = signals(2, 24)
    for _ in range(2):
        pieces = [run(**{name: piece})["output_0"] for piece in np.split(inputs, 3, axis=1)]
        close(np.concatenate(pieces, axis=1), expected(inputs))
        reset()


@pytest.mark.parametrize("seed", [None, 1])
def test_random_voltages_name_what_to_give_instead(seed):
    spikes = keras_spiking.SpikingActivation("relu", seed=seed)
    with pytest.raises(Exception, match="give_initial_voltage_to_export"):
        converted(keras.Sequential([keras.Input((None, UNITS)), spikes]))
