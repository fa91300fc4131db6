"""``python -m fastmlp``: train a network on the digits that ship with the package, or on a file of arrays."""

import argparse
import sys
import time
import zipfile

import numba
import numpy as np

from . import Network, datasets
from ._checks import sample_pairs
from ._extras import require
from .kernels.blocking import RUN


class OptionError(Exception):
    """Something about the options or files that one line can say."""


def main(arguments=None):
    """The command line; the exit status: 0, 1 where training failed, 2 for a wrong option or file."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except (OptionError, ImportError) as problem:
        parser.error(str(problem))
    except FloatingPointError as failure:
        print(f"fastmlp: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fastmlp: interrupted", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def _parser():
    parser = _Parser(
        prog="fastmlp",
        description="Train a multilayer perceptron on handwritten digits, or on the arrays X and Y of a file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--hidden", type=_widths, default="64,32", metavar="64,32", help="widths of the hidden layers")
    parser.add_argument("--epochs", type=_count, default=100)
    parser.add_argument("--batch-size", type=_count, default=16)
    parser.add_argument("--learning-rate", type=_rate, default=5.0)
    parser.add_argument("--seed", type=_seed, default=0, help="of the initial weights and the order of the samples")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=_count, help="at most so many")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the loss and some test digits; needs matplotlib")
    parser.add_argument(
        "--data",
        metavar="FILE.npz",
        help="train on its arrays X (samples, features) and Y: (samples, outputs) in [0, 1], or class numbers "
        "0, 1, ... (samples,); every fifth sample is kept for the test",
    )
    return parser


def _count(text):
    return _number(text, int, lambda n: n >= 1, "a whole number of at least 1")


def _seed(text):
    return _number(text, int, lambda n: n >= 0, "a whole number of at least 0")


def _rate(text):
    return _number(text, float, lambda x: 0 < x < float("inf"), "a positive number")


def _widths(text):
    return [_number(part, int, lambda n: n >= 1, "whole numbers of at least 1, as 64,32") for part in text.split(",")]


def _number(text, kind, fits, expected):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value


def _run(options):
    if options.threads is not None:
        if options.threads > numba.config.NUMBA_NUM_THREADS:
            raise OptionError(
                f"argument --threads: at most {numba.config.NUMBA_NUM_THREADS} here, got {options.threads}"
            )
        numba.set_num_threads(options.threads)
    figure = _figure(options.plot) if options.plot else None
    X, Y, X_test, Y_test = _load(options.data) if options.data else datasets.load_digits()

    sizes = [X.shape[1], *options.hidden, Y.shape[1]]
    network = Network(sizes, dtype=options.dtype, seed=options.seed)
    print(network)
    start = time.perf_counter()
    try:
        _prepare(network, X, Y, X_test, Y_test, options.batch_size)
    except ValueError as error:
        raise OptionError(f"argument --data: {error}") from None
    print(f"kernels ready in {time.perf_counter() - start:.1f} s", flush=True)

    history = network.fit(
        X,
        Y,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        progress=_has_tqdm(),
    )
    seconds = sum(history.seconds)
    print(f"trained {options.epochs} epochs in {seconds:.2f} s ({options.epochs * len(X) / seconds:.0f} samples/s)")
    g_test = network.predict(X_test)
    print(_score(network, X_test, Y_test, g_test))
    if options.plot:
        left, *right = figure.subfigures(1, 1 if options.data else 2, squeeze=False).flat
        history.plot(left.subplots())
        for part in right:
            _draw_digits(part, X_test, g_test.argmax(1))
        _save(figure, options.plot)


def _prepare(network, X, Y, X_test, Y_test, batch_size):
    """Compile, or load from the cache, all that training and testing call; and have all samples checked."""
    for pair in ((X, Y), (X_test, Y_test)):
        sample_pairs(*pair, network.sizes, network.dtype)
    some = slice(RUN * batch_size)  # the least that is trained as all of them are
    network.copy().fit(X[some], Y[some], epochs=1, batch_size=batch_size, learning_rate=1e-30)
    _score(network, X_test, Y_test, network.predict(X_test))


def _has_tqdm():
    try:
        require("tqdm", extra="cli")
    except ImportError as missing:
        print(f"no progress bar: {missing}", file=sys.stderr)
        return False
    return True


def _load(path):
    """X_train, Y_train, X_test, Y_test of an .npz file."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            X, Y = file["X"], file["Y"]
    except OSError as error:
        raise OptionError(f"argument --data: cannot read {path}: {error.strerror or error}") from None
    except (ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile):
        raise OptionError(f"argument --data: {path} is not an .npz file of the arrays X and Y") from None
    for name, array in (("X", X), ("Y", Y)):
        if array.dtype.kind not in "buif":
            raise OptionError(f"argument --data: {name} must hold numbers, got {array.dtype}")
    if X.ndim != 2 or len(X) < 5 or X.shape[1] == 0:
        raise OptionError(f"argument --data: X must have shape (5 or more samples, features), got {X.shape}")
    if Y.ndim not in (1, 2) or len(Y) != len(X) or 0 in Y.shape:
        raise OptionError(f"argument --data: Y must have shape ({len(X)}, outputs) or ({len(X)},), got {Y.shape}")
    if not (np.isfinite(X).all() and np.isfinite(Y).all()):
        raise OptionError("argument --data: X and Y must be finite")
    if Y.ndim == 1:
        if (Y % 1 != 0).any() or Y.min() < 0 or Y.max() >= len(Y):
            raise OptionError(f"argument --data: a Y of one dimension must hold class numbers 0, 1, ... below {len(Y)}")
        Y = datasets.one_hot(Y.astype(np.int64), int(Y.max()) + 1)
    test = np.arange(len(X)) % 5 == 4
    return X[~test], Y[~test], X[test], Y[test]


def _score(network, X, Y, g):
    """Accuracy where the targets name classes: one-hot, or one output that is 0 or 1. Else the loss."""
    if not np.isin(Y, (0, 1)).all():
        return f"test loss {network.loss(X, Y):.6f}"
    if Y.shape[1] == 1:
        correct = (g > 0.5) == (Y > 0.5)
    elif (Y.sum(1) == 1).all():
        correct = g.argmax(1) == Y.argmax(1)
    else:
        return f"test loss {network.loss(X, Y):.6f}"
    return f"test accuracy {correct.mean():.3f}"


def _figure(path):
    """An empty figure, once it is sure that it can be saved: training may take long."""
    require("matplotlib", extra="plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    _save(figure, path)
    return figure


def _save(figure, path):
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise OptionError(f"argument --plot: cannot write {path}: {error}") from None


def _draw_digits(figure, images, labels):
    for ax, image, label in zip(figure.subplots(3, 4).flat, images, labels, strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray_r")
        ax.set_title(str(label))
        ax.set_axis_off()


if __name__ == "__main__":
    sys.exit(main())
