"""The kernels on TensorFlow: on a CPU, one loop over time, compiled also within a graph.

By Numba where `tensorflow_choice.py` says so, and else by XLA.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_spiking.kernels import portable, tensorflow_numba
from keras_spiking.kernels.tensorflow_choice import kernels_for, loops_are_chosen, runs_on_cpu
from keras_spiking.kernels.tensorflow_step import compiled, count_spikes, fire_once, pass_once

__all__ = ["loops_are_chosen", "runs_on_cpu"]

# Exporters to TFLite and ONNX have no random numbers, and name the operation that they stop at.
_ADVICE = "random_voltage__give_initial_voltage_to_export"

filter_end = portable.filter_end
alpha_gain = portable.alpha_gain
expm1 = tf.math.expm1


def integrate_and_fire(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    kind = kernels_for(increments, time_axis)
    if kind == "portable":
        return portable.integrate_and_fire(increments, voltage, time_axis)
    increments = of_known_batch(increments, voltage, time_axis)
    fire = _fire_and_scale(increments, time_axis, kind)
    if fire is None:
        counts, final = _fire(time_axis)(increments, voltage)
    else:
        one = tf.ones((), increments.dtype)
        counts, final = fire([increments, voltage, one, one], time_axis, rectify=False)
    return of_shape(counts, increments.shape), of_shape(final, voltage.shape)


def _fire_and_scale(rates: Any, time_axis: int, kind: str) -> Callable[..., Any] | None:
    """What goes from rates to spikes in hertz in one pass, if something does."""
    if kind != "portable" and rates.shape[time_axis] == 1 and not tf.executing_eagerly():
        return fire_once
    return tensorflow_numba.fire if kind == "numba" else None


def integrate(increments: Any, voltage: Any, time_axis: int = 1) -> tuple[Any, Any]:
    if kernels_for(increments, time_axis) != "numba":
        return portable.integrate(increments, voltage, time_axis)
    increments = of_known_batch(increments, voltage, time_axis)
    return tensorflow_numba.integrate(increments, voltage, time_axis)


def of_known_batch(sequence: Any, state: Any, time_axis: int) -> Any:
    """The sequence, with the state's sizes where TensorFlow knows only those.

    The sum of a state of size 1 and a step of unknown size has an unknown one, and a loop may not
    forget a shape.
    """
    batch_axis = 1 - time_axis
    if sequence.shape[batch_axis] is None and state.shape[0] is not None:
        sequence = portable.of_batch(sequence, batch_axis, state.shape[0])
    if None in sequence.shape[2:]:
        sequence = of_shape(tf.identity(sequence), [None, None, *state.shape[1:]])
    return sequence


def of_shape(tensor: Any, shape: Any) -> Any:
    """The tensor, such as one that a compiled function returned, with a shape that was forgotten.

    Not `tf.ensure_shape`, which TFLite does not have.
    """
    tensor.set_shape(shape)
    return tensor


@functools.cache
def _fire(time_axis: int) -> Callable[..., Any]:
    def fire(increments: Any, voltage: Any) -> tuple[Any, Any]:
        shapes = [tf.shape(increments), tf.shape(voltage)]
        increments, voltage = map(padded, (increments, voltage))

        def step(time: Any, counts: Any, voltage: Any) -> Any:
            count, voltage = count_spikes(at(increments, time, time_axis), voltage)
            return time + 1, put(counts, count, time), voltage

        start = 0, time_first(tf.zeros_like(increments), time_axis), portable.to_grid(voltage)
        length = tf.shape(increments)[time_axis]
        _, counts, final = tf.while_loop(lambda time, *_: time < length, step, start)
        return cut(time_first(counts, time_axis), shapes[0]), cut(final, shapes[1])

    return compiled(fire)


def linear_filter(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any, time_axis: int = 1
) -> tuple[Any, ...]:
    kind = kernels_for(inputs, time_axis)
    return _linear_filter(log_decay, coupling, gains, inputs, initial, time_axis, kind)


def _linear_filter(
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    time_axis: int,
    kind: str,
) -> tuple[Any, ...]:
    order = len(gains)
    inputs = of_known_batch(inputs, initial[0], time_axis)
    choice = time_axis, kind
    forward, backward = _filter(*choice)

    def unwatched(tensors: Any) -> Any:
        # An eager tape would else look for gradients within the compiled function.
        return tf.nest.map_structure(tf.stop_gradient, tensors)

    @tf.custom_gradient
    def run(*tensors: Any) -> Any:
        arguments = _arguments(unwatched(tensors), order)
        levels = forward(*arguments)

        @tf.custom_gradient
        def gradients(*tensors_and_upstream: Any) -> Any:
            upstream = unwatched(tensors_and_upstream[len(tensors) :])
            of_gradients = functools.partial(_second(order, *choice), tensors_and_upstream)
            return _in_order(*backward(*arguments, levels, upstream)), of_gradients

        return levels, lambda *upstream: gradients(*tensors, *upstream)

    levels = run(*_in_order(log_decay, coupling, gains, inputs, initial))
    return tuple(of_shape(level, inputs.shape) for level in levels)


def _in_order(
    log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any
) -> tuple[Any, ...]:
    """The filter's arguments, or their gradients, in one row."""
    return log_decay, coupling, inputs, *gains, *initial


