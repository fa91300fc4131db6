"""Networks that have code of their own: the same steps, bit for bit, as by the kernels for all networks."""

import numpy as np
import pytest
from test_programs import case, in_turn

from fastmlp import Network, _training
from fastmlp.kernels import entry
from fastmlp.kernels.host import HOST
from fastmlp.kernels.order import order_of
from fastmlp.kernels.tiny import is_tiny, slice_of, tiny

CASES = (
    ([2, 1], 4),
    ([2, 2, 1], 4),
    ([1, 2, 1], 5),
    ([3, 1, 1, 2], 1),
    ([4, 3], 8),
    ([5, 2, 3], 2),  # a W that is stored as it is
    ([2, 8, 1], 7),
    ([27, 3, 2], 1),  # sums over many inputs in two halves
    ([24, 8], 3),
    ([1, 2, 2], 100),  # in pieces, of which some cross the middle
    ([2, 1], 150),
    ([1, 1], 2100),  # in slices
    ([4, 4, 3], 330),  # in halves
    ([4, 4], 6000),
)


def train(net, X, Y, order, batch, part=slice(None), keep=True, check=True, loss=0.0):
    """Loss, the sample at which training stopped, the parameters, and those to go back to."""
    parameters, before = net.parameters.copy(), np.full_like(net.parameters, 7)
    first, last, _ = part.indices(len(order))
    run = parameters, entry.operand(X), entry.operand(Y), order_of(order), first, last, loss, 0.5
    lengths = slice_of(net.sizes, batch), slice_of(net.sizes, (last - first) % batch)
    return *tiny(net.sizes, batch)(before, keep, check, *run, *lengths), parameters, before


