"""`Recording`: what it says about spikes, against counts made by hand, and its files."""

import sys

import numpy as np
import pytest

from keras_spiking.recording import LayerRecording, Recording

DT = 0.01


@pytest.fixture
def layer():
    """Two samples, four steps, three units; the second sample is one step shorter."""
    counts = np.zeros((2, 4, 3))
    counts[0, 0, 0], counts[0, 2, 0], counts[1, 1, 0] = 2, 1, 1
    counts[0, 1, 1] = -1
    mask = np.array([[True] * 4, [True] * 3 + [False]])
    scale = np.array([1.0, 2.0, 4.0])
    spikes = (counts / (DT * scale)).astype("float32")
    return LayerRecording("spikes", DT, scale, spikes, mask=mask)


def test_counts_rates_and_times_are_those_of_the_spikes(layer):
    assert layer.counts.dtype == np.int32
    assert layer.counts[0].tolist() == [[2, 0, 0], [0, -1, 0], [1, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(layer.hertz[0, 0], [200, 0, 0])
    np.testing.assert_allclose(layer.times, [0.01, 0.02, 0.03, 0.04])
    np.testing.assert_allclose(layer.rates(), [4 / 0.07, 1 / 0.07, 0])
    units, times = layer.spike_times(0)
    assert units.tolist() == [0, 0, 0]
    np.testing.assert_allclose(times, [0.01, 0.01, 0.03])
    assert layer.spike_times(sample=1)[0].tolist() == [0]


def test_figures_are_those_of_the_spikes(layer):
    figures = layer.figures()
    np.testing.assert_allclose(figures.mean_rate, 5 / 3 / 0.07)
    np.testing.assert_allclose(figures.median_rate, 1 / 0.07)
    np.testing.assert_allclose(figures.top_rate, np.percentile([0, 1 / 0.07, 4 / 0.07], 99.9))
    found = figures.silent, figures.spikes, figures.several, figures.negative
    np.testing.assert_allclose(found, [1 / 3, 2.5, 1 / 21, 1 / 5])


def test_a_dataframe_has_a_row_for_each_spiking_layer(layer, monkeypatch):
    recording = Recording({"spikes": layer, "filter": LayerRecording("filter", DT)})
    table = recording.to_dataframe()
    assert (table.index.name, list(table.index)) == ("layer", ["spikes"])
    assert table.loc["spikes"].to_dict() == layer.figures()._asdict()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="`to_dataframe` needs pandas, which is not installed"):
        recording.to_dataframe()


def test_saves_and_loads_all_it_holds(layer, tmp_path):
    outputs = {"a": np.arange(2), "b": [np.ones((2, 3), bool), np.zeros((2, 1), "float16")]}
    filtered = LayerRecording("a/filter#2", np.float64(0.1), outputs=np.ones((2, 4, 3)))
    recording = Recording({"spikes": layer, "a/filter#2": filtered}, outputs)
    recording.save(tmp_path / "recording")
    loaded = Recording.load(tmp_path / "recording")
    assert list(loaded) == list(recording)
    assert len(loaded) == 2
    for name, expected in recording.items():
        assert type(loaded[name].dt) is float
        for field, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(loaded[name], field), value)
    assert loaded["a/filter#2"].rate_scale is None
    assert loaded["spikes"].inputs is None
    assert list(loaded.outputs) == ["a", "b"]
    np.testing.assert_array_equal(loaded.outputs["a"], outputs["a"])
    np.testing.assert_array_equal(loaded.outputs["b"][0], outputs["b"][0])
    assert loaded.outputs["b"][1].dtype == np.float16


def test_refuses_files_that_are_no_recordings(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    (tmp_path / "text").write_text("recording")
    for name in ("other.npz", "text"):
        with pytest.raises(ValueError, match=r"Recording\.load: `path` must be a file that"):
            Recording.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Recording.load(tmp_path / "missing")


def test_says_what_was_not_recorded(layer):
    recording = Recording({"spikes": layer, "filter": LayerRecording("filter", DT)})
    with pytest.raises(KeyError, match=r"no layer 'x'. Those .* are \['spikes', 'filter'\]"):
        recording["x"]
    assert "x" not in recording
    assert "filter" in recording
    with pytest.raises(ValueError, match="spikes of layer 'filter' were not recorded"):
        recording["filter"].rates()
    nan = LayerRecording("spikes", DT, 1.0, np.full((1, 2, 3), np.nan))
    with pytest.raises(ValueError, match="spikes of layer 'spikes' are not finite"):
        _ = nan.counts
