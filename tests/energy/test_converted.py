"""Models that `convert` made: they cost what their spikes do, which NumPy counts."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_spiking
from keras_spiking import ModelEnergy
from tests.reference import lowpass


def test_a_converted_model_costs_what_its_spikes_do(rng):
    """With `num_steps` or without: the steps of a sample are no part of its connections."""
    steps, dt = 6, 0.1
    original = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 3, activation="relu", name="conv"),
            layers.Conv2D(3, 3, activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(5, activation="relu", name="dense"),
            layers.Dropout(0.5),
            layers.Dense(2, name="out"),
        ]
    )
    data = rng.normal(size=(4, 6, 6, 1)).astype("float32")
    options = {"dt": dt, "rate_scale": 9.0, "seed": 0, "integrate": "activation"}
    shown = keras_spiking.convert(original, num_steps=steps, **options)
    given = keras_spiking.convert(original, **options)
    energies = [
        ModelEnergy(shown, data),
        ModelEnergy(given, data[:, None].repeat(steps, axis=1)),
    ]
    for energy in energies:
        counted = {uses[0].name: energy.layer_stats[layer] for layer, uses in energy.uses.items()}
        for layer in original.layers[:-1]:
            expected = ModelEnergy.compute_layer_stats(layer)["connections"]
            assert counted[layer.name]["connections"] == expected
        assert counted["out_over_time"]["connections"] == 10
        assert counted["second_spikes"]["neurons"] == 12
        assert counted["dense_spikes"]["neurons"] == 5
        assert "as their number is fixed" not in energy.summary_string()
    totals = [energy.total_energy("loihi", steps, dt) for energy in energies]
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)

    synops, _ = energies[0].layer_energy(shown.get_layer("dense"), "loihi", steps, dt)
    (result,) = keras_spiking.compare(original, shown, data).results
    # Each spike of the second convolution reaches all five units.
    assert synops == pytest.approx(result.layers[1].spikes * 5 * 27.1e-12, rel=1e-4)


@pytest.mark.parametrize(
    ("scale", "max_pooling", "tau", "integrate"),
    [
        (40.0, "keep", None, "activation"),
        ("calibrate", "keep", 0.2, "activation"),
        ("calibrate", "average", None, "activation"),
    ],
)
def test_a_converted_residual_network_costs_what_its_spikes_do(
    scale, max_pooling, tau, integrate, rng
):
    steps, dt = 8, 0.05
    data = rng.uniform(0, 1, (5, 8, 8, 1)).astype("float32")
    inputs = keras.Input((8, 8, 1))
    arguments = {"padding": "same", "activation": "relu"}
    first = layers.Conv2D(4, 3, name="first", **arguments)(inputs)
    pooled = layers.MaxPooling2D(2)(first)
    second = layers.Conv2D(4, 3, name="second", **arguments)(pooled)
    joined = layers.Add(name="joined")([pooled, second])
    third = layers.Conv2D(3, 3, name="third", activation="relu")(joined)
    x = layers.Dense(6, activation="relu", name="dense")(layers.Flatten()(third))
    original = keras.Model(inputs, layers.Dense(2, name="out")(x))
    options = {"rate_scale": scale, "integrate": integrate}
    if scale == "calibrate":
        options.update(example_data=data, target_rate=30)
    spiking = keras_spiking.convert(
        original, num_steps=steps, dt=dt, seed=0, tau=tau, max_pooling=max_pooling, **options
    )

    names = ["first_spikes", "second_spikes", "third_spikes", "dense_spikes"]
    emitting = [spiking.get_layer(name) for name in names]
    scales = [layer.rate_scale for layer in emitting]
    assert scale == 40 or [each.shape for each in scales] == [(4,), (4,), (3,), (6,)]
    outputs = [layer.output for layer in emitting]
    values = keras.Model(spiking.inputs, outputs).predict(data, verbose=0)
    spikes = [np.rint(each * (dt * scale)) for each, scale in zip(values, scales, strict=True)]
    if tau is not None:
        spikes = [lowpass(each, dt, tau, 0.0)[0] for each in spikes]
    first, second, third, dense = spikes
    windows = first.reshape(5, steps, 4, 2, 4, 2, 4)
    pooled = windows.max((3, 5)) if max_pooling == "keep" else windows.mean((3, 5))
    expected = {
        "second": pooled,
        "third": pooled + second,
        "dense": third,
        "out_over_time": dense,
    }
    energy = ModelEnergy(spiking, data)
    for layer, (use,) in energy.uses.items():
        if use.name in expected:
            counts = expected.pop(use.name)
            assert counts.any()
            assert energy.layer_rates[layer] == pytest.approx(counts.mean() / dt, rel=1e-4)
    assert not expected
