"""Minibatches whose rows are cut into shards with a gradient each: large ones, and for two threads their halves."""

import numpy as np
import pytest
from test_gradients import check_gradients, check_step

from fastmlp import Network, kernels
from fastmlp.kernels import blocking
from fastmlp.kernels.cuts import gain_from_halves, shards_of
from fastmlp.kernels.matrix import Vector
from fastmlp.kernels.network import training_size
from fastmlp.kernels.online import is_online
from fastmlp.kernels.tiny import is_tiny

HALVED = (([114, 35, 35], 145), ([300, 60, 1], 77), ([47, 583], 32), ([3, 40, 70, 60, 2], 191), ([60, 30, 900, 2], 23))
CASES = (([20, 61, 30, 9], 700, 4), ([3, 200, 1], 2000, 16), ([100, 40], 401, 4), ([256, 256, 256, 10], 400, 2))


def shards(sizes, batch):
    return shards_of(Vector(sizes, len(sizes)), batch)


def case(sizes, batch, dtype, rng):
    net = Network(sizes, dtype=dtype, seed=0)
    return net, rng.normal(0, 1, (batch, sizes[0])).astype(dtype), rng.random((batch, sizes[-1])).astype(dtype)


def test_what_one_thread_trains_in_rows_or_by_code_of_its_own_is_not_cut(rng):
    """Else its bits would not be those of threads that share the shards."""
    for _ in range(2000):
        sizes = [int(width) for width in 2 ** rng.uniform(0, 7, rng.integers(2, 6))]
        batch = int(2 ** rng.uniform(0, 17))
        by_one = is_online(sizes, batch) or any(is_tiny(tuple(sizes), batch, itemsize) for itemsize in (4, 8))
        assert shards(sizes, batch) == 1 or not by_one


@pytest.mark.parametrize(("sizes", "batch", "expected"), CASES)
def test_the_cases_are_cut(sizes, batch, expected):
    assert shards(sizes, batch) == expected


def test_what_is_small_or_has_many_parameters_is_not_cut():
    assert shards([20, 61, 30, 9], 100) == 1
    assert shards([2, 3, 1], 2000) == 1
    assert shards([784, 512, 512, 10], 2000) == 1


@pytest.mark.parametrize(("sizes", "batch", "_"), CASES)
def test_every_gradient_is_within_its_rounding_bound(sizes, batch, _, dtype, rng):
    check_gradients(*case(sizes, batch, dtype, rng))


@pytest.mark.parametrize(("sizes", "batch", "_"), CASES)
def test_a_step_is_the_parameters_minus_the_gradient(sizes, batch, _, dtype, rng):
    check_step(*case(sizes, batch, dtype, rng))


@pytest.mark.parametrize(("sizes", "batch", "_"), CASES)
def test_training_takes_less_memory_than_two_minibatches_of_activations(sizes, batch, _):
    net = Network(sizes, seed=0)
    beside = 2 * net.n_parameters + training_size(sizes, batch, 4)  # the parameters, their copy and the workspace
    assert beside <= 4 * net.n_parameters + 2 * batch * sum(sizes)


@pytest.mark.parametrize("row", [0, 175, 699])
@pytest.mark.parametrize("position", [0, 1])
def test_one_sample_that_is_not_finite_stops_the_step(row, position, dtype, rng):
    net, *pair = case([20, 61, 30, 9], 700, dtype, rng)
    before = net.parameters.copy()
    pair[position][row, 5] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        net.train_step(*pair)
    with pytest.raises(ValueError, match="must be finite"):
        net.gradients(*pair)
    np.testing.assert_array_equal(net.parameters, before)


