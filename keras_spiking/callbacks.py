"""Callbacks for `fit`."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking.layers.reset import synchronize
from keras_spiking.layers.time_step import is_variable


class DtScheduler(keras.callbacks.Callback):
    """Moves `dt` during training, for all layers that share the variable.

    Training often goes best from a large `dt`, where spikes are close to the activation, to the
    small one that the model will run at.

    Args:
        dt: The variable that layers were made with: a `keras.Variable`, or, on TensorFlow, a
            `tf.Variable`; in seconds.
        scheduler: `keras.optimizers.schedules.LearningRateSchedule`, or any function of the step,
            that gives `dt` in seconds. Steps count training batches over all epochs, from 0;
            with `initial_epoch`, from where that epoch begins.
        verbose: Whether to print `dt` at the beginning of each epoch.

    Raises:
        TypeError: If `dt` is not a variable or `scheduler` cannot be called.
        ValueError: If, during training, `scheduler` gives a number that is not positive and
            finite.

    Example:

    >>> import keras
    >>> dt = keras.Variable(1.0, trainable=False)
    >>> layer = keras_spiking.SpikingActivation("relu", dt=dt)
    >>> schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 1000, 0.5)
    >>> callback = keras_spiking.callbacks.DtScheduler(dt, schedule)
    """

    def __init__(self, dt: Any, scheduler: Callable[[int], Any], verbose: bool = False):
        super().__init__()
        owner = type(self).__name__
        if not is_variable(dt):
            raise TypeError(
                f"{owner}: `dt` must be a keras.Variable, the one that the layers were made with, "
                f"so that it can change; received dt={dt!r} of type {type(dt).__name__}."
            )
        if not callable(scheduler):
            raise TypeError(
                f"{owner}: `scheduler` must be a LearningRateSchedule or a function of the step; "
                f"received {scheduler!r} of type {type(scheduler).__name__}."
            )
        self.dt = dt
        self.scheduler = scheduler
        self.verbose = verbose
        self._next_step = 0
        self._epoch_start: int | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._epoch_start = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._epoch_start is None:
            self._next_step = self._first_step(epoch)
        self._epoch_start = self._next_step
        self._set(self._epoch_start)
        if self.verbose:
            print(f"DtScheduler epoch={epoch} dt={float(ops.convert_to_numpy(self.dt)):.4f}")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        assert self._epoch_start is not None
        self._set(self._epoch_start + batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert self._epoch_start is not None
        self._next_step = self._epoch_start + batch + 1

    def _first_step(self, epoch: int) -> int:
        """Batches before the epoch that training starts with."""
        steps = self.params.get("steps")
        if epoch == 0:
            return 0
        if steps is not None:
            return epoch * steps
        # A generator of unknown length: the optimizer has counted the batches, and a restored
        # one remembers.
        return int(ops.convert_to_numpy(self.model.optimizer.iterations))

    def _set(self, step: int) -> None:
        value = ops.convert_to_numpy(self.scheduler(step))
        dt = _checks.positive_number(type(self).__name__, "dt", float(value), "a number of seconds")
        synchronize(self.model)
        self.dt.assign(dt)
