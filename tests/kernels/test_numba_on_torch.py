"""PyTorch's door to the loops that Numba compiles: layouts, threads, forks and fallbacks."""

import os
import subprocess
import sys
import textwrap

import keras
import pytest

from keras_spiking import config, kernels
from keras_spiking.kernels import cpu
from keras_spiking.kernels.contract import Filter

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="for torch alone"),
    pytest.mark.skipif(not cpu.is_available(), reason="Numba is not installed"),
]

SHAPE = (3, 20, 5)
KERNELS = {
    "spike": lambda x, v, a: kernels.spike(x, v, 0.25, 1, True),
    "spike by channel": lambda x, v, a: kernels.spike_by_channel(
        x, v, torch.linspace(0.2, 1, 5), 1 / torch.linspace(0.2, 1, 5), 1, True
    ),
    "integrate": lambda x, v, a: kernels.integrate(x, v),
    "sums": lambda x, v, a: kernels.accumulate_and_fire(x, (v - v, v, v - v, v), 0.25, 1, True),
    "sums of any sign": lambda x, v, a: kernels.accumulate_and_fire(
        x, (v - v, v, v - v, v), 0.25, 1, False, False
    ),
    "lowpass": lambda x, v, a: kernels.linear_filter(Filter(a, a * 0, (-a,)), x, (v,)),
    "alpha": lambda x, v, a: kernels.linear_filter(Filter(a, a * 0 + 0.3, (-a, a)), x, (v, v * 0)),
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def tensors(shape=SHAPE):
    """Inputs, a state, and one value for each unit."""
    torch.manual_seed(0)
    units = shape[2:]
    return 3 * torch.randn(shape), torch.rand(shape[0], *units), -torch.rand(1, *units)


def forwards_and_backwards(kernel, inputs, state, unit, setting):
    """All results, and all gradients of a weighted sum of those that have any."""
    config.set_kernels(setting)
    leaves = [inputs.detach(), unit.detach()]  # of the same layout
    leaves = [leaf.requires_grad_() for leaf in leaves]
    results = keras.tree.flatten(kernel(leaves[0], state, leaves[1]))
    total = sum(
        (each * torch.linspace(1, 2, each.numel()).view(each.shape)).sum()
        for each in results
        if each.requires_grad
    )
    gradients = []
    if isinstance(total, torch.Tensor):
        gradients = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return [each.detach() for each in results], gradients


def assert_as_portable(kernel, *given):
    found = forwards_and_backwards(kernel, *given, "numba")
    expected = forwards_and_backwards(kernel, *given, "portable")
    for ours, theirs, tolerance in zip(found, expected, (1e-6, 1e-5), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == other.dtype
            scale = other.abs().max() if other.numel() else 0.0
            torch.testing.assert_close(one, other, rtol=0, atol=float(tolerance * scale))


@every_kernel
def test_layouts_do_not_matter(kernel):
    inputs, state, unit = tensors()
    for moved in (inputs.transpose(0, 2).contiguous().transpose(0, 2), inputs.double().float()):
        assert_as_portable(kernel, moved, state, unit)
    assert_as_portable(kernel, inputs[:1].expand(SHAPE), state[:, :1].expand(3, 5), unit)
    negative = torch.complex(inputs, inputs).conj().imag  # which is negated when it is read
    assert negative.is_neg()
    assert_as_portable(kernel, negative, state, unit)


@every_kernel
@pytest.mark.parametrize("shape", [(3, 0, 5), (0, 7, 5), (3, 1, 5), (3, 4, 5)], ids=str)
def test_few_steps_and_samples(kernel, shape):
    assert_as_portable(kernel, *tensors(shape))


@every_kernel
def test_the_number_of_threads_changes_no_bit(kernel):
    given = tensors((16, 400, 64))
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found, gradients = forwards_and_backwards(kernel_of(kernel), *given, "numba")
            results.append([*found, *gradients])
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*results, strict=True):
        assert one.equal(other)


def kernel_of(kernel):
    """By channel, of the first five alone."""
    if kernel is KERNELS["spike by channel"]:
        return lambda x, v, a: kernel(x[..., :5], v[..., :5], a[..., :5])
    return kernel


@pytest.mark.parametrize("name", ["lowpass", "alpha"])
def test_gradients_have_gradients(name):
    slopes = []
    for setting in ("numba", "portable"):
        config.set_kernels(setting)
        inputs, state, unit = (each.double().requires_grad_() for each in tensors())
        levels = KERNELS[name](inputs, state, unit)
        (slope,) = torch.autograd.grad((levels[-1] ** 3).sum(), unit, create_graph=True)
        slopes.append(torch.autograd.grad(slope.square().sum(), (inputs, state, unit)))
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@every_kernel
def test_plain_operations_run_in_transformations(kernel, monkeypatch):
    inputs, state, unit = tensors()
    expected = keras.tree.flatten(kernel(inputs, state, unit))
    monkeypatch.setattr(cpu, "run", None)
    mapped = torch.func.vmap(lambda x, v: kernel(x[None], v[None], unit))(inputs, state)
    for one, other in zip(keras.tree.flatten(mapped), expected, strict=True):
        torch.testing.assert_close(one.squeeze(1), other, rtol=1e-5, atol=1e-5)


def test_loops_run_in_what_is_compiled(monkeypatch):
    from keras_spiking.kernels import torch as kernels

    def lowpass(x, v, a):
        return kernels.linear_filter(Filter(a, a * 0, (-a,)), x, (v,))

    compiled = torch.compile(lowpass, backend="aot_eager")
    given = tensors()
    calls, run = [], cpu.run
    monkeypatch.setattr(
        cpu, "run", lambda loop, *rest: calls.append(loop.__name__) or run(loop, *rest)
    )
    (found,) = compiled(*given)
    assert calls == ["filter_one"]
    assert found.equal(lowpass(*given)[0])


def test_a_forked_process_has_threads_of_its_own(tmp_path):
    # What PyTorch itself ran on several threads would hang in a forked process: hence arrays.
    script = """
        import os

        import numpy as np
        import torch

        from keras_spiking.kernels import parallel
        from keras_spiking.kernels import torch as kernels

        torch.set_num_threads(2)
        rates, voltage = torch.zeros(16, 400, 64), torch.zeros(16, 64)
        rates.numpy()[...] = np.random.default_rng(0).random(rates.shape)

        def spikes():
            return kernels.spike(rates, voltage, 0.5)[0].numpy()

        expected = spikes()
        assert parallel._pool.cache_info().currsize == 1

        class Spikes(torch.utils.data.Dataset):
            def __len__(self):
                return 4

            def __getitem__(self, index):
                return spikes()

        options = {"num_workers": 2, "multiprocessing_context": "fork", "collate_fn": list}
        for (found,) in torch.utils.data.DataLoader(Spikes(), **options):
            assert np.array_equal(found, expected)
        if not (child := os.fork()):
            os._exit(not np.array_equal(spikes(), expected))
        assert os.waitpid(child, 0)[1] == 0
    """
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
