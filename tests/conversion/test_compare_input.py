"""compare: neurons that integrate their input, negative spikes, many numbers of steps at once."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import keras_spiking
from tests import reference
from tests.conversion.models import built, data_for, images, sequential, weird

# Few or short steps are meant here.
pytestmark = pytest.mark.filterwarnings("ignore:convert. an activation of 1 makes:UserWarning")

SAMPLES = 24


def pooled():
    return sequential(
        (8, 8, 2),
        layers.Conv2D(6, 3, activation="relu", name="first"),
        layers.MaxPooling2D(2, name="pool"),
        layers.BatchNormalization(),
        layers.Conv2D(6, 2, activation="gelu", name="second"),
        layers.Flatten(),
        layers.Dense(10, activation="relu", name="third"),
        layers.Dense(4, activation="softmax", name="classes"),
    )


def small():
    return sequential(
        (6,),
        layers.Dense(12, activation="relu"),
        layers.Reshape((6, 2)),
        layers.MaxPooling1D(2),
        layers.Flatten(),
        layers.Dense(5, activation="tanh"),
        layers.Dense(2),
    )


def vector(numbers):
    """What must not depend on how time is run, of every layer and output."""
    return np.array(
        [
            *[
                getattr(layer, name)
                for layer in numbers.layers
                for name in ("spikes", "negative", "silent", "several", "error", "top_rate")
            ],
            *[output.error for output in numbers.outputs],
            numbers.output_error,
            numbers.mean_rate,
        ]
    )


def relu(values):
    return np.maximum(values, 0)


@pytest.mark.parametrize("negative_spikes", [True, False])
def test_figures_are_those_of_a_loop_in_numpy(negative_spikes, rng):
    steps, dt = 12, 0.01
    model = sequential(
        (5,),
        layers.Dense(20, activation="relu", name="one"),
        layers.Dense(10, activation="relu", name="two"),
        layers.Dense(3, activation="softmax"),
    )
    data = rng.normal(size=(SAMPLES, 5)).astype("float32")
    spiking = keras_spiking.convert(
        model, num_steps=steps, dt=dt, example_data=data, negative_spikes=negative_spikes
    )
    scales = [np.asarray(spiking.get_layer(f"{name}_spikes").rate_scale) for name in ("one", "two")]
    assert [scale.shape for scale in scales] == [(20,), (10,)]

    (result,) = keras_spiking.compare(model, spiking, data, batch_size=7).results
    weights = model.get_weights()
    inputs = np.repeat(data[:, None], steps, axis=1).astype("float64")
    total = total_negative = 0.0
    for layer, scale, kernel, bias in zip(
        result.layers, scales, weights[:4:2], weights[1:4:2], strict=True
    ):
        outputs = reference.accumulate_and_fire(
            inputs @ kernel + bias,
            scale * dt,
            np.full((SAMPLES, len(bias)), 0.5),
            relu,
            negative_spikes=negative_spikes,
        )
        counts = np.rint(outputs * scale * dt)
        negative = -counts[counts < 0].sum() / SAMPLES
        # One spike in hundreds may come a step early in float32.
        assert layer.negative == pytest.approx(negative, rel=0.02)
        assert layer.spikes == pytest.approx(np.abs(counts).sum() / SAMPLES, rel=0.01)
        rates = np.abs(counts).mean(axis=1) / dt
        assert layer.mean_rate == pytest.approx(rates.mean(), rel=0.01)
        assert layer.top_rate == pytest.approx(np.percentile(rates, 99.9), rel=0.02)
        total, total_negative = total + layer.spikes, total_negative + layer.negative
        inputs = outputs
    assert (result.layers[1].negative > 0) == negative_spikes
    assert result.layers[0].negative == 0
    assert result.spikes == pytest.approx(total)
    assert result.negative == pytest.approx(total_negative)
    assert [layer.off for layer in result.layers] == ([0, 0] if negative_spikes else [None, None])


CASES = {
    "input": {},
    "no negative spikes": {"negative_spikes": False},
    "activation": {"integrate": "activation", "seed": 2},
    "last": {"integrate": "activation", "seed": 2, "readout": "last", "tau": 0.02},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_one_run_for_all_numbers_of_steps_gives_what_each_alone_gives(options, rng):
    model = small()
    spiking = keras_spiking.convert(model, num_steps=3, dt=0.02, rate_scale=40.0, **options)
    data = data_for(model, rng, num_samples=5)
    dts = (0.02, 0.04)
    together = keras_spiking.compare(model, spiking, data, dts=dts, num_steps=(7, 1, 12)).results
    assert [(each.num_steps, each.dt) for each in together] == [
        (steps, dt) for steps in (7, 1, 12) for dt in dts
    ]
    alone = [
        result
        for steps in (7, 1, 12)
        for result in keras_spiking.compare(
            model, spiking, data, dts=dts, num_steps=(steps,)
        ).results
    ]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(vector(one), vector(other), rtol=1e-4, atol=1e-6)


def test_what_is_asked_for_twice_comes_twice(rng):
    model = small()
    spiking = keras_spiking.convert(model, num_steps=2, rate_scale=500.0)
    data = data_for(model, rng)
    results = keras_spiking.compare(model, spiking, data, num_steps=(3, 2, 3)).results
    assert [each.num_steps for each in results] == [3, 2, 3]
    assert results[0] == results[2] != results[1]


@pytest.mark.parametrize(
    ("make", "num_steps"), [(pooled, (1, 2, 3, 5, 8, 16)), (images, (2, 7)), (weird, (1, 5))]
)
def test_no_mean_is_off_at_any_number_of_steps(make, num_steps, rng):
    model = built(make)
    data = data_for(model, rng, num_samples=6)
    spiking = keras_spiking.convert(model, num_steps=4, example_data=data)
    report = keras_spiking.compare(model, spiking, data, num_steps=num_steps)
    for result in report.results:
        assert [layer.off for layer in result.layers] == [0] * len(result.layers)
        assert result.parts_at is None
    # Though the activations of the original are others.
    assert report.results[0].layers[-1].error > 0.1
    errors = [result.output_error for result in report.results]
    assert errors[-1] < errors[0]


def with_noisy_maximum(spiking):
    """The same model, but for max pooling that runs at each step."""

    def remade(layer):
        if layer.name != "pool":
            return layer
        assert isinstance(layer, keras_spiking.RunningAverage)
        return keras_spiking.TimeBatched(layer.layer, name=layer.name)

    return keras.models.clone_model(spiking, clone_function=remade)


def test_a_layer_that_does_not_keep_means_is_found(rng):
    model = pooled()
    data = data_for(model, rng, num_samples=SAMPLES)
    spiking = keras_spiking.convert(model, num_steps=8, example_data=data)
    averaged = keras_spiking.convert(model, num_steps=8, example_data=data, max_pooling="average")
    for wrong in (with_noisy_maximum(spiking), averaged):
        report = keras_spiking.compare(model, wrong, data)
        (result,) = report.results
        first, second, third = result.layers
        assert (first.off, third.off) == (0, 0)
        assert second.off > 0.1
        assert result.parts_at == "second_spikes"
        note = "second_spikes: the first layer whose mean output is not the original's activation"
        assert note in str(report)


def test_with_other_weights_or_voltages_the_errors_tell(rng):
    model = pooled()
    data = data_for(model, rng, num_samples=SAMPLES)
    random = keras_spiking.convert(
        model, num_steps=64, example_data=data, initial_voltage="random_uniform"
    )
    changed = keras_spiking.convert(model, num_steps=64, example_data=data)
    kernel, bias = changed.get_layer("second").get_weights()
    changed.get_layer("second").set_weights([-kernel, bias])
    for spiking, name in ((random, None), (changed, "second_spikes")):
        report = keras_spiking.compare(model, spiking, data)
        (result,) = report.results
        assert [layer.off for layer in result.layers] == [None] * 3
        assert result.parts_at == name
        assert " off" not in str(report)


@pytest.mark.parametrize("voltage", [0.0, 0.25])
def test_means_are_known_at_other_voltages_and_scales_set_by_hand(voltage, rng):
    model = pooled()
    data = data_for(model, rng, num_samples=SAMPLES)
    scales = {"first": 900.0, "second": 300.0, "third": 2000.0}
    spiking = keras_spiking.convert(model, num_steps=5, rate_scale=scales, initial_voltage=voltage)
    (result,) = keras_spiking.compare(model, spiking, data, dts=(0.002,)).results
    assert [layer.off for layer in result.layers] == [0, 0, 0]


def test_a_column_without_negative_spikes_is_left_out(rng):
    model = pooled()
    data = data_for(model, rng, num_samples=SAMPLES)
    spiking = keras_spiking.convert(model, num_steps=8, example_data=data)
    report = keras_spiking.compare(model, spiking, data, num_steps=(1, 8))
    at_one, at_eight = report.results
    assert at_eight.negative > 0
    text = str(report)
    assert text.count(" negative") == 3 - (at_one.negative == 0)
    assert all(len(line) < 140 for line in text.splitlines() if not line.startswith("- "))
    none = keras_spiking.convert(model, num_steps=8, example_data=data, negative_spikes=False)
    assert "negative" not in str(keras_spiking.compare(model, none, data))


@pytest.mark.filterwarnings("ignore:convert. .*not spike:UserWarning")
def test_layers_that_do_not_spike_are_named(rng):
    inputs = keras.Input((6, 4))
    x = layers.Dense(8, activation="relu", name="hidden")(inputs)
    x = layers.LSTM(5, name="recurrent")(x)
    x = layers.Dense(6, activation="relu", name="next")(x)
    model = keras.Model(inputs, layers.Dense(3, name="out")(x))
    data = data_for(model, rng, num_samples=SAMPLES)
    spiking = keras_spiking.convert(model, num_steps=6, example_data=data)
    report = keras_spiking.compare(model, spiking, data, num_steps=(2, 6))
    for result in report.results:
        assert result.not_spiking == ("recurrent",)
        assert [layer.off for layer in result.layers] == [0, 0]
    assert "recurrent: not spiking, applied to the mean of the inputs so far" in str(report)
    (plain,) = keras_spiking.compare(
        pooled(), keras_spiking.convert(pooled(), num_steps=2), np.ones((2, 8, 8, 2))
    ).results
    assert plain.not_spiking == ()


def test_a_few_means_that_are_off_do_not_part(rng):
    model = pooled()
    spiking = keras_spiking.convert(model, num_steps=2, rate_scale=500.0)
    (result,) = keras_spiking.compare(model, spiking, data_for(model, rng)).results
    for share, parts in ((0.009, False), (0.011, True)):
        layer = dataclasses.replace(result.layers[0], off=share, error=9.0)
        assert layer.parts == parts


def test_nothing_runs_as_in_training(rng):
    model = sequential(
        (8, 8, 2),
        layers.CenterCrop(6, 6),
        layers.RandomFlip(),
        layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(3),
    )
    data = data_for(model, rng, num_samples=SAMPLES)
    spiking = keras_spiking.convert(model, num_steps=4, example_data=data)
    weights = [np.copy(each) for each in spiking.get_weights()]
    (result,) = keras_spiking.compare(model, spiking, data).results
    assert result.layers[0].off == 0
    for one, other in zip(spiking.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:.* run on the mean of their inputs")
def test_a_mask_within_a_sample_counts_in_a_comparison(rng):
    data = rng.integers(0, 5, size=(SAMPLES, 6))
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(5, 4, mask_zero=True),
            layers.LSTM(8),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(3),
        ]
    )
    spiking = keras_spiking.convert(model, num_steps=100, example_data=data)
    (result,) = keras_spiking.compare(model, spiking, data).results
    assert result.layers[0].off == 0
    assert result.output_error < 0.02