def test_a_loss_that_overflows_stops_the_step(rng):
    net, x, y = case([20, 61, 30, 9], 700, np.dtype(np.float64), rng)
    before = net.parameters.copy()
    y[-1, 0] = 1e200
    with pytest.raises(FloatingPointError):
        net.train_step(x, y)
    np.testing.assert_array_equal(net.parameters, before)
    assert np.isfinite(net.gradients(x, y).parameters).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_team_gives_the_same_bits_and_stays_within_its_workspace(threads, dtype, rng):
    sizes, largest = [20, 61, 30, 9], 1600
    net, X, Y = case(sizes, largest, dtype, rng)
    widths, order = np.array(sizes), np.arange(largest)
    size = training_size(sizes, largest, dtype.itemsize, threads)
    workspace = np.full(size + 4096, 7, dtype)
    for batch in (largest, 1535, 767, 385, 384, 383, 192, 191, 104, 103):
        expected = net.copy()
        loss = expected.train_step(X[:batch], Y[:batch], learning_rate=0.1)
        for numbers in (order[:0], order):
            parameters = net.parameters.copy()
            arguments = parameters, X[:batch], Y[:batch], numbers, 0, batch, 0.0, batch, 0.1, widths, workspace[:size]
            assert kernels.train_minibatches(*arguments, kernels.Team(threads, 1)) == (loss, batch)
            np.testing.assert_array_equal(parameters, expected.parameters)
    assert (workspace[size:] == 7).all()


def test_what_two_threads_take_by_halves_is_one_shard_to_one():
    for sizes, batch in HALVED:
        assert gain_from_halves(Vector(sizes, len(sizes)), batch)
        assert shards(sizes, batch) == 1


def test_what_gains_nothing_is_not_taken_by_halves():
    shared = [99, 150, 99, 9], 190  # products are
    for sizes, batch in (([64, 64, 10], 32), ([784, 128, 10], 32), ([512, 512], 512), ([3000, 1], 300), shared):
        assert not gain_from_halves(Vector(sizes, len(sizes)), batch)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(("sizes", "batch"), HALVED)
def test_two_halves_give_the_bits_of_the_whole_and_stay_within_their_workspace(sizes, batch, threads, dtype, rng):
    net, X, Y = case(sizes, batch, dtype, rng)
    widths, order = np.array(sizes), rng.permutation(batch)
    size = training_size(sizes, batch, dtype.itemsize, threads)
    workspace = np.full(size + 4096, 7, dtype)

    def results(team):
        gradient, grad_x, parameters = np.empty_like(net.parameters), np.empty_like(X), net.parameters.copy()
        arguments = net.parameters, X, Y, widths, workspace[:size], team
        loss = kernels.gradients(gradient, grad_x, True, *arguments)
        run = parameters, X, Y, order, 0, batch, 0.0, batch, 0.1, widths, workspace[:size], team
        return (loss, *kernels.train_minibatches(*run)), gradient.tobytes(), grad_x.tobytes(), parameters.tobytes()

    assert results(kernels.Team(threads, blocking.SHARE)) == results(kernels.SERIAL)
    assert (workspace[size:] == 7).all()


@pytest.mark.parametrize("position", [0, 1])
def test_one_sample_that_is_not_finite_stops_both_halves(position, dtype, rng):
    sizes, batch = HALVED[0]
    net, *pair = case(sizes, batch, dtype, rng)
    size, team = training_size(sizes, batch, dtype.itemsize, 2), kernels.Team(2, blocking.SHARE)
    arguments = np.array(sizes), np.empty(size, dtype), team
    before = net.parameters.copy()
    for row in (0, batch - 1):
        x, y = (array.copy() for array in pair)
        (x, y)[position][row, 5] = np.nan
        gradient = np.full_like(before, 7)
        assert np.isnan(kernels.gradients(gradient, x, False, net.parameters, x, y, *arguments))
        assert (gradient == 7).all()
        assert np.isnan(kernels.train_step(net.parameters, x, y, 0.1, *arguments))
        np.testing.assert_array_equal(net.parameters, before)


def test_numbers_that_underflow_have_the_same_bits_in_halves(dtype, rng):
    """Whose products, all negative or all positive, are zeros with a sign."""
    sizes, batch = HALVED[0]
    net, X, Y = case(sizes, batch, dtype, rng)
    tiny = np.finfo(dtype).smallest_subnormal
    X[:] = rng.choice([-tiny, tiny], X.shape)
    X[:, 0] = -tiny
    size, gradients = training_size(sizes, batch, dtype.itemsize, 2), []
    for team in (kernels.SERIAL, kernels.Team(2, blocking.SHARE)):
        gradient = np.empty_like(net.parameters)
        kernels.gradients(gradient, X, False, net.parameters, X, Y, np.array(sizes), np.empty(size, dtype), team)
        gradients.append(gradient.tobytes())
    assert gradients[0] == gradients[1]
