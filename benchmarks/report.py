"""The results as a page in Markdown, and as a plot of time against the number of steps."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.growth import BATCH, UNITS
from benchmarks.layers import LAYERS, LIMIT
from benchmarks.steps import WAYS
from benchmarks.targets import OLD_LIBRARY_LIMIT_MS, goals, old_library_ms

PLOT = "time_per_step.png"


def page(results: dict[str, dict[str, Any]]) -> str:
    """The whole report, of the backends that were measured."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "# How fast the layers are"
    yield ""
    yield "Made by `make bench`. Times are medians, with quartiles in brackets; ratios are medians"
    yield "of ratios taken round by round in one process. `limit` is `relu(x) * 1.5`, one read and"
    yield "one write of the same tensor; `loop` is the layer's own cell in `keras.layers.RNN`;"
    yield "`old` is KerasSpiking 0.3.0, whose times were measured on another day, on a machine of"
    yield "the same kind. Float32."
    yield ""
    for backend, each in results.items():
        machine = each["machine"]
        kernels = f"kernels: {each['kernels']}"
        yield f"- {backend}: {machine['versions']}, {machine['processor']}, {kernels}"
    yield ""
    yield "## Targets"
    yield ""
    rows = [
        (
            backend,
            goal.what,
            goal.layer,
            f"{goal.value:.2f}",
            f"{'at most' if goal.at_most else 'at least'} {goal.target:g}",
            "yes" if goal.reached else "**no**",
        )
        for backend, each in results.items()
        for goal in goals(backend, each)
    ]
    yield from table(("backend", "figure", "layer", "measured", "target", "reached"), rows)
    for backend, each in results.items():
        yield from _layers(backend, each)
    for backend, each in results.items():
        yield from _growth(backend, each["growth"])
    yield ""
    yield f"![Time per step against the number of steps]({PLOT})"


def _layers(backend: str, results: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## Layers on {backend}"
    yield ""
    rows = []
    for each in results["layers"]:
        shape, name = tuple(each["shape"]), each["name"]
        loop, old = "", ""
        if each["loop_ms"]:
            loop = f"{each['loop_ms'] / each['ms']['median']:.1f}"
        old_ms = old_library_ms(shape, each["passes"], name)
        if old_ms and each["way"] == WAYS["tensorflow"][0]:
            old = f"{old_ms / each['ms']['median']:.1f}"
        rows.append(
            (
                str(shape),
                each["way"],
                each["passes"],
                name,
                _spread(each["ms"], ".3g"),
                _spread(each["over_limit"], ".1f"),
                loop,
                old,
            )
        )
    yield from table(
        ("shape", "way", "passes", "layer", "ms", "times limit", "loop / layer", "old / layer"),
        rows,
    )
    if backend == "tensorflow":
        yield ""
        limits = ", ".join(f"{shape} {ms}" for shape, ms in OLD_LIBRARY_LIMIT_MS.items())
        yield f"`limit`, forward, on the day of the old library's times, in ms: {limits}."
    yield ""
    yield "Whole training steps of `fit` with its defaults: Dense over time, the layer, Dense(10),"
    yield "Adam; Lowpass and Alpha come after a SpikingActivation. The small model has 128 units"
    yield "and ten steps in batches of 32; the large one 1024 units and 100 steps, batches of 256."
    yield ""
    rows = [
        (size, name, _spread(each["ms"], ".3g"), _spread(each["over_twin"], ".2f"))
        for size, models in results["training"].items()
        for name, each in models.items()
    ]
    yield from table(("size", "model", "ms a step", "times the twin"), rows)
    yield ""
    yield from _cores(results["cores"])
    times = results["time_batched"]
    yield "Conv2D(32, 3) over ten steps of 32 images of 28 by 28, forward and weights' gradients:"
    yield ""
    yield from table(
        ("wrapper", "ms"), [(name, _spread(each, ".3g")) for name, each in times["ms"].items()]
    )
    yield ""
    faster, over_limit = (_spread(times[key], ".2f") for key in ("faster", "over_limit"))
    yield f"`TimeDistributed` / `TimeBatched`: {faster}. `TimeBatched` / `limit`, the layer alone"
    yield f"on inputs with time folded beforehand: {over_limit}."


def _cores(results: dict[str, Any]) -> Iterator[str]:
    yield "The kernels alone, forward, beside a copy of the tensor by NumPy, which uses one core."
    yield "Its quartiles say how quiet the machine was:"
    yield ""
    rows = [
        (
            str(tuple(each["shape"])),
            each["name"],
            _spread(each["ms"], ".3g"),
            _spread(each["over_copy"], ".2f"),
        )
        for each in results["kernels"]
    ]
    yield from table(("shape", "kernel", "ms", "times copy"), rows)
    yield ""
    if results["cores"]:
        yield "Forward + backward on one core, over that on two, in processes that took turns:"
        yield ""
        rows = [(name, _spread(each, ".2f")) for name, each in results["cores"].items()]
        yield from table(("layer", "one core / two cores"), rows)
        yield ""


def _growth(backend: str, growth: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## Growth on {backend}"
    yield ""
    yield f"Forward + backward, {growth['way']}, of ({BATCH}, T, {UNITS})."
    yield ""
    rows = [
        (
            each["name"],
            str(each["length"]),
            f"{each['ms']:.3g}",
            f"{1e6 * each['ms'] / (BATCH * UNITS * each['length']):.2f}",
            f"{each['first_s']:.2f}",
            str(each["operations"] or ""),
        )
        for name in (LIMIT, *LAYERS)
        for each in growth["rows"]
        if each["name"] == name
    ]
    yield from table(
        ("layer", "T", "ms", "ns per element", "first call, s", "operations in the graph"), rows
    )
    yield ""
    tensors = ", ".join(f"{name} {growth['tensors'][name]:.1f}" for name in LAYERS)
    yield f"Peak memory of training above the model without the layer, in tensors: {tensors}."


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table with columns of even width, which reads well as text too."""
    everything = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    for index, row in enumerate(everything):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"| {' | '.join(cells)} |"
        if index == 0:
            yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"


def _spread(spread: dict[str, float], spec: str) -> str:
    return f"{spread['median']:{spec}} ({spread['low']:{spec}}, {spread['high']:{spec}})"


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draws time per step and sample against the number of steps, a panel for each backend."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, len(results), figsize=(4 * len(results), 3.4), sharey=True, squeeze=False
    )
    for panel, (backend, each) in zip(panels[0], results.items(), strict=True):
        growth = each["growth"]
        for name in (LIMIT, *LAYERS):
            rows = [row for row in growth["rows"] if row["name"] == name]
            lengths = [row["length"] for row in rows]
            nanoseconds = [1e6 * row["ms"] / (BATCH * UNITS * row["length"]) for row in rows]
            style = {"color": "0.5", "linestyle": "--"} if name == LIMIT else {"marker": "o"}
            panel.plot(lengths, nanoseconds, label=name, markersize=3, **style)
        panel.set(
            xscale="log", yscale="log", xlabel="time steps", title=f"{backend}, {growth['way']}"
        )
        panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("forward + backward\n[ns per element]")
    panels[0, -1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
