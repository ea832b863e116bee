"""Figures of recordings, by their data: which lines, bars, labels and titles they have."""

import sys

import numpy as np
import pytest

from keras_spiking.recording import LayerRecording, Recording
from keras_spiking.visualization import (
    plot_outputs,
    plot_raster,
    plot_rates,
    plot_summary,
    plot_voltage,
)
from tests.visualization.recordings import DT, layer, random_layer, recording

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402

pytestmark = pytest.mark.slow  # no backend is used

BLUE, ORANGE, GREEN, LIGHT_BLUE = "#0072b2", "#e69f00", "#009e73", "#56b4e9"


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def drawn(ax):
    """The spikes of a raster as rows of times, by the heights of the rows."""
    rows = [line for line in ax.collections if hasattr(line, "get_positions")]
    return {row.get_lineoffset(): row.get_positions() for row in rows}


class TestRaster:
    def test_a_row_has_the_times_of_a_units_spikes(self):
        hidden = random_layer("hidden", (2, 30, 5), mean=0.5)
        ax = plot_raster(recording(hidden), sample=1)
        rows = drawn(ax)
        assert list(rows) == [0, 1, 2, 3, 4]
        units, times = hidden.spike_times(1)
        for unit, row in rows.items():
            np.testing.assert_allclose(row, np.unique(times[units == unit]))
        assert ax.get_title().startswith(f"hidden: 5 units, {len(units)} spikes")
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "unit")
        assert ax.get_xlim() == (0, pytest.approx(30.5 * DT))

    def test_colours_tell_signs_and_numbers_of_spikes(self):
        ax = plot_raster(recording(layer("tanh", [[[1], [0], [-1], [4]]])))
        (row,) = ax.collections
        assert [to_hex(colour) for colour in row.get_colors()] == [BLUE, ORANGE, BLUE]
        opacity = row.get_colors()[:, 3]
        assert opacity[0] == opacity[1] < opacity[2] == 1
        assert ax.get_title() == "tanh: 1 unit, 6 spikes\nup to 4 in a step, 1 negative (orange)"

    def test_a_channel_stays_together(self):
        counts = np.zeros((1, 4, 2, 3, 5), int)  # (samples, time, rows, columns, channels)
        counts[0, 1, 1, 2, 3] = 1  # the last unit of channel 3
        ax = plot_raster(recording(layer("conv", counts)))
        (height,) = (height for height, times in drawn(ax).items() if len(times))
        assert 3 < height < 3.5
        assert ax.get_ylabel() == "channel"
        assert list(ax.get_yticks(minor=True)) == [0.5, 1.5, 2.5, 3.5]  # lines between them

        first = np.moveaxis(counts, -1, 2)
        other = plot_raster(recording(layer("conv", first)), data_format="channels_first")
        assert drawn(other).keys() == drawn(ax).keys()
        np.testing.assert_array_equal(drawn(other)[height], drawn(ax)[height])

    @pytest.mark.parametrize("shape", [(1, 40, 50, 50, 4), (1, 40, 10_000), (1, 3000, 2000)])
    def test_more_units_than_pixels_share_bins(self, shape):
        conv = random_layer("conv", shape, mean=0.01)
        ax = plot_raster(recording(conv))
        (image,) = ax.images
        num_bins, num_steps, _ = image.get_array().shape
        assert num_bins < ax.get_window_extent().height
        assert num_steps <= min(shape[1], ax.get_window_extent().width)
        units, spikes = np.prod(shape[2:]), conv.counts.sum()
        title = f"conv: {units:,} units in {num_bins} bins, {spikes:,} spikes"
        assert ax.get_title().startswith(title)
        assert image.get_extent()[:2] == [0, pytest.approx(shape[1] * DT)]

    def test_a_bin_has_the_sum_of_its_spikes_and_an_empty_one_no_colour(self):
        counts = np.zeros((1, 2, 50, 100, 2), int)
        counts[0, 0, 0, :3, 1] = 1, 1, 2  # one bin of channel 1
        counts[0, 1, 49, 99, 0] = -1  # the last bin of channel 0
        ax = plot_raster(recording(layer("conv", counts)))
        image = ax.images[0].get_array()
        half = len(image) // 2
        assert np.argwhere(image[..., 3]).tolist() == [[half - 1, 1], [half, 0]]
        assert to_hex(image[half, 0]) == BLUE
        assert to_hex(image[half - 1, 1]) == ORANGE
        assert image[half, 0, 3] == 1
        assert ax.get_title().endswith("\nup to 4 in a bin, 1 negative (orange)")

    def test_masked_steps_are_grey(self):
        mask = np.array([[True] * 6, [True, False, False, True, True, False]])
        hidden = random_layer("hidden", (2, 6, 3), mask=mask)
        assert not masked(plot_raster(recording(hidden)))
        spans = masked(plot_raster(recording(hidden), sample=1))
        np.testing.assert_allclose(spans, [[DT, 3 * DT], [5 * DT, 6 * DT]])

    def test_draws_where_it_is_told(self):
        _, (left, right) = plt.subplots(1, 2)
        both = recording(random_layer("a", (1, 5, 3)), random_layer("b", (1, 5, 4)))
        assert plot_raster(both, "b", ax=right) is right
        assert len(drawn(right)) == 4
        assert not left.collections


