"""The README's example runs, and prints what the README says."""

import pathlib
import re

import keras
import pytest

import keras_spiking

README = pathlib.Path(__file__).parents[1] / "README.rst"


def block(language, heading=""):
    """The first block of this language after a heading of the README, without its indent."""
    text = README.read_text(encoding="utf-8")
    text = text[text.index(f"\n{heading}\n") :]
    found = re.search(rf"\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)", text)
    return re.sub(r"^    ", "", found.group(1), flags=re.MULTILINE).strip()


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="its output is that of TensorFlow"
)
def test_example_prints_what_it_says(capsys):
    exec(compile(block("python"), str(README), "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out.strip()
    accuracy, rate = (float(re.search(words, printed)[1]) for words in (r"cy (\S+)", r"(\d+) Hz"))
    assert accuracy > 0.85
    assert rate > 1
    assert re.search(r"spikes in each step:( \d+){20}$", printed)
    # The last digits depend on the processor.
    said = block("text")
    assert accuracy == pytest.approx(float(re.search(r"cy (\S+)", said)[1]), abs=0.05)
    assert re.sub(r"\d", "", printed) == re.sub(r"\d", "", said)


@pytest.mark.slow
def test_a_trained_model_is_converted(rng, capsys):
    data, labels = rng.normal(size=(20, 6, 6, 1)), rng.integers(0, 3, size=20)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    names = {"keras_spiking": keras_spiking, "model": model}
    names |= {"x_train": data, "y_train": labels, "x_test": data, "y_test": labels}
    source = block("python", "Convert a trained model")
    exec(compile(source, str(README), "exec"), names)  # noqa: S102
    assert "accuracy of the original" in capsys.readouterr().out


def test_pictures_are_there():
    pictures = re.findall(r"\.\. image:: (\S+)", README.read_text(encoding="utf-8"))
    assert pictures
    for picture in pictures:
        assert (README.parent / picture).stat().st_size > 10_000


def test_it_is_short_and_its_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    links = re.findall(r"`[^`<]+ <([^>]+)>`__", text)
    assert len(links) > 10
    for link in links:
        assert (README.parent / link).is_file(), link
