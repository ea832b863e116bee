"""Draws a report; imported only for that, since it needs matplotlib."""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_MARKERS = "osD^vP"


def draw(report: Any) -> Any:
    """How good the outputs are against spikes for each `dt`, and the errors of the layers."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    name, height = _measure(report)
    if report.original_accuracy is not None:
        left.axhline(report.original_accuracy, color="black", linestyle="dashed", label="original")
    for index, dt in enumerate(sorted({result.dt for result in report.results})):
        results = sorted(
            (result for result in report.results if result.dt == dt),
            key=lambda result: result.num_steps,
        )
        style = {
            "color": _COLOURS[index % len(_COLOURS)],
            "marker": _MARKERS[index % len(_MARKERS)],
        }
        spikes = [result.spikes for result in results]
        left.plot(spikes, list(map(height, results)), label=f"dt {dt:g} s", **style)
        for result in results:
            left.annotate(
                str(result.num_steps),
                (result.spikes, height(result)),
                textcoords="offset points",
                xytext=(0, -14),
                ha="center",
                fontsize=8,
                color=style["color"],
            )
        longest = results[-1]
        right.plot(
            [each.name for each in longest.layers],
            [each.error for each in longest.layers],
            label=f"dt {dt:g} s, {longest.num_steps} steps",
            **style,
        )
    left.set(title="What spikes buy (small numbers: steps)", ylabel=name)
    left.set_xlabel("spikes per inference")
    left.margins(x=0.08, y=0.12)
    if all(result.spikes > 0 for result in report.results):
        left.set_xscale("log")
        left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.xaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
        left.xaxis.set_minor_formatter(NullFormatter())
    right.set(
        title="Where the two part",
        xlabel="layer",
        ylabel="relative error of the mean output",
        ylim=(0, None),
    )
    right.tick_params(axis="x", labelrotation=20)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def _measure(report: Any) -> tuple[str, Callable[[Any], float]]:
    """What the report has to say of the outputs, and its value in a result."""
    if report.original_accuracy is not None:
        return "accuracy", lambda result: result.accuracy
    if report.results[0].agreement is not None:
        return "agreement with the original", lambda result: result.agreement
    return "relative error of the outputs", lambda result: result.output_error
