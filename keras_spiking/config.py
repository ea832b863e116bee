"""Settings that hold for the whole process."""

from keras_spiking._checks import positive_number


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
        return self._dt

    @dt.setter
    def dt(self, value: float) -> None:
        self._dt = positive_number("keras_spiking.default", "dt", value, "a number of seconds")

    def __repr__(self) -> str:
        return f"keras_spiking.default(dt={self.dt})"


default = Default()
