"""What is measured: networks, their minibatches, and the same samples and initial weights for every library."""

import os
from itertools import pairwise
from typing import NamedTuple

import numpy as np

DTYPE = np.dtype(os.environ.get("BENCHMARK_DTYPE", "float32"))


class Shape(NamedTuple):
    sizes: tuple[int, ...]
    batch_size: int
    minibatches: int  # of an epoch: enough for some ms of the fastest library, at most about 1 s of the slowest

    def __repr__(self):
        return f"{'-'.join(map(str, self.sizes))} by {self.batch_size}"

    @property
    def flops(self):
        """Useful floating-point operations of a step: two for each multiply-add of its products."""
        forward = sum(n_in * n_out for n_in, n_out in pairwise(self.sizes))
        delta = sum(n_in * n_out for n_in, n_out in pairwise(self.sizes[1:]))
        return 2 * self.batch_size * (2 * forward + delta)

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
    Shape((4, 8, 3), 5000, 20),  # a few inputs of thousands of samples, as in many a table
)

NETWORKS = tuple(dict.fromkeys(shape.sizes for shape in SHAPES))


def samples(shape):
    """X and Y of an epoch and an order to take them in. Y is a smooth function of X: there is something to learn."""
    rng = np.random.default_rng(1)
    n_in, n_out = shape.sizes[0], shape.sizes[-1]
    count = shape.batch_size * shape.minibatches
    X = rng.standard_normal((count, n_in), DTYPE)
    mix = rng.standard_normal((n_in, n_out), DTYPE) / DTYPE.type(n_in**0.5)
    return X, (1 + np.tanh(X @ mix)) / 2, rng.permutation(count)


def initial(sizes):
    """Weights (N_l, N_{l-1}) and biases (N_l,) of each layer."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((n, m), DTYPE) / DTYPE.type(m**0.5) for m, n in pairwise(sizes)]
    return weights, [rng.standard_normal(n, DTYPE) / 4 for n in sizes[1:]]
