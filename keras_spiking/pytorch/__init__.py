"""The layers as PyTorch modules, with the API of PyTorchSpiking; needs torch, and no Keras."""

from keras_spiking.pytorch import modules as modules
from keras_spiking.pytorch.alpha import Alpha
from keras_spiking.pytorch.lowpass import Lowpass
from keras_spiking.pytorch.spiking_activation import SpikingActivation
from keras_spiking.pytorch.temporal_avg_pool import TemporalAvgPool
from keras_spiking.recording import Recording, record

__all__ = ["Alpha", "Lowpass", "Recording", "SpikingActivation", "TemporalAvgPool", "record"]
