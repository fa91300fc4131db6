"""Where a plan puts the arrays of a network: each in memory of its own, all within the workspace."""

import itertools

import numpy as np
import pytest

from fastmlp.kernels.blocking import CACHE_LINE, RUN
from fastmlp.kernels.host import HOST
from fastmlp.kernels.plan import (
    AHEAD,
    BIAS_LETTER,
    BYTES_OF_LINES,
    BYTES_TOLD,
    DELTA,
    DELTAS,
    HANDED,
    INPUTS,
    LETTER,
    OTHER,
    OUTPUTS,
    SLICE_LENGTH,
    SLICES,
    SUMS,
    TOLD,
    WIDTH,
    WT,
    ZEROS,
    B,
    G,
    W,
    X,
    is_apart,
    letter_extents,
    plan_for,
    predict_plan,
    rows_size,
    small_size,
    weight_extents,
    weights_stride,
)
from fastmlp.kernels.programs import fit_size, program_for

CASES = [([7, 1], 1), ([5, 4, 3], 2), ([3, 17, 40, 2], 21), ([600, 1], 13), ([1, 5], 120)]
DIVIDED = [([784, 24, 10], 10), ([1001, 9], 21), ([300, 17, 5, 1], 7), ([1001, 3, 4], 30), ([784, 8], 150)]
BY_UNITS = [([64, 64, 10], 32), ([784, 63, 10], 3), ([5, 111, 3], 30)]
TOGETHER = [([17, 64, 64, 6], 64), ([40, 300, 9, 7], 51), ([16] * 20, 35)]


def places(table, sizes, rows, itemsize, in_place=False):
    """(first byte, how many) of the weights, and of a minibatch's arrays; δ of hidden layers may be where g is."""
    lanes, apart = HOST.lanes(itemsize), is_apart(sizes, rows)
    weights, samples = [], [(table[0, X], rows_size(apart, rows, sizes[0], lanes) * itemsize)]
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
        extents = weight_extents(layer, n_in, n_out, lanes)
        weights += [(table[2 * layer, which], n * itemsize) for which, n in zip((WT, B, W), extents, strict=True)]
        size = rows_size(apart, rows, n_out, lanes) * itemsize
        samples += [(table[2 * layer, which], size) for which in (G, DELTA)]
        if in_place and n_out % lanes == 0 and layer < len(sizes) - 1:
            assert samples.pop() == samples[-1]
    return weights, samples


def check(places, workspace):
    places = sorted(place for place in places if place[1] > 0)
    assert places[0][0] >= workspace.ctypes.data
    assert sum(places[-1]) <= workspace.ctypes.data + workspace.nbytes
    for (start, size), (following, _) in itertools.pairwise(places):
        assert start + size <= following


@pytest.mark.parametrize("offset", [0, 1])  # of the workspace, which begins anywhere
@pytest.mark.parametrize(("sizes", "batch"), CASES + TOGETHER)
def test_no_two_arrays_of_one_thread_overlap(sizes, batch, offset, dtype):
    workspace = np.empty(offset + small_size(sizes, batch, dtype.itemsize), dtype)[offset:]
    [table] = plan_for("train_online", sizes, batch, RUN * batch, workspace)
    weights, samples = places(table, sizes, batch, dtype.itemsize)
    check(weights + samples, workspace)
    assert weights[0][0] % CACHE_LINE == 0


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("sizes", "batch"), CASES[2:])
def test_threads_that_predict_share_nothing(sizes, batch, offset, dtype):
    workspace = np.empty(offset + small_size(sizes, batch, dtype.itemsize, 3), dtype)[offset:]
    tables = predict_plan(tuple(sizes), batch, 3, workspace)
    of_threads = (places(table, sizes, batch, dtype.itemsize) for table in tables)
    check([place for weights, samples in of_threads for place in weights + samples], workspace)


def by_two(program, sizes, batch, offset, dtype):
    """The workspace of a program of two threads, and the tables of its plan."""
    assert program_for(sizes, batch, RUN * batch, 2) == program
    workspace = np.empty(offset + fit_size(sizes, batch, dtype.itemsize, 2, RUN * batch), dtype)[offset:]
    return workspace, plan_for(program, sizes, batch, RUN * batch, workspace)


