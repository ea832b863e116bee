"""Records what modules do over time."""

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from keras_spiking._types import Array
from keras_spiking.pytorch.spiking_activation import SpikingActivation
from keras_spiking.pytorch.stateful import Stateful
from keras_spiking.pytorch.tensors import as_float, state_dtype
from keras_spiking.recording.options import Options, chosen_layers, numbered, to_note
from keras_spiking.recording.recording import LayerRecording, Recording
from keras_spiking.recording.voltages import Neuron
from keras_spiking.recording.writing import Writer, check_memory, layer_recording, say_memory

_OWNER = "record"


def record_module(model: torch.nn.Module, data: Any, options: Options) -> Recording:
    """What `record` does for a PyTorch module."""
    model = getattr(model, "_orig_mod", model)  # where it is compiled
    found = {
        name or type(module).__name__: (module, isinstance(module, SpikingActivation))
        for name, module in model.named_modules()
        if isinstance(module, Stateful)
    }
    layers = chosen_layers(_OWNER, found, options.layers, options.quantities)
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    inputs = _mapped(lambda value: _as_tensor(value).to(device), data)
    total = _num_samples(inputs)
    writer = Writer(total)
    outputs: Any = None
    with _as_before(model, device), torch.no_grad():
        for start in _with_progress(range(0, total, options.batch_size), options.verbose):
            batch = _slice(inputs, start, start + options.batch_size)
            size = _num_samples(batch)
            notes = _Notes(layers, options, total / size)
            with notes.taken():
                outputs = _call(model, batch)
            arrays = list(map(_as_array, _flat(outputs)))
            notes.count(arrays)
            if start == 0:
                say_memory(options, notes.num_bytes, len(notes.recordings), total)
            writer.add(start, size, notes.recordings, arrays)
    remaining = iter(writer.outputs())

    def joined(value: Any) -> Any:
        return next(remaining) if isinstance(value, torch.Tensor) else value

    return Recording(writer.layers(), _mapped(joined, outputs))


class _Notes:
    """Notes each call of some modules.

    Args:
        layers: The modules, by name.
        options: What to record.
        num_batches: How many batches like this one there are.

    Attributes:
        recordings: What each call did.
        num_bytes: How much memory that takes in all batches.
    """

    def __init__(self, layers: dict[str, Stateful], options: Options, num_batches: float):
        self.recordings: list[LayerRecording] = []
        self.num_bytes = 0.0
        self._layers = layers
        self._options = options
        self._num_batches = num_batches

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Takes notes until the context ends."""
        for name, module in self._layers.items():
            module._run = functools.partial(self._run, name, module, module._run)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for module in self._layers.values():
                del module._run

    def _run(
        self,
        name: str,
        module: Any,
        original: Callable[..., Any],
        inputs: torch.Tensor,
        state: Any,
        mask: torch.Tensor | None,
    ) -> tuple[Any, Any]:
        """Runs a module, and notes what it does."""
        is_spiking = isinstance(module, SpikingActivation)
        if is_spiking and state is None:
            # Drawn here, as the module would, to know it.
            module._check_states(inputs, None)
            states = module._states(as_float(inputs), None)
            state = states if len(states) > 1 else states[0]
        # A module that returns only the last step may compute nothing else.
        returns, module.return_sequences = module.return_sequences, True
        try:
            outputs, after = original(inputs, state, mask)
        finally:
            module.return_sequences = returns
        noted = {"inputs": inputs, "spikes" if is_spiking else "outputs": outputs, "mask": mask}
        noted["states"] = state if isinstance(state, (tuple, list)) else (state,)
        wanted = to_note(self._options.quantities, is_spiking)
        arrays = {
            key: _mapped(_as_array, value)
            for key, value in noted.items()
            if key in wanted and value is not None
        }
        neuron = _neuron(module, inputs) if is_spiking else None
        self._note(name, module, arrays, neuron)
        return outputs if returns else outputs[:, -1], after

    def _note(self, name: str, module: Any, arrays: dict[str, Any], neuron: Neuron | None) -> None:
        name = numbered(name, [recording.name for recording in self.recordings])
        scale = None if neuron is None else 1.0
        quantities = self._options.quantities
        recording = layer_recording(name, module.dt, scale, arrays, neuron, quantities)
        self.count(vars(recording).values())
        self.recordings.append(recording)

    def count(self, values: Iterable[Any]) -> None:
        """Adds the memory of arrays to what all batches take."""
        num_bytes = sum(value.nbytes for value in values if isinstance(value, np.ndarray))
        self.num_bytes += self._num_batches * num_bytes
        check_memory(_OWNER, self._options, self.num_bytes)


def _neuron(module: SpikingActivation, inputs: torch.Tensor) -> Neuron:
    """What the voltages of a module follow from."""
    integrates_input = module.integrate == "input"
    dtype = state_dtype(as_float(inputs))

    def activation(array: Array) -> Array:
        tensor = torch.from_numpy(array).to(inputs.device)
        if integrates_input:
            return _as_array(module._rates_of_means(tensor.to(dtype)))
        return _as_array(module._rates(tensor.to(inputs.dtype)))

    name = str(dtype).removeprefix("torch.")
    return Neuron(module.dt, activation, integrates_input, name)


@contextlib.contextmanager
def _as_before(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Sets modules to evaluation; afterwards modes, states and random numbers are as before."""
    modes = [(module, module.training) for module in model.modules()]
    states = [(each, each._kept) for each in model.modules() if isinstance(each, Stateful)]
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            model.eval()
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for stateful, state in states:
            stateful._kept = state


