"""Models to convert: one for every number of axes, which together have every supported layer."""

import functools

import keras
import numpy as np
from keras import layers


def sequential(shape, *stack, **kwargs):
    """A Sequential model of these layers with random weights, statistics of batches included."""
    model = keras.Sequential([keras.Input(shape), *stack], **kwargs)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def vectors():
    return sequential(
        (6,),
        layers.Normalization(mean=0.1, variance=1.2),
        layers.Dense(8),
        layers.PReLU(alpha_initializer=keras.initializers.Constant(0.3)),
        layers.LayerNormalization(),
        layers.Dense(8, activation="gelu"),
        layers.RMSNormalization(),
        layers.UnitNormalization(),
        layers.ActivityRegularization(l2=0.1),
        layers.GaussianNoise(0.1),
        layers.GaussianDropout(0.1),
        layers.AlphaDropout(0.1),
        layers.RepeatVector(4),
        layers.Reshape((2, 16)),
        layers.Permute((2, 1)),
        layers.EinsumDense("abc,cd->abd", output_shape=(16, 3), activation="tanh"),
        layers.Identity(),
        layers.Flatten(),
        layers.Dense(4),
        layers.ELU(),
        layers.Dense(4, activation="sigmoid"),
    )


def sequences():
    return sequential(
        (14,),
        layers.Embedding(10, 4),
        layers.Conv1D(4, 3),
        layers.LeakyReLU(),
        layers.ZeroPadding1D(1),
        layers.UpSampling1D(2),
        layers.SeparableConv1D(6, 3, activation="relu"),
        layers.DepthwiseConv1D(2, activation="softplus"),
        layers.Cropping1D(1),
        layers.SpatialDropout1D(0.2),
        layers.MaxPooling1D(2),
        layers.Conv1DTranspose(4, 3),
        layers.Activation("elu"),
        layers.AveragePooling1D(2),
        layers.AdaptiveMaxPooling1D(6),
        layers.AdaptiveAveragePooling1D(4),
        layers.GroupNormalization(2),
        layers.GlobalMaxPooling1D(),
        layers.Dense(3),
    )


def images():
    inputs = keras.Input((9, 9, 3), name="pictures")
    x = layers.Rescaling(0.5, offset=0.1)(inputs)
    x = layers.CenterCrop(8, 8)(x)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(max_value=6.0)(x)
    branches = [
        layers.SpectralNormalization(layers.Conv2D(4, 1))(x),
        layers.DepthwiseConv2D(3, padding="same", activation="relu")(x),
        layers.SeparableConv2D(4, 3, padding="same", activation="tanh")(x),
    ]
    x = layers.Add()([branches[0], layers.Subtract()(branches[:2])])
    x = layers.Activation("relu")(x)
    x = layers.Maximum()([x, layers.Minimum()([x, branches[2]])])
    x = layers.Average()([x, layers.Multiply()([x, branches[1]])])
    x = layers.Concatenate(axis=1)([x, branches[2]])
    x = layers.SpatialDropout2D(0.2)(x)
    x = layers.Cropping2D(((2, 2), (0, 0)))(layers.ZeroPadding2D(1)(x))
    x = layers.UpSampling2D(2)(layers.MaxPooling2D(2)(x))
    x = layers.Conv2DTranspose(4, 2, strides=2, activation="relu")(x)
    x = layers.AveragePooling2D(2)(layers.Resizing(12, 12)(x))
    x = layers.AdaptiveAveragePooling2D(4)(layers.AdaptiveMaxPooling2D(5)(x))
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, gate])
    x = layers.Dropout(0.3)(layers.GlobalMaxPooling2D()(x))
    other = layers.Dense(4, activation="relu", name="other")(x)
    x = layers.Dot(axes=1)([layers.Dense(4, activation="relu")(x), other])
    x = layers.Dense(5)(x)
    return keras.Model(inputs, layers.Softmax(name="classes")(x))


def volumes():
    return sequential(
        (4, 4, 4, 2),
        layers.Conv3D(3, 2, padding="same", activation="relu"),
        layers.ZeroPadding3D(1),
        layers.Cropping3D(1),
        layers.SpatialDropout3D(0.2),
        layers.MaxPooling3D(2),
        layers.UpSampling3D(2),
        layers.Conv3DTranspose(3, 2, activation="relu"),
        layers.AveragePooling3D(2),
        layers.AdaptiveMaxPooling3D(2),
        layers.AdaptiveAveragePooling3D(2),
        layers.Conv3D(4, 1, activation="relu"),
        layers.GlobalMaxPooling3D(keepdims=True),
        layers.GlobalAveragePooling3D(),
        layers.Dense(2),
    )


def averages_of_sequences():
    return sequential(
        (6, 3), layers.Dense(4, activation="relu"), layers.GlobalAveragePooling1D(), layers.Dense(2)
    )


def augmented():
    arguments = {
        "RandomColorJitter": ((0, 255),),
        "RandomCrop": (9, 9),
        "RandomFlip": ("horizontal",),
        "RandomPosterization": (8,),
        "RandomShear": ((0.0, 0.1),),  # Keras cannot read its own config of 0.1
        "RandomTranslation": (0.1, 0.1),
    }
    names = [name for name in dir(layers) if name.startswith("Random")]
    return sequential(
        (9, 9, 3),
        *(getattr(layers, name)(*arguments.get(name, (0.1,))) for name in names),
        layers.Conv2D(2, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    )


MODELS = [vectors, sequences, images, volumes, averages_of_sequences, augmented]


@functools.cache
def built(make):
    """The model that `make` makes, made once: conversion leaves it as it is."""
    return make()


def data_for(model, rng, num_samples=3):
    """Random inputs of a model: indices for an embedding, numbers for everything else."""
    if isinstance(model.layers[0], layers.Embedding):
        return rng.integers(0, 10, size=(num_samples, *model.input_shape[1:]))
    return keras.tree.map_structure(
        lambda tensor: rng.normal(size=(num_samples, *tensor.shape[1:])).astype("float32"),
        model.input if not isinstance(model, keras.Sequential) else model.inputs[0],
    )


def weird():
    """Two inputs, three outputs, a shared layer, and a nested model that is called twice."""
    picture, vector = keras.Input((6, 6, 2), name="picture"), keras.Input((4,), name="vector")
    block = sequential(
        (6, 6, 2),
        layers.Conv2D(2, 3, padding="same", activation="relu", name="conv"),
        layers.BatchNormalization(name="norm"),
        name="block",
    )
    shared = layers.Dense(3, activation="relu", name="shared")
    x = layers.Flatten()(block(block(picture), training=False))
    hidden = layers.Dense(4, activation="relu", name="hidden")(x)
    both = layers.Concatenate()([shared(hidden), shared(vector)])
    outputs = {
        "classes": layers.Dense(3, activation="softmax", name="classes")(both),
        "chance": layers.Dense(1, activation="sigmoid", name="chance")(both),
        "hidden": hidden,
    }
    return keras.Model({"picture": picture, "vector": vector}, outputs)
