"""Layers and cells that run over time."""

from keras_spiking.layers.alpha import Alpha, AlphaCell
from keras_spiking.layers.base import KerasSpikingLayer
from keras_spiking.layers.cell import KerasSpikingCell
from keras_spiking.layers.last_step import LastStep
from keras_spiking.layers.lowpass import Lowpass, LowpassCell
from keras_spiking.layers.repeat_over_time import RepeatOverTime
from keras_spiking.layers.reset import reset_states
from keras_spiking.layers.running_average import RunningAverage
from keras_spiking.layers.spiking_activation import SpikingActivation
from keras_spiking.layers.spiking_activation_cell import SpikingActivationCell
from keras_spiking.layers.temporal_avg_pool import TemporalAvgPool
from keras_spiking.layers.time_batched import TimeBatched

__all__ = [
    "Alpha",
    "AlphaCell",
    "KerasSpikingCell",
    "KerasSpikingLayer",
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
]
