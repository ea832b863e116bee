"""Hands models to other simulators and to chips, and takes theirs, in the format NIR.

NIR, the neuromorphic intermediate representation, is a graph of neurons and connections:
https://neuroir.org. The package `nir` is needed when one of these functions is called:
`pip install "keras-spiking[nir]"`.
"""

from keras_spiking.nir.export import to_nir
from keras_spiking.nir.reading import from_nir

__all__ = ["from_nir", "to_nir"]
