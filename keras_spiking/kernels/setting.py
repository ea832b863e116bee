"""The setting of `keras_spiking.config.set_kernels`, and what follows from it."""

from keras_spiking.kernels import cpu

name = "auto"


def native_is_chosen(faster: bool) -> bool:
    """Whether a backend's own kernel runs, and not the portable one.

    Args:
        faster: Whether it is the faster one on the device in use.
    """
    return faster if name in ("auto", "numba") else name == "native"


def numba_is_chosen() -> bool:
    """Whether loops that Numba compiles run, wherever they can."""
    return name in ("auto", "numba") and cpu.is_available()
