"""Energies as a figure."""

from typing import Any

from keras_spiking._figures import COLOURS, import_pyplot
from keras_spiking.energy.devices import Device
from keras_spiking.energy.estimate import Estimate, Time


def draw(estimate: Estimate, devices: list[Device], time: Time) -> Any:
    """A panel per device, with a bar per layer: synaptic operations and neuron updates, stacked."""
    plt = import_pyplot("ModelEnergy")
    layers = [layer for layer in estimate.uses if estimate.is_counted(layer)]
    figure, axes = plt.subplots(
        1,
        len(devices),
        figsize=(2 + 3.2 * len(devices), 1.8 + 0.4 * len(layers)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    names = [estimate.name(layer) for layer in layers]
    for axis, device in zip(axes[0], devices, strict=True):
        energies = [estimate.joules(layer, device, time) for layer in layers]
        _draw_panel(axis, device.name, names, energies)
    axes[0, 0].invert_yaxis()  # the first layer on top
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _draw_panel(
    axis: Any, title: str, names: list[str], energies: list[tuple[float, float]]
) -> None:
    """Draws the energies of layers, in joules for synaptic operations and for neurons."""
    from matplotlib.ticker import EngFormatter

    positions = range(len(names))
    synops, neurons = ([pair[index] for pair in energies] for index in (0, 1))
    axis.barh(positions, synops, color=COLOURS[0], label="synaptic operations")
    axis.barh(positions, neurons, left=synops, color=COLOURS[1], label="neuron updates")
    axis.set_yticks(positions, names)
    axis.set_title(f"{title}: {EngFormatter('J', places=1)(sum(synops) + sum(neurons))}")
    axis.set_xlabel("energy per inference")
    axis.xaxis.set_major_formatter(EngFormatter("J"))
    axis.locator_params(axis="x", nbins=4)
    axis.use_sticky_edges = False  # room beyond the longest bar
    axis.margins(x=0.05)
    axis.set_xlim(left=0)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
