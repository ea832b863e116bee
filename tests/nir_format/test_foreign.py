"""`from_nir` reads what another project wrote: `tests/nir/foreign.py` is the program."""

from pathlib import Path

import numpy as np
import pytest

from keras_spiking.nir import from_nir

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.slow
def test_a_network_of_sinabs_gives_its_spikes():
    expected = np.load(DATA / "sinabs.npz")
    assert expected["outputs"].max() > 4  # spikes in one step
    network = from_nir(DATA / "sinabs.nir", source="sinabs")

    inputs = np.moveaxis(expected["inputs"], 2, -1)  # channels last
    spikes = network.predict(inputs, verbose=0)
    np.testing.assert_array_equal(spikes, expected["outputs"])
