"""Figures of recordings: spikes, firing rates, voltages and outputs. They need matplotlib."""

from keras_spiking.visualization.outputs import plot_outputs
from keras_spiking.visualization.raster import plot_raster
from keras_spiking.visualization.rates import plot_rates
from keras_spiking.visualization.summary import plot_summary
from keras_spiking.visualization.voltage import plot_voltage

__all__ = ["plot_outputs", "plot_raster", "plot_rates", "plot_summary", "plot_voltage"]
