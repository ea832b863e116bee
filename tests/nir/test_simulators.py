"""Other simulators give the spikes of Keras, step by step and layer by layer.

It runs in the environments of the simulators, on what `export.py` wrote: `make test-nir`.
"""

import os
from pathlib import Path

import nir
import numpy as np
import pytest

from tests.nir.simulators import INSTALLED, run

# What simulators warn of is their authors' business.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FOLDER = Path(os.environ.get("NIR_NETWORKS", ".test-results/nir"))
SINGLE = ("mlp-single", "cnn-single", "residual-single")
NETWORKS = {
    "sinabs": (*SINGLE, "mlp-many", "cnn-many", "residual-many"),
    "snntorch": SINGLE,
    "spikingjelly": SINGLE,
    "spyx": ("mlp-single", "cnn-single"),
}
CASES = [(simulator, network) for simulator in INSTALLED for network in NETWORKS.get(simulator, ())]
STEPS_LATE_IN_EACH_LAYER = {"spyx": 1}


def results(simulator, network, repaired):
    """What Keras gives in each node that it recorded, and what the simulator gives there."""
    data = dict(np.load(FOLDER / f"{network}.npz"))
    graph = nir.read(FOLDER / f"{network}-{simulator}.nir", type_check=False)
    dt, inputs = float(data.pop("dt")), data.pop("inputs")
    return data, run(simulator, graph, inputs, dt, list(data), repaired)


def check(simulator, network, repaired):
    """Compares every spike of every layer."""
    expected, found = results(simulator, network, repaired)
    for depth, (layer, spikes) in enumerate(expected.items(), start=1):
        late = depth * STEPS_LATE_IN_EACH_LAYER.get(simulator, 0)
        np.testing.assert_array_equal(found[layer][late:], spikes[: len(spikes) - late], layer)


@pytest.mark.parametrize(("simulator", "network"), CASES)
def test_spikes_are_those_of_keras(simulator, network):
    check(simulator, network, repaired=True)


# That is where no voltage falls below minus the threshold, and no branches meet.
@pytest.mark.skipif("sinabs" not in INSTALLED, reason="needs sinabs")
@pytest.mark.parametrize("network", ["mlp-single", "cnn-single"])
def test_networks_run_in_sinabs_as_they_are_imported(network):
    check("sinabs", network, repaired=False)


@pytest.mark.skipif("sinabs" not in INSTALLED, reason="needs sinabs")
def test_filters_decay_in_sinabs_as_in_keras():
    expected, found = results("sinabs", "filtered", repaired=True)
    np.testing.assert_allclose(found["outputs"], expected["outputs"], rtol=1e-5, atol=1e-4)


# That is where no layer but the first has a bias.
@pytest.mark.skipif("spyx" not in INSTALLED, reason="needs spyx")
def test_a_network_runs_in_spyx_as_it_is_imported():
    check("spyx", "cnn-single", repaired=False)
