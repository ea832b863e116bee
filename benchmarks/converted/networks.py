"""Three ordinary networks for Fashion-MNIST, and their training, whose result is kept."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

    Tensor = keras.KerasTensor

CLASSES = 10
BATCH = 128
LEARNING_RATE = 3e-3
SEED = 0


def pictures(images: np.ndarray) -> np.ndarray:
    """Images as the networks take them: from 0 to 1, with an axis of channels."""
    return (images.astype("float32") / 255)[..., None]


def cnn(inputs: "Tensor") -> "Tensor":
    """Three blocks of convolution, BatchNormalization and ReLU, with max pooling between."""
    from keras import layers

    x = convolution(inputs, 16)
    x = layers.MaxPooling2D(2)(layers.ReLU()(x))
    x = convolution(x, 32)
    x = layers.MaxPooling2D(2)(layers.ReLU()(x))
    x = layers.ReLU()(convolution(x, 64))
    return layers.GlobalAveragePooling2D()(x)


def residual(inputs: "Tensor") -> "Tensor":
    """Two residual blocks, the second with a projection; ReLU comes after each sum."""
    from keras import layers

    x = layers.ReLU()(convolution(inputs, 16, strides=2))
    x = residual_block(x, x, 16)
    x = residual_block(x, convolution(x, 32, size=1, strides=2), 32, strides=2)
    return layers.GlobalAveragePooling2D()(x)


def residual_block(x: "Tensor", shortcut: "Tensor", filters: int, strides: int = 1) -> "Tensor":
    """Two convolutions beside a shortcut."""
    from keras import layers

    x = layers.ReLU()(convolution(x, filters, strides=strides))
    return layers.ReLU()(layers.Add()([convolution(x, filters), shortcut]))


def convolution(x: "Tensor", filters: int, size: int = 3, strides: int = 1) -> "Tensor":
    """A convolution with BatchNormalization."""
    from keras import layers

    x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9)(x)


def mlp(inputs: "Tensor") -> "Tensor":
    """Three hidden layers."""
    from keras import layers

    x = layers.Flatten()(inputs)
    for units in (256, 128, 64):
        x = layers.Dense(units, activation="relu")(x)
    return x


NETWORKS: dict[str, Callable[["Tensor"], "Tensor"]] = {
    "CNN": cnn,
    "residual": residual,
    "MLP": mlp,
}
EPOCHS = {"CNN": 10, "residual": 8, "MLP": 6}


def make(name: str, shape: tuple[int, ...]) -> "keras.Model":
    """An untrained network."""
    import keras

    inputs = keras.Input(shape)
    outputs = keras.layers.Dense(CLASSES, activation="softmax")(NETWORKS[name](inputs))
    return keras.Model(inputs, outputs, name=name)


def trained(
    name: str, images: np.ndarray, labels: np.ndarray, cache: Path, epochs: int | None = None
) -> "keras.Model":
    """The trained network: from the cache, or else trained now and kept there."""
    import keras

    epochs = EPOCHS[name] if epochs is None else epochs
    path = cache / f"{name}-{len(images)}-images-{epochs}-epochs.keras"
    if path.exists():
        return keras.saving.load_model(path)
    keras.utils.set_random_seed(SEED)
    model = make(name, images.shape[1:])
    steps = epochs * -(-len(images) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(images, labels, batch_size=BATCH, epochs=epochs, verbose=_verbose())
    cache.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def _verbose() -> int:
    return 1 if sys.stdout.isatty() else 2  # a bar, or a line for each epoch


def layers_of(model: "keras.Model", kind: type) -> list[Any]:
    """The layers of one kind, in their order."""
    return [layer for layer in model.layers if isinstance(layer, kind)]
