"""Draws a report; imported only for that, since it needs matplotlib."""

from typing import Any

import matplotlib.pyplot as plt

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_MARKERS = "osD^vP"


def draw(report: Any) -> Any:
    """Accuracy against spikes for each `dt`, and the errors of the layers."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    is_accuracy = report.original_accuracy is not None
    if is_accuracy:
        left.axhline(report.original_accuracy, color="black", linestyle="dashed", label="original")
    dts = sorted({result.dt for result in report.results})
    for index, dt in enumerate(dts):
        results = sorted(
            (result for result in report.results if result.dt == dt),
            key=lambda result: result.num_steps,
        )
        style = {
            "color": _COLOURS[index % len(_COLOURS)],
            "marker": _MARKERS[index % len(_MARKERS)],
        }
        heights = [result.accuracy if is_accuracy else result.agreement for result in results]
        if None not in heights:
            left.plot([result.spikes for result in results], heights, label=f"dt {dt:g} s", **style)
            for result, height in zip(results, heights, strict=True):
                left.annotate(
                    str(result.num_steps),
                    (result.spikes, height),
                    textcoords="offset points",
                    xytext=(0, -13),
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
    left.set(
        title="What spikes buy (numbers: steps)",
        xlabel="spikes per inference",
        ylabel="accuracy" if is_accuracy else "agreement with the original",
        xscale="log",
    )
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
