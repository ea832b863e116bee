import gzip
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import command_line  # noqa: E402  (the line above finds it)
import fashion_mnist  # noqa: E402
import results_table  # noqa: E402
import spiking_fashion_mnist  # noqa: E402

PAIRS = fashion_mnist.FILE_NAMES.values()
FILE_NAMES = [name for pair in PAIRS for name in pair]
TEST_IMAGES, TEST_LABELS = fashion_mnist.FILE_NAMES["test"]
FIGURES = ("images.png", "spikes.png", "probabilities.png", "dt.png")


@pytest.fixture
def write_data(tmp_path):
    """Writes a few images of the subset to a new directory of the test's own."""
    subset = fashion_mnist.read_directory(fashion_mnist.SUBSET_DIRECTORY, "subset")

    def write(name, num_train=64, num_test=32):
        data = subset.first(num_train, num_test)
        parts = (data.train_images, data.train_labels, data.test_images, data.test_labels)
        directory = tmp_path / name
        directory.mkdir(parents=True)
        for file_name, array in zip(FILE_NAMES, parts, strict=True):
            fashion_mnist.write_idx(directory / file_name, array)
        return directory

    return write


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A machine without Fashion-MNIST and without a network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIRECTORY", tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist, "server_answers", lambda: False)


@pytest.fixture
def arguments_fail(monkeypatch, capsys, tmp_path):
    """Runs the example, which is to end at once; returns what it wrote to stderr."""
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "tensorflow"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            spiking_fashion_mnist.main([str(argument) for argument in arguments])
        assert stopped.value.code == 2
        return capsys.readouterr().err

    return run


def run_script(name, *arguments, cwd):
    """Runs a script of the examples from a directory; returns what it printed."""
    command = [sys.executable, EXAMPLES / name, *arguments]
    ran = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return ran.stdout


class TestSubset:
    def test_holds_600_and_100_images_of_each_class(self):
        data = fashion_mnist.read_directory(fashion_mnist.SUBSET_DIRECTORY, "subset")
        assert np.bincount(data.train_labels).tolist() == [600] * 10
        assert np.bincount(data.test_labels).tolist() == [100] * 10
        assert data.train_images.shape == (6000, 28, 28)
        assert data.train_images.max() == 255
        assert not data.is_full

    def test_is_under_four_megabytes_with_its_licence(self):
        files = [path for path in fashion_mnist.SUBSET_DIRECTORY.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 4e6
        licence = (fashion_mnist.SUBSET_DIRECTORY / "LICENSE").read_text(encoding="utf-8")
        assert "MIT" in licence
        assert "Zalando SE" in licence

    @pytest.mark.slow
    def test_script_makes_the_same_files_again(self, tmp_path):
        source = fashion_mnist.SUBSET_DIRECTORY
        run_script("data/make_subset.py", source, "--output", tmp_path, cwd=tmp_path)
        for name in FILE_NAMES:
            made, shipped = (
                fashion_mnist.read_idx(directory / name)
                for directory in (tmp_path, fashion_mnist.SUBSET_DIRECTORY)
            )
            np.testing.assert_array_equal(made, shipped)

    def test_file_depends_on_the_array_only(self, tmp_path):
        array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        for name in ("one.gz", "two.gz"):
            fashion_mnist.write_idx(tmp_path / name, array)
        assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()
        np.testing.assert_array_equal(fashion_mnist.read_idx(tmp_path / "one.gz"), array)


class TestLoad:
    def test_takes_the_first_it_finds(self, no_data, write_data, monkeypatch):
        monkeypatch.setattr(fashion_mnist, "download", lambda: None)
        assert "subset" in fashion_mnist.load().source
        downloaded = fashion_mnist.read_directory(write_data("download"), "a download")
        monkeypatch.setattr(fashion_mnist, "download", lambda: downloaded)
        assert fashion_mnist.load() is downloaded
        write_data("debian")
        assert "Debian" in fashion_mnist.load().source
        write_data("keras/datasets/fashion-mnist")
        assert "cache" in fashion_mnist.load().source
        given = write_data("given", num_train=10)
        data = fashion_mnist.load(given)
        assert data.source == str(given)
        assert data.describe() == f"10 training and 32 test images, from {given}"

    def test_skips_a_damaged_cache_and_says_so(self, no_data, write_data, capsys):
        cache = write_data("keras/datasets/fashion-mnist")
        (cache / TEST_LABELS).write_bytes(b"an error page")
        assert "subset" in fashion_mnist.load().source
        assert TEST_LABELS in capsys.readouterr().out

    def test_skips_an_incomplete_cache(self, no_data, write_data):
        (write_data("keras/datasets/fashion-mnist") / TEST_LABELS).unlink()
        assert "subset" in fashion_mnist.load().source

    def test_names_a_missing_file(self, write_data):
        directory = write_data("given")
        (directory / TEST_LABELS).unlink()
        with pytest.raises(fashion_mnist.DataError, match=f"has no {TEST_LABELS}"):
            fashion_mnist.load(directory)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: b"",
            lambda content: b"an error page",
            lambda content: content[: len(content) // 2],
            lambda content: content[:20] + b"\x00" * 20 + content[40:],
            lambda content: gzip.compress(b""),
            lambda content: gzip.compress(gzip.decompress(content)[:-1]),
            lambda content: gzip.compress(b"\x00\x00\x0d\x03" + gzip.decompress(content)[4:]),
        ],
        ids=["empty", "text", "half", "overwritten", "nothing", "short", "type"],
    )
    def test_names_a_damaged_file(self, write_data, damage):
        path = write_data("given") / TEST_IMAGES
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(fashion_mnist.DataError, match=TEST_IMAGES):
            fashion_mnist.load(path.parent)

    @pytest.mark.parametrize(
        ("name", "array", "words"),
        [
            (TEST_IMAGES, np.zeros((32, 27, 28)), r"test images have shape \(32, 27, 28\)"),
            (TEST_LABELS, np.zeros(31), r"their labels \(31,\)"),
            (TEST_LABELS, np.full(32, 10), "from 0 to 9; received 32 labels: .10"),
        ],
    )
    def test_says_what_does_not_fit(self, write_data, name, array, words):
        directory = write_data("given")
        fashion_mnist.write_idx(directory / name, array)
        with pytest.raises(fashion_mnist.DataError, match=words):
            fashion_mnist.load(directory)


