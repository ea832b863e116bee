"""SpikingJelly's converter at its best settings, on a PyTorch twin of a network."""

import importlib.metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.converted.evaluate import Run, softmax

if TYPE_CHECKING:
    import keras
    import torch

BATCH = 100
# `pre_spike_maxpool=True` leaves the CNN at 57 %: it pools noisy sums of spikes.
SETTINGS = {"mode": "99.9%", "channel_wise": True, "half_threshold": True}


def is_installed() -> bool:
    """Whether SpikingJelly and PyTorch can be imported."""
    return find_spec("spikingjelly") is not None and find_spec("torch") is not None


def describe() -> str:
    """Which version, with which settings."""
    settings = ", ".join(f"{name}={value!r}" for name, value in SETTINGS.items())
    version = importlib.metadata.version("spikingjelly")
    return f"SpikingJelly {version}, `RateCodingRecipe` with {settings}"


def run(
    model: "keras.Model", examples: np.ndarray, images: np.ndarray, steps: tuple[int, ...]
) -> Run:
    """Converts the twin, calibrated on the examples, and runs it on the images."""
    import torch
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.ann2snn import Converter
    from spikingjelly.activation_based.ann2snn.recipes import RateCodingRecipe

    plain = twin(model).eval()
    with torch.no_grad():
        logits = plain(_channels_first(images[:BATCH])).numpy()
    expected = model.predict(images[:BATCH], verbose=0)
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-4)

    recipe = RateCodingRecipe([_channels_first(examples)], **SETTINGS)
    spiking = Converter(recipe).convert(plain).eval()
    count = [0.0]

    def add_spikes(module: Any, inputs: Any, outputs: "torch.Tensor") -> None:
        count[0] += float(outputs.abs().sum())

    for module in spiking.modules():
        if isinstance(module, neuron.BaseNode):
            module.register_forward_hook(add_spikes)
    outputs: dict[int, list[np.ndarray]] = {each: [] for each in steps}
    spikes = dict.fromkeys(steps, 0.0)
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            batch = _channels_first(images[start : start + BATCH])
            functional.reset_net(spiking)
            total, count[0] = 0.0, 0.0
            for step in range(1, max(steps) + 1):
                total = total + spiking(batch)
                if step in outputs:
                    outputs[step].append(total.numpy() / step)
                    spikes[step] += count[0] / len(images)
    return Run({each: softmax(np.concatenate(outputs[each])) for each in steps}, spikes)


def twin(model: "keras.Model") -> "torch.nn.Module":
    """The network in PyTorch, with the same weights, and without the final softmax."""
    import keras
    from torch import nn

    places = {id(model.inputs[0]): 0}
    sources: list[list[int]] = []
    modules = nn.ModuleList()
    for layer in model.layers[1:]:
        taken = layer.input if isinstance(layer.input, list) else [layer.input]
        places[id(layer.output)] = len(sources) + 1
        sources.append([places[id(tensor)] for tensor in taken])
        # The twin sums by itself, and an identity keeps the place.
        is_sum = isinstance(layer, keras.layers.Add)
        modules.append(nn.Identity() if is_sum else _module(layer))

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = modules

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            values = [x]
            for part, taken in zip(self.parts, sources, strict=True):
                if len(taken) == 1:
                    values.append(part(values[taken[0]]))
                else:
                    values.append(values[taken[0]] + values[taken[1]])
            return values[-1]

    return Twin()


def _module(layer: "keras.layers.Layer") -> "torch.nn.Module":
    """The layer as a PyTorch module."""
    import keras
    import torch
    from torch import nn

    weights = [torch.from_numpy(np.array(each)) for each in layer.get_weights()]
    if isinstance(layer, keras.layers.Conv2D):
        return _convolution(layer, weights[0])
    if isinstance(layer, keras.layers.BatchNormalization):
        module = nn.BatchNorm2d(len(weights[0]), eps=layer.epsilon)
        names = ("weight", "bias", "running_mean", "running_var")
        module.load_state_dict(dict(zip(names, weights, strict=True)), strict=False)
        return module
    if isinstance(layer, keras.layers.Dense):
        module = nn.Linear(*weights[0].shape)
        module.load_state_dict({"weight": weights[0].T, "bias": weights[1]})
        return nn.Sequential(module, nn.ReLU()) if layer.activation.__name__ == "relu" else module
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return {
        keras.layers.ReLU: nn.ReLU(),
        keras.layers.MaxPooling2D: nn.MaxPool2d(2),
        keras.layers.Flatten: nn.Flatten(),
    }[type(layer)]


def _convolution(layer: "keras.layers.Conv2D", kernel: "torch.Tensor") -> "torch.nn.Module":
    """With stride 2, Keras pads on one side only: a kernel with a border of zeros does that."""
    from torch import nn

    (size, _), (stride, _) = layer.kernel_size, layer.strides
    kernel = kernel.permute(3, 2, 0, 1)
    if stride == 2 and size == 3:
        kernel = nn.functional.pad(kernel, (1, 0, 1, 0))
    outputs, inputs, size, _ = kernel.shape
    padding = 1 if size > 1 else 0
    module = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
    module.load_state_dict({"weight": kernel.contiguous()})
    return module


def _channels_first(images: np.ndarray) -> "torch.Tensor":
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
