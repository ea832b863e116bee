"""What a model would cost in joules, on which device, and in which layer."""

from keras_spiking.energy.devices import Device, register_device
from keras_spiking.energy.layer_stats import compute_layer_stats, register_layer
from keras_spiking.energy.model_energy import ModelEnergy
from keras_spiking.energy.uses import LayerUse

__all__ = [
    "Device",
    "LayerUse",
    "ModelEnergy",
    "compute_layer_stats",
    "register_device",
    "register_layer",
]
