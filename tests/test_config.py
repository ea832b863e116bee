"""`keras_spiking.default`, the time step of layers made without one, and the choice of kernels."""

import keras
import numpy as np
import pytest

import keras_spiking
from keras_spiking.kernels import cpu, setting

MAKERS = {
    "SpikingActivation": lambda **kwargs: keras_spiking.SpikingActivation("relu", **kwargs),
    "SpikingActivationCell": lambda **kwargs: keras_spiking.SpikingActivationCell(
        2, "relu", **kwargs
    ),
    "Lowpass": lambda **kwargs: keras_spiking.Lowpass(0.1, **kwargs),
    "LowpassCell": lambda **kwargs: keras_spiking.LowpassCell(2, 0.1, **kwargs),
    "Alpha": lambda **kwargs: keras_spiking.Alpha(0.1, **kwargs),
    "AlphaCell": lambda **kwargs: keras_spiking.AlphaCell(2, 0.1, **kwargs),
}

every_class = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def test_a_millisecond_unless_set():
    assert keras_spiking.default.dt == 0.001


@every_class
def test_read_where_dt_is_left_out(make):
    keras_spiking.default.dt = 0.02
    assert make().dt == 0.02
    assert make(dt=None).dt == 0.02
    assert make(dt=0.5).dt == 0.5


@every_class
def test_read_at_construction_only(make):
    layer = make()
    keras_spiking.default.dt = 0.02
    assert layer.dt == 0.001
    assert layer.get_config()["dt"] == 0.001


@every_class
def test_a_layer_loads_with_the_dt_it_was_made_with(make):
    config = make().get_config()
    keras_spiking.default.dt = 0.02
    assert type(make()).from_config(config).dt == 0.001


def test_layers_compute_with_the_dt_they_were_made_with():
    keras_spiking.default.dt = 0.25
    layer = keras_spiking.SpikingActivation("relu", initial_voltage=0.0)
    keras_spiking.default.dt = 0.001
    spikes = np.asarray(layer(np.full((1, 4, 1), 2.0, "float32")))
    np.testing.assert_array_equal(spikes[0, :, 0], [0.0, 4.0, 0.0, 4.0])


@pytest.mark.parametrize("value", [2, np.float32(0.5), np.float64(0.25), np.array(0.125)])
def test_accepts_any_positive_number(value):
    keras_spiking.default.dt = value
    assert keras_spiking.default.dt == float(value)
    assert type(keras_spiking.default.dt) is float


@pytest.mark.parametrize("value", [0, -0.001, np.float32(-1)])
def test_refuses_what_is_not_positive(value):
    message = (
        r"keras_spiking\.default: `dt` must be a number of seconds, positive and finite; "
        rf"received dt={value}\."
    )
    with pytest.raises(ValueError, match=message):
        keras_spiking.default.dt = value
    assert keras_spiking.default.dt == 0.001


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), 10**400]
)
def test_refuses_what_is_not_finite(value):
    with pytest.raises(ValueError, match=rf"`dt` must be finite; received dt={value}"):
        keras_spiking.default.dt = value
    assert keras_spiking.default.dt == 0.001


@pytest.mark.parametrize("value", ["0.001", None, True, 1j, [0.001], np.array([0.001])])
def test_refuses_what_is_no_number(value):
    message = r"`dt` must be a number of seconds; received dt=.* of type"
    with pytest.raises(TypeError, match=message):
        keras_spiking.default.dt = value
    assert keras_spiking.default.dt == 0.001


def test_refuses_settings_that_do_not_exist():
    with pytest.raises(AttributeError, match="Dt"):
        keras_spiking.default.Dt = 0.01


def test_shows_its_value():
    assert repr(keras_spiking.default) == "keras_spiking.default(dt=0.001)"


def test_kernels_are_chosen_by_speed_unless_set():
    assert keras_spiking.config.kernels() == ("numba" if cpu.is_available() else "native")
    keras_spiking.config.set_kernels("portable")
    assert keras_spiking.config.kernels() == "portable"


@pytest.mark.parametrize("name", ["loop", "", None, 1])
def test_refuses_kernels_that_do_not_exist(name):
    message = rf"`name` must be one of auto, numba, native, portable; received name={name!r}\."
    with pytest.raises(ValueError, match=message):
        keras_spiking.config.set_kernels(name)
    assert setting.name == "auto"


def test_numba_is_set_only_where_it_is_installed(monkeypatch):
    if cpu.is_available():
        keras_spiking.config.set_kernels("numba")
        assert keras_spiking.config.kernels() == "numba"
    keras_spiking.config.set_kernels("auto")
    monkeypatch.setattr(cpu, "is_available", lambda: False)
    assert keras_spiking.config.kernels() == "native"
    with pytest.raises(ValueError, match=r'name="numba" needs Numba, .* keras-spiking\[fast\]'):
        keras_spiking.config.set_kernels("numba")


@pytest.mark.skipif(
    keras.backend.backend() != "jax" or not cpu.is_available(), reason="JAX and Numba"
)
def test_numba_does_not_run_in_programs_for_several_devices(monkeypatch):
    import jax

    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert keras_spiking.config.kernels() == "native"
