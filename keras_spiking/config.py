"""Settings that hold for the whole process."""

from typing import Any

from keras_spiking._checks import positive_number
from keras_spiking.kernels import cpu, in_use, setting

_KERNELS = ("auto", "numba", "native", "portable")


def kernels() -> str:
    """Returns which kernels run: `"numba"`, `"native"` or `"portable"`; see `set_kernels`.

    Unless one of them is set, they are the fastest on the device in use, of what is installed.
    `"numba"` means that loops of Numba run wherever they can: not in what XLA compiles on
    TensorFlow, for instance.
    """
    return in_use()


def set_kernels(name: Any) -> None:
    """Chooses the kernels that run over time: for debugging, as results do not depend on it.

    Spikes are the same bit for bit, filters and gradients to within rounding; only the speed
    differs. A function or model that is compiled already keeps the kernels it was compiled with.
    While TensorFlow checks numbers (`tf.debugging.enable_check_numerics`), which compiled loops
    cannot, the portable kernels run whatever is set.
    On JAX, only the portable filters have forward-mode derivatives: `jax.jvp`, `jax.jacfwd` and
    `jax.hessian` need them. `jax.export` refuses the loops of Numba, which long sequences of known
    shape run on a CPU: set `"native"` before it. Keras's own `model.export` needs no such care.

    Args:
        name: `"auto"`, the default, for what is fastest on the device in use; `"numba"` for loops
            on every core of a CPU, which Numba compiles; `"native"` for those written for the
            backend (a loop over time on TensorFlow and JAX); `"portable"` for those in plain
            operations on whole sequences: in `keras.ops` alone, which define what is correct, or
            on PyTorch in its own. Where loops of Numba cannot run, such as on a GPU,
            in what XLA compiles on TensorFlow, and in what is exported, others run. On TensorFlow,
            a function of your own may be exported later, so that `"auto"` keeps them out of all
            graphs but those of Keras's `fit`, `evaluate` and `predict`; `"numba"` does not.

    Raises:
        ValueError: If it is none of these names, or `"numba"` where Numba is not installed.

    Example:

    >>> import keras_spiking
    >>> keras_spiking.config.set_kernels("portable")
    >>> keras_spiking.config.kernels()
    'portable'
    >>> keras_spiking.config.set_kernels("auto")
    """
    if name not in _KERNELS:
        raise ValueError(
            f"keras_spiking.config.set_kernels: `name` must be one of {', '.join(_KERNELS)}; "
            f"received name={name!r}."
        )
    if name == "numba" and not cpu.is_available():
        raise ValueError(
            'keras_spiking.config.set_kernels: name="numba" needs Numba, which is not installed: '
            "pip install keras-spiking[fast]."
        )
    setting.name = name


class Default:
    """Values that layers take when an argument is left out.

    Attributes:
        dt: Length of a time step in seconds, 0.001 unless set. A layer or cell made with
            `dt=None` reads it once, when it is made: setting it later does not change
            layers that exist.

    Raises:
        ValueError: If `dt` is set to a number that is not positive and finite.
        TypeError: If `dt` is set to anything but a number.
        AttributeError: If anything but `dt` is set.

    Example:

    >>> import keras_spiking
    >>> keras_spiking.default.dt
    0.001
    >>> keras_spiking.default.dt = 0.01
    >>> keras_spiking.SpikingActivation("relu").dt
    0.01
    >>> keras_spiking.default.dt = 0.001
    """

    __slots__ = ("_dt",)  # so that a misspelled setting is an error

    def __init__(self) -> None:
        self._dt = 0.001

    @property
    def dt(self) -> float:
        """Length of a time step in seconds."""
        return self._dt

    @dt.setter
    def dt(self, value: float) -> None:
        self._dt = positive_number("keras_spiking.default", "dt", value, "a number of seconds")

    def __repr__(self) -> str:
        return f"keras_spiking.default(dt={self.dt})"


default = Default()
