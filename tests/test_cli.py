"""``python -m fastmlp``: the digits, files of arrays, and one clear line for whatever is wrong."""

import re
import subprocess
import sys

import numpy as np
import pytest

from fastmlp import __main__ as cli


@pytest.fixture(autouse=True)
def same_threads():
    import numba

    threads = numba.get_num_threads()
    yield
    numba.set_num_threads(threads)


@pytest.fixture
def run(capsys):
    """Run the command line in this process: (status, stdout, stderr)."""

    def run(*arguments):
        try:
            status = cli.main(list(map(str, arguments)))
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return save


def test_the_main_job_learns_the_digits():
    done = subprocess.run([sys.executable, "-m", "fastmlp"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, trained, tested = done.stdout.splitlines()
    seconds = re.fullmatch(r"trained 100 epochs in (\d+\.\d\d) s \(\d+ samples/s\)", trained)[1]
    assert float(seconds) < 3
    assert float(re.fullmatch(r"test accuracy (0\.9\d\d)", tested)[1]) >= 0.97
    assert "epoch 100/100" in done.stderr
    assert "loss=" in done.stderr


def test_the_seed_decides_the_result(run):
    results = [run("--epochs", 2, "--seed", seed)[1].splitlines()[-1] for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


def test_options_reach_the_network(run):
    status, out, _ = run("--hidden", "5,4,3", "--dtype", "float64", "--epochs", 1, "--batch-size", 7, "--threads", 1)
    assert status == 0
    assert "[64, 5, 4, 3, 10]" in out
    assert "float64" in out
    assert "trained 1 epochs" in out


def test_class_numbers_become_one_hot_targets(run, save, rng):
    X = rng.random((400, 2))
    status, out, _ = run("--data", save(X=X, Y=(X[:, 0] > X[:, 1]).astype(int)), "--hidden", 8)
    assert status == 0
    assert "Network([2, 8, 2]" in out
    assert float(out.split()[-1]) > 0.9


def test_one_output_of_0_or_1_has_an_accuracy(run, save, rng):
    X = rng.random((400, 2))
    _, out, _ = run("--data", save(X=X, Y=X[:, :1] > 0.5), "--hidden", 8)
    assert out.splitlines()[-1].startswith("test accuracy")
    assert float(out.split()[-1]) > 0.9


def test_other_targets_have_a_loss(run, save, rng):
    X = rng.random((400, 2))
    _, out, _ = run("--data", save(X=X, Y=X.mean(1, keepdims=True)), "--hidden", 8)
    assert out.splitlines()[-1].startswith("test loss")
    assert float(out.split()[-1]) < 0.01


@pytest.mark.parametrize("digits", [True, False])
def test_the_plot_is_a_picture(run, save, rng, tmp_path, digits):
    data = [] if digits else ["--data", save(X=rng.random((10, 2)), Y=rng.random((10, 1)))]
    picture = tmp_path / "plot.png"
    status, _, err = run("--epochs", 2, "--plot", picture, *data)
    assert status == 0, err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_tqdm_it_trains_and_names_the_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    status, out, err = run("--epochs", 1)
    assert status == 0
    assert "test accuracy" in out
    assert "fastmlp[cli]" in err


def test_without_matplotlib_a_plot_names_the_extra(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert_one_line(run("--plot", tmp_path / "plot.png"), "fastmlp[plot]")


def test_a_diverging_training_ends_with_one_line(run):
    status, _, err = run("--learning-rate", 1e39)
    assert status == 1
    assert "NaN or infinite" in err.splitlines()[-1]
    assert "Traceback" not in err


def assert_one_line(result, *words):
    status, _, err = result
    assert status == 2
    assert len(err.splitlines()) == 1
    assert err.startswith("fastmlp: error: ")
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--hidden", "3,x"),
        ("--hidden", ""),
        ("--hidden", "3,0"),
        ("--epochs", "0"),
        ("--epochs", "1.5"),
        ("--batch-size", "-1"),
        ("--learning-rate", "nan"),
        ("--learning-rate", "-1"),
        ("--seed", "-1"),
        ("--dtype", "float16"),
        ("--threads", "0"),
        ("--threads", "100000"),
        ("--plot", "/nowhere/at/all.png"),
        ("--plot", "picture.of-no-known-kind"),
        ("--data", "no-such-file.npz"),
        ("--data", "."),
        ("--data", __file__),
        ("--data",),
        ("--bogus",),
        ("extra",),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_one_line(run, arguments):
    assert_one_line(run(*arguments), arguments[0])


FILES = {
    "no Y": {"X": np.ones((9, 2))},
    "one sample": {"X": np.ones((1, 2)), "Y": np.ones((1, 1))},
    "different lengths": {"X": np.ones((9, 2)), "Y": np.ones((8, 1))},
    "X of one dimension": {"X": np.ones(9), "Y": np.ones((9, 1))},
    "Y of three": {"X": np.ones((9, 2)), "Y": np.ones((9, 1, 1))},
    "no features": {"X": np.ones((9, 0)), "Y": np.ones((9, 1))},
    "text": {"X": np.full((9, 2), "a"), "Y": np.ones((9, 1))},
    "complex": {"X": np.full((9, 2), 1j), "Y": np.ones((9, 1))},
    "objects": {"X": np.full((9, 2), None), "Y": np.ones((9, 1))},
    "NaN": {"X": np.full((9, 2), np.nan), "Y": np.ones((9, 1))},
    "NaN in Y": {"X": np.ones((9, 2)), "Y": np.full(9, np.nan)},
    "too large": {"X": np.full((9, 2), 1e300), "Y": np.ones((9, 1))},
    "negative class": {"X": np.ones((9, 2)), "Y": np.arange(9) - 1},
    "broken class": {"X": np.ones((9, 2)), "Y": np.arange(9) / 2},
    "class out of all measure": {"X": np.ones((9, 2)), "Y": np.full(9, 10**12)},
}


@pytest.mark.parametrize("arrays", FILES.values(), ids=FILES.keys())
def test_a_wrong_file_is_one_line(run, save, arrays):
    assert_one_line(run("--data", save(**arrays)), "--data")


def test_a_damaged_file_is_one_line(run, save, rng):
    path = save(X=rng.random((99, 2)), Y=rng.random((99, 1)))
    path.write_bytes(path.read_bytes()[:1000])
    assert_one_line(run("--data", path), "--data")
