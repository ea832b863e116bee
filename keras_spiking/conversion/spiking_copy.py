"""Builds a copy of a model whose activations spike."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_spiking._types import InitializerLike, Shape
from keras_spiking.conversion import rules
from keras_spiking.conversion.model_copy import ModelCopy
from keras_spiking.conversion.operations import Function
from keras_spiking.conversion.signals import Active, Signal, signals_of
from keras_spiking.conversion.survey import Survey
from keras_spiking.layers import (
    LastStep,
    Lowpass,
    RepeatOverTime,
    RunningAverage,
    SpikingActivation,
    TemporalAvgPool,
    TimeBatched,
)
from keras_spiking.layers.masks import mask_of


@dataclass(frozen=True)
class SpikingOptions:
    """How activations spike: the arguments of `convert` with these names, checked."""

    num_steps: int | None
    dt: float | keras.Variable | None
    spiking_aware_training: bool
    tau: float | None
    readout: str
    seed: int | None
    negative_spikes: bool
    initial_voltage: float | np.ndarray | InitializerLike


class SpikingCopy(ModelCopy):
    """A copy whose activations spike.

    With a fixed number of steps, what comes before the first activation is the same at every step.
    It is computed once, and repeated over time where the first activation spikes.

    Args:
        survey: The model, which does not change, and what is known of it.
        max_pooling: `"keep"` or `"average"`.
        rate_scales: The `rate_scale` of each layer in `survey.spiking`.
        options: How activations spike.
    """

    def __init__(
        self,
        survey: Survey,
        max_pooling: str,
        rate_scales: dict[str, Any],
        options: SpikingOptions,
    ):
        super().__init__(survey, max_pooling)
        self._rate_scales = rate_scales
        self._options = options
        self._wrappers: dict[int, keras.Layer] = {}

    def input_shape(self, shape: Shape) -> Shape:
        return shape if self._options.num_steps else (shape[0], None, *shape[1:])

    def receive(self, tensor: keras.KerasTensor) -> Signal:
        return Signal(tensor, over_time=self._options.num_steps is None)

    def apply(
        self,
        layer: keras.Layer | Function,
        copy: keras.Layer,
        signals: Any,
        keywords: dict[str, Any],
    ) -> list[Signal]:
        # A layer that is called several times runs over time in all of its calls.
        is_shared = self.survey.num_calls[id(layer)] > 1
        if not is_shared and not any(signal.over_time for signal in keras.tree.flatten(signals)):
            return super().apply(layer, copy, signals, keywords)
        tensors = keras.tree.map_structure(self._over_time, signals)
        wrap = self._wrapper_of(layer, copy)
        if wrap is TimeBatched and rules.takes_time(layer, keras.tree.flatten(tensors)):
            return signals_of(copy(tensors, **keywords), over_time=True)
        if id(copy) not in self._wrappers:
            self._wrappers[id(copy)] = wrap(copy, name=copy.name)
        return signals_of(self._wrappers[id(copy)](tensors, **keywords), over_time=True)

    def _wrapper_of(self, layer: keras.Layer | Function, copy: keras.Layer) -> type[keras.Layer]:
        """The class that runs a layer over time, so that it returns the right means."""
        # Ask the copy, in which average pooling may have replaced max pooling.
        known = layer if isinstance(layer, Function) else copy
        averages = self.survey.integrate == "input" and not rules.is_linear(known)
        return RunningAverage if averages else TimeBatched

    def fire(self, signal: Signal) -> Signal:
        inputs = self._over_time(signal)
        name, spikes = self._activation_layer(signal, inputs.shape[2:])
        outputs = spikes(inputs)
        self.activations.append(Active(name, signal.name, outputs))
        if self._options.tau is not None:
            dtype = signal.layer.dtype_policy
            name = self.unused(f"{name}_lowpass")
            lowpass = Lowpass(self._options.tau, dt=self._options.dt, dtype=dtype, name=name)
            outputs = lowpass(outputs)
        return Signal(outputs, over_time=True)

    def make_activation(self, signal: Signal, name: str) -> SpikingActivation:
        options, layer = self._options, signal.layer
        seed = options.seed
        if seed is not None:
            # Each layer has its own seed, or neurons of two layers would fire together.
            seed = (seed + len(self._activation_layers)) % 2**32
        is_relu = rules.is_plain_relu(layer)
        return SpikingActivation(
            keras.activations.relu if is_relu else self.function(layer),
            dt=options.dt,
            seed=seed,
            spiking_aware_training=options.spiking_aware_training,
            initial_voltage=options.initial_voltage,
            rate_scale=self._rate_scales[signal.name],
            integrate=self.survey.integrate,
            negative_spikes=options.negative_spikes,
            activity_regularizer=layer.activity_regularizer,
            dtype=layer.dtype_policy,
            name=name,
        )

    def finish(self, signal: Signal, name: str) -> keras.KerasTensor:
        readout = self._options.readout
        if readout != "sequence":
            if signal.over_time:
                read = TemporalAvgPool if readout == "average" else LastStep
                dtype = signal.tensor.dtype
                tensor = read(dtype=dtype, name=self.unused(f"{name}_readout"))(signal.tensor)
                signal = Signal(tensor, False, signal.name, signal.layer)
            return super().finish(signal, name)
        tensor = self._over_time(signal)
        if signal.layer is None:
            return keras.layers.Identity(dtype=tensor.dtype, name=name)(tensor)
        activation = self.plain_activation(signal.layer, name)
        return self._wrapper_of(signal.layer, activation)(activation, name=name)(tensor)

    def _over_time(self, signal: Signal) -> keras.KerasTensor:
        """The tensor of a signal with an axis of time."""
        if signal.over_time:
            return signal.tensor
        if signal.repeated is None:
            _check_no_mask(signal.tensor)
            num_steps = self._options.num_steps
            assert num_steps is not None  # else every signal is over time
            repeat = RepeatOverTime(num_steps, name=self.unused("repeat"))
            signal.repeated = repeat(signal.tensor)
        return signal.repeated


def _check_no_mask(tensor: keras.KerasTensor) -> None:
    if mask_of(tensor) is not None:
        raise ValueError(
            f"convert: a mask of parts of a sample reaches spikes, which cannot carry it, with the "
            f"output of {tensor.name!r}, of shape {tensor.shape}. End the mask before, as a "
            "recurrent layer with return_sequences=False does, or use mask_zero=False, and keep "
            "samples of equal length."
        )
