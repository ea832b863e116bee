"""Joules per synaptic operation and per neuron update, with the source of each.

- `cpu` (Intel i7-4960X), `gpu` (Nvidia GTX Titan Black), `arm` (ARM Cortex-A): Degnan, Marr and
  Hasler, "Assessing trends in performance per watt for signal processing applications", IEEE
  Transactions on VLSI Systems 24(1), 2016, doi:10.1109/TVLSI.2015.2392942. A multiply-accumulate,
  for connections and neurons alike.
- `45nm_mac`, `45nm_ac`: 45 nm CMOS at 0.9 V, 32-bit floats: Horowitz, "Computing's energy problem
  (and what we can do about it)", ISSCC 2014, doi:10.1109/ISSCC.2014.6757323. An addition takes
  0.9 pJ and a multiplication 3.7 pJ, so 4.6 pJ for a multiply-accumulate. `45nm_mac` does one for
  each connection once per inference, as a non-spiking network does; `45nm_ac` adds a weight
  for each spike. In both, a neuron's update is a multiply-accumulate: a spiking neuron adds its
  input times `dt` to its voltage. That is arithmetic alone: reading weights from memory costs
  more.
- `loihi`: Davies et al., "Loihi: a neuromorphic manycore processor with on-chip learning", IEEE
  Micro 38(1), 2018, doi:10.1109/MM.2018.112130359. A synaptic operation, 23.6 pJ, and a hop
  within a tile, 3.5 pJ; a neuron update, 81 pJ. From simulation before the chip was made.
- `spinnaker`, `spinnaker2`: Höppner et al., "Dynamic power management for neuromorphic many-core
  systems", 2019, arXiv:1903.08941.
- `truenorth`: Merolla et al., "A million spiking-neuron integrated circuit with a scalable
  communication network and interface", Science 345(6197), 2014, doi:10.1126/science.1254642. The
  chip's whole power over its synaptic events, where neurons fire at 20 Hz through 128 synapses
  each. So a neuron's update costs nothing of its own: its share is in the 26 pJ. For a network with
  fewer events per neuron, 26 pJ are too few.

There is no Loihi 2: no energy per operation is published for it (Tang et al., "SENECA: building a
fully digital neuromorphic processor", Frontiers in Neuroscience 17, 2023,
doi:10.3389/fnins.2023.1187252, compare such figures and have none for it either).
"""

import warnings
from dataclasses import dataclass
from typing import Any

from keras_spiking import _checks


@dataclass(frozen=True)
class Device:
    """What a device spends.

    Args:
        name: What the device is called in columns such as `"energy cpu"`.
        energy_per_synop: Joules for a synaptic operation: one event, or one number, at one
            connection.
        energy_per_neuron: Joules for the update of one neuron.
        spiking: Whether the device computes a connection only when an event arrives, and all
            neurons at every time step. Otherwise it computes every connection and every neuron
            once per inference.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the name is empty or an energy is negative or not finite.

    Example:

    >>> keras_spiking.energy.Device("chip", 1e-12, 50e-12, spiking=True).energy_per_synop
    1e-12
    """

    name: str
    energy_per_synop: float
    energy_per_neuron: float
    spiking: bool

    def __post_init__(self) -> None:
        owner = "register_device"
        if not isinstance(self.name, str):
            raise TypeError(
                f"{owner}: `device_name` must be a string; received device_name={self.name!r} "
                f"of type {type(self.name).__name__}."
            )
        if not self.name.strip():
            raise ValueError(f"{owner}: `device_name` must not be empty; received {self.name!r}.")
        for name in ("energy_per_synop", "energy_per_neuron"):
            value = getattr(self, name)
            joules = _checks.number(owner, name, value, "a number of joules")
            if joules < 0:
                raise ValueError(
                    f"{owner}: `{name}` must be a number of joules, zero or more; "
                    f"received {name}={value}."
                )
            object.__setattr__(self, name, joules)
        object.__setattr__(self, "spiking", _checks.boolean(owner, "spiking", self.spiking))


DEVICES = {
    device.name: device
    for device in (
        Device("cpu", 8.6e-9, 8.6e-9, spiking=False),
        Device("gpu", 0.3e-9, 0.3e-9, spiking=False),
        Device("arm", 0.9e-9, 0.9e-9, spiking=False),
        Device("45nm_mac", 4.6e-12, 4.6e-12, spiking=False),
        Device("45nm_ac", 0.9e-12, 4.6e-12, spiking=True),
        Device("loihi", 23.6e-12 + 3.5e-12, 81e-12, spiking=True),
        Device("spinnaker", 13.3e-9, 26e-9, spiking=True),
        Device("spinnaker2", 450e-12, 2.19e-9, spiking=True),
        Device("truenorth", 26e-12, 0.0, spiking=True),
    )
}


def register_device(
    device_name: str, energy_per_synop: float, energy_per_neuron: float, spiking: bool
) -> None:
    """Adds a device. A device that has the name already is replaced, with a warning.

    Args:
        device_name: What to call it.
        energy_per_synop: Joules for a synaptic operation.
        energy_per_neuron: Joules for the update of one neuron.
        spiking: Whether it computes a connection only when an event arrives; see
            `keras_spiking.energy.Device`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the name is empty or an energy is negative or not finite.
    """
    device = Device(device_name, energy_per_synop, energy_per_neuron, spiking)
    if device_name in DEVICES:
        warnings.warn(
            f"register_device: {device_name!r} was registered already, and is replaced: it was "
            f"{DEVICES[device_name]}, and is now {device}. Choose another name to keep both.",
            stacklevel=2,
        )
    DEVICES[device_name] = device


def get_device(owner: str, name: Any) -> Device:
    """The device of that name."""
    if not isinstance(name, str) or name not in DEVICES:
        raise ValueError(
            f"{owner}: `device` must be one of {', '.join(DEVICES)}; received device={name!r}. Add "
            "another with keras_spiking.ModelEnergy.register_device."
        )
    return DEVICES[name]
