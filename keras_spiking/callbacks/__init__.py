"""Callbacks for `fit`."""

from keras_spiking.callbacks.dt_scheduler import DtScheduler
from keras_spiking.callbacks.spike_monitor import SpikeMonitor

__all__ = ["DtScheduler", "SpikeMonitor"]