def masked(ax):
    """The beginnings and ends of what is shaded."""
    shades = [each for each in ax.collections if each.get_label() == "masked"]
    return [path.vertices[[0, 2], 0] for shade in shades for path in shade.get_paths()]


class TestRates:
    def test_histograms_have_all_units_but_the_silent(self):
        counts = np.zeros((2, 50, 4), int)
        counts[0, ::10, 1] = 1  # 5 spikes in 1 s
        counts[:, ::2, 2] = 1
        counts[0, 0, 3], counts[0, 1, 3] = 1, -1  # two spikes, and not silent
        ax = plot_rates(recording(layer("a", counts), random_layer("b", (2, 50, 10))))
        labels = ax.get_legend_handles_labels()[1]
        assert labels[0] == "a: mean 14.2 Hz, 1 of 4 silent"
        assert heights(ax)[0] == pytest.approx(75)
        assert heights(ax)[1] == pytest.approx(100)
        assert ax.get_xlabel() == "firing rate (Hz)"
        assert ax.get_ylabel() == "units (%)"

    def test_layers_can_be_chosen_and_may_all_be_silent(self):
        both = recording(random_layer("a", (1, 5, 3)), layer("b", np.zeros((1, 5, 4), int)))
        ax = plot_rates(both, "b")
        assert ax.get_legend_handles_labels()[1] == ["b: mean 0 Hz, 4 of 4 silent"]
        assert len(plot_rates(both, ["b", "a"]).get_legend_handles_labels()[1]) == 2


def heights(ax):
    """The height of each histogram's bars, summed."""
    shares = []
    for patch in ax.patches:
        tops = patch.get_xy()
        shares.append(sum(high for _, high in tops[1::2]))
    return shares


