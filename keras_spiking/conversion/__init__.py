"""From a trained Keras model to one that spikes, and what that costs."""

from keras_spiking.conversion.compare import compare
from keras_spiking.conversion.convert import convert
from keras_spiking.conversion.report import LayerResult, Report, Result

__all__ = ["LayerResult", "Report", "Result", "compare", "convert"]
