"""Devices: their figures are those of their sources, and numbers that cannot be are errors."""

import keras
import numpy as np
import pytest

import keras_spiking
from keras_spiking.energy import Device, devices, register_device


@pytest.fixture(autouse=True)
def own_devices():
    """Lets each test register devices that the others do not see."""
    before = dict(devices.DEVICES)
    yield
    devices.DEVICES.clear()
    devices.DEVICES.update(before)


@pytest.mark.parametrize(
    ("name", "synop", "neuron", "spiking"),
    [
        # Degnan et al. 2016.
        ("cpu", 8.6e-9, 8.6e-9, False),
        ("gpu", 0.3e-9, 0.3e-9, False),
        ("arm", 0.9e-9, 0.9e-9, False),
        # Davies et al. 2018; Höppner et al. 2019.
        ("loihi", 27.1e-12, 81e-12, True),
        ("spinnaker", 13.3e-9, 26e-9, True),
        ("spinnaker2", 450e-12, 2.19e-9, True),
        # Horowitz 2014: an addition, and a multiplication with an addition.
        ("45nm_mac", 3.7e-12 + 0.9e-12, 3.7e-12 + 0.9e-12, False),
        ("45nm_ac", 0.9e-12, 3.7e-12 + 0.9e-12, True),
        # Merolla et al. 2014.
        ("truenorth", 26e-12, 0, True),
    ],
)
def test_devices_are_as_published(name, synop, neuron, spiking):
    device = devices.DEVICES[name]
    assert device.name == name
    assert (device.energy_per_synop, device.energy_per_neuron) == pytest.approx((synop, neuron))
    assert device.spiking is spiking


def test_truenorth_spends_what_was_measured():
    # 72 mW, with a million neurons that fire at 20 Hz through 128 synapses each.
    events_per_second = 2**20 * 20 * 128
    assert 72e-3 / events_per_second == pytest.approx(26e-12, rel=0.05)


def test_every_device_has_a_source():
    for name in devices.DEVICES:
        assert f"`{name}`" in devices.__doc__


def test_a_registered_device_has_columns_of_its_own():
    keras_spiking.ModelEnergy.register_device("my chip", 1e-12, np.float32(2), spiking=True)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu")])
    energy = keras_spiking.ModelEnergy(model, np.full((1, 4), 1000.0))
    expected = {"synop_energy my chip": 12e-12, "neuron_energy my chip": 6.0}
    assert energy.table(list(expected)) == [pytest.approx(expected)]
    with pytest.warns(UserWarning, match="'my chip' was registered already"):
        register_device("my chip", 0, 0, spiking=False)
    assert energy.total_energy("my chip") == 0


def test_the_registered_devices_are_a_mapping_to_read():
    registered = keras_spiking.ModelEnergy.devices
    assert list(registered) == list(devices.DEVICES)
    assert registered["loihi"].energy_per_neuron == 81e-12
    assert "my chip" not in registered
    register_device("my chip", 1e-12, 2e-12, spiking=True)
    assert registered["my chip"] == Device("my chip", 1e-12, 2e-12, spiking=True)
    with pytest.raises(TypeError):
        registered["other"] = registered["my chip"]


def test_a_device_that_replaces_another_says_so():
    words = r"'cpu' was registered already.* it was .*8.6e-09.* is now .*energy_per_synop=1.0, "
    with pytest.warns(UserWarning, match=words) as caught:
        register_device("cpu", 1, 2, spiking=False)
    assert caught[0].filename == __file__
    assert keras_spiking.ModelEnergy.devices["cpu"].energy_per_neuron == 2


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            ("chip", -1e-12, 1, True),
            ValueError,
            "`energy_per_synop` must be a number of joules, ze",
        ),
        (("chip", 1, float("nan"), True), ValueError, "`energy_per_neuron` must be finite"),
        (("chip", "1 pJ", 1, True), TypeError, "`energy_per_synop` must be a number of joules; re"),
        (("chip", 1, 1, "yes"), TypeError, "`spiking` must be True or False"),
        ((" ", 1, 1, True), ValueError, "`device_name` must not be empty"),
        ((3, 1, 1, True), TypeError, "`device_name` must be a string; received device_name=3"),
    ],
)
def test_numbers_that_cannot_be_are_errors(arguments, error, words):
    with pytest.raises(error, match=words):
        register_device(*arguments)
    with pytest.raises(error, match=words):
        Device(*arguments)
    assert "chip" not in devices.DEVICES
