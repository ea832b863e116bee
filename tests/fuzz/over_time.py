"""Draws models over time: any mix of this library's layers and Keras's, with any options."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import layers, ops

import keras_spiking
from keras_spiking import regularizers
from tests.compiled import BACKEND
from tests.fuzz.draw import POLICIES, activation, randomize


@dataclasses.dataclass
class Case:
    """A model, and what it is run on."""

    model: keras.Model
    inputs: np.ndarray
    targets: np.ndarray
    policy: str
    stateful: bool = False
    dt: Any = None


class _Plan:
    """What all layers of one model have in common."""

    def __init__(self, draw):
        self.draw = draw
        self.policy = draw.pick(POLICIES)
        if self.policy == "float64" and BACKEND == "jax":
            self.policy = "float32"  # the other needs a setting of the whole process
        self.stateful = draw.chance(0.25)
        self.batch = draw.integer(1, 4)
        self.time = draw.integer(1, 12) if draw.chance(0.9) else draw.integer(30, 70)
        self.masked = False
        self.branched = False
        self.shortest_dt = 0.02 if self.policy == "mixed_float16" else 1e-3
        # Keras adds its loss in float32 and what regularizers add in float64, and TensorFlow not.
        self.regularized = BACKEND != "tensorflow" or self.policy != "float64"
        self.variable = None

    def dt(self):
        """A step in seconds: left out, a number, or the variable that the model shares."""
        form = self.draw.integer(0, 3)
        if form == 0 and self.policy != "mixed_float16":
            return None
        if form == 1:
            if self.variable is None:
                value = self.draw.log_uniform(self.shortest_dt, 1)
                self.variable = keras.Variable(value, dtype="float32", name="dt")
            return self.variable
        return self.draw.log_uniform(self.shortest_dt, 2)

    def shared(self):
        """Options of every layer of this library."""
        options = {"dt": self.dt(), "stateful": self.stateful, "unroll": self.draw.chance(0.2)}
        if self.draw.chance(0.3) and self.regularized:
            options["activity_regularizer"] = rate_regularizer(self.draw)
        return options


def rate_regularizer(draw):
    """A regularizer of firing rates."""
    target = draw.pick([0, 10.0, (5.0, 20.0), (0.0, float("inf"))])
    weight = draw.log_uniform(1e-8, 1e-5)
    return draw.pick(
        [
            regularizers.L1(weight, target=target),
            regularizers.L2(weight, target=target),
            regularizers.L1L2(weight, weight, target=target),
            regularizers.Percentile(draw.uniform(0, 100), target=target, l1=weight),
            regularizers.Percentile(99.9, axis=(0, 1), target=target, l2=weight),
            regularizers.RangedRegularizer(target, keras.regularizers.L1(weight)),
        ]
    )


def spiking(plan, x, **options):
    """A `SpikingActivation` for `x`."""
    draw = plan.draw
    voltage = draw.pick(["random_uniform", "number", "array", "initializer"])
    if voltage == "number":
        voltage = draw.uniform(0, 0.999)
    elif voltage == "array":
        voltage = draw.uniform(0, 0.999, x.shape[2:])
    elif voltage == "initializer":
        voltage = keras.initializers.RandomUniform(0, 1, seed=draw.integer(0, 99))
    return keras_spiking.SpikingActivation(
        activation(draw),
        seed=draw.integer(0, 2**31) if draw.chance(0.8) else None,
        spiking_aware_training=draw.chance(0.8),
        initial_voltage=voltage,
        rate_scale=draw.log_uniform(0.2, 50) if draw.chance(0.4) else 1.0,
        **{**plan.shared(), **options},
    )


def filtering(plan, x, **options):
    """A `Lowpass` or `Alpha`."""
    draw = plan.draw
    make = draw.pick([keras_spiking.Lowpass, keras_spiking.Alpha])
    tau = draw.log_uniform(1e-3, 10)
    initializer = keras.initializers.RandomUniform(tau / 2, tau, seed=draw.integer(0, 99))
    mean = keras_spiking.constraints.Mean()
    constraints = [None, None, "non_neg", keras.constraints.NonNeg(), mean]
    return make(
        tau if draw.chance(0.5) else initializer,
        apply_during_training=draw.chance(0.8),
        level_initializer=draw.pick(["zeros", 0.5, keras.initializers.RandomNormal(seed=1)]),
        initial_level_constraint=draw.pick([None, None, keras.constraints.MaxNorm(1.0)]),
        tau_constraint=draw.pick(constraints),
        **{**plan.shared(), **options},
    )


def _over_time(plan, x, **options):
    return plan.draw.pick([spiking, spiking, filtering])(plan, x, **options)


def _dense(plan, x):
    draw = plan.draw
    dense = layers.Dense(
        draw.integer(1, 9),
        activation=draw.pick([None, None, "relu", "tanh"]),
        use_bias=draw.chance(0.8),
        kernel_regularizer=rate_regularizer(draw) if draw.chance(0.2 * plan.regularized) else None,
        kernel_constraint=draw.pick([None, None, None, keras_spiking.constraints.Mean(0)]),
    )
    if len(x.shape) == 3 and draw.chance(0.3):
        wrapper = draw.pick([keras_spiking.TimeBatched, layers.TimeDistributed])
        if wrapper is layers.TimeDistributed and (plan.masked or plan.stateful):
            wrapper = keras_spiking.TimeBatched
        dense = wrapper(dense)
    return dense(x)


def _small_model(plan, x):
    """A nested model, applied to every step."""
    inner = keras.Sequential(
        [keras.Input(x.shape[2:]), layers.Dense(5, "relu"), layers.Dropout(0.1), layers.Dense(3)]
    )
    return keras_spiking.TimeBatched(inner)(x)


def _by_step(plan, x):
    make = [layers.LayerNormalization, layers.BatchNormalization, lambda: layers.Dropout(0.2)]
    layer = plan.draw.pick(make)()
    if isinstance(layer, layers.BatchNormalization) and plan.masked and x.shape[-1] == 1:
        return x  # Keras 3.15 has no masked statistics of a single feature.
    if isinstance(layer, layers.BatchNormalization) or plan.draw.chance(0.3):
        layer = keras_spiking.TimeBatched(layer)
    return layer(x)


def _residual(plan, x):
    plan.branched = True
    return layers.Add()([x, _over_time(plan, x)(x)])


def _parallel(plan, x):
    plan.branched = True
    return layers.Concatenate()([_over_time(plan, x)(x), _over_time(plan, x)(x)])


def _time_major(plan, x):
    if plan.masked or plan.stateful:
        return _over_time(plan, x)(x)
    plan.branched = True
    x = ops.swapaxes(x, 0, 1)
    return ops.swapaxes(_over_time(plan, x, time_major=True)(x), 0, 1)


def _hand_over(plan, x):
    """The final states of one layer are the initial states of another."""
    plan.branched = True
    make = plan.draw.pick([spiking, filtering])
    options = {"return_state": True, "stateful": False, "activity_regularizer": None}
    first = make(plan, x, **options)
    config = first.get_config()
    del config["name"]
    second = type(first).from_config({**config, "return_state": False})
    x, *states = first(x)
    return second(x, initial_state=states)


def _in_rnn(plan, x):
    """A cell in Keras's own layer for recurrent cells."""
    # In half precision Keras hands its loop states of that type, and gets wider ones.
    half = plan.policy.startswith("mixed")
    if plan.masked or plan.stateful or half or len(x.shape) > 3:
        return _over_time(plan, x)(x)
    layer = _over_time(plan, x, stateful=False, activity_regularizer=None)
    cell = layer.build_cell((None, None, *x.shape[2:]))
    return layers.RNN(cell, return_sequences=True)(x)


