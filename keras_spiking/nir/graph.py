"""The NIR graph while it is written."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_spiking._types import Array
from keras_spiking.nir.dialects import Dialect

FLOAT = "float32"  # what every simulator computes in

Shape = tuple[int, ...]


class Graph:
    """A NIR graph to which nodes are added.

    Args:
        nir: The package `nir`.
        dialect: How the simulator that will read it reads graphs.
        output: A name that only an output may have; None if there is no such name.
    """

    def __init__(self, nir: Any, dialect: Dialect, output: str | None):
        self.nir = nir
        self._output = output
        self.dialect = dialect
        self._nodes: dict[str, Any] = {}
        self._edges: list[tuple[str, str]] = []

    def add(
        self,
        name: str,
        node: Any,
        sources: Sequence[str],
        input_shape: Shape,
        output_shape: Shape,
        **metadata: Any,
    ) -> str:
        """Adds a node behind others, whose outputs it adds up. Returns its name in the graph.

        Args:
            name: The name to take, with a number behind it if another node has it.
            node: A node of NIR.
            sources: Names of the nodes before it.
            input_shape: Shape of its inputs, channels first.
            output_shape: Shape of its outputs.
            **metadata: What to write beside it; None for nothing.
        """
        chosen, number = name, 1
        is_output = isinstance(node, self.nir.Output)
        while chosen in self._nodes or (chosen == self._output and not is_output):
            number += 1
            chosen = f"{name}_{number}"
        # What nir 1.0.8 infers is wrong for groups and for kernels that are not square.
        node.input_type = {"input": np.array(input_shape)}
        node.output_type = {"output": np.array(output_shape)}
        # `nir.write` takes no arrays without axes.
        node.metadata = {
            key: value.item() if np.ndim(value) == 0 and isinstance(value, np.ndarray) else value
            for key, value in metadata.items()
            if value is not None
        }
        self._nodes[chosen] = node
        self._edges.extend((source, chosen) for source in sources)
        return chosen

    def finished(self, metadata: Mapping[str, Any]) -> Any:
        """The graph of all nodes, as a `nir.NIRGraph`."""
        return self.nir.NIRGraph(self._nodes, self._edges, dict(metadata), type_check=False)

    def affine(self, weight: Array, bias: Array) -> Any:
        """A node for a matrix `(outputs, inputs)`."""
        return self.nir.Affine(weight.astype(FLOAT), bias.astype(FLOAT))

    def convolution(
        self,
        weight: Array,
        bias: Array,
        size: Shape,
        strides: Shape,
        padding: Shape,
        dilation: Shape,
        groups: int,
    ) -> Any:
        """A node for a convolution over one or two axes of these sizes."""
        weight, bias = weight.astype(FLOAT), bias.astype(FLOAT)
        if len(size) == 2:
            options = strides, padding, dilation
            return self.nir.Conv2d(size, weight, *options, groups, bias)
        (length,), (stride,), (zeros,), (step,) = size, strides, padding, dilation
        return self.nir.Conv1d(length, weight, stride, zeros, step, groups, bias)
