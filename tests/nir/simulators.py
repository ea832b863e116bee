"""Runs NIR graphs in the simulators that are installed, each with its own importer.

`run` takes inputs `(time, batch, ...)`, channels first, and returns outputs in the same layout.
"""

from graphlib import TopologicalSorter
from importlib.util import find_spec

import numpy as np

SIMULATORS = ("sinabs", "snntorch", "spikingjelly", "norse", "spyx")
INSTALLED = [name for name in SIMULATORS if find_spec(name)]


def run(simulator, graph, inputs, dt, nodes, repaired=True):
    """The outputs of nodes, by name.

    Args:
        simulator: One of `SIMULATORS`.
        graph: A `nir.NIRGraph`, written for this simulator.
        inputs: Array of shape `(time, batch, ...)`.
        dt: Length of a time step in seconds.
        nodes: Names of nodes.
        repaired: Whether to set after the import what the guide says.
    """
    if simulator == "spyx":
        return run_spyx(graph, inputs, nodes, repaired)
    network = IMPORT[simulator](graph, dt, inputs.shape[1])
    if repaired:
        repair(network, graph, inputs.shape[1])
    return run_torch(network, inputs, nodes)


def import_sinabs(graph, dt, batch_size):
    from sinabs.nir import from_nir

    return from_nir(graph, batch_size=batch_size)


def import_snntorch(graph, dt, batch_size):
    from snntorch.import_nir import import_from_nir

    return import_from_nir(graph)


def import_spikingjelly(graph, dt, batch_size):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(graph, dt=dt)


def import_norse(graph, dt, batch_size):
    from norse.torch import from_nir

    return from_nir(graph, dt=dt)


IMPORT = {
    "sinabs": import_sinabs,
    "snntorch": import_snntorch,
    "spikingjelly": import_spikingjelly,
    "norse": import_norse,
}
NEURONS = ("IAFSqueeze", "Leaky", "IFNode", "IAFCell")


def repair(network, graph, batch_size):
    """Sets what a graph cannot say to these importers."""
    import torch

    if hasattr(network, "execution_order"):  # sinabs and Norse: a node after all that lead to it
        sources = {}
        for source, target in graph.edges:
            sources.setdefault(target, []).append(source)
        order = list(TopologicalSorter(sources).static_order())
        network.execution_order.sort(key=lambda node: order.index(node.name))
    for name, node in graph.nodes.items():
        if type(node).__name__ != "IF":
            continue
        voltage = torch.from_numpy(start(node, batch_size))
        (neuron,) = (
            m for m in network.get_submodule(name).modules() if type(m).__name__ in NEURONS
        )
        kind = type(neuron).__name__
        if kind == "IAFSqueeze":  # sinabs: no lowest voltage
            neuron.min_v_mem = None
            neuron.init_state_with_shape(voltage.shape)
            neuron.v_mem.data = voltage
        elif kind == "Leaky":  # snnTorch: no leak, and only spikes as output
            neuron.beta, neuron.init_hidden, neuron.mem = torch.tensor(1.0), True, voltage
        elif kind == "IFNode":  # SpikingJelly: subtract the threshold
            neuron.v_reset, neuron.v = None, voltage


def start(node, batch_size):
    """The voltages to start from, which are in the metadata as a part of the threshold."""
    part = np.asarray(node.metadata.get("initial_voltage", 0.0), "float32")
    return np.repeat((part * node.v_threshold)[None], batch_size, axis=0)


def run_torch(network, inputs, nodes):
    """Gives a network one step at a time."""
    import torch

    outputs, state = {}, None

    def record(name):
        def hook(module, arguments, output):
            spikes = output[0] if isinstance(output, tuple) else output
            outputs.setdefault(name, []).append(spikes.numpy().copy())

        return hook

    for name in nodes:
        network.get_submodule(name).register_forward_hook(record(name))
    with torch.no_grad():
        for step in torch.from_numpy(inputs):
            _, state = network(step) if state is None else network(step, state)
    return {name: np.stack(values) for name, values in outputs.items()}


def run_spyx(graph, inputs, nodes, repaired):
    """The same in spyx, which has channels last and is a chain of layers."""
    import jax.numpy as jnp
    from spyx.nir import from_nir

    inputs = jnp.asarray(np.moveaxis(inputs, 2, -1))
    network, _ = from_nir(graph, inputs[:1])
    names = chain(graph)
    states = network.initial_state(inputs.shape[1])
    if repaired:
        states = [
            None if state is None else jnp.asarray(np.moveaxis(voltage, 1, -1))
            for state, voltage in zip(states, spyx_start(graph, inputs.shape[1]), strict=True)
        ]
    outputs = {name: [] for name in nodes}
    for step in inputs:
        for number, (name, layer) in enumerate(zip(names, network.layers, strict=True)):
            if states[number] is None:
                step = layer(step)
            else:
                step, states[number] = layer(step, states[number])
            if name in outputs:
                outputs[name].append(np.asarray(step))
    return {name: np.moveaxis(np.stack(values), -1, 2) for name, values in outputs.items()}


def chain(graph):
    """The names of the nodes between input and output."""
    following = dict(graph.edges)
    names = [following["input"]]
    while following[names[-1]] != "output":
        names.append(following[names[-1]])
    return names


def spyx_start(graph, batch_size):
    """The voltages to start from; None for nodes that are not neurons.

    Spikes come a step later with each layer, but biases act from the first step on. So what they
    would add before the spikes arrive is taken off.
    """
    voltages, late = [], 0
    nodes = [graph.nodes[name] for name in chain(graph)]
    for before, node in zip([None, *nodes], nodes, strict=False):
        voltages.append(None)
        if type(node).__name__ == "IF":
            bias = np.reshape(before.bias, (-1, *[1] * (node.v_threshold.ndim - 1)))
            voltages[-1] = start(node, batch_size) - late * bias
            late += 1
    return voltages
