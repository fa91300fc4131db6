"""The rows of the next minibatch are asked for one after the other, a few cache lines at a time, and no others."""

import numpy as np
import pytest
from numba import njit

from fastmlp.kernels.ahead import LAST, NEXT_ROW, NOTHING, OFFSET, ROW, expect_rows, fetch_some
from fastmlp.kernels.blocking import CACHE_LINE, LINES_AHEAD
from fastmlp.kernels.matrix import matrix, pointer
from fastmlp.kernels.parallel import read
from fastmlp.kernels.tasks import address, reference


@njit
def places(X, Y, order, first, last, calls):
    """(row, byte) that is next, after each call."""
    ahead = address(reference(NOTHING))
    expect_rows(ahead, matrix(X), matrix(Y), pointer(order), first, last)
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
