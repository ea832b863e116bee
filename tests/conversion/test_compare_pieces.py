"""compare: time that is cut in pieces to fit in memory gives the same spikes."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_spiking
from keras_spiking.conversion import probe
from tests.conversion.models import data_for, sequential, weird

# Few or short steps are meant here.
pytestmark = pytest.mark.filterwarnings("ignore:convert. an activation of 1 makes:UserWarning")


def report(model, spiking, data, steps):
    return keras_spiking.compare(model, spiking, data, num_steps=(steps,), batch_size=6)


@pytest.mark.parametrize(
    ("integrate", "readout", "tau"),
    [("activation", "average", None), ("activation", "last", 0.02), ("input", "average", None)],
)
def test_results_do_not_depend_on_pieces(integrate, readout, tau, rng, monkeypatch):
    model = weird()
    spiking = keras_spiking.convert(
        model,
        num_steps=3,
        dt=0.05,
        rate_scale=20.0,
        seed=1,
        tau=tau,
        readout=readout,
        integrate=integrate,
    )
    data = data_for(model, rng, num_samples=6)
    (whole,) = report(model, spiking, data, 11).results

    made = probe.Probe(spiking, [11])
    monkeypatch.setattr(probe, "PIECE_SIZE", 6 * 4 * made._elements_per_step(6))
    assert made._lengths([np.zeros((6, 6, 6, 2)), np.zeros((6, 4))]) == [4, 4, 3]
    (cut,) = report(model, spiking, data, 11).results
    for name in ("spikes", "negative", "silent", "several", "off"):
        assert [getattr(each, name) for each in cut.layers] == [
            getattr(each, name) for each in whole.layers
        ]
    for one, other in zip(cut.layers, whole.layers, strict=True):
        assert one.top_rate == pytest.approx(other.top_rate, rel=1e-6)
        assert one.error == pytest.approx(other.error, rel=1e-4)
    for one, other in zip(cut.outputs, whole.outputs, strict=True):
        assert one.agreement == other.agreement
        assert one.error == pytest.approx(other.error, rel=1e-4)


def test_pieces_are_as_alike_as_can_be(monkeypatch):
    model = sequential((4,), layers.Dense(10, activation="relu"), layers.Dense(2))
    made = probe.Probe(keras_spiking.convert(model, num_steps=2), [300])
    # Repeated inputs of the activation, spikes, and logits: 22 for each sample and step.
    per_step = 8 * 22
    cases = ((1000, [300]), (299, [150] * 2), (70, [60] * 5), (41, [38] * 7 + [34]))
    for longest, expected in cases:
        monkeypatch.setattr(probe, "PIECE_SIZE", longest * per_step)
        assert made._lengths([np.zeros((8, 4))]) == expected
    # They end where a result is asked for.
    made = probe.Probe(keras_spiking.convert(model, num_steps=2), [100, 7, 20, 7])
    assert made._lengths([np.zeros((8, 4))]) == [7, 13, *[40] * 2]


def test_neither_model_changes(rng):
    inputs = keras.Input((4,))
    x = layers.Dense(6, activation="relu", name="hidden", activity_regularizer="l2")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="out")(layers.Dropout(0.5)(x)))
    model.compile("sgd", "mse")
    spiking = keras_spiking.convert(model, num_steps=2, tau=0.1, integrate="activation")
    weights = [np.copy(each) for each in spiking.get_weights()]
    shown = spiking.get_layer("hidden_spikes").output
    data = rng.normal(size=(6, 4)).astype("float32")
    keras_spiking.compare(model, spiking, data, num_steps=(5,))
    assert spiking.get_layer("hidden_spikes").output is shown
    assert spiking.get_layer("hidden_spikes").dt == 0.001
    for one, other in zip(spiking.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    spiking.fit(data, np.zeros((6, 3)), verbose=0)