class TestDownload:
    def test_needs_keras_and_says_so(self, monkeypatch, capsys):
        monkeypatch.setattr(fashion_mnist, "find_spec", lambda name: None)
        assert fashion_mnist.download() is None
        assert "nor is Keras, which would download it" in capsys.readouterr().out

    def test_fails_quietly(self, monkeypatch, capsys):
        keras = pytest.importorskip("keras")

        def fail():
            raise Exception("URL fetch failure")  # what Keras raises

        monkeypatch.setattr(fashion_mnist, "server_answers", lambda: True)
        monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", fail)
        assert fashion_mnist.download() is None
        assert "download of Fashion-MNIST failed: URL" in capsys.readouterr().out
        assert socket.getdefaulttimeout() is None

    def test_takes_what_keras_loads(self, write_data, monkeypatch):
        keras = pytest.importorskip("keras")
        data = fashion_mnist.load(write_data("given"))
        parts = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
        monkeypatch.setattr(fashion_mnist, "server_answers", lambda: True)
        monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: parts)
        downloaded = fashion_mnist.download()
        assert "download" in downloaded.source
        np.testing.assert_array_equal(downloaded.test_labels, data.test_labels)

    def test_does_not_wait_for_a_network_that_hangs(self, monkeypatch):
        test_over = threading.Event()

        def hang(*_, **__):
            test_over.wait(20)
            raise OSError("timed out")

        monkeypatch.setattr(fashion_mnist, "DOWNLOAD_TIMEOUT", 0.05)
        monkeypatch.setattr("urllib.request.urlopen", hang)
        start = time.perf_counter()
        assert not fashion_mnist.server_answers()
        assert time.perf_counter() - start < 10
        test_over.set()

    def test_sees_that_there_is_no_network(self, monkeypatch):
        def refuse(*_, **__):
            raise OSError("no route")

        monkeypatch.setattr("urllib.request.urlopen", refuse)
        assert not fashion_mnist.server_answers()


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--epochs", "0"], "--epochs: expected a whole number from 1 to 10000, received '0'"),
            (["--epochs", "many"], "--epochs: expected a whole number"),
            (["--epochs", "-1"], "--epochs: expected"),
            (["--seed", "1.5"], "--seed: expected a whole number from 0"),
            (["--backend", "theano"], "--backend: invalid choice: 'theano'"),
            (["--data", "nowhere"], "--data: nowhere has no train-images"),
            (["--unheard-of"], "unrecognized arguments: --unheard-of"),
        ],
    )
    def test_names_a_wrong_argument(self, arguments_fail, arguments, words):
        assert words in arguments_fail(*arguments)

    def test_names_an_output_that_is_a_file(self, arguments_fail, tmp_path):
        (tmp_path / "file").touch()
        assert "--output: cannot write to" in arguments_fail("--output", tmp_path / "file")

    def test_refuses_another_backend_of_the_environment(self, arguments_fail, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "numpy")
        assert "KERAS_BACKEND is 'numpy'; expected one of" in arguments_fail()

    @pytest.mark.parametrize(
        ("missing", "words"),
        [
            ("matplotlib", "pip install keras-spiking[viz]"),
            ("keras_spiking", "pip install keras-spiking"),
            ("jax", "'jax' is not installed: pip install keras-spiking[jax]"),
        ],
    )
    def test_says_what_to_install(self, arguments_fail, monkeypatch, missing, words):
        def find_spec(name):
            return None if name == missing else importlib.util.find_spec("os")

        for module in (command_line, spiking_fashion_mnist):
            monkeypatch.setattr(module, "find_spec", find_spec)
        assert words in arguments_fail("--backend", "jax")

    def test_backend_is_the_argument_else_the_environment_else_tensorflow(self, monkeypatch):
        monkeypatch.setattr(spiking_fashion_mnist, "find_spec", lambda name: name)
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        parser = spiking_fashion_mnist.make_parser()
        for argument, expected in (("jax", "jax"), (None, "torch")):
            monkeypatch.setenv("KERAS_BACKEND", "torch")
            assert spiking_fashion_mnist.choose_backend(parser, argument) == expected
            assert os.environ["KERAS_BACKEND"] == expected
        monkeypatch.delenv("KERAS_BACKEND")
        assert spiking_fashion_mnist.choose_backend(parser, None) == "tensorflow"

    @pytest.mark.parametrize(
        ("arguments", "is_full", "epochs"),
        [
            ([], True, 10),
            ([], False, 20),
            (["--quick"], False, 3),
            (["--brief"], True, 4),
            (["--brief"], False, 20),
            (["--brief", "--epochs", "7"], True, 7),
        ],
    )
    def test_epochs_suit_the_data(self, arguments, is_full, epochs):
        parsed = spiking_fashion_mnist.make_parser().parse_args(arguments)
        assert command_line.choose_epochs(parsed, is_full)[0] == epochs

    @pytest.mark.slow
    def test_helps_from_any_directory(self, tmp_path):
        helped = run_script("spiking_fashion_mnist.py", "--help", cwd=tmp_path)
        for option in (
            "--data",
            "--epochs",
            "--backend",
            "--output",
            "--quick",
            "--brief",
            "--seed",
        ):
            assert option in helped


