"""`python -m benchmarks.conversion` holds converted networks beside what they should equal."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import keras

import keras_spiking
from benchmarks import conversion
from benchmarks.converted import evaluate, networks, page, rounded
from tests.compiled import BACKEND

pytestmark = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="one backend is enough; torch's keras.ops.floor has no float64"
)
STEPS = (1, 2, 4)


@pytest.fixture(autouse=True)
def nothing_is_compiled(monkeypatch):
    """For so little data it takes longer than to run."""
    eagerly = property(lambda model: True, lambda model, value: None)
    monkeypatch.setattr(keras.Model, "run_eagerly", eagerly)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((20, 28, 28, 1), dtype="float32")


@pytest.fixture(scope="module")
def residual(images):
    keras.utils.set_random_seed(0)
    return networks.make("residual", images.shape[1:])


def test_first_steps_of_a_run_are_those_of_a_shorter_one(residual, images):
    longest = keras_spiking.convert(residual, num_steps=4, example_data=images)
    found = evaluate.run(longest, images, STEPS)
    for steps in (1, 4):
        outputs = found.outputs[steps]
        shorter = keras_spiking.convert(residual, num_steps=steps, example_data=images)
        np.testing.assert_allclose(outputs, shorter.predict(images, verbose=0), atol=1e-6)
        (result,) = keras_spiking.compare(residual, shorter, images).results
        assert found.spikes[steps] == pytest.approx(result.spikes, rel=1e-4)


def test_spikes_give_what_the_rounded_network_gives(residual, images):
    for row in rounded.differences(residual, images[:4], images, STEPS):
        assert row["largest"] < 1e-10


def test_the_rounded_network_is_not_the_original(residual, images):
    scales = {
        layer.name: np.float64(1.0) for layer in networks.layers_of(residual, keras.layers.ReLU)
    }
    original = residual.predict(images, verbose=0)
    assert (
        np.abs(rounded.rounded(residual, scales).predict(images, verbose=0) - original).max() > 1e-3
    )
    fine = rounded.rounded(residual, scales, 10**6).predict(images, verbose=0)
    np.testing.assert_allclose(fine, original, atol=1e-5)


def test_spikes_are_compared_at_the_same_accuracy():
    rows = [
        {"mode": mode, "accuracy": accuracy, "spikes": spikes}
        for mode, accuracy, spikes in [
            ("activation", 0.5, 40.0),
            ("activation", 0.6, 80.0),
            ("input", 0.55, 10.0),
            ("input", 0.7, 20.0),
            ("input", 0.8, 40.0),
        ]
    ]
    assert page.share_of_spikes(rows) == 0.25
    assert page.share_of_spikes(rows[:3]) is None


def test_the_program_writes_a_page_and_a_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(networks, "NETWORKS", {"MLP": networks.mlp})
    monkeypatch.setattr(conversion, "QUICK_TRAINING_IMAGES", 200)
    monkeypatch.setattr(conversion, "QUICK_IMAGES", 20)
    monkeypatch.setattr(conversion, "QUICK_CHECKED_IMAGES", 4)
    monkeypatch.setattr(conversion, "QUICK_STEPS", (1, 8))
    data, cache = str(conversion.EXAMPLES / "data"), tmp_path / "networks"
    conversion.main(["--quick", "--data", data, "--cache", str(cache), "--output", str(tmp_path)])
    # A network of so many images is trained already.
    networks.trained("MLP", np.zeros((200, 28, 28, 1)), np.zeros(200), cache, epochs=1)
    assert capsys.readouterr().out.count("accuracy: ") == 1
    text = (tmp_path / "conversion.md").read_text()
    for word in (*conversion.MODES, "MLP", "points lost at 8 steps", "1e-5", "20 test images"):
        assert word in text
    assert (tmp_path / page.PLOT).stat().st_size > 1000
