"""Tries random models until the time is up: builds, trains, saves, loads and compares each."""

import argparse
import contextlib
import functools
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Torch crashes if TensorFlow is imported first.
with contextlib.suppress(ImportError):
    import torch  # noqa: F401

import keras

from tests.fuzz.cases import describe, run_case, run_until


def main():
    """Runs the command line, on the backend that `KERAS_BACKEND` names."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="first seed (default: 0)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="one model only, and show it")
    arguments = parser.parse_args()
    keras.config.disable_traceback_filtering()
    keras.config.disable_interactive_logging()
    if arguments.replay is not None:
        print(describe(arguments.replay))
        run_case(arguments.replay)
        print("passed")
        return
    show = functools.partial(print, flush=True)  # into a file, too
    failed, tried = run_until(60 * arguments.minutes, arguments.first, show)
    sys.exit(1 if failed or not tried else 0)


if __name__ == "__main__":
    main()
