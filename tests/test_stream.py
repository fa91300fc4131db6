"""Products of few rows or terms, and large ones: streamed or in blocks where that is quicker, else a task of tiles."""

import numpy as np
import pytest
from harness import EAGER, SERIAL
from numba import njit

from fastmlp import Network, kernels
from fastmlp.kernels import entry
from fastmlp.kernels.network import training_size
from fastmlp.kernels.programs import are_single_tasks, given_sizes, may_stream

FEW = (
    ([1, 500, 20], 260),
    ([530, 260, 10], 1),  # one sample: the update has a single term
    ([1600, 333, 20], 1),  # of several slices of its sums, which threads share
    ([1600, 69, 5], 1),  # of sums that stay in registers
    ([1600, 250, 5], 1),
    ([2100, 2003, 5], 2),  # weights that no cache holds
    ([400, 400, 17], 7),
    ([456, 448], 7),  # of two slices, of half of whose columns each thread has all rows
    ([500, 300, 20], 16),  # an update of few terms
    ([300, 1024, 20], 20),  # rows of W lie whole pages apart
    ([5, 700, 20], 300),  # an update of few rows
)


@pytest.mark.parametrize(("sizes", "batch"), FEW)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_streaming_changes_no_bit(sizes, batch, threads, dtype, rng):
    assert may_stream(sizes, batch, dtype.itemsize)
    net = Network(sizes, dtype=dtype, seed=0)
    x, y = rng.normal(0, 1, (batch, sizes[0])).astype(dtype), rng.random((batch, sizes[-1])).astype(dtype)
    # Of a single sample, which is always streamed but here, tiles need more than there is.
    workspace = np.full(training_size(sizes, max(2, batch), dtype.itemsize, threads), np.nan, dtype)

    def gradients(products):
        gradient, grad_x = np.full_like(net.parameters, np.nan), np.full_like(x, np.nan)
        widths, cuts, _ = given_sizes(net.sizes, net.dtype.itemsize, batch)
        given = gradient, grad_x, True, net.parameters, x, y, widths, cuts, products, workspace, threads, 1
        return entry.gradients(*given), gradient, grad_x

    streamed, in_blocks, in_tiles = map(gradients, (entry.STREAMED, entry.IN_BLOCKS, entry.IN_TILES))
    for results in zip(streamed, in_blocks, in_tiles, strict=True):
        assert np.isfinite(results[0]).all()
        np.testing.assert_array_equal(results[1], results[0])
        np.testing.assert_array_equal(results[2], results[0])


@njit
def step(parameters, x, y, sizes, workspace, team):
    return kernels.train_step(parameters, x, y, 0.5, sizes, workspace, team)


@pytest.mark.parametrize(("sizes", "batch"), [([1600, 333, 20], 1), ([700, 301, 9], 7), ([1100, 1024, 3], 13)])
def test_threads_that_share_slices_take_the_same_step(sizes, batch, dtype, rng):
    x, y = rng.normal(0, 1, (batch, sizes[0])).astype(dtype), rng.random((batch, sizes[-1])).astype(dtype)
    stepped, losses = [], []
    for team in SERIAL, EAGER:
        net = Network(sizes, dtype=dtype, seed=0)
        workspace = np.empty(kernels.workspace_size(sizes, batch, dtype.itemsize, team.threads), dtype)
        losses.append(step(net.parameters, x, y, np.array(sizes), workspace, team))
        stepped.append(net.parameters)
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(*stepped)
    assert (stepped[0] != Network(sizes, dtype=dtype, seed=0).parameters).any()


NONE = [([784, 128, 10], 128), ([784, 30, 10], 10), ([1024] * 4, 1024), ([500, 300, 20], 20)]


@pytest.mark.parametrize(("sizes", "batch"), NONE)
def test_most_networks_need_none_of_it(sizes, batch, dtype):
    assert not may_stream(sizes, batch, dtype.itemsize)


def test_single_tasks_are_all_that_threads_need_who_share_no_product():
    assert are_single_tasks((128, 64, 10), 64, 4, shared=False)
    assert not are_single_tasks((128, 64, 10), 64, 4, shared=True)
    assert not are_single_tasks((1024, 1024), 1024, 4, shared=False)
    assert given_sizes((128, 64, 10), 4, 64, shared=False)[2] == entry.IN_TILES
    assert given_sizes((128, 64, 10), 4, 64)[2] == entry.IN_BLOCKS