def _single(plan, x):
    return _over_time(plan, x)(x)


_VECTOR_BLOCKS = [_dense] * 4 + [_single] * 6 + [
    _by_step, _residual, _parallel, _time_major, _hand_over, _in_rnn, _small_model,
]  # fmt: skip


def _image_block(plan, x):
    draw = plan.draw
    options = [
        lambda: layers.Conv2D(draw.integer(1, 4), draw.integer(1, 3), padding="same"),
        lambda: layers.Conv2D(3, 1, activation="relu"),
        lambda: layers.MaxPooling2D(2, padding="same"),
        lambda: layers.AveragePooling2D(2, padding="same"),
        layers.BatchNormalization,
        lambda: layers.DepthwiseConv2D(2, padding="same"),
    ]
    if draw.chance(0.5):
        return keras_spiking.TimeBatched(draw.pick(options)())(x)
    return draw.pick([_single, _single, _hand_over, _residual, _time_major])(plan, x)


def _readout(plan, x):
    draw = plan.draw
    form = draw.integer(0, 4)
    if form == 0:
        x = keras_spiking.TemporalAvgPool()(x)
    elif form == 1:
        x = keras_spiking.LastStep()(x)
    elif form == 2:
        x = _over_time(plan, x, return_sequences=False)(x)
    return layers.Dense(2)(x) if draw.chance(0.5) else x


def _input(plan, kind):
    """A symbolic input, the tensor that the body begins with, and data."""
    draw, batch = plan.draw, plan.batch
    time = draw.pick([plan.time, None])
    fixed = batch if plan.stateful else None
    scale = draw.log_uniform(1, 50)
    if kind == "tokens":
        plan.masked = draw.chance(0.6)
        symbol = keras.Input((time,), batch_size=fixed, dtype="int32")
        data = draw.rng.integers(0, 10, (batch, plan.time)).astype("int32")
        x = layers.Embedding(10, draw.integer(1, 6), mask_zero=plan.masked)(symbol)
        return symbol, x, data
    features = (draw.integer(1, 6),) if "vectors" in kind else (draw.integer(3, 6), 4, 2)
    symbol = keras.Input((time, *features), batch_size=fixed)
    data = draw.normal((batch, plan.time, *features), scale)
    if kind == "masked vectors":
        plan.masked = True
        data[draw.uniform(0, 1, data.shape[:2]) < 0.3] = 0.0
        return symbol, layers.Masking()(symbol), data
    return symbol, symbol, data


def model_over_time(draw):
    """Draws a model with data for it.

    Args:
        draw: A `Draw`.

    Returns:
        A `Case`.
    """
    plan = _Plan(draw)
    kind = draw.pick(["vectors", "vectors", "masked vectors", "tokens", "images"])
    if kind == "images" and BACKEND == "torch" and plan.policy in ("float64", "mixed_float16"):
        plan.policy = "float32"  # a Conv2D of 3 by 3 does not train in the others
    keras.config.set_dtype_policy(plan.policy)
    symbol, x, data = _input(plan, kind)
    if len(x.shape) == 5:
        for _ in range(draw.integer(1, 4)):
            x = _image_block(plan, x)
        x = keras_spiking.TimeBatched(layers.Flatten())(x)
    for _ in range(draw.integer(1, 4)):
        x = draw.pick(_VECTOR_BLOCKS)(plan, x)
    x = _readout(plan, spiking(plan, x)(x))
    model = keras.Model(symbol, x)
    if not plan.branched and draw.chance(0.5):
        model = keras.Sequential(model.layers)
    randomize(model, draw)
    targets = draw.normal((plan.batch, *[plan.time] * (len(x.shape) == 3), x.shape[-1]))
    return Case(model, data, targets, plan.policy, plan.stateful, plan.variable)
