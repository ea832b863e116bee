"""The README's example runs, and prints what the README says."""

import pathlib
import re

import keras
import pytest

README = pathlib.Path(__file__).parents[1] / "README.rst"


def block(language):
    """The first block of this language in the README, without its indent."""
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)", text)
    return re.sub(r"^    ", "", found.group(1), flags=re.MULTILINE).strip()


def test_example_prints_what_it_says(capsys):
    exec(compile(block("python"), str(README), "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out.strip()
    accuracy, rate = (float(re.search(words, printed)[1]) for words in (r"cy (\S+)", r"(\d+) Hz"))
    assert accuracy > 0.85
    assert rate > 1
    assert re.search(r"spikes in each step:( \d+){20}$", printed)
    if keras.backend.backend() == "tensorflow":
        # The last digits depend on the processor.
        said = block("text")
        assert accuracy == pytest.approx(float(re.search(r"cy (\S+)", said)[1]), abs=0.05)
        assert re.sub(r"\d", "", printed) == re.sub(r"\d", "", said)


def test_pictures_are_there():
    pictures = re.findall(r"\.\. image:: (\S+)", README.read_text(encoding="utf-8"))
    assert len(pictures) == 2
    for picture in pictures:
        assert (README.parent / picture).stat().st_size > 10_000
