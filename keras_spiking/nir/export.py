"""Writes a Keras model as a NIR graph."""

from typing import Any

import keras

from keras_spiking import _checks
from keras_spiking.conversion.models import check_model
from keras_spiking.nir import package
from keras_spiking.nir.dialects import DIALECTS
from keras_spiking.nir.writing import Writing

_OWNER = "to_nir"


def to_nir(model: keras.Model, *, target: str = "generic") -> Any:
    r"""Writes a Keras model as a graph of NIR, which simulators and chips read.

    Spiking layers that integrate their input and have no negative spikes are what an
    integrate-and-fire neuron computes that subtracts its threshold: `IF`. `convert` makes such a
    model of a trained one:
    `convert(model, ..., integrate="input", negative_spikes=False, initial_voltage=0.0)`.

    The graph is channels first. It works on one time step, so a model that repeats its inputs
    (`RepeatOverTime`) leaves that to the reader of the graph, and so it does with the mean over
    time and an activation at the end. The `metadata` of the graph lists these, under `left_out`,
    with `dt` in seconds, the version of keras_spiking, and what the target computes otherwise
    (`differs`). Nodes have the names of the Keras layers. A single input is called `input`, and a
    single output `output`.

    Spikes are 1 high in NIR, and :math:`1 / (s \Delta t)` in Keras; the height goes into the
    weights that follow. A bias is added in each step. `BatchNormalization` goes into the weights
    before or behind it. NIR has no initial voltage: if it is not zero, a warning says so, and the
    metadata of the nodes have it.

    Args:
        model: A Sequential or functional model over time, such as `convert` returns, with these
            layers, in TimeBatched, TimeDistributed or nested models too: Dense, Conv1D, Conv2D,
            DepthwiseConv1D, DepthwiseConv2D, BatchNormalization, Rescaling, Flatten, ZeroPadding,
            AveragePooling, GlobalAveragePooling, Add and `+`, Dropout, noise, `SpikingActivation`,
            `Lowpass`, `Alpha`, `RepeatOverTime`, `TemporalAvgPool`, `LastStep`. It does not change.
        target: The simulator that is to read the graph: `"generic"`, `"sinabs"`, `"snntorch"`,
            `"norse"`, `"spikingjelly"` or `"spyx"`. They take units and some nodes differently.

    Returns:
        A `nir.NIRGraph`. `nir.write("model.nir", graph)` makes a file of it.

    Raises:
        ValueError: If NIR, or the target, cannot say what layers do. The message lists all of
            them, each with the reason and what to do. Also if the graph of the model cannot be
            read, or `target` is none of those.
        TypeError: If `model` is not a Keras model.
        ImportError: If the package `nir` is not installed.

    Example:

    >>> import keras, keras_spiking
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((None, 4)),
    ...         keras.layers.Dense(3, name="weights"),
    ...         keras_spiking.SpikingActivation(
    ...             "relu",
    ...             dt=0.01,
    ...             rate_scale=100.0,
    ...             integrate="input",
    ...             negative_spikes=False,
    ...             initial_voltage=0.0,
    ...             name="neurons",
    ...         ),
    ...     ]
    ... )
    >>> graph = keras_spiking.nir.to_nir(model, target="sinabs")
    >>> {name: type(node).__name__ for name, node in graph.nodes.items()}
    {'input': 'Input', 'weights': 'Affine', 'neurons': 'IF', 'output': 'Output'}

    References:
        - Pedersen et al., "Neuromorphic intermediate representation: a unified instruction set for
          interoperable brain-inspired computing", Nature Communications 15, 2024,
          doi:10.1038/s41467-024-52259-9.
    """
    check_model(_OWNER, model)
    target = _checks.choice(_OWNER, "target", target, tuple(DIALECTS))
    nir = package.load(_OWNER)
    return Writing(nir, model, target).run()