def _arguments(tensors: Any, order: int) -> tuple[Any, Any, Any, Any, Any]:
    """The filter's arguments from that row."""
    log_decay, coupling, inputs, *rest = tensors
    return log_decay, coupling, rest[:order], inputs, rest[order:]


@functools.cache
def _second(order: int, time_axis: int, kind: str) -> Callable[..., Any]:
    """Gradients of the filter's gradients in its arguments and in what these are multiplied by.

    By way of filters, which have gradients in turn. In a graph, where no tape is needed: there is
    none within `tf.autodiff.ForwardAccumulator`. `kind` says which kernels the graph holds.
    """

    def second(tensors: Any, *upstream: Any) -> Any:
        arguments = _arguments(tensors[:-order], order)
        levels = _linear_filter(*arguments, time_axis, kind)
        recurrence = functools.partial(_recurrence, kind)
        first = portable.linear_filter_gradients(
            *arguments, levels, tensors[-order:], time_axis, recurrence
        )
        zero = tf.UnconnectedGradients.ZERO
        return tf.gradients(_in_order(*first), tensors, upstream, unconnected_gradients=zero)

    return tf.function(second, autograph=False)


def _recurrence(
    kind: str, log_decay: Any, drive: Any, initial: Any, reverse: bool, time_axis: int
) -> Any:
    """`portable.linear_recurrence` by a filter of one level."""
    drive = tf.reverse(drive, [time_axis]) if reverse else drive
    one, uncoupled = tf.ones_like(log_decay), tf.zeros_like(log_decay)
    (levels,) = _linear_filter(log_decay, uncoupled, (one,), drive, (initial,), time_axis, kind)
    return tf.reverse(levels, [time_axis]) if reverse else levels


