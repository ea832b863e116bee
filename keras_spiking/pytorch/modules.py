"""The modules, by the name of the module that had them in PyTorchSpiking."""

from keras_spiking.pytorch.alpha import Alpha
from keras_spiking.pytorch.lowpass import Lowpass
from keras_spiking.pytorch.spiking_activation import SpikingActivation
from keras_spiking.pytorch.temporal_avg_pool import TemporalAvgPool

__all__ = ["Alpha", "Lowpass", "SpikingActivation", "TemporalAvgPool"]
