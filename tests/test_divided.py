"""Networks whose first layer has many inputs and few outputs: its sums in slices, its weights divided among threads."""

import numba
import numpy as np
import pytest
from test_gradients import check_gradients, check_step

from fastmlp import Network, kernels
from fastmlp.kernels import entry
from fastmlp.kernels.blocking import RUN
from fastmlp.kernels.matrix import Vector
from fastmlp.kernels.network import shards_of, training_size
from fastmlp.kernels.wide import is_divided, slice_length, slices_of

CASES = (([784, 30, 10], 10), ([784, 30, 10], 150), ([530, 101, 40, 3], 29), ([1500, 9], 60), ([257, 300, 2], 11))


def case(sizes, samples, dtype, rng):
    net = Network(sizes, dtype=dtype, seed=0)
    return net, rng.normal(0, 1, (samples, sizes[0])).astype(dtype), rng.random((samples, sizes[-1])).astype(dtype)


def train(net, X, Y, order, batch, workspace, threads, before=None):
    """Loss, the sample at which training stopped, and the parameters."""
    parameters = net.parameters.copy()
    before = np.empty_like(parameters) if before is None else before
    run = True, True, parameters, X, Y, order, 0, len(order), 0.0, batch, 0.5
    result = entry.train_divided(before, *run, np.array(net.sizes), workspace, threads, 1)
    return *result, parameters


def counted(monkeypatch, program):
    """A list of the calls of entry.`program` from now on."""
    calls, function = [], getattr(entry, program)

    def counting(*arguments):
        calls.append(arguments)
        return function(*arguments)

    monkeypatch.setattr(entry, program, counting)
    return calls


def in_turn(net, X, Y, order, batch):
    """The same by the program that divides nothing."""
    parameters, sizes = net.parameters.copy(), np.array(net.sizes)
    workspace = np.empty(kernels.workspace_size(net.sizes, batch, X.itemsize), X.dtype)
    run = parameters, X, Y, order, 0, len(order), 0.0, batch, 0.5, sizes, workspace, kernels.SERIAL
    return *kernels.train_minibatches(*run), parameters


@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_the_cases_are_divided(sizes, batch):
    assert is_divided(sizes, batch, RUN * batch, 2)
    assert shards_of(Vector(sizes, len(sizes)), batch) == 1


def test_slices_cover_the_inputs():
    for n_in in (1, 255, 256, 300, 511, 512, 784, 3000, 100_000):
        for n_out in (1, 10, 1000):
            slices, length = slices_of(n_in, n_out), slice_length(n_in, n_out)
            assert slices == 1 or (slices - 1) * length < n_in <= slices * length


def test_what_gains_nothing_is_not_divided():
    assert not is_divided([784, 30, 10], 1, 1000, 2)  # too little to do
    assert not is_divided([784, 30, 10], 200, 10_000, 2)  # more sums than weights
    assert not is_divided([784, 512, 10], 10, 1000, 2)  # many outputs
    assert not is_divided([64, 64, 10], 32, 1000, 2)  # few inputs
    assert not is_divided([784, 30, 10], 10, 1000, 1)  # one thread
    assert not is_divided([784, 30, 10], 10, 10, 2)  # one minibatch


@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_every_gradient_is_within_its_rounding_bound(sizes, batch, dtype, rng):
    check_gradients(*case(sizes, batch, dtype, rng))
    check_step(*case(sizes, batch, dtype, rng))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_any_team_gives_the_same_bits_and_stays_within_its_workspace(sizes, batch, threads, dtype, rng):
    samples = 4 * batch + 3
    net, X, Y = case(sizes, samples, dtype, rng)
    order = rng.permutation(samples)
    expected = in_turn(net, X, Y, order, batch)
    size = training_size(sizes, batch, dtype.itemsize, max(threads, 2))  # where one thread has come for two
    workspace = np.full(size + 4096, 7, dtype)
    loss, stopped, parameters = train(net, X, Y, order, batch, workspace[:size], threads)
    assert (loss, stopped) == expected[:2] == (loss, samples)
    np.testing.assert_array_equal(parameters, expected[2])
    assert (workspace[size:] == 7).all()


def test_any_layout_of_the_samples_gives_the_same_bits(dtype, rng):
    sizes, batch = CASES[0]
    net, X, Y = case(sizes, 53, dtype, rng)
    order = rng.permutation(53)
    workspace = np.empty(training_size(sizes, batch, dtype.itemsize, 2), dtype)
    expected = train(net, X, Y, order, batch, workspace, 2)
    apart = np.full((106, 2 * sizes[0]), np.nan, dtype)
    apart[::2, ::-2] = X
    for same in (np.asfortranarray(X), apart[::2, ::-2]):
        loss, stopped, parameters = train(net, entry.operand(same), np.asfortranarray(Y), order, batch, workspace, 2)
        assert (loss, stopped) == expected[:2]
        np.testing.assert_array_equal(parameters, expected[2])


@pytest.mark.parametrize("which", ["first input", "last input", "output"])
def test_a_sample_that_is_not_finite_stops_before_its_minibatch(which, dtype, rng):
    sizes, batch = CASES[2]
    net, X, Y = case(sizes, 4 * batch, dtype, rng)
    order = np.arange(4 * batch)
    expected = in_turn(net, X, Y, order[: 2 * batch], batch)[2]
    array, column = {"first input": (X, 0), "last input": (X, -1), "output": (Y, 1)}[which]
    array[2 * batch + 1, column] = np.inf
    workspace = np.empty(training_size(sizes, batch, dtype.itemsize, 2), dtype)
    before = np.empty_like(expected)
    _, stopped, parameters = train(net, X, Y, order, batch, workspace, 2, before)
    assert stopped == 2 * batch
    np.testing.assert_array_equal(parameters, expected)
    np.testing.assert_array_equal(before, net.parameters)


def test_a_loss_that_overflows_stops_before_its_step(rng):
    sizes, batch = CASES[0]
    net, X, Y = case(sizes, 3 * batch, np.dtype(np.float64), rng)
    order = np.arange(3 * batch)
    expected = in_turn(net, X, Y, order[:batch], batch)[2]
    Y[batch, 0] = 1e200
    workspace = np.empty(training_size(sizes, batch, 8, 2))
    _, stopped, parameters = train(net, X, Y, order, batch, workspace, 2)
    assert stopped == batch
    np.testing.assert_array_equal(parameters, expected)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread has nothing to divide")
def test_fit_divides(monkeypatch, dtype, rng):
    calls = counted(monkeypatch, "train_divided")
    sizes, batch = CASES[0]
    net, X, Y = case(sizes, RUN * batch, dtype, rng)
    serial = net.copy()
    before, losses = numba.get_num_threads(), []
    try:
        for each, threads in ((serial, 1), (net, 2)):
            assert not calls
            numba.set_num_threads(threads)
            losses.append(each.fit(X, Y, epochs=2, batch_size=batch, learning_rate=0.5).loss)
    finally:
        numba.set_num_threads(before)
    assert calls
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(net.parameters, serial.parameters)


@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_training_takes_no_more_memory_than_is_promised(sizes, batch):
    net = Network(sizes, seed=0)
    beside = 2 * net.n_parameters + training_size(sizes, batch, 4, 2)  # the parameters, their copy and the workspace
    assert beside <= 4 * net.n_parameters + 2 * batch * sum(sizes)
