"""DistributedDataParallel: two processes train as one does on both their data."""

import os
from datetime import timedelta

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from keras_spiking.pytorch import Alpha, Lowpass, SpikingActivation, TemporalAvgPool

BATCH = 4

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this PyTorch is built without gloo",
)


def parts(samples):
    """Model and data of these samples of the batch: the same in every process."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    inputs = 100 * torch.randn(BATCH, 20, 3, generator=generator)
    voltage = torch.rand(BATCH, 5, generator=generator)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 5),
        SpikingActivation(torch.relu, dt=0.01, initial_state=voltage[samples]),
        Lowpass(0.1, 5, dt=0.01),
        Alpha(0.1, 5, dt=0.01),
        TemporalAvgPool(),
    )
    return model, inputs[samples]


def train(model, inputs):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        (model(inputs) - 10).square().mean().backward()
        optimizer.step()


def train_half(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=2),
    )
    model, inputs = parts(slice(rank * BATCH // 2, (rank + 1) * BATCH // 2))
    train(DistributedDataParallel(model), inputs)
    torch.save(model.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one(tmp_path, monkeypatch):
    if "GLOO_SOCKET_IFNAME" not in os.environ:
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    spawned = torch.multiprocessing.get_context("spawn")
    other = spawned.Process(target=train_half, args=(1, str(tmp_path)), daemon=True)
    other.start()
    train_half(0, str(tmp_path))
    other.join(120)
    assert other.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    model, inputs = parts(slice(None))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train(model, inputs)
    for key, value in model.state_dict().items():
        assert first[key].equal(second[key])
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-6)
        assert not value.equal(before[key])