class TestVoltage:
    def hidden(self, shape=(2, 40, 4)):
        """Neurons at constant rates, each higher than the last."""
        increments = np.linspace(0.1, 0.4, np.prod(shape[2:])).reshape(shape[2:])
        total = np.arange(1, shape[1] + 1).reshape(-1, *[1] * len(shape[2:])) * increments
        total = np.broadcast_to(total, shape)
        counts = np.diff(np.floor(total), axis=1, prepend=0)
        return layer("hidden", counts, voltages=total % 1)

    def test_has_voltage_threshold_and_spikes_of_each_unit(self):
        hidden = self.hidden()
        ax = plot_voltage(recording(hidden), units=(3, 0), sample=1)
        for row, unit in enumerate((3, 0)):
            threshold, voltage = ax.lines[2 * row : 2 * row + 2]
            base = threshold.get_ydata()[0] - 1
            np.testing.assert_allclose(voltage.get_xdata(), DT * np.arange(1, 41))
            np.testing.assert_allclose(voltage.get_ydata(), base + hidden.voltages[1, :, unit])
            units, times = hidden.spike_times(1)
            spikes = ax.collections[row]
            np.testing.assert_allclose(spikes.get_positions(), times[units == unit])
            assert spikes.get_lineoffset() > base + 1
        assert [text.get_text() for text in ax.texts] == ["unit 3", "unit 0"]
        assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1", "0", "1"]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "voltage (spikes)")

    def test_shows_three_that_spike_most_with_their_place_in_the_features(self):
        ax = plot_voltage(recording(self.hidden((1, 40, 2, 3))))
        names = [text.get_text() for text in ax.texts]
        assert names == ["unit 3\n(1, 0)", "unit 4\n(1, 1)", "unit 5\n(1, 2)"]

    def test_negative_spikes_are_orange_and_several_wider(self):
        hidden = layer("x", [[[3], [0], [-1]]], voltages=np.zeros((1, 3, 1)))
        (spikes,) = plot_voltage(recording(hidden), units=0).collections
        assert list(map(to_hex, spikes.get_colors())) == [GREEN, ORANGE]
        assert list(spikes.get_linewidths()) == [3, 1]


class TestOutputs:
    outputs = np.random.default_rng(0).dirichlet(np.ones(6), size=(2, 20))  # (samples, time, 6)

    def recording(self, outputs):
        return recording(random_layer("hidden", (2, 20, 3)), outputs=outputs)

    def test_has_a_line_for_each_class_and_marks_the_true_one(self):
        ax = plot_outputs(self.recording(self.outputs), 1, true_class=2, class_names="abcdef")
        lines = {tuple(line.get_ydata()): line for line in ax.lines}
        assert len(lines) == 6
        true = lines[tuple(self.outputs[1, :, 2])]
        assert true.get_label() == "c (true)"
        assert true.get_linewidth() == max(line.get_linewidth() for line in ax.lines)
        np.testing.assert_allclose(true.get_xdata(), DT * np.arange(1, 21))
        labels = ax.get_legend_handles_labels()[1]
        rivals = [i for i in self.outputs[1].max(0).argsort()[::-1] if i != 2][:3]
        assert labels[1:] == ["abcdef"[i] for i in rivals]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "probability")

    def test_takes_logits_and_their_running_mean(self):
        logits = np.log(self.outputs) + 3
        ax = plot_outputs(self.recording(logits), from_logits=True)
        values = np.sort([line.get_ydata() for line in ax.lines], axis=0)
        np.testing.assert_allclose(values, np.sort(self.outputs[0].T, axis=0))
        ax = plot_outputs(self.recording(self.outputs), running_mean=True)
        last = sorted(line.get_ydata()[-1] for line in ax.lines)
        np.testing.assert_allclose(last, np.sort(self.outputs[0].mean(0)))


class TestSummary:
    def test_has_a_raster_for_each_layer_then_rates_then_outputs(self):
        layers = random_layer("a", (2, 20, 3)), random_layer("b", (2, 20, 4, 4, 2))
        figure = plot_summary(recording(*layers, outputs=TestOutputs.outputs), 1, true_class=0)
        labels = [ax.get_ylabel() for ax in figure.axes]
        assert labels == ["unit", "channel", "units (%)", "probability"]
        assert figure.axes[1].get_title().startswith("b: 32 units")

    def test_leaves_outputs_without_time_out_and_draws_into_a_figure(self):
        figure = plt.figure()
        part = figure.subfigures(1, 2)[1]
        hidden = recording(random_layer("a", (2, 20, 3)), outputs=np.ones((2, 10)))
        assert plot_summary(hidden, figure=part) is part
        assert len(part.axes) == 2


