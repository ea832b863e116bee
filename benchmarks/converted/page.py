"""The results of the converted networks as a page in Markdown, and as a figure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import table
from benchmarks.targets import Goal

PLOT = "conversion.png"
ACTIVATION, INPUT, POSITIVE, PEER = "activation", "input", "input, no negative", "SpikingJelly"
# Okabe and Ito's colours, which colour-blind readers can tell apart.
STYLES = {
    INPUT: {"color": "#0072B2", "marker": "o"},
    POSITIVE: {"color": "#56B4E9", "marker": "s"},
    ACTIVATION: {"color": "#D55E00", "marker": "^"},
    PEER: {"color": "#009E73", "marker": "D"},
}


def goals(results: dict[str, Any]) -> Iterator[Goal]:
    """Every figure that has a target."""
    for name, each in results["networks"].items():
        rows = {(row["mode"], row["steps"]): row for row in each["rows"]}
        for steps, points in ((32, 0.5), (8, 2.0)):
            row = rows.get((INPUT, steps))
            if row:
                loss = 100 * (each["accuracy"] - row["accuracy"])
                yield Goal(f"points lost at {steps} steps", name, loss, points)
        ratio = share_of_spikes(each["rows"])
        if ratio is not None:
            yield Goal('spikes, times those of "activation" at its best', name, ratio, 0.33)
        largest = max(row["largest"] for row in each["rounded"])
        yield Goal("from the rounded network, in 1e-5, in float64", name, 1e5 * largest, 1.0)
        ratio = each["one_step"]["ratio_of_minima"]
        yield Goal("training at one step, times the original", name, ratio, 1.15)


def share_of_spikes(rows: list[dict[str, Any]]) -> float | None:
    """The spikes of "input" over those of "activation", where both are as accurate.

    At the best accuracy of "activation", and the fewest spikes with which each has it.
    """
    best = max(row["accuracy"] for row in rows if row["mode"] == ACTIVATION)
    fewest = {
        mode: [row["spikes"] for row in rows if row["mode"] == mode and row["accuracy"] >= best]
        for mode in (ACTIVATION, INPUT)
    }
    if not fewest[INPUT]:
        return None
    return min(fewest[INPUT]) / min(fewest[ACTIVATION])


def page(results: dict[str, Any]) -> str:
    """The whole report."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: dict[str, Any]) -> Iterator[str]:
    yield "# Converted networks, side by side"
    yield ""
    yield "Made by `make bench-conversion`. Each network was trained on Fashion-MNIST, and"
    yield "converted with one spike in a step at the 99.9th percentile of each channel, calibrated"
    yield "on the first 500 training images. `input` and `activation` are `integrate=` of"
    yield "`convert`; `no negative` is `negative_spikes=False`."
    yield ""
    yield f"- {results['images']:,} test images; trained on {results['training_images']:,}"
    yield f"- {results['machine']}"
    if results["peer"]:
        yield f"- {results['peer']}"
    yield ""
    yield "## Targets"
    yield ""
    yield from table(
        ("figure", "network", "measured", "at most", "reached"),
        [
            (goal.what, goal.layer, f"{goal.value:.2f}", f"{goal.target:g}", _reached(goal))
            for goal in goals(results)
        ],
    )
    yield ""
    yield "## Accuracy and spikes"
    for name, each in results["networks"].items():
        yield from _network(name, each)
    yield ""
    yield from _checks(results)
    yield ""
    yield f"![Accuracy against the number of steps and of spikes]({PLOT})"


def _reached(goal: Goal) -> str:
    return "yes" if goal.reached else "**no**"


