"""The version, where KerasSpiking had it."""

from keras_spiking import __version__ as version

__all__ = ["version"]
