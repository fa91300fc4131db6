"""Copies of blocks and of rows, and their finiteness, in every order that source and target can have."""

import itertools

import numpy as np
import pytest
from conftest import FORMS, hard_extents
from numba import njit

from fastmlp.kernels.entry import as_matrix, place
from fastmlp.kernels.matrix import pointer
from fastmlp.kernels.panel import all_finite, copy, gather


@njit
def _copy(target, source, like):
    copy(as_matrix(target, like), as_matrix(source, like))


@njit
def _gather(target, source, order, like):
    return gather(as_matrix(target, like), as_matrix(source, like), pointer(order))


@njit
def _all_finite(m, like):
    return all_finite(as_matrix(m, like))


@pytest.mark.parametrize("form", FORMS)
def test_copy(form, dtype, rng):
    for m, n in itertools.product(hard_extents(dtype), hard_extents(dtype)):
        source = FORMS[form](rng.standard_normal((m, n)).astype(dtype))
        frame = np.full((m + 2, n + 2), -1, dtype)
        target = frame[1:-1, 1:-1]
        _copy(place(target), place(source), np.empty(0, dtype))
        np.testing.assert_array_equal(target, source)
        target[...] = -1
        assert (frame == -1).all()


@pytest.mark.parametrize("form", FORMS)
def test_gather_copies_the_rows_in_the_order_given(form, dtype, rng):
    for n in hard_extents(dtype):
        around = FORMS[form](np.full((9, n + 2), np.nan, dtype))
        source = around[1:-1, 1:-1]
        source[...] = rng.standard_normal(source.shape)
        frame = np.full((7, n + 2), -1, dtype)
        target = frame[1:-1, 1:-1]
        order = rng.integers(0, 7, 5)
        assert _gather(place(target), place(source), order, np.empty(0, dtype))
        np.testing.assert_array_equal(target, source[order])
        target[...] = -1
        assert (frame == -1).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gather_sees_what_is_not_finite_in_the_rows_it_copies(form, bad, dtype):
    for n in (1, 5, 40):
        for row, j in itertools.product((1, 3), range(n)):
            source = FORMS[form](np.full((4, n), np.finfo(dtype).max, dtype))
            source[row, j] = bad
            target = np.empty((3, n), dtype)
            finite = _gather(place(target), place(source), np.array([2, 3, 0]), np.empty(0, dtype))
            assert finite == (row == 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite_sees_every_element_and_nothing_else(form, bad, dtype):
    largest = np.finfo(dtype).max
    for m, n in ((1, 1), (3, 5), (2, 40), (17, 3)):
        for i, j in itertools.product(range(m), range(n)):
            around = FORMS[form](np.full((m + 2, n + 2), np.nan, dtype))
            inside = around[1:-1, 1:-1]
            inside[...] = largest
            assert _all_finite(place(inside), np.empty(0, dtype))
            inside[i, j] = bad
            assert not _all_finite(place(inside), np.empty(0, dtype))