def test_figures_look_right_on_a_dark_background():
    hidden = TestVoltage().hidden()
    with plt.style.context("dark_background"):
        figure = plot_summary(recording(hidden, outputs=TestOutputs.outputs))
        ax = plot_voltage(recording(hidden))
        figure.canvas.draw()
    assert to_hex(figure.axes[0].collections[0].get_colors()[0]) == LIGHT_BLUE
    texts = figure.findobj(matplotlib.text.Text) + ax.findobj(matplotlib.text.Text)
    assert {to_hex(text.get_color()) for text in texts} == {"#ffffff"}


HIDDEN = recording(random_layer("a", (2, 5, 3)), random_layer("b", (2, 5, 4)))
FILTER = recording(LayerRecording("filter", DT, outputs=np.zeros((1, 5, 3))))
ONE = Recording({"a": HIDDEN["a"]}, np.ones((2, 10)))
BAD = [
    (plot_raster, ({},), TypeError, r"must be a keras_spiking.Recording; .* dict. Make one with"),
    (plot_raster, (HIDDEN,), ValueError, '`layer` must be one of "a", "b"; received layer=None'),
    (plot_raster, (HIDDEN, "c"), ValueError, '`layer` must be one of "a", "b"; received .*\'c\''),
    (plot_raster, (FILTER,), ValueError, r'has no spikes. .*\[\'filter\'\].*quantities=\("spikes"'),
    (plot_raster, (ONE, "a", 2), ValueError, "`sample` must be an integer from 0 to 1; .*=2"),
    (plot_raster, (ONE, "a", True), ValueError, "`sample` must be an integer"),
    (plot_raster, (ONE, "a", 0, []), TypeError, "`ax` must be a matplotlib Axes; .*list. Make"),
    (plot_raster, (ONE, "a", 0, None, "NCHW"), ValueError, '`data_format` must be one of "channe'),
    (plot_rates, (HIDDEN, ["a", "c"]), ValueError, '`layers` must be one of "a", "b"'),
    (plot_rates, (HIDDEN, []), ValueError, "`layers` must name one or more layers"),
    (plot_voltage, (ONE,), ValueError, r'no voltages of layer .*\("spikes", "voltages"\)'),
    (plot_outputs, (HIDDEN,), TypeError, "must have one output; .* NoneType. Choose one"),
    (plot_outputs, (ONE,), ValueError, r"\(samples, time, classes\); received \(2, 10\). Record"),
    (plot_summary, (FILTER,), ValueError, "the recording has no spikes"),
]


@pytest.mark.parametrize(("plot", "arguments", "error", "words"), BAD)
def test_errors_say_what_to_do(plot, arguments, error, words):
    with pytest.raises(error, match=f"^{plot.__name__}: .*{words}"):
        plot(*arguments)
    assert not plt.get_fignums()


def test_wrong_classes_and_units_are_errors():
    hidden = TestVoltage().hidden()
    with pytest.raises(ValueError, match=r"`units` must be an integer from 0 to 3; .*=4"):
        plot_voltage(recording(hidden), units=[0, 4])
    with pytest.raises(ValueError, match="`units` must name one or more units"):
        plot_voltage(recording(hidden), units=[])
    outputs = TestOutputs().recording(TestOutputs.outputs)
    with pytest.raises(ValueError, match=r"`true_class` must be an integer from 0 to 5; .*=6"):
        plot_outputs(outputs, true_class=6)
    with pytest.raises(
        ValueError, match=r"`class_names` must .* each of the 6 classes; received 2"
    ):
        plot_outputs(outputs, class_names=("a", "b"))
    with pytest.raises(TypeError, match="`from_logits` must be True or False"):
        plot_outputs(outputs, from_logits=1)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for plot in (plot_raster, plot_rates, plot_voltage, plot_outputs, plot_summary):
        with pytest.raises(ImportError, match=rf'^{plot.__name__}: .*"keras-spiking\[viz\]"'):
            plot(HIDDEN)
