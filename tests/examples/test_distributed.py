"""Training on several devices and in several processes ends at the weights of one device."""

import re
import subprocess
import sys

import pytest

from tests.compiled import BACKEND
from tests.processes import ROOT, environment

EXAMPLES = ROOT / "examples"

# What moves tensors between devices, but for sums of gradients and losses.
MOVES = r"(all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter)[-\w]*\("


def start(code, **variables):
    """Runs a program of Python, and returns what it printed."""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=600,
        cwd=EXAMPLES,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def assert_all_agree(printed, names):
    """The names of the runs, in their order, each with weights as the first run has them."""
    lines = [line for line in printed.splitlines() if " loss " in line]
    assert [line.partition(" loss ")[0].strip() for line in lines] == names
    losses = [list(map(float, re.findall(r"\d\.\d{4}", line))) for line in lines]
    assert losses[0][-1] < 0.9 * losses[0][0]
    for line, loss in zip(lines[1:], losses[1:], strict=True):
        assert loss == pytest.approx(losses[0], abs=1e-3)
        assert float(line.rpartition(" ")[2]) < 1e-3


STATEFUL_ON_TENSORFLOW = """
import distributed_tensorflow, distributed_training as task
distributed_tensorflow.main(["--epochs", "2"])
model, dt = task.make_model(task.BATCH_SIZE)
task.report("stateful", task.train(model, dt, task.make_data(), 2))
losses, weights = distributed_tensorflow.train_on_two_devices(2, task.BATCH_SIZE // 2)
task.report("stateful, two devices", losses, weights, model.get_weights())
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the example of TensorFlow")
def test_tensorflow_on_two_devices_and_in_two_workers():
    lines = start(STATEFUL_ON_TENSORFLOW).splitlines(keepends=True)
    names = ["one device", "two devices", "worker 0 of 2", "worker 1 of 2"]
    assert_all_agree("".join(lines[:4]), names)
    assert_all_agree("".join(lines[4:]), ["stateful", "stateful, two devices"])


@pytest.mark.skipif(BACKEND != "torch", reason="the example of PyTorch")
def test_torch_in_two_processes(monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    # The two processes inherit these.
    for name, value in environment(GLOO_SOCKET_IFNAME="lo").items():
        monkeypatch.setenv(name, value)
    import distributed_torch

    distributed_torch.main(["--epochs", "2"])
    names = ["one process", "process 0 of 2", "process 1 of 2"]
    assert_all_agree(capsys.readouterr().out, names)


STATEFUL_ON_JAX = """
import distributed_jax, distributed_training as task
distributed_jax.main(["--epochs", "2"])
model, dt = task.make_model(task.BATCH_SIZE)
task.report("stateful", task.train(model, dt, task.make_data(), 2))
for train in distributed_jax.train_with_data_parallel, distributed_jax.train_with_model_parallel:
    losses, weights = train(2, stateful_batch=task.BATCH_SIZE)
    task.report("stateful, distributed", losses, weights, model.get_weights())
"""


@pytest.mark.skipif(BACKEND != "jax", reason="the example of JAX")
def test_jax_on_eight_devices_moves_no_activations(tmp_path):
    dump = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*train_step"
    # These spare LLVM's passes, which come after those that place what moves.
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    printed = start(STATEFUL_ON_JAX, XLA_FLAGS=f"{dump} {quick}")
    lines = printed.splitlines(keepends=True)
    names = ["one device", "8 parts of the batch", "2 parts by 4 of units"]
    assert_all_agree("".join(lines[:3]), names)
    assert_all_agree("".join(lines[3:]), ["stateful", *["stateful, distributed"] * 2])

    programs = [path.read_text() for path in tmp_path.rglob("*after_optimizations.txt")]
    parallel = [text for text in programs if "all-reduce" in text]
    assert len(parallel) == 4
    assert len(programs) == 6
    for text in parallel:
        assert re.search(r"num_partitions=8", text)
        assert re.findall(MOVES, text) == []


BATCH_OF_FIVE_ON_JAX = """
import jax, keras, keras_spiking, numpy as np

assert len(jax.devices()) == 8

def run():
    layer = keras_spiking.SpikingActivation("relu", dt=0.3, initial_voltage=0.5, stateful=True)
    inputs = np.random.default_rng(0).random((5, 20, 3), dtype="float32")
    return [np.asarray(layer(part)) for part in (inputs[:, :7], inputs[:, 7:])]

expected = run()
with keras.distribution.DataParallel().scope():
    got = run()
assert all(np.array_equal(one, other) for one, other in zip(got, expected, strict=True))
print(len(got), "parts agree")
"""


@pytest.mark.skipif(BACKEND != "jax", reason="of several devices on JAX")
def test_a_batch_that_no_devices_divide_keeps_its_state_on_all():
    flags = "--xla_force_host_platform_device_count=8"
    assert start(BATCH_OF_FIVE_ON_JAX, XLA_FLAGS=flags).strip() == "2 parts agree"
