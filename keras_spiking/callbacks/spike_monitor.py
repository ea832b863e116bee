"""Shows how layers spike while a model trains."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_spiking import _checks
from keras_spiking._data import as_numpy, checked_samples, num_samples
from keras_spiking.recording.figures import NAMES
from keras_spiking.recording.keras_model import probe_for, run_probe
from keras_spiking.recording.keras_probe import Probe


class SpikeMonitor(keras.callbacks.Callback):
    """Adds figures of how each layer spikes, on a few samples, to the logs of `fit`.

    At the end of each epoch, the model runs on the samples as for inference. The figures of
    each spiking layer go into the logs, under names such as `spikes/dense/mean_rate`. So the
    progress bar and the `History` have them, and so do the callbacks that come after this one in
    the list, such as `CSVLogger`, `TensorBoard` and
    `EarlyStopping(monitor="spikes/dense/mean_rate", mode="min")`. Those that come before it do not.

    Training does not change: the states and seeds of the model are put back. If a layer does not
    spike at all, a warning says so, once for each layer.

    Args:
        data: A few samples, as `model.predict` takes them: an array, or a structure of arrays.
            They run in one batch, unless the model has a fixed batch size.
        prefix: What names in the logs begin with.
        layers: The layers, or their names, as in `keras_spiking.record`; None for all that spike.
        figures: The figures to add, any of `"mean_rate"`, `"median_rate"`, `"top_rate"` (the 99.9th
            percentile; all three in hertz, over units), `"silent"` (share of units without a
            spike), `"spikes"` (per sample), `"several"` (share of steps with more than one spike)
            and `"negative"` (share of spikes that are negative).
        update_freq: `"epoch"`, or a number of batches, after which the logs of a batch have the
            figures too.

    Raises:
        ValueError: If an argument has a value that it cannot have; when training begins, if the
            model has no such layers, or `data` does not fit.
        TypeError: If an argument has a wrong type.

    Example:

    >>> import keras, numpy as np
    >>> x, y = np.full((8, 10, 3), 50.0), np.zeros((8, 10, 2))
    >>> spikes = keras_spiking.SpikingActivation("relu", dt=0.01, name="relu")
    >>> model = keras.Sequential([keras.Input((10, 3)), spikes, keras.layers.Dense(2)])
    >>> model.compile(loss="mse")
    >>> monitor = keras_spiking.callbacks.SpikeMonitor(x[:2], figures=["mean_rate"])
    >>> history = model.fit(x, y, epochs=2, callbacks=[monitor], verbose=0)
    >>> history.history["spikes/relu/mean_rate"]
    [50.0, 50.0]
    """

    def __init__(
        self,
        data: Any,
        prefix: str = "spikes",
        layers: Sequence[Any] | None = None,
        figures: Sequence[str] = NAMES,
        update_freq: str | int = "epoch",
    ):
        super().__init__()
        owner = type(self).__name__
        if not isinstance(prefix, str):
            raise TypeError(
                f"{owner}: `prefix` must be a string; received {prefix!r} of type "
                f"{type(prefix).__name__}."
            )
        self.data = keras.tree.map_structure(as_numpy, data)
        self.prefix = prefix
        self.layers = layers
        self.figures = _checked_figures(owner, figures)
        self.update_freq = update_freq
        if update_freq != "epoch":
            self.update_freq = _checks.positive_integer(owner, "update_freq", update_freq)
        # Keras runs callbacks beside training if they do nothing after a batch.
        self.async_safe = update_freq == "epoch"
        self._probe: Probe | None = None
        self._probed: Any = None
        self._num_batches = 0
        self._warned: set[str] = set()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._probed is self.model:
            return
        owner = type(self).__name__
        checked_samples(owner, "data", self.data, self.model)
        layers = None if self.layers is None else list(self.layers)
        self._probe = probe_for(owner, self.model, layers, ("spikes",))
        self._probed = self.model

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._num_batches += 1
        if isinstance(self.update_freq, int) and self._num_batches % self.update_freq == 0:
            self._add(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._add(logs)

    def _add(self, logs: dict[str, Any] | None) -> None:
        """Adds the figures to the logs."""
        assert self._probe is not None
        recording = run_probe(self._probe, self.model, self.data, num_samples(self.data))
        for name, layer in recording.items():
            figures = dataclasses.asdict(layer.figures())
            if figures["spikes"] == 0:
                self._warn(name)
            if logs is not None:
                logs.update({f"{self.prefix}/{name}/{key}": figures[key] for key in self.figures})

    def _warn(self, name: str) -> None:
        if name in self._warned:
            return
        self._warned.add(name)
        warnings.warn(
            f"{type(self).__name__}: no unit of layer {name!r} spikes, for any sample of `data`. "
            "Layers after it get zeros. Give it a longer `dt` or a larger `rate_scale`, or keep "
            "its rates in a range with a regularizer of keras_spiking.regularizers.",
            stacklevel=2,
        )


def _checked_figures(owner: str, figures: Any) -> tuple[str, ...]:
    if not isinstance(figures, (list, tuple)) or not set(figures) <= set(NAMES):
        raise ValueError(
            f"{owner}: `figures` must be a list or tuple of some of {list(NAMES)}; "
            f"received figures={figures!r}."
        )
    return tuple(figures)
