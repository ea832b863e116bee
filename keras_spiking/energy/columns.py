"""The columns of a table of energies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_spiking._types import Shape
from keras_spiking.energy.devices import DEVICES, Device
from keras_spiking.energy.estimate import Estimate, Time


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: Its heading, such as `"energy loihi"`.
        quantity: What it shows, such as `"energy"`.
        device: The device of an energy, else None.
    """

    name: str
    quantity: str
    device: Device | None = None

    @property
    def is_text(self) -> bool:
        """Whether it holds words."""
        return self.quantity in ("name", "output_shape", "rate_from")

    @property
    def has_total(self) -> bool:
        """Whether its values add up over layers."""
        return self.quantity in _COUNTS or self.device is not None

    def value(self, estimate: Estimate, layer: keras.Layer, time: Time) -> Any:
        """What it shows of a layer."""
        if self.device is None:
            return _VALUES[self.quantity](estimate, layer)
        synops, neurons = estimate.joules(layer, self.device, time)
        energies = {"energy": synops + neurons, "synop_energy": synops, "neuron_energy": neurons}
        return energies[self.quantity]

    def format(self, value: Any) -> str:
        """A value of it as text."""
        if self.is_text:
            return str(value)
        if self.quantity in _COUNTS:
            return f"{value:,}"
        return f"{value:.3g}" if self.quantity == "rate" else f"{value:.2e}"


def parse_columns(names: Sequence[str], estimate: Estimate) -> list[Column]:
    """Makes columns from the names that a user gives."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"ModelEnergy: `columns` must be a list or tuple of names; received "
            f"columns={names!r}. For one column, give ('energy cpu',)."
        )
    if not names:
        raise ValueError(
            "ModelEnergy: `columns` must name one or more columns; received none. "
            f"They are {', '.join(_VALUES)}, and others as in 'energy cpu'."
        )
    return [_parsed(name, estimate) for name in names]


def _parsed(name: str, estimate: Estimate) -> Column:
    if name in _VALUES:
        if name in ("rate", "rate_from") and not estimate.rates:
            raise ValueError(
                f"ModelEnergy: column {name!r} needs data to measure rates on; received "
                "example_data=None. Make a ModelEnergy(model, example_data)."
            )
        return Column(name, name)
    quantity, _, device = name.partition(" ")
    if quantity not in _ENERGIES or device not in DEVICES:
        raise ValueError(
            f"ModelEnergy: `columns` must be among {', '.join(_VALUES)}, and, with a device D, "
            f"{', '.join(f'{energy} D' for energy in _ENERGIES)}, where D is one of "
            f"{', '.join(DEVICES)}; received {name!r}."
        )
    return Column(name, quantity, estimate.device(device))


def _output_shape(estimate: Estimate, layer: keras.Layer) -> Shape | str:
    uses = estimate.uses[layer]
    shapes = {tuple(use.output_shapes) for use in uses}
    return uses[0].output_shape if len(shapes) == 1 else "several"


def _params(estimate: Estimate, layer: keras.Layer) -> int:
    # Operations have none.
    return layer.count_params() if isinstance(layer, keras.Layer) else 0


def _rate_from(estimate: Estimate, layer: keras.Layer) -> str:
    kinds = estimate.kinds(layer)
    sources = {"abs(input)" if kind is None else "spikes" for kind in kinds}
    return " and ".join(sorted(sources))


_ENERGIES = ("energy", "synop_energy", "neuron_energy")
_COUNTS = ("params", "connections", "neurons")
# The columns that need no device.
_VALUES: dict[str, Callable[[Estimate, keras.Layer], Any]] = {
    "name": Estimate.name,
    "output_shape": _output_shape,
    "params": _params,
    "connections": lambda estimate, layer: estimate.stats[layer]["connections"],
    "neurons": lambda estimate, layer: estimate.stats[layer]["neurons"],
    "rate": lambda estimate, layer: estimate.rates[layer],
    "rate_from": _rate_from,
}
