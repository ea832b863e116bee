"""Which kernels run on TensorFlow, chosen while a graph is traced, or at an eager call."""

import math
from typing import Any

import tensorflow as tf

from keras_spiking.kernels import cpu, setting

# Keras's names for the graphs of `fit`, `evaluate`, `predict` and the like.
_STEPS_OF_KERAS = "one_step_on_data", "one_step_on_data_distributed", "multi_step_on_data"
# What an unknown size counts as. Below so many elements, a call of Python in a graph takes longer.
_USUAL_SIZE = 32
_ELEMENTS_WORTH_A_CALL = 2**17


def kernels_for(sequence: Any, time_axis: int) -> str:
    """The kernels for a sequence: `"numba"`, `"native"` or `"portable"`."""
    if _numba_runs(sequence, time_axis):
        return "numba"
    return "native" if loops_are_chosen() else "portable"


def loops_are_chosen() -> bool:
    """On a CPU. An accelerator waits for every step of a loop, so it sums by doubling.

    Nor do loops suit a program that is being debugged: TensorFlow compiles no functions that run
    eagerly, and XLA cannot compile operations that check numbers.
    """
    faster = runs_on_cpu() and not tf.config.functions_run_eagerly()
    return setting.native_is_chosen(faster) and not _numbers_are_checked()


def runs_on_cpu() -> bool:
    return not tf.config.list_logical_devices("GPU")


def _numba_runs(sequence: Any, time_axis: int) -> bool:
    """Whether Numba's loops run, which in a graph are Python functions.

    XLA cannot compile those, nor can they be exported. TensorFlow does not tell whether a graph
    will be, so that unless Numba is asked for by name, it runs only eagerly and in the graphs of
    Keras's own steps, which nobody exports. There, a call of Python takes longer than XLA's loop
    does for a small sequence, or for one step.
    """
    if not setting.numba_is_chosen() or not cpu.takes(sequence.dtype.name) or not runs_on_cpu():
        return False
    if not tf.executing_eagerly():
        # Each thread, and each function that TensorFlow traces, has a graph of its own.
        graph = tf.compat.v1.get_default_graph()
        if _xla_compiles(graph):
            return False
        if setting.name != "numba" and not (_keras_runs(graph) and _pays(sequence, time_axis)):
            return False
    return not _numbers_are_checked()


def _xla_compiles(graph: Any) -> bool:
    """Whether XLA compiles a graph, or one around it. True if TensorFlow does not tell."""
    while graph is not None:
        if not hasattr(graph, "_get_control_flow_context"):
            return True
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def _keras_runs(graph: Any) -> bool:
    """Whether a graph is one that Keras traces for itself.

    Not a function within: TensorFlow keeps it, and may use it again in what is exported.
    """
    return getattr(graph, "name", None) in _STEPS_OF_KERAS


def _pays(sequence: Any, time_axis: int) -> bool:
    if sequence.shape[time_axis] is None:  # XLA would compile a loop for each length.
        return True
    sizes = [_USUAL_SIZE if size is None else size for size in sequence.shape]
    return sequence.shape[time_axis] > 1 and math.prod(sizes) >= _ELEMENTS_WORTH_A_CALL


def _numbers_are_checked() -> bool:
    """Whether `tf.debugging.enable_check_numerics` is on, in this thread and at this moment.

    TensorFlow has no function that tells, so this tries it on one number.
    """
    with tf.init_scope():
        try:
            tf.negative(float("nan"))
        except tf.errors.InvalidArgumentError:
            return True
    return False
