"""The oracle: runs a NIR graph step by step in float64 NumPy, one loop for each kind of node."""

import itertools

import numpy as np


def run(graph, inputs, flat_from=0):
    """What each node returns at each step, `(batch, time, ...)`, channels first.

    `IF` fires as often as its voltage has passed the threshold, and subtracts that. `LI` takes a
    step of Euler. The units are those of the target "generic".

    Args:
        graph: A `nir.NIRGraph` without circles.
        inputs: Inputs by the name of their node, `(batch, time, ...)`, channels first.
        flat_from: The `start_dim` that means the whole sample.
    """
    dt = graph.metadata["dt"]
    waiting = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
    values = {}
    while waiting:
        name = next(name for name, before in waiting.items() if set(before) <= set(values))
        before = [values[source] for source in waiting.pop(name)]
        total = np.asarray(inputs[name], "float64") if not before else sum(before)
        values[name] = _outputs(graph.nodes[name], total, dt, flat_from)
    return values


def _outputs(node, x, dt, flat_from):
    kind = type(node).__name__
    fields = {
        key: np.asarray(value, "float64") if isinstance(value, np.ndarray) else value
        for key, value in vars(node).items()
    }
    if kind in ("Input", "Output"):
        assert x.shape[2:] == tuple(node.input_type["input"])
        return x
    if kind in ("Affine", "Linear"):
        return x @ fields["weight"].T + fields.get("bias", 0.0)
    if kind == "IF":
        return _integrate_and_fire(x * fields["r"] * _unit(node, dt), fields["v_threshold"])
    if kind == "LI":
        return _leak(x, fields["r"], dt / fields["tau"])
    if kind in ("Conv1d", "Conv2d"):
        return convolve(x, node, fields["weight"], fields["bias"])
    if kind in ("AvgPool2d", "SumPool2d"):
        return _pool(x, node, np.mean if kind == "AvgPool2d" else np.sum)
    if kind == "Flatten":
        assert (node.start_dim, node.end_dim) == (flat_from, -1)
        return x.reshape(*x.shape[:2], -1)
    return {
        "Scale": lambda: x * fields["scale"],
        "Threshold": lambda: (x > fields["threshold"]).astype("float64"),
    }[kind]()


def _unit(node, dt):
    """The time by which currents are multiplied; 1 where `r` counts steps."""
    return 1.0 if np.all(node.r == 1) else dt


def _integrate_and_fire(currents, threshold):
    voltage, spikes = np.zeros(currents[:, 0].shape), np.zeros(currents.shape)
    for step in range(currents.shape[1]):
        voltage = voltage + currents[:, step]
        spikes[:, step] = np.maximum(np.floor(voltage / threshold), 0)
        voltage = voltage - spikes[:, step] * threshold
    return spikes


def _leak(currents, resistance, share):
    voltage, voltages = np.zeros(currents[:, 0].shape), np.zeros(currents.shape)
    for step in range(currents.shape[1]):
        voltage = voltage + share * (resistance * currents[:, step] - voltage)
        voltages[:, step] = voltage
    return voltages


def convolve(x, node, weight, bias):
    """A convolution over the axes behind `(batch, time, channels)`, tap by tap."""
    rank = weight.ndim - 2
    strides, pads, dilation = (
        tuple(map(int, np.broadcast_to(each, rank)))
        for each in (node.stride, node.padding, node.dilation)
    )
    x = np.pad(x, [(0, 0)] * 3 + [(size, size) for size in pads])
    taps = weight.shape[2:]
    sizes = [
        (size - (tap - 1) * step - 1) // stride + 1
        for size, tap, step, stride in zip(x.shape[3:], taps, dilation, strides, strict=True)
    ]
    groups, outputs = int(node.groups), len(weight)
    result = np.zeros((*x.shape[:2], outputs, *sizes))
    for group, tap in itertools.product(range(groups), itertools.product(*map(range, taps))):
        window = tuple(
            slice(at * step, at * step + (size - 1) * stride + 1, stride)
            for at, step, size, stride in zip(tap, dilation, sizes, strides, strict=True)
        )
        inputs = weight.shape[1]
        part = x[(slice(None), slice(None), slice(group * inputs, (group + 1) * inputs), *window)]
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        result[:, :, rows] += np.einsum(
            "oi,bti...->bto...", weight[(rows, slice(None), *tap)], part
        )
    return result + bias.reshape(-1, *[1] * rank)


def _pool(x, node, combine):
    x = np.pad(x, [(0, 0)] * 3 + [(int(size), int(size)) for size in node.padding])
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(node.kernel_size), (3, 4))
    height, width = (int(stride) for stride in node.stride)
    return combine(windows[:, :, :, ::height, ::width], axis=(-2, -1))