@functools.cache
def _filter(time_axis: int, kind: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The filter and its gradients."""
    if kind == "numba":
        return tensorflow_numba.linear_filter(time_axis)
    if kind == "portable":
        return (
            functools.partial(portable.linear_filter, time_axis=time_axis),
            functools.partial(portable.linear_filter_gradients, time_axis=time_axis),
        )
    return (
        compiled(functools.partial(_filter_loop, time_axis)),
        compiled(functools.partial(_gradient_loop, time_axis)),
    )


def _filter_loop(
    time_axis: int, log_decay: Any, coupling: Any, gains: Any, inputs: Any, initial: Any
) -> tuple[Any, ...]:
    leak = -tf.math.expm1(log_decay)
    shape = tf.shape(inputs)
    inputs, initial = tf.nest.map_structure(padded, (inputs, list(initial)))

    def step(time: Any, sequences: Any, levels: Any, lost: Any) -> Any:
        now = at(inputs, time, time_axis)
        levels, lost = portable.filter_step(leak, coupling, gains, now, levels, lost)
        filled = [
            put(sequence, level, time) for sequence, level in zip(sequences, levels, strict=True)
        ]
        return time + 1, filled, levels, lost

    empty = [time_first(tf.zeros_like(inputs), time_axis) for _ in initial]
    start = 0, empty, initial, _zeros(initial)
    length = tf.shape(inputs)[time_axis]
    _, sequences, _, _ = tf.while_loop(lambda time, *_: time < length, step, start)
    return tuple(cut(time_first(sequence, time_axis), shape) for sequence in sequences)


def _gradient_loop(
    time_axis: int,
    log_decay: Any,
    coupling: Any,
    gains: Any,
    inputs: Any,
    initial: Any,
    levels: Any,
    upstream: Any,
) -> Any:
    leak = -tf.math.expm1(log_decay)
    order = len(gains)
    shapes = [tf.shape(inputs), tf.shape(initial[0])]
    inputs, initial, levels, upstream = tf.nest.map_structure(
        padded, (inputs, list(initial), list(levels), list(upstream))
    )

    def step(
        time: Any,
        for_inputs: Any,
        adjoints: Any,
        lost: Any,
        for_decay: Any,
        for_coupling: Any,
        for_gains: Any,
    ) -> Any:
        now = at(inputs, time, time_axis)
        before = [
            tf.where(time == 0, start, at(level, tf.maximum(time - 1, 0), time_axis))
            for start, level in zip(initial, levels, strict=True)
        ]
        adjoints, lost = portable.adjoint_step(
            leak, coupling, [at(each, time, time_axis) for each in upstream], adjoints, lost
        )
        for_inputs = put(for_inputs, _dot(gains, adjoints), time)
        for_decay = for_decay + _dot(adjoints, before)
        if order == 2:
            for_coupling = for_coupling + adjoints[1] * before[0]
        for_gains = [total + a * now for total, a in zip(for_gains, adjoints, strict=True)]
        return time - 1, for_inputs, adjoints, lost, for_decay, for_coupling, for_gains

    zeros = _zeros(initial)
    empty = time_first(tf.zeros_like(inputs), time_axis)
    last = tf.shape(inputs)[time_axis] - 1
    start = last, empty, zeros, zeros, zeros[0], zeros[0], zeros
    _, for_inputs, adjoints, _, for_decay, for_coupling, for_gains = tf.while_loop(
        lambda time, *_: time >= 0, step, start
    )

    def over_batch(total: Any) -> Any:
        return tf.reduce_sum(total, axis=0, keepdims=True)

    decay = tf.exp(log_decay)
    for_initial = [decay * adjoint for adjoint in adjoints]
    if order == 2:
        for_initial[0] += coupling * adjoints[1]
    return (
        decay * over_batch(for_decay),
        over_batch(for_coupling),
        [over_batch(total) for total in for_gains],
        cut(time_first(for_inputs, time_axis), shapes[0]),
        [cut(each, shapes[1]) for each in for_initial],
    )


def padded(tensor: Any) -> Any:
    """Pads with a zero what has no steps, or no samples: a loop over nothing does not compile.

    XLA knows every length, and leaves out a padding of nothing.
    """
    if tensor.shape.is_fully_defined() and tensor.shape.num_elements():
        return tensor
    missing = tf.cast(tf.equal(tf.shape(tensor), 0), "int32")
    padded = tf.pad(tensor, tf.stack([tf.zeros_like(missing), missing], axis=1))
    padded.set_shape([1 if length == 0 else length for length in tensor.shape])
    return padded


def cut(tensor: Any, shape: Any) -> Any:
    """Takes the padding off again."""
    return tf.slice(tensor, tf.zeros_like(shape), shape)


def _dot(left: Any, right: Any) -> Any:
    return functools.reduce(lambda a, b: a + b, (a * b for a, b in zip(left, right, strict=True)))


def _zeros(states: Any) -> list[Any]:
    return [tf.zeros_like(state) for state in states]


def at(sequence: Any, time: Any, time_axis: int) -> Any:
    return sequence[time] if time_axis == 0 else sequence[:, time]


def put(sequence: Any, values: Any, time: Any) -> Any:
    """One step of a time-first sequence, replaced: XLA does it in place."""
    return tf.tensor_scatter_nd_update(sequence, [[time]], values[None])


def time_first(sequence: Any, time_axis: int) -> Any:
    """Swaps batch and time where time is not the first axis; the way back, too."""
    if time_axis == 0:
        return sequence
    return tf.transpose(sequence, [1, 0, *range(2, len(sequence.shape))])


@tf.custom_gradient
def straight_through(rates: Any, spikes: Any) -> Any:
    return tf.identity(spikes), lambda upstream: (upstream, None)


def spike(
    rates: Any, voltage: Any, dt: Any, time_axis: int = 1, rectify: bool = False
) -> tuple[Any, Any]:
    fire = _fire_and_scale(rates, time_axis, kernels_for(rates, time_axis))
    if rates.dtype != voltage.dtype or fire is None:
        return portable.spike(
            rates, voltage, dt, time_axis, rectify, integrate_and_fire, straight_through
        )
    rates = of_known_batch(rates, voltage, time_axis)
    scales = [tf.convert_to_tensor(each, rates.dtype) for each in (dt, 1.0 / dt)]

    @tf.custom_gradient
    def run(rates: Any, *others: Any) -> Any:
        tensors = [tf.stop_gradient(each) for each in (rates, *others)]

        def gradients(upstream: Any, _: Any) -> Any:
            if rectify:
                upstream = tf.raw_ops.ReluGrad(gradients=upstream, features=rates)
            return upstream, *[None] * len(others)

        return fire(tensors, time_axis, rectify), gradients

    spikes, final = run(rates, voltage, *scales)
    return of_shape(spikes, rates.shape), of_shape(final, voltage.shape)


def spike_by_channel(
    rates: Any,
    voltage: Any,
    seconds: Any,
    heights: Any,
    time_axis: int = 1,
    rectify: bool = False,
) -> tuple[Any, Any]:
    given, rates = rates.dtype, tf.cast(rates, voltage.dtype)
    fire = _fire_and_scale(rates, time_axis, kernels_for(rates, time_axis))
    if fire is not fire_once:
        spikes, final = spike(rates * seconds, voltage, 1.0, time_axis, rectify)
        return portable.cast(spikes * heights, given), final
    rates = of_known_batch(rates, voltage, time_axis)

    @tf.custom_gradient
    def run(rates: Any, *others: Any) -> Any:
        tensors = [tf.stop_gradient(each) for each in (rates, *others)]

        def gradients(upstream: Any, _: Any) -> Any:
            passed = pass_once(rectify)(upstream, rates, seconds, heights)
            return passed, *[None] * len(others)

        return fire_once(tensors, time_axis, rectify), gradients

    spikes, final = run(rates, voltage, seconds, heights)
    spikes = portable.cast(of_shape(spikes, rates.shape), given)
    return spikes, of_shape(final, voltage.shape)


def uniform(shape: Any, seed: Any, dtype: str) -> Any:
    return portable.uniform(shape, seed, dtype, draw=_uniform)


def _uniform(shape: Any, dtype: str, seed: Any) -> Any:
    # Keras lets XLA choose the generator, which gives other numbers than eager TensorFlow for the
    # same seed, and is slow on a CPU: a millisecond for (32, 128), and this one a hundredth of it.
    with tf.name_scope(_ADVICE):
        pair = [seed, 0] if isinstance(seed, int) else tf.cast(seed.next(), "int32")
        return tf.random.stateless_uniform(shape, seed=pair, dtype=dtype, alg="philox")
