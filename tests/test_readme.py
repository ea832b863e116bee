"""The README's example runs, and prints what the README says."""

import pathlib
import re

import keras
import numpy as np
import pytest

import keras_spiking

README = pathlib.Path(__file__).parents[1] / "README.rst"


def block(language, heading=""):
    """The first block of this language after a heading of the README, without its indent."""
    text = README.read_text(encoding="utf-8")
    text = text[text.index(f"\n{heading}\n") :]
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


def test_convolutions_train():
    names = {"keras": keras, "keras_spiking": keras_spiking}
    exec(compile(block("python", "Convolutions"), str(README), "exec"), names)  # noqa: S102
    model = names["model"]
    assert model.output_shape == (None, 10)
    model.compile("sgd", "mse")
    inputs = np.random.default_rng(0).normal(size=(2, 10, 28, 28, 1))
    history = model.fit(inputs, np.zeros((2, 10)), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


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


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="one backend is enough")
def test_pytorch_modules_train():
    names = {}
    exec(compile(block("python", "PyTorch"), str(README), "exec"), names)  # noqa: S102
    outputs, model = names["outputs"], names["model"]
    assert tuple(outputs.shape) == (32, 1)
    outputs.sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_energy_prints_what_it_says(capsys):
    names = {"keras": keras, "keras_spiking": keras_spiking, "np": np}
    exec(compile(block("python", "Energy"), str(README), "exec"), names)  # noqa: S102
    printed, said = capsys.readouterr().out.strip(), block("text", "Energy")
    # Weights, and so the rates after them, differ between backends.
    number = r"\d\S*"
    assert re.sub(f" *{number}", "#", printed) == re.sub(f" *{number}", "#", said)
    for line, expected in zip(printed.splitlines(), said.splitlines(), strict=True):
        if line.startswith(("dense ", "total")):
            numbers, others = (re.findall(f" ({number})", text) for text in (line, expected))
            numbers, others = (
                [float(each.replace(",", "")) for each in each_line]
                for each_line in (numbers, others)
            )
            np.testing.assert_allclose(numbers, others, rtol=0.02)


def test_pictures_are_there():
    pictures = re.findall(r"\.\. image:: (\S+)", README.read_text(encoding="utf-8"))
    assert len(pictures) == 4
    for picture in pictures:
        assert (README.parent / picture).stat().st_size > 10_000
