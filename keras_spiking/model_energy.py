"""The same as `keras_spiking.energy`, where KerasSpiking had it."""

from keras_spiking.energy import (
    Device,
    LayerUse,
    ModelEnergy,
    compute_layer_stats,
    register_device,
    register_layer,
)

__all__ = [
    "Device",
    "LayerUse",
    "ModelEnergy",
    "compute_layer_stats",
    "register_device",
    "register_layer",
]
