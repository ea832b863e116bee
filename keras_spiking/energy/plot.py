"""Energies as a figure."""

from typing import TYPE_CHECKING, Any

from keras_spiking._figures import COLOURS, import_pyplot
from keras_spiking.energy.devices import get_device

if TYPE_CHECKING:
    from keras_spiking.energy.model_energy import ModelEnergy


def draw(energy: "ModelEnergy", devices: list[str], steps: int, dt: float | None) -> Any:
    """A panel per device, with a bar per layer: synaptic operations and neuron updates, stacked."""
    if not devices:
        raise ValueError(
            "ModelEnergy: `devices` must name one or more devices; received none. Give one, as in "
            "plot('loihi'), or a list."
        )
    for device in devices:
        get_device("ModelEnergy", device)
    energies = {
        device: energy.table(
            ("name", f"synop_energy {device}", f"neuron_energy {device}"), steps, dt
        )
        for device in devices
    }
    shown = [
        index
        for index, stats in enumerate(energy.layer_stats.values())
        if stats["connections"] or stats["neurons"]
    ]
    plt = import_pyplot("ModelEnergy")
    from matplotlib.ticker import EngFormatter

    figure, axes = plt.subplots(
        1,
        len(devices),
        figsize=(2 + 3.2 * len(devices), 1.8 + 0.4 * len(shown)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (device, table) in zip(axes[0], energies.items(), strict=True):
        rows = [list(table[index].values()) for index in shown]
        names = [name for name, _, _ in rows]
        positions = range(len(rows))
        synops = [each for _, each, _ in rows]
        neurons = [each for _, _, each in rows]
        axis.barh(positions, synops, color=COLOURS[0], label="synaptic operations")
        axis.barh(positions, neurons, left=synops, color=COLOURS[1], label="neuron updates")
        axis.set_yticks(positions, names)
        axis.set_title(f"{device}: {EngFormatter('J', places=1)(sum(synops) + sum(neurons))}")
        axis.set_xlabel("energy per inference")
        axis.xaxis.set_major_formatter(EngFormatter("J"))
        axis.locator_params(axis="x", nbins=4)
        axis.use_sticky_edges = False  # room beyond the longest bar
        axis.margins(x=0.05)
        axis.set_xlim(left=0)
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
    axes[0, 0].invert_yaxis()  # the first layer on top
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
