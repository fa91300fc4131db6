"""Large weights that are stored in panels while many minibatches are trained: the same bits, in their own memory."""

import numpy as np
import pytest
from test_programs import case, in_turn, pace

from fastmlp import Network
from fastmlp.kernels import entry
from fastmlp.kernels.blocking import STORED_FROM
from fastmlp.kernels.matrix import Vector
from fastmlp.kernels.network import training_size
from fastmlp.kernels.order import order_of
from fastmlp.kernels.programs import fit_size, given_sizes, is_stored
from fastmlp.kernels.stored import all_stored_size, lies_in_panels

# Of layers in panels: the last panel is whole, of one column, of almost all; below others, between, and as the last.
CASES = (
    ([300, 512, 7], 33),
    ([520, 257, 40, 3], 50),
    ([300, 511, 263, 1], 17),
    ([3, 500, 270], 64),
    ([5, 200, 700], 100),
    ([600, 600, 600], 24),
    ([300, 512, 7], 9),
    ([1100, 300, 500], 12),
)


def extents(sizes, batch, dtype, threads):
    """Elements of a workspace, and of what is stored at its end."""
    stored = all_stored_size(Vector(sizes, len(sizes)), 1, dtype.itemsize)
    return training_size(sizes, batch, dtype.itemsize, threads) + stored + 16, stored


def train(net, X, Y, order, batch, workspace, threads):
    """Loss, where training stopped, and the parameters."""
    parameters, rest = net.parameters.copy(), len(order) % batch
    run = pace(np.inf, 0), parameters, X, Y, order_of(order), 0, len(order), 0.0, batch, 0.5
    sizes = given_sizes(net.sizes, net.dtype.itemsize, batch, rest, stored=True)
    guard = np.empty_like(parameters), False, True
    return *entry.train_in_turn(*guard, *run, *sizes, workspace, threads, 1), parameters


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_the_bits_are_those_of_weights_in_rows(sizes, batch, threads, dtype, rng):
    samples = STORED_FROM * batch + 3
    net, X, Y = case(sizes, samples, dtype, rng)
    order = rng.permutation(samples)
    size, stored = extents(sizes, batch, dtype, threads)
    workspace = np.full(size + 4096, 7, dtype)
    loss, stopped, parameters = train(net, X, Y, order, batch, workspace[:size], threads)
    expected = in_turn(net, X, Y, order, batch)
    assert (loss, stopped) == expected[:2] == (loss, samples)
    np.testing.assert_array_equal(parameters, expected[2])
    assert (workspace[size:] == 7).all()
    # Until all threads have come, minibatches are trained one by one, and nothing is stored.
    assert threads > 1 or not (workspace[size - stored : size] == 7).all()


@pytest.mark.parametrize("column", [0, -1])
def test_a_sample_that_is_not_finite_stops_before_its_minibatch(column, dtype, rng):
    sizes, batch = CASES[0]
    samples = STORED_FROM * batch
    net, X, Y = case(sizes, samples, dtype, rng)
    order = np.arange(samples)
    X[2 * batch + 5, column] = np.nan
    workspace = np.empty(extents(sizes, batch, dtype, 2)[0], dtype)
    _, stopped, parameters = train(net, X, Y, order, batch, workspace, 2)
    assert stopped == 2 * batch
    np.testing.assert_array_equal(parameters, in_turn(net, X, Y, order[:stopped], batch)[2])


@pytest.mark.parametrize(("sizes", "batch"), [CASES[2], ([300, 509, 7], 400)])
def test_fit_gives_the_bits_of_single_steps(sizes, batch, dtype, rng):
    """Whatever it stores, and in calls of as many minibatches as it likes; cut into shards, or not."""
    net, X, Y = case(sizes, 2 * STORED_FROM * batch, dtype, rng)
    by_steps = Network(sizes, dtype=dtype, seed=0)
    net.fit(X, Y, epochs=1, batch_size=batch, learning_rate=0.5, shuffle=False)
    for first in range(0, len(X), batch):
        by_steps.train_step(X[first : first + batch], Y[first : first + batch], learning_rate=0.5)
    np.testing.assert_array_equal(net.parameters, by_steps.parameters)


def test_where_weights_are_stored_so():
    sizes, batch, itemsize = [784, 512, 512, 10], 32, 4
    samples = STORED_FROM * batch
    assert is_stored(sizes, batch, itemsize, 1, samples)
    assert not is_stored(sizes, batch, itemsize, 1, samples - 1)
    assert not is_stored(sizes, 16, itemsize, 1, samples)  # streamed
    assert is_stored([516, 1926, 703], 9, itemsize, 1, samples)  # or not, where there are many pages
    assert not is_stored([516, 1926, 703], 8, itemsize, 1, samples)
    assert not is_stored([1024, 1024, 1024], 9, 2 * itemsize, 1, samples)
    assert not is_stored([784, 128, 10], batch, itemsize, 1, samples)  # in rows that are near each other
    assert not is_stored([300, 509, 7], 400, itemsize, 1, 400 * STORED_FROM)  # in shards
    assert not is_stored([784, 128, 10], 128, itemsize, 2, 10 * 128)  # divided


@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_that_takes_no_more_memory_than_is_promised(sizes, batch):
    net = Network(sizes, seed=0)
    beside = 2 * net.n_parameters + fit_size(sizes, batch, 4, 1, STORED_FROM * batch)
    assert beside <= 4 * net.n_parameters + 2 * batch * sum(sizes) + 16


def test_only_large_layers_of_long_rows_lie_in_panels():
    assert not lies_in_panels(400, 256, 4)
    assert lies_in_panels(800, 257, 4)
    assert lies_in_panels(800, 256, 8)
    assert not lies_in_panels(100, 1000, 4)