def test_table_compares_only_what_can_be_compared():
    result = results_table.Result(
        "spiking-aware", 0.01, 0.84321, results_table.Rates(0.0, 2.5, 20.0), 1.234
    )
    lines = results_table.format_table([result], "data: all of them", comparable=True)
    row = next(line for line in lines if line.startswith("spiking-aware, dt 0.01 s"))
    assert row.split()[4:] == [
        *("0.8432", "0.00", "2.50", "20.00", "1.23", "|"),
        *("0.8428", "2.74", "-", "|", "0.8416", "2.82"),
    ]
    assert "data: all of them" in lines
    warning = results_table.NOT_FULL_DATA.splitlines()[0]
    assert warning not in lines
    assert warning in results_table.format_table([result], "a few", comparable=False)


@pytest.mark.slow
def test_example_runs_from_data_to_table_and_figures(write_data, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "tensorflow"))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    monkeypatch.setattr(spiking_fashion_mnist, "EXAMPLE_IMAGES", 2)
    data, output = write_data("a place/data"), tmp_path / "a place" / "output"
    arguments = ["--data", str(data), "--epochs", "1", "--output", str(output)]
    spiking_fashion_mnist.main(arguments)
    table = (output / "results.txt").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert table in printed
    assert f"64 training and 32 test images, from {data}" in table
    assert results_table.NOT_FULL_DATA in table
    rows = table[: table.index("data:")].splitlines()
    for name, dt in results_table.KERAS_SPIKING.run_again:
        title = name if dt is None else f"{name}, dt {dt:g} s "
        (row,) = [row for row in rows if row.startswith(title)]
        accuracy, least, mean, greatest, step_ms = row[len(title) :].split()[:5]
        assert 0 <= float(accuracy) <= 1
        assert float(step_ms) > 0
        if dt is None:
            assert (least, mean, greatest) == ("-", "-", "-")
        else:
            assert 0 <= float(least) <= float(mean) <= float(greatest)
    for name in FIGURES:
        assert (output / name).read_bytes().startswith(b"\x89PNG")
