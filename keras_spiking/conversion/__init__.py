"""Makes spiking models of trained Keras models, and compares the two."""

from keras_spiking.conversion.comparison import compare
from keras_spiking.conversion.convert_model import convert
from keras_spiking.conversion.registry import register
from keras_spiking.conversion.report import Report
from keras_spiking.conversion.results import LayerResult, OutputResult, Result
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