def check_others(halves, starts, itemsize):
    """What each thread has of its own lies where the other finds it."""
    for half, own, other in zip(halves, starts, reversed(starts), strict=True):
        assert [start + half[1, OTHER] * itemsize for start in own] == other


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("sizes", "batch"), TOGETHER)
def test_two_threads_share_what_they_tell_each_other_and_nothing_else(sizes, batch, offset, dtype):
    item, lanes = dtype.itemsize, HOST.lanes(dtype.itemsize)
    workspace, (_, *halves) = by_two("train_together", sizes, batch, offset, dtype)
    told, all_places, starts = {half[1, TOLD] for half in halves}, [], []
    for half in halves:
        weights, samples = places(half, sizes, (batch + 1) // 2, item, in_place=True)
        letters = []
        for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
            extents = letter_extents(layer, n_in, n_out, lanes)
            line = half[2 * layer + 1]
            letters += [(line[which], n * item) for which, n in zip((LETTER, BIAS_LETTER), extents, strict=True)]
        starts.append([start for start, _ in weights + letters])
        all_places += [*weights, *letters, *samples, (half[1, AHEAD], BYTES_OF_LINES)]
    check([*all_places, (told.pop(), BYTES_TOLD)], workspace)
    assert not told
    check_others(halves, starts, item)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("sizes", "batch"), DIVIDED)
def test_two_threads_that_divide_a_layer_share_no_array_either(sizes, batch, offset, dtype):
    item, lanes = dtype.itemsize, HOST.lanes(dtype.itemsize)
    workspace, (whole, *halves) = by_two("train_divided_rows", sizes, batch, offset, dtype)
    of_WT, of_b, of_W = weight_extents(1, *sizes[:2], lanes)
    all_places, starts, inputs = [(halves[0][1, TOLD], BYTES_TOLD)], [], 0
    for half in halves:
        own, some, of_all = (batch + 1) // 2, half[0, INPUTS], rows_size(False, batch, sizes[1], lanes) * item
        if of_WT:
            assert half[2, WT] == whole[2, WT] + inputs * of_WT // sizes[0] * item
        elif inputs == 0:
            assert half[2, W] == whole[2, W]
        else:
            assert half[2, WT] == whole[2, W] + inputs * item
            assert half[3, WIDTH] == weights_stride(some, lanes)
            all_places.append((half[2, W], sizes[1] * half[3, WIDTH] * item))
        inputs += some
        handed = half[3, HANDED] + max(0, -half[1, OTHER]) * item
        weights = []  # of the layers above, letters and what is handed over, which the other thread has too
        samples = [(half[0, X], rows_size(False, batch, some, lanes) * item), (half[1, AHEAD], BYTES_OF_LINES)]
        samples += [(half[3, which], of_all) for which in (SUMS, DELTAS)] + [(half[3, ZEROS], of_b * item)]
        for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
            extents, letter = weight_extents(layer, n_in, n_out, lanes), letter_extents(layer, n_in, n_out, lanes)
            arrays = [(half[2 * layer, which], n * item) for which, n in zip((WT, B, W), extents, strict=True)]
            line = half[2 * layer + 1]
            arrays += [
                (line[which], n * item) for which, n in zip((BIAS_LETTER, LETTER), reversed(letter), strict=True)
            ]
            weights += arrays if layer > 1 else arrays[1::2]  # of the first layer what belongs to the biases
            size = rows_size(False, own, n_out, lanes) * item
            samples += [(half[2 * layer, place], size) for place in (G, DELTA)]
        weights.append((handed, rows_size(False, own, sizes[1], lanes) * item))
        starts.append([start for start, _ in weights])
        all_places += weights + samples
    assert inputs == sizes[0]
    check([(whole[2, WT if of_WT else W], (of_WT or of_W) * item), *all_places], workspace)
    check_others(halves, starts, item)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("sizes", "batch"), BY_UNITS)
def test_two_threads_with_half_of_the_units_each_share_no_array_either(sizes, batch, offset, dtype):
    item, lanes = dtype.itemsize, HOST.lanes(dtype.itemsize)
    workspace, (whole, *halves) = by_two("train_by_units", sizes, batch, offset, dtype)
    of_outputs, letters = rows_size(False, batch, sizes[2], lanes) * item, set()
    all_places, _ = places(whole, sizes, batch, item)
    all_places.append((halves[0][1, TOLD], BYTES_TOLD))
    for half in halves:
        own = [sizes[0], half[2, OUTPUTS], sizes[2]]
        weights, samples = places(half, own, batch, item)
        letters.update(half[3, HANDED] + number * half[1, OTHER] * item for number in range(2))
        zeros = weight_extents(2, *own[1:], lanes)[1] * item
        handed = [(half[3, SUMS], of_outputs), (half[3, ZEROS], zeros), (half[1, AHEAD], BYTES_OF_LINES)]
        all_places += weights + samples + handed
        assert list(half[[2, 4], SLICES]) == [whole[2, SLICES], 1]
        assert half[2, SLICE_LENGTH] == whole[2, SLICE_LENGTH]
        assert list(half[1, :4]) == list(whole[1, :4])  # lengths of slices of sums over minibatches
    assert sum(half[2, OUTPUTS] for half in halves) == sizes[1]
    assert halves[0][2, OUTPUTS] == whole[4, SLICE_LENGTH]
    assert len(letters) == 2
    check([*all_places, *((letter, of_outputs) for letter in letters)], workspace)
