"""Reads a NIR graph as a Keras model."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_spiking import _checks
from keras_spiking.config import default
from keras_spiking.nir import package, read_connections, read_neurons
from keras_spiking.nir.dialects import DIALECTS, Dialect
from keras_spiking.nir.refusals import Refusals, UnsupportedError
from keras_spiking.nir.values import Reading

_OWNER = "from_nir"
_READERS = {**read_connections.READERS, **read_neurons.READERS}


def from_nir(graph: Any, *, source: str | None = None, dt: float | None = None) -> keras.Model:
    r"""Makes a Keras model of a graph of NIR.

    The model takes inputs over time, `(batch, time, ...)`, with channels last, and returns what the
    graph returns at each step. Its spikes are 1 high, as those of NIR. An `IF` becomes a
    `SpikingActivation` that integrates its input, subtracts its threshold, and may fire several
    times in a step. Layers have the names of the nodes, and their weights train.

    A graph that `to_nir` wrote gives the same spikes, to the bit, as the model that it was written
    from, where the height of that model's spikes, `1 / (rate_scale * dt)`, is a power of two. With
    other heights, weights were rounded when they took them in.

    Args:
        graph: A `nir.NIRGraph`, or the path of a file that `nir.write` wrote. It has these nodes:
            Input, Output, Affine, Linear, Conv1d, Conv2d, Scale, Flatten (of a whole sample),
            SumPool2d, AvgPool2d, IF, LI, Threshold.
        source: The simulator for which the units are: a `target` of `to_nir`. Default: what the
            graph's metadata says; that of a graph by another program says nothing.
        dt: Length of a time step in seconds. Default: what the graph's metadata says, else
            `keras_spiking.default.dt`.

    Returns:
        A functional `keras.Model`. With several inputs or outputs, it takes and returns a
        dictionary by the names of the nodes.

    Raises:
        ValueError: If nodes cannot be read, such as LIF and other neurons that leak and fire, or
            edges go round in a circle. The message lists all of them. Also if `source` is not
            given, and units depend on it.
        TypeError: If `graph` is neither a graph nor a path.
        ImportError: If the package `nir` is not installed.

    Example:

    >>> import keras, nir, numpy as np
    >>> graph = nir.NIRGraph.from_list(
    ...     nir.Affine(np.array([[0.5, 0.25]]), np.zeros(1)),
    ...     nir.IF(r=np.ones(1), v_threshold=np.ones(1)),
    ... )
    >>> model = keras_spiking.nir.from_nir(graph, source="sinabs", dt=0.001)
    >>> inputs = np.array([[[1.0, 0.0], [1.0, 2.0], [0.0, 1.0]]])
    >>> keras.ops.convert_to_numpy(model(inputs)).ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    nir = package.load(_OWNER)
    if isinstance(graph, (str, os.PathLike)):
        # What nir 1.0.8 infers is wrong for groups and for kernels that are not square.
        graph = nir.read(os.fspath(graph), type_check=False)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(
            f"{_OWNER}: `graph` must be a nir.NIRGraph or the path of a file; received "
            f"graph={graph!r} of type {type(graph).__name__}."
        )
    if dt is None:
        dt = float(graph.metadata.get("dt", default.dt))
    dt = _checks.positive_number(_OWNER, "dt", dt, "a number of seconds")
    order = _checked_order(graph)
    return _model(graph, order, Reading(_dialect(graph, source), dt))


def _checked_order(graph: Any) -> list[str]:
    """The names of the nodes, each behind those that lead to it; refuses what cannot be read."""
    problems = Refusals(f"{_OWNER}: these nodes cannot be read:")
    for name, node in graph.nodes.items():
        if reason := _missing(node):
            problems.add(name, type(node).__name__, reason)
    waiting = {name: set(_sources(graph, name)) for name in graph.nodes}
    order: list[str] = []
    while ready := [name for name, sources in waiting.items() if sources <= set(order)]:
        order.extend(ready)
        for name in ready:
            del waiting[name]
    for name in waiting:
        kind = type(graph.nodes[name]).__name__
        problems.add(name, kind, "depends on its own output. Recurrent graphs cannot be read yet.")
    problems.check()
    return order


def _missing(node: Any) -> str | None:
    """Why a node cannot be read; None if its class can."""
    kind = type(node).__name__
    if kind in _READERS:
        if np.any(getattr(node, "v_reset", 0)):
            return "resets its voltage to another than zero. Our neurons subtract the threshold."
        if np.any(getattr(node, "v_leak", 0)):
            return "leaks to another voltage than zero. Add it to the biases before."
        return None
    if kind in ("LIF", "CubaLIF"):
        return (
            "leaks and fires, and there is no such neuron in keras_spiking yet: SpikingActivation "
            "does not leak, and Lowpass does not fire."
        )
    if kind == "NIRGraph":
        return "is a graph within the graph. Put its nodes into the graph around it."
    return "has no counterpart in keras_spiking."


def _sources(graph: Any, name: str) -> list[str]:
    return [source for source, target in graph.edges if target == name]


def _dialect(graph: Any, source: str | None) -> Dialect:
    if source is None:
        source = graph.metadata.get("target")
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    if source is None and kinds & {"IF", "LI"}:
        raise ValueError(
            f"{_OWNER}: `source` must say for which simulator the graph is, because its metadata "
            f"do not, and simulators take the units of IF and LI differently; received "
            f"source=None. Give one of {', '.join(map(repr, DIALECTS))}."
        )
    return DIALECTS[_checks.choice(_OWNER, "source", source or "generic", tuple(DIALECTS))]


def _model(graph: Any, order: Sequence[str], reading: Reading) -> keras.Model:
    outputs: dict[str, Any] = {}
    for name in order:
        before = [outputs[source] for source in _sources(graph, name)]
        node = graph.nodes[name]
        try:
            outputs[name] = _READERS[type(node).__name__](reading, name, node, before)
        except UnsupportedError as error:
            raise ValueError(f"{_OWNER}: {name!r} ({type(node).__name__}) {error}") from error
    ends: list[dict[str, Any]] = [
        {name: outputs[name].tensor for name, node in graph.nodes.items() if _is(node, kind)}
        for kind in ("Input", "Output")
    ]
    inputs, results = (next(iter(end.values())) if len(end) == 1 else end for end in ends)
    return keras.Model(inputs, results)


def _is(node: Any, kind: str) -> bool:
    return type(node).__name__ == kind
