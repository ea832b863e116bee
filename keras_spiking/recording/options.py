"""What is to be recorded, and of which layers."""

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

# What there is to record of spiking layers, and of filters.
OF_SPIKING = ("spikes", "inputs", "voltages")
OF_FILTERS = ("inputs", "outputs")
QUANTITIES = ("spikes", "inputs", "voltages", "outputs")


class Options(NamedTuple):
    """The arguments of `record`, checked.

    Attributes:
        layers: Layers or names; None for all.
        quantities: What to record.
        batch_size: Number of samples that run at once.
        memory_limit: Gigabytes that the recording may take.
        verbose: Whether to say what happens.
    """

    layers: list[Any] | None
    quantities: tuple[str, ...]
    batch_size: int
    memory_limit: float
    verbose: bool


def checked_quantities(owner: str, quantities: Any) -> tuple[str, ...]:
    """Accepts one or more different quantities."""
    is_several = isinstance(quantities, (list, tuple)) and len(quantities) > 0
    if not is_several or any(quantity not in QUANTITIES for quantity in quantities):
        raise ValueError(
            f"{owner}: `quantities` must be a list or tuple of one or more of {list(QUANTITIES)}; "
            f"received quantities={quantities!r}."
        )
    return tuple(quantities)


def numbered(name: str, taken: Container[str]) -> str:
    """A name that is not taken yet: that name, or with a number, as in `spikes#2`."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}#{number}"
    return candidate


def to_note(quantities: tuple[str, ...], spikes: bool) -> set[str]:
    """What to note of a layer, for the quantities that are wanted of it.

    Args:
        quantities: What is wanted.
        spikes: Whether the layer spikes.
    """
    wanted = set(quantities) & set(OF_SPIKING if spikes else OF_FILTERS)
    if "voltages" in wanted:
        wanted |= {"spikes", "inputs", "states"}  # from which they are computed
    return wanted | {"mask"}


def chosen_layers(
    owner: str,
    found: Mapping[str, tuple[Any, bool]],
    layers: list[Any] | None,
    quantities: tuple[str, ...],
) -> dict[str, Any]:
    """The layers to record, by name.

    Args:
        owner: Name of the public function, for errors.
        found: All spiking layers and filters of the model by name, and whether they spike.
        layers: The layers or names that were asked for; None for all.
        quantities: What to record.
    """
    if not found:
        raise ValueError(
            f"{owner}: `model` must have a layer that spikes or filters; received one without. "
            "Add a keras_spiking.SpikingActivation, or convert the model with "
            "keras_spiking.convert; cells in keras.layers.RNN are not recorded."
        )
    names = list(found) if layers is None else _names(owner, found, layers)
    chosen = {}
    for name in names:
        layer, spikes = found[name]
        if to_note(quantities, spikes) != {"mask"}:
            chosen[name] = layer
    if not chosen or (layers is not None and len(chosen) < len(names)):
        without = [name for name in names if name not in chosen]
        raise ValueError(
            f"{owner}: the layers {without} have none of the `quantities` "
            f"{list(quantities)}. Spiking layers have {list(OF_SPIKING)}, and filters "
            f"have {list(OF_FILTERS)}: ask for some of these."
        )
    return chosen


def _names(owner: str, found: Mapping[str, tuple[Any, bool]], layers: list[Any]) -> list[str]:
    """The names of the layers that were asked for, in the order of the model."""
    wanted = set()
    for layer in layers:
        names = [name for name in found if layer is found[name][0] or _is_name(layer, name)]
        if len(names) != 1:
            raise ValueError(
                f"{owner}: `layers` must be spiking layers or filters of the model, or their "
                f"names, which are {list(found)}; received {layer!r}."
            )
        wanted.update(names)
    return [name for name in found if name in wanted]


def _is_name(given: Any, name: str) -> bool:
    return isinstance(given, str) and given == name
