"""What `compare` finds out: numbers of a setting, its layers, and its outputs."""

from dataclasses import dataclass

# The relative error above which the mean output of a layer parts from the original's.
PARTING_ERROR = 0.3
# The share of means that may be off before a layer parts from the original. It is not zero, because
# half precision moves a few means.
PARTING_SHARE = 0.01
# Calibration lets one activation in a thousand exceed one spike per step; other data, some more.
_SEVERAL_BY_DESIGN = 0.01


@dataclass(frozen=True)
class LayerResult:
    """What one spiking layer did, over all samples.

    Attributes:
        name: Name of the layer in the spiking model.
        mean_rate: Mean firing rate in hertz, over all neurons and samples. Negative spikes count
            as spikes, here and below.
        top_rate: The 99.9th percentile, over neurons and samples, of the firing rate in hertz.
        spikes: Mean number of spikes of the whole layer per inference.
        silent: Share of neurons that did not fire for any sample.
        several: Share of steps with more than one spike, over all neurons and samples.
        error: Relative error of the mean output over time against the original's activation: the
            root mean square of the difference, divided by the root mean square of the activation.
        negative: Mean number of negative spikes of the whole layer per inference.
        off: Share of mean outputs, over all neurons and samples, that are not the activation
            rounded to whole spikes. If neurons integrate their input, none should be. A mean counts
            if it is further than 1 / (2 * num_steps * dt * rate_scale) from the activation. This is
            the activation that the original's layer has on the mean outputs of the spiking layers
            before it. None if neurons integrate the activation, cannot take spikes back, or have a
            random initial voltage, or if the weights are no longer the original's.
    """

    name: str
    mean_rate: float
    top_rate: float
    spikes: float
    silent: float
    several: float
    error: float
    negative: float
    off: float | None

    @property
    def parts(self) -> bool:
        """Whether the layer parts from the original.

        It does if more than 1 % of its means are `off`. If `off` is None, it does if its `error`
        exceeds 0.3.
        """
        return self.error > PARTING_ERROR if self.off is None else self.off > PARTING_SHARE


@dataclass(frozen=True)
class OutputResult:
    """What one output of the spiking model did, over all samples.

    Attributes:
        name: Name of the output, which is that of the layer that returns it.
        agreement: Share of decisions that are the same as the original's. None if the output
            decides nothing, as in a regression.
        accuracy: Share of decisions that are correct. None without labels that are decisions.
        original_accuracy: The accuracy of the original.
        error: Relative error against the original's output, as that of a layer.
    """

    name: str
    agreement: float | None
    accuracy: float | None
    original_accuracy: float | None
    error: float


@dataclass(frozen=True)
class Result:
    """What the spiking model did with one `dt` and one number of steps.

    Attributes:
        dt: Length of a time step in seconds.
        num_steps: Number of time steps.
        agreement: Share of decisions that are the same as the original's: the mean over the outputs
            that decide something. None if there are none.
        accuracy: Share of decisions that are correct: the mean over the outputs that have labels.
            None if there are none.
        output_error: Relative error of all outputs against the original's, as that of a layer.
        mean_rate: Mean firing rate in hertz, over all neurons.
        spikes: Mean number of spikes per inference.
        layers: A `LayerResult` for each spiking layer, in order.
        outputs: An `OutputResult` for each output, in order.
        negative: Mean number of negative spikes per inference.
        not_spiking: Names of layers that do not spike, although one might expect it. They are not
            linear, and are applied to the mean of their inputs so far.
    """

    dt: float
    num_steps: int
    agreement: float | None
    accuracy: float | None
    output_error: float
    mean_rate: float
    spikes: float
    layers: tuple[LayerResult, ...]
    outputs: tuple[OutputResult, ...]
    negative: float
    not_spiking: tuple[str, ...]

    @property
    def parts_at(self) -> str | None:
        """Name of the first layer that `parts` from the original, or None."""
        return next((layer.name for layer in self.layers if layer.parts), None)

    def notes(self) -> list[str]:
        """What to know of this result, in sentences."""
        notes = [
            _note_on_several(layer) for layer in self.layers if layer.several > _SEVERAL_BY_DESIGN
        ]
        parting = next((layer for layer in self.layers if layer.parts), None)
        if parting is not None:
            notes.append(_note_on_parting(parting))
        if self.not_spiking:
            notes.append(
                f"{', '.join(self.not_spiking)}: not spiking, applied to the mean of the inputs so "
                "far"
            )
        return notes


def _note_on_several(layer: LayerResult) -> str:
    corrects = ", or it corrects what it sent before" if layer.negative else ""
    return (
        f"{layer.name}: several spikes in {percent(layer.several)} of steps, since its rates "
        f"exceed one spike per step (rate * dt > 1){corrects}"
    )


def _note_on_parting(layer: LayerResult) -> str:
    if layer.off is None:
        return (
            f"{layer.name}: the first layer whose mean output parts from the original's "
            f"(error above {PARTING_ERROR:g})"
        )
    return (
        f"{layer.name}: the first layer whose mean output is not the original's activation, "
        f"rounded to whole spikes ({percent(layer.off)} of means are off); something before it is "
        "not as in the original, or does not keep means"
    )


def percent(share: float | None) -> str:
    """A share in percent, as text; "-" for None."""
    if share is None:
        return "-"
    return "< 0.01 %" if 0 < share < 5e-5 else f"{100 * share:.2f} %"
