"""Checks every layer of this library within a model, on what reached it there.

Models cannot be compared as a whole to the last bit, for a rounding in a Keras layer may move a
spike, and that spike all that follows. The layers can, each on the inputs that it had.
"""

import contextlib
import dataclasses
import itertools
from typing import Any
from unittest import mock

import keras
import numpy as np
from keras import ops

import keras_spiking
from keras_spiking.layers.filter import FilterLayer
from tests import compiled, reference

# Functions of one operation: compilers cannot round them otherwise.
_EXACT = ("relu", "linear", "relu6")


@dataclasses.dataclass
class Call:
    """One call of a layer: what it was given, as arrays, and what it returned."""

    layer: Any
    inputs: np.ndarray
    states: list[np.ndarray]
    mask: np.ndarray | None
    outputs: np.ndarray
    new_states: list[np.ndarray]

    @property
    def spikes(self):
        """Whether the layer spikes, and does not filter."""
        return isinstance(self.layer, keras_spiking.SpikingActivation)

    @property
    def tolerance(self):
        """Relative error that the type of the outputs explains."""
        return {"float16": 2e-3, "bfloat16": 1.6e-2}.get(self.layer.compute_dtype, 1e-5)

    def tensors(self):
        """Inputs and states as tensors, in the types that the layer computes with."""
        inputs = ops.convert_to_tensor(self.inputs, dtype=self.layer.compute_dtype)
        states = [ops.convert_to_tensor(each, dtype=self.layer.state_dtype) for each in self.states]
        return inputs, states

    def run(self, inputs=None, states=None, mask=None):
        """Runs the layer eagerly, on the recorded tensors or on others."""
        given, initial = self.tensors()
        inputs = given if inputs is None else inputs
        states = initial if states is None else states
        mask = self.mask if mask is None else mask
        mask = None if mask is None else ops.convert_to_tensor(mask)
        outputs, states = self.layer.run(inputs, states, mask, False)
        return _array(outputs), [_array(state) for state in states]


def check_layers(model, inputs, draw):
    """Runs a model eagerly, and checks each call of a layer of this library in it."""
    calls = recorded_calls(model, inputs)
    assert calls, "no layer of this library was called"
    for call in calls:
        try:
            _check_oracle(call)
            _check_kernels(call)
            _check_chunks(call, draw)
            _check_order_of_samples(call, draw)
            _check_compiled(call)
            _check_gradients(call, draw)
        except AssertionError as error:
            raise AssertionError(f"{_described(call.layer)}: {error}") from error


def recorded_calls(model, inputs):
    """Runs a model, and returns the calls of its layers."""
    calls = []
    with contextlib.ExitStack() as stack:
        for base in (keras_spiking.SpikingActivation, FilterLayer):
            stack.enter_context(mock.patch.object(base, "run", _recording(base.run, calls)))
        model(inputs, training=False)
    return calls


def _recording(run, calls):
    def record(layer, inputs, states, mask, training):
        outputs, new_states = run(layer, inputs, states, mask, training)
        calls.append(
            Call(
                layer,
                _array(inputs),
                [_array(state) for state in states],
                None if mask is None else np.asarray(_array(mask), bool),
                _array(outputs),
                [_array(state) for state in new_states],
            )
        )
        return outputs, new_states

    return record


def _array(tensor):
    if keras.backend.standardize_dtype(tensor.dtype) in ("bfloat16", "float16"):
        tensor = ops.cast(tensor, "float32")
    return np.array(ops.convert_to_numpy(tensor))


def _described(layer):
    config = {k: v for k, v in layer.get_config().items() if v not in (None, False)}
    return f"{type(layer).__name__}({config})"


