"""What importing the modules brings with it, in a fresh process."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import torch

import keras_spiking.pytorch
from keras_spiking.pytorch import Lowpass

ROOT = Path(__file__).parents[2]

SCRIPT = """
    import sys

    import numpy
    import torch

    before = set(sys.modules)
    import keras_spiking.pytorch
    from keras_spiking import config
    from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation, TemporalAvgPool

    assert torch.ops.keras_spiking.linear_filter  # before any has run

    config.set_kernels("native")  # and not Numba, where it is installed
    for module in (
        SpikingActivation(torch.relu), Lowpass(0.1, 3), Alpha(0.1, 3), TemporalAvgPool()
    ):
        inputs = torch.ones(2, 40, 3, requires_grad=True)
        module(inputs).sum().backward()

    assert not {"keras", "tensorflow", "jax"} & set(sys.modules)
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert new <= {"keras_spiking", "torch"} | sys.stdlib_module_names, new

    program = torch.export.load("filter.pt2")
    outputs = program.module()(torch.ones(2, 9, 3))
    assert torch.allclose(outputs[:, -1], torch.tensor(1 - 0.9**9).float(), atol=1e-4)
    assert "keras" not in sys.modules
"""


def test_torch_is_all_that_modules_and_exported_programs_need(tmp_path):
    # exp(-dt / tau) is 0.9.
    module = Lowpass(1 / 0.10536051565782628, 3, dt=1.0)
    program = torch.export.export(module, (torch.ones(2, 9, 3),))
    torch.export.save(program, tmp_path / "filter.pt2")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        [sys.executable, "-W", "error:::keras_spiking", "-c", textwrap.dedent(SCRIPT)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout


def test_the_modules_are_where_pytorch_spiking_had_them():
    from keras_spiking.pytorch.modules import Alpha, Lowpass, SpikingActivation, TemporalAvgPool

    for each in (Alpha, Lowpass, SpikingActivation, TemporalAvgPool):
        assert each is getattr(keras_spiking.pytorch, each.__name__)
    assert keras_spiking.pytorch.modules.Lowpass is Lowpass
