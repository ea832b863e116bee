"""Builds a copy of a model whose activations spike."""

from typing import Any

import keras

from keras_spiking.conversion import rules
from keras_spiking.conversion.copies import Active, Copy, Signal, signals_of
from keras_spiking.conversion.operations import Function
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


class SpikingCopy(Copy):
    """A copy whose activations spike; its arguments are those of `convert`, checked.

    What is the same at every step is computed once: the inputs are repeated where the first
    activation spikes.
    """

    def __init__(
        self,
        survey: Survey,
        *,
        num_steps: int | None,
        dt: Any,
        spiking_aware_training: bool,
        rate_scales: dict[str, Any],
        tau: float | None,
        readout: str,
        max_pooling: str,
        seed: int | None,
        negative_spikes: bool,
        initial_voltage: Any,
    ):
        self.num_steps = num_steps
        self.dt = dt
        self.spiking_aware_training = spiking_aware_training
        self.rate_scales = rate_scales
        self.tau = tau
        self.readout = readout
        self.seed = seed
        self.negative_spikes = negative_spikes
        self.initial_voltage = initial_voltage
        self._wrappers: dict[int, Any] = {}
        super().__init__(survey, max_pooling)

    def input_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape if self.num_steps else (shape[0], None, *shape[1:])

    def receive(self, tensor: Any) -> Signal:
        return Signal(tensor, over_time=self.num_steps is None)

    def apply(self, layer: Any, copy: Any, signals: Any, keywords: dict[str, Any]) -> list[Signal]:
        # A layer that is called several times runs over time in all of its calls.
        is_shared = self.survey.num_calls[id(layer)] > 1
        if not is_shared and not any(each.over_time for each in keras.tree.flatten(signals)):
            return super().apply(layer, copy, signals, keywords)
        tensors = keras.tree.map_structure(self._over_time, signals)
        wrap = self._wrapper_of(layer, copy)
        if wrap is TimeBatched and rules.takes_time(layer, keras.tree.flatten(tensors)):
            return signals_of(copy(tensors, **keywords), over_time=True)
        if id(copy) not in self._wrappers:
            self._wrappers[id(copy)] = wrap(copy, name=copy.name)
        return signals_of(self._wrappers[id(copy)](tensors, **keywords), over_time=True)

    def _wrapper_of(self, layer: Any, copy: Any) -> Any:
        """What runs a layer at every step, so that means stay what they should be."""
        # The copy tells what became of max pooling.
        known = layer if isinstance(layer, Function) else copy
        averages = self.survey.integrate == "input" and not rules.is_linear(known)
        return RunningAverage if averages else TimeBatched

    def fire(self, signal: Signal) -> Signal:
        inputs = self._over_time(signal)
        name, spikes = self._activation_layer(signal, inputs.shape[2:])
        outputs = spikes(inputs)
        self.activations.append(Active(name, signal.name, outputs))
        if self.tau is not None:
            dtype = signal.layer.dtype_policy
            name = self.unused(f"{name}_lowpass")
            outputs = Lowpass(self.tau, dt=self.dt, dtype=dtype, name=name)(outputs)
        return Signal(outputs, over_time=True)

    def make_activation(self, signal: Signal, name: str) -> SpikingActivation:
        seed = self.seed
        if seed is not None:
            # Another for each layer: else neurons of two layers would fire together.
            seed = (seed + len(self._activation_layers)) % 2**32
        is_relu = rules.is_plain_relu(signal.layer)
        return SpikingActivation(
            keras.activations.relu if is_relu else self.function(signal.layer),
            dt=self.dt,
            seed=seed,
            spiking_aware_training=self.spiking_aware_training,
            initial_voltage=self.initial_voltage,
            rate_scale=self.rate_scales[signal.name],
            integrate=self.survey.integrate,
            negative_spikes=self.negative_spikes,
            activity_regularizer=signal.layer.activity_regularizer,
            dtype=signal.layer.dtype_policy,
            name=name,
        )

    def finish(self, signal: Signal, name: str) -> Any:
        if self.readout != "sequence":
            if signal.over_time:
                read = TemporalAvgPool if self.readout == "average" else LastStep
                dtype = signal.tensor.dtype
                tensor = read(dtype=dtype, name=self.unused(f"{name}_readout"))(signal.tensor)
                signal = Signal(tensor, False, signal.name, signal.layer)
            return super().finish(signal, name)
        tensor = self._over_time(signal)
        if signal.layer is None:
            return keras.layers.Identity(dtype=tensor.dtype, name=name)(tensor)
        activation = self.plain_activation(signal.layer, name)
        return self._wrapper_of(signal.layer, activation)(activation, name=name)(tensor)

    def _over_time(self, signal: Signal) -> Any:
        if signal.over_time:
            return signal.tensor
        if signal.repeated is None:
            assert self.num_steps is not None
            if getattr(signal.tensor, "_keras_mask", None) is not None:
                raise ValueError(
                    f"convert: a mask of parts of a sample reaches spikes, which cannot carry it, "
                    f"with the output of {signal.tensor.name!r}, of shape {signal.tensor.shape}. "
                    "End the mask before, as a recurrent layer with return_sequences=False does, "
                    "or use mask_zero=False, and keep samples of equal length."
                )
            repeat = RepeatOverTime(self.num_steps, name=self.unused("repeat"))
            signal.repeated = repeat(signal.tensor)
        return signal.repeated