def _check_oracle(call):
    """The outputs are those of float64 loops over time."""
    layer = call.layer

    def batch_first(array):
        return np.swapaxes(array, 0, 1) if layer.time_major else array

    inputs, outputs = batch_first(call.inputs), batch_first(call.outputs)
    assert np.isfinite(outputs).all(), "outputs are not finite"
    dt = layer._time_step.as_float()
    if call.spikes:
        step = dt * layer.rate_scale
        if layer.integrate == "input" or not layer.negative_spikes:
            return  # tests/layers/test_integration.py holds these against loops
        rates = ops.reshape(call.tensors()[0], (-1, *inputs.shape[2:]))
        rates = _array(layer.cell._rates(rates)).reshape(call.inputs.shape)
        rates = batch_first(rates)
        expected, _ = reference.integrate_and_fire(rates, step, call.states[0], call.mask)
        _assert_spikes_near(outputs, expected, step, np.abs(rates).max() * step, call.tolerance)
        return
    tau, level = (_array(weight) for weight in (layer.cell.tau, layer.cell.initial_level))
    if isinstance(layer, keras_spiking.Lowpass):
        expected, _ = reference.lowpass(inputs, dt, tau, call.states[0], call.mask)
    else:
        expected, _ = reference.alpha(inputs, dt, tau, level, call.mask, call.states[0])
    if outputs.shape[1] < expected.shape[1]:  # the layer returns the last step only
        expected = expected[:, -1:]
    _assert_near(outputs, expected, call, "as float64 loops")


def _check_kernels(call):
    """The portable kernels and the backend's own agree."""
    for kernels in ("portable", "native"):
        keras_spiking.config.set_kernels(kernels)
        outputs, states = call.run()
        keras_spiking.config.set_kernels("auto")
        _assert_same(outputs, call.outputs, call, f"with {kernels} kernels")
        for state, expected in zip(states, call.new_states, strict=True):
            _assert_same_state(state, expected, call, f"with {kernels} kernels")


def _check_chunks(call, draw):
    """A sequence in pieces, with the state carried, is the whole sequence."""
    axis = call.layer.time_axis
    length = call.inputs.shape[axis]
    cuts = sorted({draw.integer(0, length) for _ in range(3)} | {0, length})
    inputs, states = call.tensors()
    pieces = []
    for start, stop in itertools.pairwise(cuts):
        part = inputs[start:stop] if axis == 0 else inputs[:, start:stop]
        mask = None if call.mask is None else call.mask[:, start:stop]
        outputs, states = call.run(part, states, mask)
        pieces.append(outputs)
        states = [ops.convert_to_tensor(each, dtype=call.layer.state_dtype) for each in states]
    outputs = np.concatenate(pieces, axis=axis)
    if call.outputs.shape[axis] < length:  # each call returned its last step only
        outputs = np.take(outputs, [-1], axis=axis)
    _assert_same(outputs, call.outputs, call, f"in pieces, cut at {cuts}")
    for state, expected in zip(states, call.new_states, strict=True):
        _assert_same_state(_array(state), expected, call, f"in pieces, cut at {cuts}")


def _check_order_of_samples(call, draw):
    """Samples do not see each other."""
    axis = call.layer.batch_axis
    order = draw.rng.permutation(call.inputs.shape[axis])
    inputs, states = call.tensors()
    inputs = ops.take(inputs, order, axis=axis)
    states = [ops.take(state, order, axis=0) for state in states]
    outputs, _ = call.run(inputs, states, None if call.mask is None else call.mask[order])
    _assert_same(outputs, np.take(call.outputs, order, axis), call, "in another order of samples")


def _check_compiled(call):
    """A compiled program gives what eager code gives."""
    inputs, states = call.tensors()
    mask = None if call.mask is None else ops.convert_to_tensor(call.mask)

    def run(inputs, *states):
        outputs, new_states = call.layer.run(inputs, list(states), mask, False)
        return [ops.cast(each, call.layer.state_dtype) for each in (outputs, *new_states)]

    for mode in compiled.MODES[1:]:
        tensors = [inputs, *states]
        if mode == "xla" and call.layer.compute_dtype == "float16":
            continue  # it may keep more digits than half precision has
        outputs, *new_states = map(_array, compiled.compiled(run, tensors, mode)(*tensors))
        _assert_same(outputs, call.outputs, call, f"compiled ({mode})")
        for state, expected in zip(new_states, call.new_states, strict=True):
            _assert_same_state(state, expected, call, f"compiled ({mode})")