def _network(name: str, each: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"{name}, {100 * each['accuracy']:.2f} % without spikes: accuracy in %, agreement with"
    yield "the original in %, and thousands of spikes for an image, at each number of steps."
    yield ""
    steps = sorted({row["steps"] for row in each["rows"]})
    found = {(row["mode"], row["steps"]): row for row in each["rows"]}
    lines = []
    for mode in dict.fromkeys(row["mode"] for row in each["rows"]):
        rows = [found[mode, number] for number in steps]
        for title, factor, spec in (
            ("accuracy", 100, ".2f"),
            ("agreement", 100, ".2f"),
            ("spikes", 1e-3, ".3g"),
        ):
            lines.append((mode, title, *(f"{factor * row[title]:{spec}}" for row in rows)))
    yield from table(("neurons", "steps", *map(str, steps)), lines)


def _checks(results: dict[str, Any]) -> Iterator[str]:
    yield "## The rounded network"
    yield ""
    yield "Outputs (probabilities) against those of the network whose activations are rounded, on"
    yield f"{results['checked_images']} images. In float32, activations that lie on a tie to within"
    yield "rounding go up in one program and down in the other."
    yield ""
    rows = [
        (
            name,
            str(row["steps"]),
            f"{row['largest']:.1e}",
            f"{100 * row['beyond']:.1f} %",
            f"{row['median_float32']:.1e}",
            f"{row['largest_float32']:.1e}",
            f"{100 * row['beyond_float32']:.1f} %",
        )
        for name, each in results["networks"].items()
        for row in each["rounded"]
    ]
    beyond = "images beyond 1e-5"
    header = ("float64: largest", beyond, "float32: median", "largest", beyond)
    yield from table(("network", "steps", *header), rows)
    yield ""
    yield "## Training at one step"
    yield ""
    yield "A training step of `convert(num_steps=1, dt=T * dt)` beside the original's, and how far"
    yield "outputs of `retime` to T steps are from those of the one step."
    yield ""
    rows = []
    for name, each in results["networks"].items():
        one = each["one_step"]
        milliseconds = [f"{one['ms'][key]:.3g}" for key in ("original", "one step")]
        spread = "{median:.2f} ({low:.2f}, {high:.2f})".format(**one["ratio"])
        rows.append(
            (
                name,
                *milliseconds,
                spread,
                f"{one['ratio_of_minima']:.2f}",
                str(one["steps"]),
                f"{one['median_difference']:.1e}",
                f"{one['largest_difference']:.1e}",
            )
        )
    header = ("original, ms", "one step, ms", "ratio", "of minima", "T", "median apart", "largest")
    yield from table(("network", *header), rows)


def plot(results: dict[str, Any], path: Path) -> None:
    """Draws accuracy against steps above accuracy against spikes, a column for each network."""
    import matplotlib.pyplot as plt

    networks = results["networks"]
    figure, panels = plt.subplots(
        2,
        len(networks),
        figsize=(4 * len(networks), 6.4),
        sharey="col",
        squeeze=False,
        layout="constrained",
    )
    for column, (name, each) in zip(panels.T, networks.items(), strict=True):
        for panel, what in zip(column, ("steps", "spikes"), strict=True):
            panel.axhline(100 * each["accuracy"], color="black", linestyle="dashed", linewidth=1)
            for mode in dict.fromkeys(row["mode"] for row in each["rows"]):
                rows = [row for row in each["rows"] if row["mode"] == mode]
                accuracies = [100 * row["accuracy"] for row in rows]
                values = [row[what] for row in rows]
                panel.plot(values, accuracies, label=mode, markersize=4, **STYLES[mode])
            panel.set_xscale("log", base=2 if what == "steps" else 10)
            panel.set_xlabel("time steps" if what == "steps" else "spikes for an image")
            panel.grid(alpha=0.3)
        steps = sorted({row["steps"] for row in each["rows"]})
        column[0].set_xticks(steps, map(str, steps))
        column[0].set_title(f"{name} (dashed: without spikes)")
    for panel in panels[:, 0]:
        panel.set_ylabel("accuracy [%]")
    panels[1, -1].legend(fontsize="small", loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)
