"""The Triton kernels against those of the package: in Triton's interpreter, or on a GPU."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from gpu import triton_kernels  # noqa: E402
from keras_spiking.kernels import torch_filters, torch_plain, torch_spikes  # noqa: E402
from keras_spiking.kernels.contract import Filter, FilterGradients, to_row  # noqa: E402

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
both_layouts = pytest.mark.parametrize("time_axis", [0, 1])
shapes = pytest.mark.parametrize(
    ("time", "features"), [(1, (5,)), (2, (2, 3)), (70, (3,)), (33, (300,))], ids=str
)


def draw(*shape, scale=1.0):
    return scale * torch.randn(shape, device=DEVICE)


def layout(tensor, time_axis):
    return tensor if time_axis == 1 else tensor.transpose(0, 1).contiguous()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@shapes
@both_layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_spikes_are_the_same_bit_for_bit(time, features, time_axis, dtype, rectify, scale):
    rates = draw(3, time, *features, scale=scale)
    edges = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 2.5 * 2**-23 * 1024])
    rates.view(-1)[: len(edges)] = edges
    rates = layout(rates.to(dtype), time_axis)
    voltage = 3 * draw(3, *features)
    expected = torch_spikes.spike(rates, voltage, 1 / 1024, time_axis, rectify)
    got = triton_kernels.integrate_and_fire(rates, voltage, time_axis, 1 / 1024, rectify)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@shapes
@both_layouts
@pytest.mark.parametrize("order", [1, 2])
def test_filters_and_their_gradients_agree(time, features, time_axis, order):
    inputs = layout(draw(3, time, *features), time_axis)
    log_decay = -2.0 * torch.rand(1, *features, device=DEVICE)
    coupling = draw(1, *features)
    gains = tuple(draw(1, *features) for _ in range(order))
    initial = tuple(draw(3, *features) for _ in range(order))
    arguments = FilterGradients(Filter(log_decay, coupling, gains), inputs, initial)
    levels = triton_kernels.linear_filter(*arguments, time_axis)
    assert_close(levels, torch_plain.linear_filter(*arguments, time_axis), 1e-6)
    upstream = [torch.randn_like(inputs) for _ in range(order)]
    got = triton_kernels.linear_filter_gradients(*arguments, levels, upstream, time_axis)
    expected = torch_filters.filter_gradients(arguments, levels, upstream, time_axis)
    assert_close(flat(got, order), flat(expected, order), 1e-5)


@pytest.mark.parametrize("tau", [0.01, 10.0])
def test_slow_filters_do_not_drift(tau):
    steps = 2000
    inputs = draw(1, steps, 4) + 1.0
    log_decay = torch.full((1, 4), -0.001 / tau, device=DEVICE)
    gain = -torch.expm1(log_decay)
    filter_ = Filter(log_decay, 0 * gain, (gain,))
    (levels,) = triton_kernels.linear_filter(filter_, inputs, (torch.zeros_like(gain),), 1)
    level, exact = torch.zeros(4, dtype=torch.float64, device=DEVICE), []
    decay = torch.exp(log_decay[0].double())
    for step in inputs[0].double():
        level = decay * level - torch.expm1(log_decay[0].double()) * step
        exact.append(level)
    assert_close([levels[0].double()], [torch.stack(exact)], 1e-6)


def test_every_kernel_compiles_for_a_gpu():
    # In a process of its own: in this one, kernels may be interpreted.
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "gpu.compile_kernels"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    for line in lines:
        assert "'fma.': 0" in line, line
        if line.startswith("spikes"):  # One of each in the loop, and one of each for the voltage.
            assert "'ld.global': 2, 'st.global': 2" in line, line


def flat(gradients, order):
    log_decay, coupling, *others = to_row(*gradients)
    return [log_decay, *([coupling] if order == 2 else []), *others]  # One level has no coupling.


def assert_close(tensors, expected, tolerance):
    for one, other in zip(tensors, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance * other.abs().max()