def _check_gradients(call, draw):
    """Gradients are finite, and the same with portable kernels."""
    if call.layer.compute_dtype not in ("float32", "float64"):
        return
    weights = ops.convert_to_tensor(draw.normal(call.outputs.shape), call.layer.compute_dtype)
    mask = None if call.mask is None else ops.convert_to_tensor(call.mask)

    def loss(inputs, *states):
        outputs, _ = call.layer.run(inputs, list(states), mask, False)
        return ops.sum(outputs * weights)

    found = {}
    for kernels in ("native", "portable"):
        keras_spiking.config.set_kernels(kernels)
        arrays = [call.inputs.astype(call.layer.compute_dtype), *call.states]
        number = 1 if call.spikes else len(arrays)  # spikes have no gradient in the voltage
        rest = arrays[number:]

        def of(*some, rest=rest):
            return loss(*some, *map(ops.convert_to_tensor, rest))

        found[kernels] = compiled.gradients(of, *arrays[:number])
        keras_spiking.config.set_kernels("auto")
    for native, portable in zip(found["native"], found["portable"], strict=True):
        assert np.isfinite(native).all(), "gradients are not finite"
        scale = np.abs(portable).max(initial=1e-30)
        np.testing.assert_allclose(native, portable, rtol=1e-4, atol=2e-5 * scale)


def _assert_same(outputs, expected, call, how):
    assert outputs.shape == expected.shape, f"{outputs.shape} and not {expected.shape} {how}"
    if not call.spikes:
        _assert_near(outputs, expected, call, how)
        return
    name = getattr(call.layer.activation, "__name__", "")
    if name in _EXACT or "kernels" in how:
        np.testing.assert_array_equal(outputs, expected, err_msg=how)
        return
    if call.layer.time_major:
        outputs, expected = np.swapaxes(outputs, 0, 1), np.swapaxes(expected, 0, 1)
    step = call.layer._time_step.as_float() * call.layer.rate_scale
    largest = np.abs(expected).max(initial=0) * step
    _assert_spikes_near(outputs, expected, step, largest, call.tolerance, how)


def _assert_same_state(state, expected, call, how):
    assert state.shape == expected.shape, f"{state.shape} and not {expected.shape} {how}"
    if not call.spikes:
        _assert_near(state, expected, call, f"{how} (state)")
    elif "kernels" in how:
        np.testing.assert_array_equal(state, expected, err_msg=how)
    elif len(call.states) == 1:
        assert ((state >= 0) & (state < 1)).all(), f"voltages outside [0, 1) {how}"


def _assert_near(actual, expected, call, how):
    scale = max(np.abs(expected).max(initial=1e-30), np.abs(call.inputs).max(initial=0))
    if actual.ndim == 3 and actual.shape[1] == 2 and isinstance(call.layer, keras_spiking.Alpha):
        # The slope of an alpha filter is a difference of levels, divided by tau.
        scale = max(scale, scale / float(_array(call.layer.cell.tau).min()))
    tolerance = call.tolerance
    np.testing.assert_allclose(
        actual, expected, rtol=2 * tolerance, atol=tolerance * scale, err_msg=how
    )


def _assert_spikes_near(outputs, expected, step, largest, tolerance, how="as float64 loops"):
    """At any time, at most one spike more or less; in most places, the same."""
    time = np.arange(1, outputs.shape[1] + 1).reshape(-1, *[1] * (outputs.ndim - 2))
    sums = np.cumsum(np.asarray(outputs, "float64"), axis=1) * step
    others = np.cumsum(np.asarray(expected, "float64"), axis=1) * step
    margin = 1.01 + tolerance * np.abs(others).max(initial=0) + 1e-6 * largest * time
    worst = (np.abs(sums - others) - margin).max(initial=-1)
    assert worst <= 0, f"{worst + 1:.3g} spikes too many or too few {how}"
    differ = np.abs(outputs - expected) > 2 * tolerance * np.abs(expected) + 1e-6 * largest / step
    allowed = 0.02 + 2 / max(differ.size, 1)
    assert differ.mean() <= allowed, f"{differ.mean():.1%} of spikes differ {how}"
