"""Moves `dt` while a model trains."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_spiking import _checks
from keras_spiking._types import Tensor
from keras_spiking.layers.dt import is_variable
from keras_spiking.layers.reset import synchronize


class DtScheduler(keras.callbacks.Callback):
    """Moves `dt` during training, for all layers that share the variable.

    Training often goes best from a large `dt`, where spikes are close to the activation, to the
    small one that the model will run at.

    Args:
        dt: The variable that layers were made with: a `keras.Variable`, or, on TensorFlow, a
            `tf.Variable`; in seconds.
        scheduler: `keras.optimizers.schedules.LearningRateSchedule`, or any function of the step,
            that gives `dt` in seconds. Steps count training batches over all epochs, from 0. With
            `initial_epoch`, or after `BackupAndRestore` has restored an epoch, the batches of the
            epochs before count too. If the length of the data is unknown, their number is what
            this callback has counted, or, in a new process, what the restored model's optimizer
            has counted; the data must then have been of unknown length before, too. With
            `steps_per_execution`, all steps of one execution use the `dt` of its first step.
        verbose: Whether to print `dt` at the beginning of each epoch.

    Raises:
        TypeError: If `dt` is not a variable of a float type, `scheduler` cannot be called or,
            during training, does not give a number.
        ValueError: If the shape of `dt` is not `()` or, during training, `scheduler` gives a
            number that is not positive and finite.

    Example:

    >>> import keras
    >>> dt = keras.Variable(1.0, trainable=False)
    >>> layer = keras_spiking.SpikingActivation("relu", dt=dt)
    >>> schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 1000, 0.5)
    >>> callback = keras_spiking.callbacks.DtScheduler(dt, schedule)
    """

    def __init__(
        self, dt: keras.Variable, scheduler: Callable[[int], float | Tensor], verbose: bool = False
    ):
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
        if tuple(dt.shape) != ():
            raise ValueError(
                f"{owner}: `dt` must be a variable of shape (); received one of shape "
                f"{tuple(dt.shape)}."
            )
        dtype = keras.backend.standardize_dtype(dt.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise TypeError(
                f"{owner}: `dt` must be a variable of a float type, as in keras.Variable(1.0), so "
                f"that it can hold fractions of a second; received one of type {dtype}."
            )
        self.dt = dt
        self.scheduler = scheduler
        self.verbose = bool(verbose)  # Keras takes 0 and 1 too
        self._training = False
        self._next_epoch = 0
        self._next_step = 0
        self._epoch_start = 0
        self._num_batches = 0
        self._optimizer_count_before = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._training = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch_start = self._batches_before(epoch)
        self._training = True
        self._num_batches = 0
        self._optimizer_count_before = self._optimizer_count()
        self._set(self._epoch_start)
        if self.verbose:
            dt = float(ops.convert_to_numpy(self.dt))
            print(f"DtScheduler epoch={epoch} dt={dt:.4f}")

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._set(self._epoch_start + batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._num_batches = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.model.steps_per_execution != 1:
            # Keras counts the last execution as a full one, also if it found fewer batches.
            counted = self._optimizer_count() - self._optimizer_count_before
            self._num_batches = min(self._num_batches, counted)
        # Set at the end only: an epoch that is interrupted is restored from its beginning.
        self._next_epoch, self._next_step = epoch + 1, self._epoch_start + self._num_batches

    def _batches_before(self, epoch: int) -> int:
        """The number of batches in the epochs before this one."""
        steps = self.params.get("steps")
        if steps is not None:
            return epoch * steps
        if epoch == 0:
            return 0
        if self._training or epoch == self._next_epoch:
            return self._next_step
        ends_counted = epoch if _ends_count_as_batches(self.model) else 0
        return max(self._optimizer_count() - ends_counted, 0)

    def _optimizer_count(self) -> int:
        """The number of batches that the optimizer has counted, also before it was restored."""
        # `optimizer.iterations` leaves out batches whose gradients are only accumulated.
        optimizer = getattr(self.model, "optimizer", None)
        variables = optimizer.variables if optimizer else []
        counts = [variable for variable in variables if variable.name == "iteration"]
        return max((int(ops.convert_to_numpy(count)) for count in counts), default=0)

    def _set(self, step: int) -> None:
        dt = ops.convert_to_numpy(self.scheduler(step))
        dt = _checks.positive_number(
            type(self).__name__, f"scheduler({step})", dt, "a number of seconds"
        )
        synchronize(self.model)
        self.dt.assign(dt)


def _ends_count_as_batches(model: keras.Model) -> bool:
    """Whether the optimizer counts the end of data of unknown length as one more batch.

    It does where a training step is a TensorFlow graph. The graph adds 1 to the count while it
    waits for a batch, and then finds that there is none.
    """
    return (
        keras.backend.backend() == "tensorflow"
        and model.steps_per_execution == 1
        and not (model.run_eagerly or model.jit_compile)
    )
