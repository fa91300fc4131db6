"""What is measured: networks, their minibatches, and the same samples and initial weights for every library."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Shape(NamedTuple):
    sizes: tuple[int, ...]
    batch_size: int
    minibatches: int  # of an epoch: enough for some ms of the fastest library, at most about 1 s of the slowest

    def __repr__(self):
        return f"{'-'.join(map(str, self.sizes))} by {self.batch_size}"

    @property
    def learning_rate(self):
        # 𝓛 is a mean over the outputs: so many times more leaves each of them the same step.
        return 0.1 * self.sizes[-1]


SHAPES = (
    Shape((2, 32, 32, 1), 32, 200),
    Shape((17, 64, 64, 6), 64, 200),
    Shape((64, 64, 10), 32, 200),
    Shape((784, 30, 10), 10, 200),
    Shape((784, 30, 10), 1, 500),
    Shape((784, 128, 10), 128, 40),
    Shape((784, 512, 512, 10), 256, 10),
    Shape((1024, 1024, 1024, 1024), 1024, 2),
)

NETWORKS = tuple(dict.fromkeys(shape.sizes for shape in SHAPES))


def samples(shape):
    """X and Y of an epoch and an order to take them in. Y is a smooth function of X: there is something to learn."""
    rng = np.random.default_rng(1)
    n_in, n_out = shape.sizes[0], shape.sizes[-1]
    count = shape.batch_size * shape.minibatches
    X = rng.standard_normal((count, n_in), np.float32)
    mix = rng.standard_normal((n_in, n_out), np.float32) / np.float32(n_in**0.5)
    return X, (1 + np.tanh(X @ mix)) / 2, rng.permutation(count)


def initial(sizes):
    """Weights (N_l, N_{l-1}) and biases (N_l,) of each layer."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((n, m), np.float32) / np.float32(m**0.5) for m, n in pairwise(sizes)]
    return weights, [rng.standard_normal(n, np.float32) / 4 for n in sizes[1:]]
