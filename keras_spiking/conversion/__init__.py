"""From a trained Keras model to one that spikes, and what that costs."""

from keras_spiking.conversion.comparison import compare
from keras_spiking.conversion.convert_model import convert
from keras_spiking.conversion.registry import register
from keras_spiking.conversion.report import LayerResult, OutputResult, Report, Result
from keras_spiking.conversion.retiming import retime

__all__ = [
    "LayerResult",
    "OutputResult",
    "Report",
    "Result",
    "compare",
    "convert",
    "register",
    "retime",
]