@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_the_bits_are_those_of_the_other_way(sizes, batch, dtype, rng):
    if not is_tiny(tuple(sizes), batch, dtype.itemsize):
        assert HOST.vector_bytes < 64
        pytest.skip("too large for these vectors")
    for rest in {0, 1, batch // 2, batch // 2 + 1, batch - 1}:  # in the last minibatch
        samples = 2 * batch + rest
        net, X, Y = case(sizes, samples + 5, dtype, rng)
        order = rng.permutation(samples + 5)[:samples]
        expected = in_turn(net, X, Y, order, batch)
        loss, stopped, parameters, before = train(net, X, Y, order, batch)
        assert (loss, stopped) == (expected[0], samples)
        np.testing.assert_array_equal(parameters, expected[2])
        np.testing.assert_array_equal(before, net.parameters)


def test_samples_may_lie_apart(dtype, rng):
    sizes, batch = CASES[1]
    net, X, Y = case(sizes, 9, dtype, rng)
    wide = np.full((9, sizes[0] + 2), np.nan, dtype)
    wide[:, 1:-1] = X
    expected = train(net, X, Y, np.arange(9), batch)
    loss, stopped, parameters, _ = train(net, wide[:, 1:-1], Y, np.arange(9), batch)
    assert (loss, stopped) == expected[:2]
    np.testing.assert_array_equal(parameters, expected[2])


def test_calls_one_after_the_other_are_as_one(dtype, rng):
    sizes, batch = CASES[1]
    net, X, Y = case(sizes, 30, dtype, rng)
    order = rng.permutation(30)
    expected = train(net, X, Y, order, batch)
    loss, stopped, net.parameters[:], before = train(net, X, Y, order, batch, slice(12), keep=False)
    assert stopped == 12
    assert (before == 7).all()
    loss, _, parameters, _ = train(net, X, Y, order, batch, slice(12, None), loss=loss)
    assert loss == expected[0]
    np.testing.assert_array_equal(parameters, expected[2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["input", "output"])
@pytest.mark.parametrize("row", [8, 13])  # of a whole minibatch, and of what is left
def test_a_sample_that_is_not_finite_stops_before_its_minibatch(which, row, value, dtype, rng):
    sizes, batch = CASES[1]
    net, X, Y = case(sizes, 15, dtype, rng)
    order, start = np.arange(15), row // batch * batch
    expected = in_turn(net, X, Y, order[:start], batch)[2]
    array = X if which == "input" else Y
    array[row, -1] = value
    _, stopped, parameters, _ = train(net, X, Y, order, batch)
    assert stopped == start
    np.testing.assert_array_equal(parameters, expected)


def test_parameters_that_overflow_make_the_loss_nan(rng):
    net, X, Y = case([1, 1], 4, np.dtype(np.float32), rng)
    net.parameters[0] = np.inf
    loss, stopped, _, _ = train(net, X, Y, np.arange(4), 4, check=True)
    assert np.isnan(loss)
    net.parameters[:] = 0
    X[:], Y[:] = 3e38, 0
    loss, stopped, parameters, before = train(net, X, Y, np.arange(4), 4, check=True)
    assert (stopped, np.isnan(loss)) == (4, not np.isfinite(parameters).all())
    np.testing.assert_array_equal(before, 0)


def test_what_is_too_large_has_none():
    assert is_tiny((20, 1), 1, 4)
    assert not is_tiny((49, 1), 1, 4)  # many inputs of a single output
    assert not is_tiny((2, 32, 32, 1), 32, 4)
    assert is_tiny((1, 1), 5000, 4)
    assert is_tiny((2, 1), 10_000, 4)
    assert not is_tiny((4, 4), 10_000, 4)
    assert not is_tiny((20, 20), 1, 4)


@pytest.fixture
def own_code(monkeypatch):
    """A record of its own, as at the beginning of a process, with the names of the kernels that it gave out."""
    record = _training.OwnCode()
    monkeypatch.setattr(_training, "OWN_CODE", record)
    monkeypatch.setattr(_training, "tiny", lambda sizes, batch: (sizes, batch))
    return record


def test_a_few_have_it_at_once_and_others_when_it_has_paid(own_code):
    networks = [((2, 2, 1), batch, 4) for batch in range(1, own_code.AT_ONCE + 4)]
    given = [own_code.of(network) is not None for network in networks]
    assert given == [True] * own_code.AT_ONCE + [False] * 3
    late = networks[-1]
    own_code.trained_without(late, own_code.AFTER / 2)
    assert own_code.of(late) is None
    own_code.trained_without(late, own_code.AFTER / 2)
    assert own_code.of(late) == ((2, 2, 1), own_code.AT_ONCE + 3)
    assert own_code.of(networks[0]) == ((2, 2, 1), 1)
    assert own_code.of(networks[-2]) is None


def test_a_network_that_is_not_tiny_never_has_it(own_code):
    network = (2, 32, 32, 1), 32, 4
    own_code.trained_without(network, 100)
    assert own_code.of(network) is None


def fitted(X, Y, batch_size, shuffle=True):
    net = Network([2, 3, 1], dtype=X.dtype, seed=0)
    history = net.fit(X, Y, epochs=6, batch_size=batch_size, shuffle=shuffle, learning_rate=2)
    return net.parameters, history.loss


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [4, 50])
def test_fit_is_the_same_with_it_without_and_where_it_comes_in_between(batch_size, shuffle, dtype, rng, monkeypatch):
    X, Y = rng.normal(0, 1, (10, 2)).astype(dtype), rng.random((10, 1)).astype(dtype)
    monkeypatch.setattr(_training, "OWN_CODE", _training.OwnCode())
    parameters, losses = fitted(X, Y, batch_size, shuffle)
    assert _training.OWN_CODE.made
    by_columns = fitted(np.asfortranarray(X), Y, batch_size, shuffle)
    for at_once, after in ((0, np.inf), (0, 1e-9)):
        record = _training.OwnCode()
        record.AT_ONCE, record.AFTER = at_once, after
        monkeypatch.setattr(_training, "OWN_CODE", record)
        same, same_losses = fitted(X, Y, batch_size, shuffle)
        assert bool(record.made) == (after < 1)
        np.testing.assert_array_equal(same, parameters)
        assert same_losses == losses
    np.testing.assert_array_equal(by_columns[0], parameters)


def test_steps_one_by_one_of_any_number_of_samples(dtype, rng, monkeypatch):
    monkeypatch.setattr(_training, "OWN_CODE", _training.OwnCode())
    for samples in (1, 2, 3, 5, 8):
        net, x, y = case([2, 3, 1], samples, dtype, rng)
        expected = in_turn(net, x, y, np.arange(samples), samples)
        loss = net.train_step(x, y, learning_rate=0.5)
        assert loss == expected[0]
        np.testing.assert_array_equal(net.parameters, expected[2])
    assert {batch for _, batch, _ in _training.OWN_CODE.made} == {1, 2, 4, 8}
