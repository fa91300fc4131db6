"""The rows of the next minibatch are asked for one after the other, a few cache lines at a time, and no others."""

import copy

import numpy as np
import pytest
from numba import njit
from reference import shuffled

from fastmlp import Network
from fastmlp.kernels.ahead import LAST, NEXT_ROW, NOTHING, OFFSET, ROW, expect_rows, fetch_some, worth_fetching
from fastmlp.kernels.blocking import BYTES_NEAR, CACHE_LINE, LINES_AHEAD
from fastmlp.kernels.matrix import matrix, vector
from fastmlp.kernels.parallel import read
from fastmlp.kernels.tasks import address, reference


@njit
def places(X, Y, order, first, last, calls):
    """(row, byte) that is next, after each call."""
    ahead = address(reference(NOTHING))
    expect_rows(ahead, matrix(X), matrix(Y), vector(order), first, last)
    found = [(read(ahead, NEXT_ROW, ROW), read(ahead, NEXT_ROW, OFFSET), read(ahead, NEXT_ROW, LAST))]
    for _ in range(calls):
        fetch_some(ahead)
        found.append((read(ahead, NEXT_ROW, ROW), read(ahead, NEXT_ROW, OFFSET), read(ahead, NEXT_ROW, LAST)))
    return found


@pytest.mark.parametrize("columns", [1, 16, 64, 200, 784])
def test_every_row_is_fetched_and_not_more_at_once_than_fits(columns, dtype):
    X, Y, order = np.zeros((50, columns), dtype), np.zeros((50, 3), dtype), np.arange(50)[::-1].copy()
    row_bytes = columns * X.itemsize
    found = places(X, Y, order, 10, 30, 200)
    done = np.array([(row - 10) * row_bytes + offset for row, offset, _ in found])
    assert found[0] == (10, 0, 30)
    assert found[-1] == (30, 0, 30)
    steps = np.diff(done[: np.argmax(done == done[-1]) + 1])
    assert (steps > 0).all()
    assert steps.max() <= 2 * LINES_AHEAD * CACHE_LINE


def test_rows_that_are_not_adjacent_are_not_fetched(dtype):
    X, Y, order = np.zeros((50, 64), dtype, order="F"), np.zeros((50, 3), dtype), np.arange(50)
    assert set(places(X, Y, order, 10, 30, 3)) == {(10, 0, 10)}


def test_no_row_past_the_end_of_the_order_is_fetched(dtype):
    X, Y, order = np.zeros((50, 64), dtype), np.zeros((50, 3), dtype), np.arange(50)
    assert places(X, Y, order, 40, 60, 200)[-1] == (50, 0, 50)
    assert set(places(X, Y, order, 60, 70, 3)) == {(60, 0, 50)}


@njit
def is_worth_it(X, Y, batch):
    return worth_fetching(matrix(X), matrix(Y), batch)


def test_training_with_rows_fetched_ahead_changes_nothing(dtype, rng):
    samples = 2 * BYTES_NEAR // (8 * dtype.itemsize)
    X, Y = rng.random((samples, 7)).astype(dtype), rng.random((samples, 1)).astype(dtype)
    assert is_worth_it(X, Y, 1000)
    assert not is_worth_it(X, Y, samples)
    assert not is_worth_it(X, X @ np.ones((7, 60), dtype), 1000)  # wide targets
    assert not is_worth_it(X[:1000], Y[:1000], 1000)
    generator = np.random.default_rng(3)
    net = Network([7, 9, 1], dtype=dtype, seed=generator)
    stepped, order = net.copy(), shuffled(samples, copy.deepcopy(generator))
    net.fit(X, Y, epochs=1, batch_size=1000)
    for first in range(0, samples, 1000):
        rows = order[first : first + 1000]
        stepped.train_step(X[rows], Y[rows])
    np.testing.assert_array_equal(net.parameters, stepped.parameters)
