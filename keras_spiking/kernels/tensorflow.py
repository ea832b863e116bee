"""The kernels on TensorFlow: the portable sums, with gradients that need no sum through them."""

from typing import Any

import tensorflow as tf

from keras_spiking.kernels import portable

integrate_and_fire = portable.integrate_and_fire


def linear_recurrence(
    log_decay: Any, drive: Any, initial: Any, reverse: bool = False, time_axis: int = 1
) -> Any:
    @tf.custom_gradient
    def run(log_decay: Any, drive: Any, initial: Any) -> Any:
        sequence = portable.linear_recurrence(log_decay, drive, initial, reverse, time_axis)

        def gradients(upstream: Any) -> Any:
            return portable.linear_recurrence_gradients(
                log_decay, sequence, initial, upstream, reverse, time_axis, linear_recurrence
            )

        return sequence, gradients

    return run(log_decay, drive, initial)


@tf.custom_gradient
def straight_through(rates: Any, spikes: Any) -> Any:
    return tf.identity(spikes), lambda upstream: (upstream, None)


def seeded_uniform(shape: Any, seed: int, dtype: str) -> Any:
    # Keras lets XLA choose the generator, which then gives other numbers than eager TensorFlow.
    return tf.random.stateless_uniform(shape, seed=[seed, 0], dtype=dtype, alg="philox")
