"""Draws models without time, to convert, and the options of their conversion."""

import keras
from keras import layers

from tests.fuzz.draw import activation, randomize
from tests.fuzz.over_time import Case


def _dense(draw, x):
    return layers.Dense(draw.integer(2, 8), activation=activation(draw))(x)


def _activated(draw, x):
    return layers.Activation(draw.pick(["relu", "tanh", "elu", "softplus"]))(layers.Dense(5)(x))


def _layer(draw, x):
    form = activation(draw)
    layer = form if isinstance(form, layers.Layer) else layers.Activation(form)
    return layer(layers.Dense(4)(x))


def _normalized(draw, x):
    make = [
        layers.BatchNormalization,
        layers.LayerNormalization,
        lambda: layers.Dropout(0.3),
        lambda: layers.GaussianNoise(0.1),
        lambda: layers.Rescaling(0.5, offset=0.1),
        layers.Identity,
    ]
    return draw.pick(make)()(x)


def _residual(draw, x):
    merges = [layers.Add, layers.Average, layers.Maximum, layers.Subtract, layers.Multiply]
    return draw.pick(merges)()([x, layers.Dense(x.shape[-1], activation=activation(draw))(x)])


def _concatenated(draw, x):
    return layers.Concatenate()([_dense(draw, x), _dense(draw, x)])


def _called_twice(draw, x):
    shared = layers.Dense(x.shape[-1], activation="relu")
    return shared(shared(x))


def _nested(draw, x):
    inner = keras.Sequential(
        [keras.Input(x.shape[1:]), layers.Dense(4, activation="relu"), layers.Dense(3)]
    )
    return inner(x)


def _convolved_line(draw, x):
    x = layers.Reshape((x.shape[-1], 1))(x)
    x = layers.Conv1D(3, 2, padding="same", activation=activation(draw))(x)
    ends = [layers.Flatten, layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D]
    return draw.pick(ends)()(x)


_VECTOR_BLOCKS = [
    _dense, _dense, _activated, _layer, _normalized, _residual, _concatenated, _called_twice,
    _nested, _convolved_line,
]  # fmt: skip


def _image_block(draw, x):
    function = activation(draw)
    options = [
        lambda: layers.Conv2D(draw.integer(2, 4), 3, padding="same", activation=function),
        lambda: layers.DepthwiseConv2D(2, padding="same", activation=function),
        lambda: layers.SeparableConv2D(3, 2, padding="same", activation=function),
        lambda: layers.Conv2DTranspose(2, 2, padding="same", activation=function),
        lambda: layers.MaxPooling2D(2, padding="same"),
        lambda: layers.AveragePooling2D(2, padding="same"),
        layers.BatchNormalization,
        lambda: layers.SpatialDropout2D(0.2),
        lambda: layers.ZeroPadding2D(1),
        lambda: layers.UpSampling2D(2),
    ]
    return draw.pick(options)()(x)


def feed_forward(draw):
    """Draws a model that `convert` takes, with data for it.

    Args:
        draw: A `Draw`.

    Returns:
        A `Case`.
    """
    batch = draw.integer(1, 4)
    if draw.chance(0.4):
        symbol = keras.Input((draw.integer(4, 6), 5, 2))
        x = layers.Conv2D(3, 2, activation="relu")(symbol)
        for _ in range(draw.integer(1, 4)):
            x = _image_block(draw, x)
        x = draw.pick([layers.Flatten, layers.GlobalAveragePooling2D])()(x)
    else:
        symbol = keras.Input((draw.integer(1, 6),))
        x = layers.Dense(6, activation="relu")(symbol)
    for _ in range(draw.integer(0, 4)):
        x = draw.pick(_VECTOR_BLOCKS)(draw, x)
    x = layers.Dense(3, activation=draw.pick(["softmax", "sigmoid", None]))(x)
    model = keras.Model(symbol, x)
    randomize(model, draw)
    data = draw.normal((batch, *symbol.shape[1:]), draw.log_uniform(0.3, 10))
    return Case(model, data, draw.normal((batch, 3)), "float32")


def conversion_options(draw, data):
    """Draws arguments of `convert`."""
    by_input = draw.chance(0.5)
    readouts = ["average", "sequence"] if by_input else ["average", "last", "sequence"]
    options = {
        "integrate": "input" if by_input else "activation",
        "negative_spikes": draw.chance(0.7),
        "num_steps": draw.integer(1, 8),
        "dt": draw.log_uniform(0.01, 1),
        "spiking_aware_training": draw.chance(0.8),
        "readout": draw.pick(readouts),
        "max_pooling": draw.pick(["keep", "average"]),
        "seed": draw.integer(0, 99),
        "tau": draw.log_uniform(0.01, 1) if not by_input and draw.chance(0.3) else None,
    }
    if draw.chance(0.3):
        options |= {"rate_scale": "calibrate", "example_data": data, "target_rate": 100.0}
    else:
        # Left out, it warns where neurons would hardly fire.
        options["rate_scale"] = draw.log_uniform(0.5, 100) if draw.chance(0.5) else 1.0
    return options