def _call(model: torch.nn.Module, inputs: Any) -> Any:
    """Calls a module on its arguments: one tensor, several in a tuple or list, or by name."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def _num_samples(inputs: Any) -> int:
    """The number of samples in a structure of tensors, which must be the same in all of them."""
    shapes = [tuple(tensor.shape) for tensor in _flat(inputs)]
    if len({shape[:1] for shape in shapes}) != 1 or not shapes[0] or not shapes[0][0]:
        raise ValueError(
            f"{_OWNER}: `data` must hold one or more samples, as many for every input; received "
            f"arrays of shape {', '.join(map(str, shapes))}."
        )
    return shapes[0][0]


def _slice(inputs: Any, start: int, stop: int) -> Any:
    """Some samples of a structure of tensors."""
    return _mapped(lambda tensor: tensor[start:stop], inputs)


def _flat(structure: Any) -> list[Any]:
    """The tensors in a structure, in the order of `_mapped`."""
    found: list[Any] = []
    _mapped(found.append, structure)
    return [value for value in found if isinstance(value, torch.Tensor)]


def _as_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if not hasattr(value, "__array__"):
        raise TypeError(
            f"{_OWNER}: `data` must be an array or a tensor, a tuple of them for several arguments "
            f"of the module, or a dictionary; received {type(value).__name__}. Turn lists into "
            "arrays with numpy.asarray; of a DataLoader, take some batches and join them with "
            "torch.cat."
        )
    tensor = torch.as_tensor(np.asarray(value))
    # NumPy's default is twice as wide as that of the weights.
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def _as_array(tensor: torch.Tensor) -> Array:
    # NumPy does not have every type of half precision.
    is_half = tensor.dtype in (torch.float16, torch.bfloat16)
    tensor = tensor.detach().to("cpu", torch.float32 if is_half else tensor.dtype)
    return tensor.numpy().copy()  # the model may go on in the same memory


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Applies a function to each tensor in tuples, lists and dictionaries."""
    if isinstance(value, dict):
        return {name: _mapped(function, item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_mapped(function, item) for item in value)
    return function(value)


def _with_progress(starts: range, verbose: bool) -> Any:
    """The starts of batches, with a progress bar where tqdm is installed."""
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        return starts
    return tqdm(starts, unit="batch", disable=not verbose)
