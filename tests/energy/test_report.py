"""The table as data, text, HTML and figure."""

import builtins
import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_spiking
from keras_spiking import ModelEnergy


@pytest.fixture
def energy():
    """Of two layers, the second with a name that HTML would misread."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(300, activation="relu", name="first"),
            layers.Dense(2, name="last>b"),
        ]
    )
    model.set_weights([np.ones(weight.shape) for weight in model.weights])
    return ModelEnergy(model, np.full((2, 4), 2.0))


def test_table_is_a_list_of_dictionaries(energy):
    columns = (
        """
        name|output_shape|params|connections|neurons|rate|rate_from|
        energy gpu|synop_energy gpu|neuron_energy gpu
    """.strip()
        .replace("\n", "")
        .replace(" " * 8, "")
        .split("|")
    )
    first, last = energy.table(columns)
    assert list(first) == list(last) == columns
    assert first.pop("output_shape") == (None, 300)
    assert first == pytest.approx(
        {
            "name": "first",
            "params": 1500,
            "connections": 1200,
            "neurons": 300,
            "rate": 2.0,
            "rate_from": "abs(input)",
            "energy gpu": 1500 * 3e-10,
            "synop_energy gpu": 1200 * 3e-10,
            "neuron_energy gpu": 300 * 3e-10,
        }
    )
    assert last["rate"] == pytest.approx(9.0)  # 4 * 2, and a bias of 1


def test_summary_prints_rows_and_totals(energy, capsys):
    energy.summary(print_warnings=False)
    assert (
        capsys.readouterr().out
        == """\
name    output_shape  params  connections  neurons  energy cpu
--------------------------------------------------------------------------------------------------
first   (None, 300)    1,500        1,200      300    1.29e-05
last>b  (None, 2)        602          600        0    5.16e-06
==================================================================================================
total                  2,102        1,800      300    1.81e-05

