"""Spikes that reach a layer: as many as NumPy counts, whatever passes them on."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_spiking
from keras_spiking import ModelEnergy, TimeBatched
from tests.reference import integrate_and_fire, lowpass

DT = 0.05
BATCH, STEPS, SIDE, CHANNELS = 3, 8, 6, 4
SHAPE = (STEPS, SIDE, SIDE, CHANNELS)


def spiking(rate_scale=1.0, name="spikes", dt=DT):
    return keras_spiking.SpikingActivation(
        "relu", dt=dt, rate_scale=rate_scale, initial_voltage=0.25, name=name
    )


def counted(data, rate_scale=1.0, dt=DT):
    """How many spikes each unit emits in each step, by the float64 loop."""
    voltage = np.full(data[:, 0].shape, 0.25)
    return integrate_and_fire(np.maximum(data, 0) * rate_scale, dt, voltage)[0] * dt


def pool(reduce):
    """2 by 2 windows."""
    shape = (BATCH, STEPS, SIDE // 2, 2, SIDE // 2, 2, CHANNELS)
    return lambda spikes: reduce(spikes.reshape(shape), axis=(3, 5))


def same(spikes):
    return spikes


def at_each_step(layer):
    return lambda: TimeBatched(layer())


def with_borders(spikes):
    return np.pad(spikes, [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)])


# A layer, and what becomes of the number of spikes (batch, time, rows, columns, channels).
PASSING = {
    "max": (at_each_step(lambda: layers.MaxPooling2D(2)), pool(np.max)),
    "max, step by step": (
        lambda: layers.TimeDistributed(layers.MaxPooling2D(2)),
        pool(np.max),
    ),
    "average": (at_each_step(lambda: layers.AveragePooling2D(2)), pool(np.mean)),
    "adaptive max": (at_each_step(lambda: layers.AdaptiveMaxPooling2D(3)), pool(np.max)),
    "adaptive average": (at_each_step(lambda: layers.AdaptiveAveragePooling2D(3)), pool(np.mean)),
    "global max": (
        at_each_step(layers.GlobalMaxPooling2D),
        lambda spikes: spikes.max(axis=(2, 3)),
    ),
    "global average": (
        at_each_step(layers.GlobalAveragePooling2D),
        lambda spikes: spikes.mean(axis=(2, 3)),
    ),
    "upsampling": (
        at_each_step(lambda: layers.UpSampling2D(2)),
        lambda spikes: spikes.repeat(2, axis=2).repeat(2, axis=3),
    ),
    "padding": (at_each_step(lambda: layers.ZeroPadding2D(1)), with_borders),
    "cropping": (
        at_each_step(lambda: layers.Cropping2D(((1, 0), (2, 1)))),
        lambda spikes: spikes[:, :, 1:, 2:-1],
    ),
    "center crop": (
        at_each_step(lambda: layers.CenterCrop(4, 2)),
        lambda spikes: spikes[:, :, 1:-1, 2:-2],
    ),
    "flatten": (
        at_each_step(layers.Flatten),
        lambda spikes: spikes.reshape(BATCH, STEPS, -1),
    ),
    "reshape": (lambda: layers.Reshape((STEPS, -1)), same),
    "permute": (lambda: layers.Permute((1, 3, 2, 4)), same),
    "identity": (layers.Identity, same),
    "masking": (layers.Masking, same),
    "dropout": (lambda: layers.Dropout(0.5), same),
    "spatial dropout": (at_each_step(lambda: layers.SpatialDropout2D(0.5)), same),
    "noise": (lambda: layers.GaussianNoise(1.0), same),
    "regularization": (lambda: layers.ActivityRegularization(l2=0.1), same),
    "mean over time": (
        keras_spiking.TemporalAvgPool,
        lambda spikes: spikes.mean(axis=1),
    ),
    "last step": (keras_spiking.LastStep, lambda spikes: spikes[:, -1]),
    "filter": (
        lambda: keras_spiking.Lowpass(0.2, dt=DT),
        lambda spikes: lowpass(spikes, DT, 0.2, 0.0)[0],
    ),
    "model": (
        lambda: keras.Sequential([keras.Input(SHAPE), TimeBatched(layers.MaxPooling2D(2))]),
        pool(np.max),
    ),
    "model at each step": (
        at_each_step(
            lambda: keras.Sequential([keras.Input(SHAPE[1:]), layers.MaxPooling2D(2)]),
        ),
        pool(np.max),
    ),
}


@pytest.mark.parametrize(
    ("name", "rate_scale"),
    [*((name, 100.0) for name in PASSING), ("max", 1.0), ("average", 1.0), ("filter", 1.0)],
)
def test_layers_without_weights_pass_spikes_on(name, rate_scale, rng):
    make, expected = PASSING[name]
    data = rng.normal(0, 20 / rate_scale, (BATCH, *SHAPE)).astype("float32")
    out = layers.Dense(5, name="out")
    model = keras.Sequential([keras.Input(SHAPE), spiking(rate_scale), make(), out])
    energy = ModelEnergy(model, data)
    emitted = counted(data, rate_scale)
    assert emitted.max() > 1.5  # several in a step
    spikes = expected(emitted)
    assert energy.layer_rates[out] == pytest.approx(spikes.mean() / DT, rel=1e-5)
    assert energy.table(("rate_from",))[-1] == {"rate_from": "spikes"}
    assert energy.spike_dts[out] == [pytest.approx(DT)]
    connections = energy.layer_stats[out]["connections"]
    synops, _ = energy.layer_energy(out, "loihi", STEPS, DT)
    assert synops == pytest.approx(connections * spikes.mean() * STEPS * 27.1e-12, rel=1e-5)


@pytest.mark.every_backend
def test_a_convolution_behind_pooling_gets_the_spikes_that_numpy_counts(rng):
    """And so it costs more with more spikes, not less."""
    data = rng.uniform(-1, 4, (BATCH, *SHAPE)).astype("float32")
    joules = []
    for rate_scale in (1.0, 100.0):
        conv = layers.Conv2D(3, 3, name="conv")
        between = TimeBatched(layers.MaxPooling2D(2))
        model = keras.Sequential(
            [keras.Input(SHAPE), spiking(rate_scale), between, TimeBatched(conv, name="out")]
        )
        energy = ModelEnergy(model, data)
        spikes = pool(np.max)(counted(data, rate_scale)).sum() / BATCH
        synops, _ = energy.layer_energy(model.get_layer("out"), "loihi", STEPS, DT)
        # All 3 by 3 elements of a channel are one window of three filters.
        assert synops == pytest.approx(spikes * 3 * 27.1e-12, rel=1e-5)
        joules.append(synops)
    assert joules[1] > 30 * joules[0]


SCALING = {
    "rescaling": lambda: layers.Rescaling(1 / 255, offset=0.5),
    "batch normalization": lambda: layers.BatchNormalization(beta_initializer="ones"),
    "normalization": lambda: layers.Normalization(mean=3.0, variance=25.0),
}


@pytest.mark.parametrize("rate_scale", [1.0, 100.0])
@pytest.mark.parametrize("name", SCALING)
def test_a_scaled_spike_is_one_spike(name, rate_scale, rng):
    data = rng.normal(0, 20 / rate_scale, (BATCH, *SHAPE)).astype("float32")
    made = [TimeBatched(SCALING[name]()), TimeBatched(layers.MaxPooling2D(2))]
    out = layers.Dense(5)
    model = keras.Sequential([keras.Input(SHAPE), spiking(rate_scale), *made, out])
    expected = pool(np.max)(counted(data, rate_scale)).mean() / DT
    assert ModelEnergy(model, data).layer_rates[out] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scales", [(30.0, 2.0), (30.0, None), (None, 1.0)], ids=str)
def test_products_of_spikes_are_where_all_of_them_are(scales, rng):
    data = [rng.normal(0, 20 / (scale or 20), (2, 7, 5)).astype("float32") for scale in scales]
    energy = ModelEnergy(merged(layers.Multiply, scales, (7, 5)), data)
    pairs = zip(data, scales, strict=True)
    spikes = np.prod([counted(*each) for each in pairs if each[1] is not None], axis=0)
    out = energy.model.get_layer("out")
    assert energy.layer_rates[out] == pytest.approx(spikes.mean() / DT, rel=1e-5)
    assert energy.table(("rate_from",))[-1] == {"rate_from": "spikes"}


# A merge, and what arrives of spikes of the same height.
MERGES = {
    "add": (layers.Add, lambda one, other: one + other),
    "subtract": (layers.Subtract, lambda one, other: abs(one - other)),
    "average": (layers.Average, lambda one, other: (one + other) / 2),
    "maximum": (layers.Maximum, np.maximum),
    "minimum": (layers.Minimum, np.minimum),
    "concatenate": (layers.Concatenate, lambda one, other: np.concatenate([one, other], -1)),
}
# And of several heights: neither takes from the other.
OF_TWO_HEIGHTS = {
    **MERGES,
    "subtract": (layers.Subtract, lambda one, other: one + other),
    "minimum": (layers.Minimum, np.maximum),
}


def merged(merge, scales, shape, after=()):
    """Two inputs that spike, or do not where the scale is None, and come together."""
    inputs = [keras.Input(shape, name="one"), keras.Input(shape, name="other")]
    tensors = [
        tensor if scale is None else spiking(scale, f"spikes_{tensor.name}")(tensor)
        for tensor, scale in zip(inputs, scales, strict=True)
    ]
    x = merge(name="merge")(tensors)
    for layer in after:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


@pytest.mark.parametrize("scales", [(30.0, 30.0), (30.0, 2.0)], ids=str)
@pytest.mark.parametrize("name", MERGES)
def test_merges_pass_spikes_on_in_units_of_their_own_heights(name, scales, rng):
    merge, expected = (MERGES if scales[0] == scales[1] else OF_TWO_HEIGHTS)[name]
    data = [rng.normal(0, 20 / scale, (2, 7, 5)).astype("float32") for scale in scales]
    energy = ModelEnergy(merged(merge, scales, (7, 5)), data)
    spikes = [counted(*each) for each in zip(data, scales, strict=True)]
    assert len(np.unique(spikes[0])) > 2
    out = energy.model.get_layer("out")
    assert energy.layer_rates[out] == pytest.approx(expected(*spikes).mean() / DT, rel=1e-5)
    assert energy.table(("rate_from",))[-1] == {"rate_from": "spikes"}


@pytest.mark.parametrize("name", ["add", "concatenate"])
def test_what_is_no_spikes_keeps_its_rate_beside_spikes(name, rng):
    merge, expected = MERGES[name]
    data = [rng.normal(0, 1, (2, 7, 5)).astype("float32") for _ in range(2)]
    energy = ModelEnergy(merged(merge, (30.0, None), (7, 5)), data)
    hertz = expected(counted(data[0], 30.0) / DT, np.abs(data[1]))
    out = energy.model.get_layer("out")
    assert energy.layer_rates[out] == pytest.approx(hertz.mean(), rel=1e-5)
    assert energy.table(("rate_from",))[-1] == {"rate_from": "abs(input) and spikes"}
    # With a scale of 1, it is the mean of abs(input), as everywhere.
    energy = ModelEnergy(merged(merge, (1.0, None), (7, 5)), data)
    spikes = counted(data[0]) / DT
    value = spikes + data[1] if name == "add" else np.concatenate([spikes, data[1]], -1)
    out = energy.model.get_layer("out")
    assert energy.layer_rates[out] == pytest.approx(np.abs(value).mean(), rel=1e-5)


@pytest.mark.parametrize("sequences", [True, False], ids=["sequence", "last"])
@pytest.mark.parametrize("stateful", [True, False], ids=["stateful", "stateless"])
def test_spikes_of_two_heights_are_passed_on_further(stateful, sequences, rng):
    scales = (30.0, 2.0)
    data = [rng.normal(0, 20 / scale, (4, *SHAPE)).astype("float32") for scale in scales]
    inputs = [keras.Input(SHAPE, batch_size=4, name=name) for name in ("one", "other")]
    tensors = [
        spiking(scale, f"spikes_{tensor.name}")(tensor)
        for tensor, scale in zip(inputs, scales, strict=True)
    ]
    x = TimeBatched(layers.MaxPooling2D(2))(layers.Concatenate()(tensors))
    x = TimeBatched(layers.Flatten())(x)
    x = keras_spiking.Lowpass(0.2, dt=DT, stateful=stateful, return_sequences=sequences)(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Dropout(0.5)(x)))
    before = model.predict(data, verbose=0)
    keras_spiking.reset_states(model)
    energy = ModelEnergy(model, data)
    np.testing.assert_array_equal(model.predict(data, verbose=0), before)
    spikes = np.concatenate([counted(*each) for each in zip(data, scales, strict=True)], -1)
    shape = (4, STEPS, SIDE // 2, 2, SIDE // 2, 2, 2 * CHANNELS)
    expected = spikes.reshape(shape).max(axis=(3, 5)).mean() / DT
    out = model.get_layer("out")
    assert energy.layer_rates[out] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stateful", [True, False], ids=["stateful", "stateless"])
def test_spikes_of_two_heights_that_make_others_spike_end_there(stateful, rng):
    data = rng.normal(0, 1, (2, 7, 5)).astype("float32")
    inputs = keras.Input((7, 5), batch_size=2)
    x = layers.Add()([spiking(30.0, "one")(inputs), spiking(2.0, "other")(inputs)])
    options = {"dt": DT, "rate_scale": 8.0, "initial_voltage": 0.3, "stateful": stateful}
    x = keras_spiking.SpikingActivation("relu", **options)(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    values = counted(data, 30.0) / (DT * 30) + counted(data, 2.0) / (DT * 2)
    spikes = integrate_and_fire(values * 8, DT, np.full((2, 5), 0.3))[0]
    rate = ModelEnergy(model, data).layer_rates[model.get_layer("out")]
    assert rate == pytest.approx(spikes.mean(), rel=1e-5)


def test_spikes_of_two_time_steps_are_counted_each_in_its_own(rng):
    data = rng.normal(0, 20, (2, 7, 5)).astype("float32")
    inputs = keras.Input((7, 5))
    x = [spiking(1.0, "short", 0.02)(inputs), spiking(4.0, "long", 0.05)(inputs)]
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Add()(x)))
    energy = ModelEnergy(model, data)
    expected = counted(data, dt=0.02) / 0.02 + counted(data, 4.0) / DT
    out = model.get_layer("out")
    assert energy.layer_rates[out] == pytest.approx(expected.mean(), rel=1e-5)
    assert energy.spike_dts[out] == [0.02]
    text = energy.summary_string(("name", "energy loihi"), dt=0.02)
    assert "counted in steps of 0.02, 0.05 s" in text


@pytest.mark.every_backend
def test_the_time_step_may_be_a_variable(rng):
    data = rng.normal(0, 20, (2, 8, 5)).astype("float32")
    dt = keras.Variable(DT, trainable=False)
    made = spiking(3.0, dt=dt), layers.MaxPooling1D(2), layers.Dense(2)
    model = keras.Sequential([keras.Input((8, 5)), *made])
    expected = counted(data, 3.0).reshape(2, 4, 2, 5).max(axis=2).mean() / DT
    energy = ModelEnergy(model, data)
    assert energy.layer_rates[made[-1]] == pytest.approx(expected, rel=1e-5)
    assert energy.spike_dts[made[-1]] == [pytest.approx(DT)]


@pytest.mark.every_backend
@pytest.mark.parametrize("between", [[], [layers.MaxPooling1D(2)]], ids=["directly", "pooled"])
def test_they_stay_whole_numbers_in_half_precision(between, rng):
    dt = 0.003  # of which 1 / dt is no number of half precision
    keras.config.set_dtype_policy("mixed_bfloat16")
    spikes = spiking(0.7, dt=dt)
    made = [type(layer).from_config(layer.get_config()) for layer in between]
    model = keras.Sequential([keras.Input((12, 4)), spikes, *made, layers.Dense(3)])
    data = rng.uniform(0, 300, size=(4, 12, 4)).astype("float32")
    values = ops.convert_to_numpy(ops.cast(spikes(data), "float32"))
    counts = np.rint(values * (0.7 * dt))
    if between:
        counts = counts.reshape(4, 6, 2, 4).max(axis=2)
    rate = ModelEnergy(model, data).layer_rates[model.layers[-1]]
    assert rate == pytest.approx(counts.mean() / dt, rel=1e-5)


class TestSpikes:
    STEPS, DT = 12, 0.05

    def model(self, *between, dt=DT, time=None):
        spikes = keras_spiking.SpikingActivation("relu", dt=dt, seed=0)
        return keras.Sequential(
            [keras.Input((time, 4)), spikes, *between, layers.Dense(3, name="out")]
        )

    def test_a_synapse_costs_what_the_spikes_through_it_cost(self, rng):
        data = rng.uniform(-10, 60, size=(5, self.STEPS, 4)).astype("float32")
        between = layers.Dropout(0.5), layers.Reshape((-1, 2, 2)), layers.Flatten()
        model = self.model(*between, time=self.STEPS)
        spikes = ops.convert_to_numpy(model.layers[0](data)) * self.DT
        assert spikes.max() > 1.5  # several in a step
        energy = ModelEnergy(model, data)
        synops, _ = energy.layer_energy(
            model.get_layer("out"), "loihi", timesteps_per_inference=1, dt=self.DT
        )
        # The 12 steps are one sample after Flatten: every spike goes to 3 units once.
        assert synops == pytest.approx(spikes.sum() / 5 * 3 * 27.1e-12, rel=1e-5)

    @pytest.mark.parametrize(
        ("between", "source"),
        [
            ([], "spikes"),
            ([layers.Dropout, layers.TimeDistributed], "spikes"),
            ([layers.ReLU], "abs(input)"),
            ([layers.Dense], "abs(input)"),
            ([layers.LayerNormalization], "abs(input)"),
        ],
        ids=["directly", "rearranged", "activated", "weighted", "normalized"],
    )
    def test_they_are_counted_until_something_else_comes_of_them(self, between, source, rng):
        arguments = {
            layers.Dropout: (0.5,),
            layers.TimeDistributed: (layers.Reshape((2, 2)),),
            layers.Dense: (6,),
        }
        made = [each(*arguments.get(each, ())) for each in between]
        energy = ModelEnergy(self.model(*made), rng.uniform(0, 60, size=(2, 3, 4)))
        assert energy.table(("rate_from",))[-1] == {"rate_from": source}
        into_out = "spikes counted into" in energy.summary_string(("name", "rate"))
        assert into_out or source == "abs(input)"

    def test_another_dt_than_that_of_the_layer_is_a_warning(self, rng):
        energy = ModelEnergy(self.model(), rng.uniform(0, 60, size=(2, 3, 4)))
        columns = ("name", "energy loihi")
        assert "counted in steps of 0.05 s" in energy.summary_string(columns, dt=0.001)
        assert "counted in steps of" not in energy.summary_string(columns, dt=self.DT)
        layer = energy.model.get_layer("out")
        synops, neurons = energy.layer_energy(layer, "loihi", dt=0.1)
        assert synops == pytest.approx(100 * energy.layer_energy(layer, "loihi", dt=0.001)[0])
        assert neurons == 0


def test_masks_are_no_input_and_leave_steps_out(rng):
    scales = (30.0, 2.0)
    mask = np.arange(7) < np.array([[7], [4]])
    data = [rng.normal(0, 20 / scale, (2, 7, 5)) * mask[..., None] for scale in scales]
    inputs = [keras.Input((7, 5), name=name) for name in ("one", "other")]
    spikes = [
        spiking(scale, f"spikes_{tensor.name}")(layers.Masking()(tensor))
        for tensor, scale in zip(inputs, scales, strict=True)
    ]
    x = layers.Dense(3, name="of_one")(spikes[0])
    both = layers.Concatenate()(spikes)
    both = layers.GlobalAveragePooling1D(name="mean")(both)
    model = keras.Model(inputs, [x, layers.Dense(3, name="of_both")(both)])
    energy = ModelEnergy(model, data)  # without a warning of operations that have no rule
    assert all(isinstance(layer, layers.Layer) for layer in energy.uses)
    assert energy.uses[model.get_layer("mean")][0].input_shapes == [(None, 7, 10)]
    one, other = (counted(*each) for each in zip(data, scales, strict=True))
    rate = energy.layer_rates
    assert rate[model.get_layer("of_one")] == pytest.approx(one.mean() / DT, rel=1e-5)
    mean = np.concatenate([one, other], -1).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    assert rate[model.get_layer("of_both")] == pytest.approx(mean.mean() / DT, rel=1e-5)


BY_CHANNEL = np.array([0.5, 3.0, 30.0])


@pytest.mark.parametrize(
    "between",
    {
        "alone": [],
        "flat": [lambda: TimeBatched(layers.Flatten())],
        "pooled": [
            lambda: TimeBatched(layers.MaxPooling2D(1)),
            lambda: TimeBatched(layers.Flatten()),
        ],
        "scaled": [
            lambda: TimeBatched(layers.Rescaling(7.0)),
            lambda: TimeBatched(layers.Flatten()),
        ],
    }.items(),
    ids=lambda each: each[0],
)
def test_spikes_of_channels_with_scales_of_their_own_are_counted(between, rng):
    data = rng.normal(0, 20, (2, 6, 4, 4, 3)).astype("float32")
    made = [make() for make in between[1]]
    out = TimeBatched(layers.Dense(2), name="out")
    model = keras.Sequential([keras.Input(data.shape[1:]), spiking(BY_CHANNEL), *made, out])
    expected = counted(data, BY_CHANNEL).mean() / DT
    energy = ModelEnergy(model, example_data=data)
    assert energy.layer_rates[out] == pytest.approx(expected, rel=1e-5)
