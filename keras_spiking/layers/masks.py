"""The mask that Keras keeps with a tensor."""

from keras_spiking._types import Tensor


def mask_of(tensor: Tensor) -> Tensor | None:
    """The mask of a tensor, or None. Keras has no public name for it."""
    return getattr(tensor, "_keras_mask", None)
