"""Recordings of what the layers of a model put out over time; needs neither Keras nor PyTorch."""

from keras_spiking.recording.figures import Figures
from keras_spiking.recording.recording import LayerRecording, Recording
from keras_spiking.recording.run import record

__all__ = ["Figures", "LayerRecording", "Recording", "record"]
