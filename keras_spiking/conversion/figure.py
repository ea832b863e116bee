"""Draws what `compare` found out."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from keras_spiking._figures import COLOURS, import_pyplot
from keras_spiking.conversion.results import Result

_MARKERS = "osD^vP"


def draw(results: Sequence[Result], original_accuracy: float | None) -> Any:
    """Draws how good the outputs are against the spikes, and the errors of the layers."""
    plt = import_pyplot("Report")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    label, measure = _measure(results, original_accuracy)
    if original_accuracy is not None:
        left.axhline(original_accuracy, color="0.5", linestyle="dashed", label="original")
    for index, dt in enumerate(sorted({result.dt for result in results})):
        style = {
            "color": COLOURS[index % len(COLOURS)],
            "marker": _MARKERS[index % len(_MARKERS)],
        }
        of_dt = sorted(
            (result for result in results if result.dt == dt), key=attrgetter("num_steps")
        )
        _draw_outputs(left, of_dt, measure, style)
        _draw_layers(right, of_dt[-1], style)
    left.set(
        title="What spikes buy (small numbers: steps)", xlabel="spikes per inference", ylabel=label
    )
    left.margins(x=0.08, y=0.12)
    if all(result.spikes > 0 for result in results):
        _make_logarithmic(left)
    right.set(
        title="Where the two part",
        xlabel="layer",
        ylabel="relative error of the mean output",
        ylim=(0, None),
    )
    right.tick_params(axis="x", labelrotation=20)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _measure(
    results: Sequence[Result], original_accuracy: float | None
) -> tuple[str, Callable[[Result], float | None]]:
    """How good the outputs are: a label, and a function that returns it of a result."""
    if original_accuracy is not None:
        return "accuracy", attrgetter("accuracy")
    if results[0].agreement is not None:
        return "agreement with the original", attrgetter("agreement")
    return "relative error of the outputs", attrgetter("output_error")


def _draw_outputs(
    axes: Any,
    results: Sequence[Result],
    measure: Callable[[Result], float | None],
    style: dict[str, str],
) -> None:
    """A line over numbers of steps, for one `dt`."""
    spikes = [result.spikes for result in results]
    axes.plot(spikes, list(map(measure, results)), label=f"dt {results[0].dt:g} s", **style)
    for result in results:
        axes.annotate(
            str(result.num_steps),
            (result.spikes, measure(result)),
            textcoords="offset points",
            xytext=(0, -14),
            ha="center",
            fontsize=8,
            color=style["color"],
        )


def _draw_layers(axes: Any, result: Result, style: dict[str, str]) -> None:
    """A line over layers."""
    axes.plot(
        [layer.name for layer in result.layers],
        [layer.error for layer in result.layers],
        label=f"dt {result.dt:g} s, {result.num_steps} steps",
        **style,
    )


def _make_logarithmic(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