Energies are in joules per inference, rates in hertz. Rates are the mean of abs(input).
"""
    )


def test_lines_keep_to_their_length(energy):
    columns = ("name", "output_shape", "rate", "energy loihi", "rate_from")
    for line_length in (50, 70, 120):
        lines = energy.summary_string(columns, line_length=line_length).splitlines()
        assert max(map(len, lines)) == line_length, line_length
        assert "=" * line_length in lines
    assert "(None, 30…" in energy.summary_string(columns, line_length=50)


def test_totals_are_sums_over_layers(energy):
    rows = energy.table(("energy loihi",), 10, 0.01)
    total = sum(row["energy loihi"] for row in rows)
    assert total == pytest.approx(energy.total_energy("loihi", 10, 0.01))
    printed = energy.summary_string(("name", "energy loihi"), 10, 0.01)
    assert float(re.search(r"^total +(\S+)$", printed, re.MULTILINE)[1]) == pytest.approx(
        total, rel=1e-2
    )


def flat(text):
    return " ".join(text.split())


def test_warnings_are_those_of_the_columns(energy):
    of_cpu = flat(energy.summary_string())
    assert "These are estimates" in of_cpu
    assert "converted to spiking neurons" not in of_cpu
    of_loihi = flat(energy.summary_string(("name", "synop_energy loihi")))
    assert "Not spiking: first. For loihi they are taken to be converted" in of_loihi
    silent = energy.summary_string(("name", "energy loihi"), print_warnings=False)
    assert "estimates" not in silent


def test_layers_that_count_nothing_are_named():
    model = keras.Sequential([keras.Input((None, 4)), layers.LSTM(3, name="gate")])
    with pytest.warns(UserWarning, match="gate"):
        energy = ModelEnergy(model)
    assert "Counted as nothing, for want of a rule: gate." in energy.summary_string()


@pytest.mark.filterwarnings("ignore:ModelEnergy. layer 'twice' counts nothing")
def test_spikes_that_are_lost_in_an_unknown_layer_are_pointed_out():
    class Twice(layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    inputs = keras.Input((None, 4))
    spikes = keras_spiking.SpikingActivation("relu", rate_scale=100)(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="out")(Twice(name="twice")(spikes)))
    energy = ModelEnergy(model, np.ones((2, 5, 4)))
    assert energy.table(("rate_from",))[-1] == {"rate_from": "abs(input)"}
    words = "Spikes go into twice; behind, abs(input) is taken for the rate."
    assert words in flat(energy.summary_string(("name", "energy loihi")))
    assert words not in flat(energy.summary_string(("name", "energy cpu")))


@pytest.mark.parametrize("time", [None, 10])
def test_a_fixed_number_of_steps_is_pointed_out(time):
    model = keras.Sequential(
        [
            keras.Input((time, 4)),
            layers.Dense(3, name="before"),
            keras_spiking.SpikingActivation("relu"),
            keras_spiking.TemporalAvgPool(),
            layers.Dense(3, name="after"),
        ]
    )
    pointed_out = "before: if axis 1 is time, all of its steps" in flat(
        ModelEnergy(model).summary_string()
    )
    assert pointed_out == (time == 10)


def test_html_escapes_names(energy):
    html = energy._repr_html_()
    assert "<td>last&gt;b</td>" in html
    assert "last>b" not in html
    assert "1.81e-05" in html
    assert "These are estimates" in html


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (("name", "price"), r"`columns` must be among name.*energy D.*received 'price'"),
        (("energy toaster",), r"D is one of cpu.*received 'energy toaster'"),
        (("power cpu",), "received 'power cpu'"),
        ((), "must name one or more columns"),
    ],
)
def test_unknown_columns_are_errors(energy, columns, words):
    with pytest.raises(ValueError, match=words):
        energy.summary_string(columns)


def test_what_needs_rates_says_so():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    energy = ModelEnergy(model)
    for columns in (("rate",), ("rate_from",), ("energy loihi",)):
        with pytest.raises(ValueError, match="example_data=None"):
            energy.table(columns)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"line_length": 0}, ValueError, "`line_length` must be a positive integer"),
        ({"line_length": (50,)}, TypeError, "`line_length` must be a positive integer"),
        ({"columns": "name"}, TypeError, r"`columns` must be a list .*columns='name'.*one column"),
        ({"columns": ["name", 3]}, TypeError, r"`columns` must be a list .*\['name', 3\]"),
        ({"line_length": "long"}, TypeError, "`line_length` must be a positive integer"),
        ({"print_warnings": "no"}, TypeError, "`print_warnings` must be True or False"),
    ],
)
def test_arguments_of_summary_are_checked(energy, arguments, error, words):
    with pytest.raises(error, match=words):
        energy.summary_string(**arguments)


def test_plot_has_a_panel_per_device_with_a_stacked_bar_per_layer(energy):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    figure = energy.plot(["cpu", "loihi"], timesteps_per_inference=10)
    assert len(figure.axes) == 2
    for axis, device in zip(figure.axes, ("cpu", "loihi"), strict=True):
        assert axis.get_title().startswith(f"{device}: ")
        synops, neurons = ([bar.get_width() for bar in bars] for bars in axis.containers)
        for layer, *pair in zip(energy.model.layers, synops, neurons, strict=True):
            assert pair == pytest.approx(energy.layer_energy(layer, device, 10))
        assert [bar.get_x() for bar in axis.containers[1]] == pytest.approx(synops)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["first", "last>b"]
    pyplot.close(figure)


def test_plot_without_matplotlib_says_what_to_install(energy, monkeypatch):
    real_import = builtins.__import__

    def no_matplotlib(name, *args):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match=r'pip install "keras-spiking\[viz\]"'):
        energy.plot("cpu")


def test_plot_of_no_device_is_an_error(energy):
    with pytest.raises(ValueError, match="`devices` must name one or more"):
        energy.plot([])
    for unknown in ("toaster", ["cpu", "toaster"], 3):
        with pytest.raises(ValueError, match=r"`device` must be one of cpu.*register_device"):
            energy.plot(unknown)
