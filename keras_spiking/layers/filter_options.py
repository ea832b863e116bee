"""The options that the layers and cells of trainable filters share: their checks and config."""

from collections.abc import Callable
from typing import Any

import keras

from keras_spiking import _checks
from keras_spiking._named_objects import get_named
from keras_spiking._types import ConstraintLike, InitializerLike
from keras_spiking.layers.cell import WithTimeStep
from keras_spiking.layers.initializers import get_initializer


class FilterOptions(WithTimeStep):
    """A layer or cell with the options of a filter."""

    def _set_options(
        self,
        tau_initializer: InitializerLike,
        apply_during_training: bool,
        level_initializer: InitializerLike,
        initial_level_constraint: ConstraintLike,
        tau_constraint: ConstraintLike,
    ) -> None:
        owner = type(self).__name__
        self.tau_initializer = get_initializer(
            owner, "tau_initializer", tau_initializer, positive=True
        )
        self.apply_during_training = _checks.boolean(
            owner, "apply_during_training", apply_during_training
        )
        self.level_initializer = get_initializer(owner, "level_initializer", level_initializer)
        self.initial_level_constraint = _get_constraint(
            owner, "initial_level_constraint", initial_level_constraint
        )
        self.tau_constraint = _get_constraint(owner, "tau_constraint", tau_constraint)

    def _options(self) -> dict[str, Any]:
        """The options by name."""
        return {
            "tau_initializer": self.tau_initializer,
            "apply_during_training": self.apply_during_training,
            "level_initializer": self.level_initializer,
            "initial_level_constraint": self.initial_level_constraint,
            "tau_constraint": self.tau_constraint,
        }

    def get_config(self) -> dict[str, Any]:
        options = {
            name: keras.saving.serialize_keras_object(option)
            for name, option in self._options().items()
        }
        return {**super().get_config(), **options}


def _get_constraint(owner: str, name: str, value: ConstraintLike) -> Callable[[Any], Any] | None:
    try:
        return get_named(value, keras.constraints.get, keras.constraints.Constraint)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: `{name}` must be a Keras constraint, its name, or None; "
            f"received {name}={value!r}. The reason: {error}"
        ) from error
