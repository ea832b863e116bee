"""What the layers of a model count and get, and the joules that follow for each of them."""

import functools
from typing import Any, NamedTuple

import keras

from keras_spiking._graph import is_graph, trace
from keras_spiking.energy.devices import Device, get_device
from keras_spiking.energy.layer_stats import stats_of, total
from keras_spiking.energy.rates import measure_rates
from keras_spiking.energy.rules import Stats
from keras_spiking.energy.spikes import Content, Spikes, unwrapped
from keras_spiking.energy.uses import LayerUse, Uses


class Time(NamedTuple):
    """The time that an inference takes on a device that spikes.

    Attributes:
        num_steps: Number of time steps.
        dt: Length of a step in seconds.
    """

    num_steps: float
    dt: float


class Estimate:
    """The counts and rates of a model's layers, from which their joules follow on any device.

    Args:
        model: A model that `is_graph`.
        example_data: As in `ModelEnergy`.

    Attributes:
        uses: By layer, where it is used.
        stats: By layer, what it counts, for all of its uses together.
        rates: By layer, the rate of its inputs in hertz, the sum over its uses; empty without
            `example_data`.
        contents: By layer, what is in its inputs, for all of its uses together.
        spike_dts: By layer, for each use, the shortest time step of the spikes in its inputs, or
            None.
    """

    def __init__(self, model: keras.Model, example_data: Any):
        self.uses: dict[keras.Layer, list[LayerUse]] = {}
        self.stats: dict[keras.Layer, Stats] = {}
        self.rates: dict[keras.Layer, float] = {}
        self.contents: dict[keras.Layer, list[Content]] = {}
        self.spike_dts: dict[keras.Layer, list[float | None]] = {}
        self._read = functools.cache(trace)
        uses = Uses(model, self._read)
        for use, contents in zip(uses.found, uses.contents, strict=True):
            self.uses.setdefault(use.layer, []).append(use)
            self.contents.setdefault(use.layer, []).extend(contents)
            dts = [dt for content in contents for dt in content.dts]
            self.spike_dts.setdefault(use.layer, []).append(min(dts, default=None))
        for layer, of_layer in self.uses.items():
            self.stats[layer] = total(map(stats_of, of_layer))
        if example_data is not None:
            rates = measure_rates(model, uses.outputs, example_data, self._read)
            for use, rate in zip(uses.found, rates, strict=True):
                self.rates[use.layer] = self.rates.get(use.layer, 0.0) + float(rate)

    def device(self, name: str) -> Device:
        """The device of that name; one that spikes needs rates."""
        device = get_device("ModelEnergy", name)
        if device.spiking and not self.rates:
            raise ValueError(
                f"ModelEnergy: device {name!r} spikes, so its energy depends on rates; received "
                "example_data=None. Make a ModelEnergy(model, example_data)."
            )
        return device

    def joules(self, layer: keras.Layer, device: Device, time: Time) -> tuple[float, float]:
        """Joules per inference for a layer's synaptic operations, and for its neurons."""
        stats = self.stats[layer]
        # Without spikes, a device computes each connection and each neuron once.
        events = self.rates[layer] * time.dt * time.num_steps if device.spiking else 1
        updates = time.num_steps if device.spiking else 1
        return (
            device.energy_per_synop * stats["connections"] * events,
            device.energy_per_neuron * stats["neurons"] * updates,
        )

    def layers_of(self, layer: keras.Layer) -> list[keras.Layer]:
        """The layers that are counted for a layer or a nested model; none if it is not in here."""
        if layer in self.uses:
            return [layer]
        inner = unwrapped(layer)
        within = Uses(inner, self._read).found if is_graph(inner) else []
        return [found for found in dict.fromkeys(use.layer for use in within) if found in self.uses]

    def is_counted(self, layer: keras.Layer) -> bool:
        """Whether a layer has connections or neurons."""
        return bool(self.stats[layer]["connections"] or self.stats[layer]["neurons"])

    def kinds(self, layer: keras.Layer) -> set[Spikes | None]:
        """The kinds of spikes in a layer's inputs; None among them stands for other values."""
        return {kind for content in self.contents[layer] for kind in content.kinds}

    def gets_spikes(self, layer: keras.Layer) -> bool:
        """Whether spikes are among a layer's inputs."""
        return self.kinds(layer) != {None}

    def name(self, layer: keras.Layer) -> str:
        """The name of a layer, at its first use."""
        return self.uses[layer][0].name
