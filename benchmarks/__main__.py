"""Measures every backend in a process of its own, prints the table, and writes it to a folder."""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import cores, growth, layers, lengths, report, time_batched, training
from benchmarks.steps import BACKENDS

SECTIONS = {
    "layers": layers,
    "training": training,
    "time_batched": time_batched,
    "growth": growth,
    "cores": cores,
    "lengths": lengths,
}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, help="one backend (default: all three)")
    parser.add_argument("--quick", action="store_true", help="small sizes, few runs")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("bench-output"),
        help="folder for results.md and its plot (default: %(default)s)",
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        results = measure(arguments.backend, arguments.quick)
        arguments.measure.write_text(json.dumps(results, default=asdict))
        return

    backends = [arguments.backend] if arguments.backend else BACKENDS
    results = {backend: in_process(backend, arguments.quick) for backend in backends}
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = report.page(results)
    print(text)
    (arguments.output / "results.md").write_text(text)
    report.plot(results, arguments.output / report.PLOT)
    print(f"Written to {arguments.output / 'results.md'} and {arguments.output / report.PLOT}")


def in_process(backend: str, quick: bool) -> dict[str, Any]:
    """Measures a backend in a new process: Keras takes one for as long as a process lives."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [sys.executable, "-m", "benchmarks", "--backend", backend, "--measure", str(path)]
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        }
        subprocess.run([*command, *(["--quick"] if quick else [])], check=True, env=environment)
        return json.loads(path.read_text())


def measure(backend: str, quick: bool) -> dict[str, Any]:
    """Runs every section on the backend of this process."""
    choose_kernels(backend)
    results: dict[str, Any] = {"kernels": _kernels()}
    for name, section in SECTIONS.items():
        print(f"{backend}: {name}", flush=True)
        results[name] = section.measure(backend, quick)
    versions = [
        f"{name} {importlib.import_module(name).__version__}" for name in (backend, "keras")
    ]
    results["machine"] = {"versions": ", ".join(versions), "processor": processor()}
    return results


def choose_kernels(backend: str) -> None:
    """Has TensorFlow take the loops of Numba, if there are any, as within `fit`.

    In graphs that are not Keras's own it would leave them out, for these may be exported.
    """
    if backend == "tensorflow" and _kernels() == "numba":
        import keras_spiking

        keras_spiking.config.set_kernels("numba")


def _kernels() -> str:
    import keras_spiking

    return keras_spiking.config.kernels()


def processor() -> str:
    """The processor, as far as the system tells."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
