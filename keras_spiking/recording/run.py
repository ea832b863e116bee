"""Records what a model does, whatever framework it is of."""

import sys
from collections.abc import Sequence
from typing import Any

from keras_spiking import _checks
from keras_spiking.recording.options import Options, checked_quantities
from keras_spiking.recording.recording import Recording

_OWNER = "record"


def record(
    model: Any,
    data: Any,
    layers: Sequence[Any] | None = None,
    quantities: Sequence[str] = ("spikes",),
    *,
    batch_size: int = 32,
    memory_limit: float = 4.0,
    verbose: str | int = "auto",
) -> Recording:
    """Runs a model, and records what its spiking layers and filters do over time.

    The model runs as for inference, in batches, and is the same afterwards: its states and seeds
    are put back. A layer with `return_sequences=False` is recorded at every step, too.

    A layer has the name that it has in the model, after those of the models and layers that it is
    in: `spikes`, `block/spikes`; in PyTorch as `named_modules` has it, `block.spikes`. What
    has the name of another one is numbered: the second call of a layer is `spikes#2`.

    Args:
        model: A Keras model, or a PyTorch module with modules of `keras_spiking.pytorch` in it.
            Spiking cells in `keras.layers.RNN` are not recorded.
        data: Samples, as `model.predict` takes them: an array, or a structure of arrays. For a
            PyTorch module an array or tensor, a tuple of them for several arguments, or a
            dictionary for arguments by name. Of a dataset, take some batches and join them.
        layers: The layers to record, or their names; None for all.
        quantities: What to record, any of `"spikes"`, `"inputs"`, `"voltages"` (all of spiking
            layers), and `"outputs"` (of filters, which have `"inputs"` too). Voltages are not
            kept by layers. They are computed again, from inputs and spikes.
        batch_size: Number of samples that run at once. A fixed batch size of the model wins.
        memory_limit: How much memory the recording may take, in gigabytes.
        verbose: 0 for silence. 1 or `"auto"` says how much memory the recording takes, and shows
            progress (of a PyTorch module, where tqdm is installed).

    Returns:
        A `keras_spiking.recording.Recording`.

    Raises:
        ValueError: If the model has no such layers, or nothing of what was asked for, an argument
            has a wrong value or shape, or the recording would take more than `memory_limit`.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras, numpy as np
    >>> spikes = keras_spiking.SpikingActivation("relu", dt=0.01, name="spikes")
    >>> model = keras.Sequential([keras.Input((20, 3)), spikes])
    >>> recording = keras_spiking.record(model, np.full((2, 20, 3), 50.0), verbose=0)
    >>> recording["spikes"].rates().tolist()
    [50.0, 50.0, 50.0]
    """
    options = Options(
        layers=_checked_layers(layers),
        quantities=checked_quantities(_OWNER, quantities),
        batch_size=_checks.positive_integer(_OWNER, "batch_size", batch_size),
        memory_limit=_checks.positive_number(_OWNER, "memory_limit", memory_limit, "gigabytes"),
        verbose=_is_verbose(verbose),
    )
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    # With PyTorch as its backend, a Keras model is a module too.
    is_keras = keras is not None and isinstance(model, keras.layers.Layer)
    if torch is not None and isinstance(model, torch.nn.Module) and not is_keras:
        from keras_spiking.pytorch.recording import record_module

        return record_module(model, data, options)
    if not is_keras or not isinstance(model, keras.Model):  # type: ignore[union-attr]
        raise TypeError(
            f"{_OWNER}: `model` must be a keras.Model or a torch.nn.Module; received {model!r} of "
            f"type {type(model).__name__}. Put a layer into a keras.Sequential to record it."
        )
    from keras_spiking.recording.keras_model import record_model

    return record_model(model, data, options)


def _checked_layers(layers: Any) -> list[Any] | None:
    if layers is None:
        return None
    if not isinstance(layers, (list, tuple)):
        raise TypeError(
            f"{_OWNER}: `layers` must be None or a list of layers or their names; received "
            f"{layers!r} of type {type(layers).__name__}. For one layer, give [layer]."
        )
    return list(layers)


def _is_verbose(verbose: Any) -> bool:
    if verbose not in ("auto", 0, 1):
        raise ValueError(
            f'{_OWNER}: `verbose` must be "auto", 0 or 1; received verbose={verbose!r}.'
        )
    return bool(verbose)
