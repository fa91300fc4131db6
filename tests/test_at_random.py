"""Networks, minibatches and layouts at random, by one thread and by all: what no list of shapes thinks of."""

import itertools

import numba
import numpy as np
import pytest
from conftest import FORMS
from test_gradients import check_gradients

from fastmlp import Network

FEW = 40  # that are always run


def random_case(seed, dtype):
    """A network, 8 minibatches or more and perhaps a smaller one, and how many samples each has.

    Every other one has many weights and few samples.
    """
    rng, work = np.random.default_rng(seed), np.inf
    while work > 3e6:
        layers = rng.integers(1, 5)
        if seed % 2:
            batch, sizes = rng.integers(1, 25), np.exp(rng.uniform(1, 7.5, max(2, layers)))
        else:
            batch, sizes = max(1, 2 ** rng.integers(0, 11) + rng.integers(-1, 2)), np.exp(rng.uniform(0, 7, layers + 1))
            sizes[rng.integers(layers + 1)] = rng.choice([1, 2, 12, 784])
        sizes = [int(width) for width in sizes]
        work = batch * sum(a * b for a, b in itertools.pairwise(sizes))
    samples, form = 8 * batch + rng.integers(batch), FORMS[rng.choice(list(FORMS))]
    X, Y = (form(rng.random((samples, n)).astype(dtype)) for n in (sizes[0], sizes[-1]))
    return Network(sizes, dtype=dtype, seed=rng), X, Y, int(batch)


def results(net, X, Y, batch, threads):
    """Bits of all that a network can do."""
    numba.set_num_threads(threads)
    try:
        fitted, stepped = net.copy(), net.copy()
        losses = fitted.fit(X, Y, epochs=1, batch_size=batch, learning_rate=0.1).loss
        for first in range(0, len(X), batch):
            stepped.train_step(X[first : first + batch], Y[first : first + batch], learning_rate=0.1)
        in_order = net.copy()
        in_order.fit(X, Y, epochs=1, batch_size=batch, learning_rate=0.1, shuffle=False)
        np.testing.assert_array_equal(in_order.parameters, stepped.parameters)
        gradients = net.gradients(X[:batch], Y[:batch]), net.gradients(X[:batch], Y[:batch], inputs=True)
        arrays = fitted.parameters, stepped.parameters, *(of.parameters for of in gradients), gradients[1].inputs
        numbers = *losses, *(of.loss for of in gradients), net.loss(X, Y)
        return [array.tobytes() for array in (*arrays, net.predict(X), np.array(numbers))]
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


def check(seed, dtype, workspaces):
    """Gradients within their rounding bound, the same bits by all threads, and nothing written behind a workspace."""
    net, X, Y, batch = random_case(seed, dtype)
    check_gradients(net, X[:batch], Y[:batch])
    assert results(net, X, Y, batch, numba.config.NUMBA_NUM_THREADS) == results(net, X, Y, batch, 1)
    for memory, length in workspaces:
        assert (memory[length:] == 7).all()


@pytest.mark.parametrize("seed", range(FEW))
def test_a_random_network(seed, dtype, workspaces):
    check(seed, dtype, workspaces)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(FEW, 2000))
def test_any_random_network(seed, dtype, workspaces):
    check(seed, dtype, workspaces)
