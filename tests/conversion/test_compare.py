"""compare: every figure against NumPy, over a grid; what it says, draws and refuses."""

import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_spiking
from tests import reference
from tests.conversion.models import data_for, sequential, weird

# Few or short steps are meant here.
pytestmark = pytest.mark.filterwarnings("ignore:convert. an activation of 1 makes:UserWarning")

DT, STEPS, SCALE = 0.1, 12, 3.0


def model():
    return sequential(
        (4,),
        layers.Dense(30, activation="relu", name="hidden"),
        layers.Dense(3, activation="softmax", name="classes"),
        name="small",
    )


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


@pytest.mark.every_backend
def test_figures_are_those_of_numpy(rng):
    original = model()
    spiking = keras_spiking.convert(
        original, num_steps=STEPS, dt=DT, rate_scale=SCALE, seed=5, integrate="activation"
    )
    # Trained further: the original is what it is held against, not its own weights.
    spiking.set_weights([1.2 * weight for weight in spiking.get_weights()])
    data = rng.normal(size=(40, 4)).astype("float32")
    data[:, 0] = np.abs(data[:, 0]) * 4
    labels = rng.integers(0, 3, size=40)

    kernel, bias, final_kernel, final_bias = original.get_weights()
    activity = np.maximum(data @ kernel + bias, 0)
    expected = softmax(activity @ final_kernel + final_bias)
    kernel, bias, final_kernel, final_bias = spiking.get_weights()
    cell = spiking.get_layer("hidden_spikes").cell
    voltage = ops.convert_to_numpy(cell.get_initial_state(batch_size=40)[0])
    rates = np.repeat(np.maximum(data @ kernel + bias, 0)[:, None], STEPS, axis=1)
    spikes, _ = reference.integrate_and_fire(SCALE * rates, DT, voltage)
    counts = np.rint(spikes * DT)
    mean = spikes.mean(axis=1) / SCALE
    outputs = softmax(mean @ final_kernel + final_bias)

    report = keras_spiking.compare(original, spiking, data, labels, batch_size=40)
    (result,) = report.results
    (layer,) = result.layers
    assert (result.dt, result.num_steps, layer.name) == (pytest.approx(DT), STEPS, "hidden_spikes")
    assert report.num_samples == 40
    assert report.original_accuracy == np.mean(expected.argmax(axis=1) == labels)
    assert result.accuracy == np.mean(outputs.argmax(axis=1) == labels)
    assert result.agreement == np.mean(outputs.argmax(axis=1) == expected.argmax(axis=1))
    error = np.sqrt(np.sum((outputs - expected) ** 2) / np.sum(expected**2))
    assert result.output_error == pytest.approx(error, rel=0.01)
    assert result.spikes == layer.spikes == pytest.approx(counts.sum() / 40, rel=1e-3)
    assert layer.mean_rate == pytest.approx(spikes.mean(), rel=1e-3)
    assert result.mean_rate == pytest.approx(layer.mean_rate)
    top = np.percentile(spikes.mean(axis=1), 99.9)
    assert layer.top_rate == pytest.approx(top, rel=1e-2)
    assert 0 < layer.several == pytest.approx(np.mean(counts > 1), rel=1e-2)
    assert layer.silent == pytest.approx(np.mean(~(counts > 0).any(axis=(0, 1))), abs=1e-6)
    error = np.sqrt(np.sum((mean - activity) ** 2) / np.sum(activity**2))
    assert layer.error == pytest.approx(error, rel=0.01)
    assert (layer.negative, layer.off) == (result.negative, None) == (0, None)


