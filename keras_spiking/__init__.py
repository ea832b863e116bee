"""Spiking layers for Keras 3: TensorFlow, JAX and PyTorch."""

from typing import TYPE_CHECKING

from keras_spiking import version as _version
from keras_spiking._lazy import lazy_names, load_with_keras

__version__ = _version.version

if TYPE_CHECKING:
    from keras_spiking import callbacks as callbacks
    from keras_spiking import config as config
    from keras_spiking import constraints as constraints
    from keras_spiking import conversion as conversion
    from keras_spiking import energy as energy
    from keras_spiking import layers as layers
    from keras_spiking import model_energy as model_energy
    from keras_spiking import nir as nir
    from keras_spiking import recording as recording
    from keras_spiking import regularizers as regularizers
    from keras_spiking import version as version
    from keras_spiking import visualization as visualization
    from keras_spiking.config import default as default
    from keras_spiking.conversion import compare as compare
    from keras_spiking.conversion import convert as convert
    from keras_spiking.conversion import retime as retime
    from keras_spiking.energy import ModelEnergy as ModelEnergy
    from keras_spiking.layers import Alpha as Alpha
    from keras_spiking.layers import AlphaCell as AlphaCell
    from keras_spiking.layers import LastStep as LastStep
    from keras_spiking.layers import Lowpass as Lowpass
    from keras_spiking.layers import LowpassCell as LowpassCell
    from keras_spiking.layers import RepeatOverTime as RepeatOverTime
    from keras_spiking.layers import RunningAverage as RunningAverage
    from keras_spiking.layers import SpikingActivation as SpikingActivation
    from keras_spiking.layers import SpikingActivationCell as SpikingActivationCell
    from keras_spiking.layers import TemporalAvgPool as TemporalAvgPool
    from keras_spiking.layers import TimeBatched as TimeBatched
    from keras_spiking.layers import reset_states as reset_states
    from keras_spiking.recording import Recording as Recording
    from keras_spiking.recording import record as record

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "keras_spiking": [
            "callbacks",
            "config",
            "constraints",
            "conversion",
            "energy",
            "layers",
            "model_energy",
            "nir",
            "recording",
            "regularizers",
            "version",
            "visualization",
        ],
        "keras_spiking.config": ["default"],
        "keras_spiking.conversion": ["compare", "convert", "retime"],
        "keras_spiking.energy": ["ModelEnergy"],
        "keras_spiking.layers": [
            "Alpha",
            "AlphaCell",
            "LastStep",
            "Lowpass",
            "LowpassCell",
            "RepeatOverTime",
            "RunningAverage",
            "SpikingActivation",
            "SpikingActivationCell",
            "TemporalAvgPool",
            "TimeBatched",
            "reset_states",
        ],
        "keras_spiking.recording": ["Recording", "record"],
    },
)
load_with_keras("layers", "regularizers", "constraints", "callbacks")