def test_a_grid_of_steps_and_a_small_last_batch(rng):
    original = model()
    spiking = keras_spiking.convert(original, num_steps=3, tau=0.05, integrate="activation")
    weights = spiking.get_weights()
    data = rng.normal(size=(10, 4)).astype("float32")
    report = keras_spiking.compare(
        original, spiking, data, dts=(0.1, 1e4), num_steps=(2, 4), batch_size=4
    )
    assert [(each.num_steps, each.dt) for each in report.results] == [
        (2, 0.1),
        (2, 1e4),
        (4, 0.1),
        (4, 1e4),
    ]
    for result in report.results:
        if result.dt == 1e4:
            assert result.agreement == 1
            assert result.output_error < 1e-3
            assert result.layers[0].error < 1e-3
            assert result.parts_at is None
            assert result.layers[0].several > 0.1
        else:
            assert result.layers[0].error > 0.3
            assert result.parts_at == "hidden_spikes"
        assert result.accuracy is None
    for one, other in zip(spiking.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert spiking.get_layer("hidden_spikes").dt == 0.001
    assert spiking.get_layer("repeat").num_steps == 3


def test_several_outputs_inputs_and_calls_of_a_layer(rng, tmp_path):
    original = weird()
    spiking = keras_spiking.convert(original, num_steps=2, dt=1e4)
    spiking.save(tmp_path / "spiking.keras")
    loaded = keras.saving.load_model(tmp_path / "spiking.keras")
    data = data_for(original, rng, num_samples=6)
    report = keras_spiking.compare(original, loaded, data)
    (result,) = report.results
    assert result.agreement == 1
    assert [layer.name for layer in result.layers] == [
        "block_conv_spikes",
        "hidden_spikes",
        "shared_spikes",
    ]
    assert max(layer.error for layer in result.layers) < 1e-3
    assert [(each.name, each.agreement) for each in result.outputs] == [
        ("chance", 1),
        ("classes", 1),
        ("hidden", None),
    ]


@pytest.mark.parametrize("form", ["classes", "column", "one-hot"])
def test_labels_in_any_form_and_sigmoids(form, rng):
    data = rng.normal(size=(20, 4)).astype("float32")
    labels = rng.integers(0, 3, size=20)
    original = model()
    right = np.mean(original.predict_on_batch(data).argmax(axis=1) == labels)
    given = {"classes": labels, "column": labels[:, None], "one-hot": np.eye(3)[labels]}[form]
    spiking = keras_spiking.convert(original, num_steps=1, dt=1e4)
    report = keras_spiking.compare(original, spiking, data, given)
    assert report.original_accuracy == report.results[0].accuracy == right
    if form == "one-hot":
        return
    original = sequential(
        (4,), layers.Dense(8, activation="relu"), layers.Dense(1, activation="sigmoid")
    )
    truth = labels > 0
    right = np.mean((original.predict_on_batch(data)[:, 0] > 0.5) == truth)
    spiking = keras_spiking.convert(original, num_steps=1, dt=1e4)
    given = truth if form == "classes" else truth[:, None]
    report = keras_spiking.compare(original, spiking, data, given)
    assert report.original_accuracy == report.results[0].accuracy == right


def test_a_report_says_what_it_found(rng):
    original = model()
    data, labels = 4 * rng.normal(size=(10, 4)).astype("float32"), np.zeros(10, int)
    spiking = keras_spiking.convert(original, num_steps=2, dt=0.3, integrate="activation")
    report = keras_spiking.compare(original, spiking, data, labels, dts=(0.001, 1.0))
    text = str(report)
    assert "10 samples; accuracy of the original " in text
    assert "hidden_spikes: the first layer whose mean output parts from the original's" in text
    assert "hidden_spikes: several spikes in " in text
    assert "rate * dt > 1" in text
    for line in text.splitlines():
        assert len(line) < 140
    page = report._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 3
    assert "hidden_spikes" in page


def test_a_report_draws_accuracy_or_agreement(rng, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    original = model()
    data = rng.normal(size=(10, 4)).astype("float32")
    spiking = keras_spiking.convert(original, num_steps=2, dt=0.3)
    for labels, name in ((None, "agreement with the original"), (np.zeros(10, int), "accuracy")):
        report = keras_spiking.compare(original, spiking, data, labels, num_steps=(2, 3))
        left, right = (figure := report.plot()).axes
        assert (left.get_xlabel(), left.get_ylabel()) == ("spikes per inference", name)
        drawn = left.lines[-1].get_xdata()
        assert list(drawn) == [result.spikes for result in report.results]
        assert right.get_title() == "Where the two part"
        matplotlib.pyplot.close(figure)

    # Outputs that decide nothing, of a model in which nothing fires.
    regression = sequential((4,), layers.Dense(3, activation="relu"), layers.Dense(1))
    regression.layers[0].set_weights([np.zeros((4, 3)), -np.ones(3)])
    spiking = keras_spiking.convert(regression, num_steps=2)
    report = keras_spiking.compare(regression, spiking, data)
    assert report.results[0].agreement is None
    assert report.results[0].spikes == 0
    assert report.results[0].layers[0].silent == 1
    figure = report.plot()
    assert figure.axes[0].get_ylabel() == "relative error of the outputs"
    matplotlib.pyplot.close(figure)


def test_drawing_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras_spiking.conversion.figure", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    original = model()
    report = keras_spiking.compare(original, keras_spiking.convert(original, num_steps=2), DATA)
    with pytest.raises(ImportError, match=r'^Report: figures need .*"keras-spiking\[viz\]"'):
        report.plot()


DATA = np.ones((3, 4), "float32")
BAD = [
    ({"dts": 0.1}, TypeError, r"`dts` must be a list or tuple; .* give \(0.1,\)"),
    ({"dts": ()}, ValueError, "`dts` must not be empty"),
    ({"dts": (0,)}, ValueError, "`dts` must be a list of numbers of seconds, positive"),
    ({"num_steps": (0,)}, ValueError, "`num_steps` must be a positive integer"),
    ({"num_steps": 3}, TypeError, "`num_steps` must be a list or tuple"),
    ({"batch_size": 0}, ValueError, "`batch_size` must be a positive integer"),
    ({"data": DATA[:, :2]}, ValueError, r"`data` must have one or more .* \[\(3, 2\)\]"),
    (
        {"data": DATA.tolist()},
        TypeError,
        "`data` must be an array, .* lists into arrays with numpy",
    ),
    (
        {"data": DATA * np.inf},
        ValueError,
        "`data` must be finite; received values that are infinite",
    ),
    (
        {"labels": np.array(list("abc"))},
        TypeError,
        "`labels` must be numbers; received <U1. Number",
    ),
    (
        {"labels": np.full(3, 0.5)},
        ValueError,
        "`labels` must be whole numbers, .* received 0.5 among",
    ),
    ({"labels": np.zeros((3, 2))}, ValueError, r"`labels` must be classes, of shape \(3,\)"),
    ({"labels": np.zeros(2)}, ValueError, r"`labels` must be classes, .* received shape \(2,\)"),
    ({"labels": np.full(3, 7)}, ValueError, "`labels` must be classes from 0 to 2; .* 7 to 7"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), BAD, ids=str)
def test_wrong_arguments_raise(arguments, error, words):
    original = model()
    arguments = {"data": DATA, **arguments}
    spiking = keras_spiking.convert(original, num_steps=2)
    with pytest.raises(error, match=f"^compare: {words}"):
        keras_spiking.compare(original, spiking, **arguments)


def test_only_conversions_of_the_model_are_compared():
    original = model()
    for wrong in (original, keras_spiking.convert(original), None):
        with pytest.raises(
            ValueError, match=r"`spiking_model` must be a model that convert\(model"
        ):
            keras_spiking.compare(original, wrong, DATA)
    sequence = keras_spiking.convert(original, num_steps=2, readout="sequence")
    with pytest.raises(ValueError, match=r'outputs of shapes .*readout="average" or "last"'):
        keras_spiking.compare(original, sequence, DATA)
    other = sequential((4,), layers.Dense(5, activation="relu", name="x"), layers.Dense(3))
    with pytest.raises(ValueError, match=r"what convert made of `model` .* \['x_spikes'\]"):
        keras_spiking.compare(original, keras_spiking.convert(other, num_steps=2), DATA)
    recurrent = sequential((5, 4), layers.LSTM(3))
    spiking = keras_spiking.convert(other, num_steps=2, integrate="activation")
    with pytest.raises(ValueError, match=r"^compare: `model` must consist of layers"):
        keras_spiking.compare(recurrent, spiking, DATA)
