"""Small networks trained in rows of whole vectors, by a sample or two or by many, with the bits of the other way."""

import numpy as np
import pytest
from reference import shuffled
from test_programs import case, counted, in_turn

from fastmlp import Network
from fastmlp.kernels import entry
from fastmlp.kernels.blocking import MOST_ONLINE, ONLINE_ONE, PADDING
from fastmlp.kernels.online import is_online
from fastmlp.kernels.order import order_of
from fastmlp.kernels.pace import PACE
from fastmlp.kernels.plan import plan_for, plan_size, small_size
from fastmlp.kernels.programs import fit_size, program_for

pytestmark = pytest.mark.usefixtures("without_own_code")

CASES = (
    ([7, 1], 1),
    ([2, 4, 1], 4),
    ([1, 1, 1], 2),
    ([5, 1, 33, 1, 3], 1),
    ([17, 16, 6], 3),
    ([30, 31], 2),
    ([520, 7], 1),
    ([1, 70, 1], 4),
    ([513, 1], 4),
    ([1, 1], 100),
    ([4, 8, 3], 16),
    ([3, 17, 40, 2], 21),
    ([2, 32, 32, 1], 32),
    ([17, 1, 1, 5], 9),
    ([70, 100, 2], 7),
    ([12, 33, 33, 12], 16),
    ([1, 5], 120),
    ([300, 20, 10], 18),
    ([600, 1], 13),
    ([2, 32, 32, 1], 300),
    ([4, 8, 3], 1030),
    ([12, 1], 6000),
    ([300, 3], 1),
    ([257, 2, 5], 2),
    ([300, 5], 7),
    ([1030, 2, 9, 300, 3], 40),
    ([3, 300], 1),
)
LARGE = ([300, 30, 380, 350], 2)  # which otherwise is streamed, above a wide layer, whose minibatches are always halved


def train(net, X, Y, order, batch, workspace, live=None, part=slice(None), commit=True, loss=0.0):
    """Loss, the sample at which training stopped, and the parameters, which begin as the network's."""
    parameters, live = net.parameters.copy(), np.zeros(1, np.intp) if live is None else live
    first, last, _ = part.indices(len(order))
    run = np.array(PACE), parameters, X, Y, order_of(order), first, last, loss, batch, 0.5
    program = program_for(net.sizes, batch, len(order), 1)
    plan = plan_for(program, net.sizes, batch, len(order), workspace)
    result = getattr(entry, program)(live, True, commit, *run, plan, plan, entry.IN_TILES, workspace, 1, 1)
    return *result, parameters


@pytest.mark.parametrize(("sizes", "batch"), CASES)
def test_the_cases_are_online(sizes, batch):
    assert program_for(sizes, batch, 2 * batch, 1) == ("train_online" if batch > 2 else "train_apart")


def test_what_gains_nothing_is_not():
    assert not is_online([ONLINE_ONE, 2], 1)
    assert is_online([300, 400, 10], MOST_ONLINE // 125_000)
    assert not is_online([300, 400, 10], MOST_ONLINE // 123_000)
    assert not is_online([800, 1], 200)
    assert not is_online([1, 2, 1] * 120, 1)  # whose rows are mostly zeros


@pytest.mark.parametrize("rest", [1, 3])  # in the last minibatch
@pytest.mark.parametrize(("sizes", "batch"), [*CASES, LARGE])
def test_the_bits_are_those_of_the_other_way_within_the_workspace(sizes, batch, rest, dtype, rng):
    samples = 5 * batch + rest
    net, X, Y = case(sizes, samples, dtype, rng)
    order = rng.permutation(samples)
    expected = in_turn(net, X, Y, order, batch)
    size = small_size(sizes, batch, dtype.itemsize)
    for start in (0, 1):  # a workspace that begins anywhere
        workspace = np.full(start + size + 4096, 7, dtype)
        loss, stopped, parameters = train(net, X, Y, order, batch, workspace[start : start + size])
        assert (loss, stopped) == expected[:2] == (loss, samples)
        np.testing.assert_array_equal(parameters, expected[2])
        assert (workspace[:start] == 7).all()
        assert (workspace[start + size :] == 7).all()


def test_any_layout_of_the_samples_gives_the_same_bits(dtype, rng):
    sizes, batch = CASES[4]
    net, X, Y = case(sizes, 23, dtype, rng)
    order = rng.permutation(23)
    workspace = np.empty(small_size(sizes, batch, dtype.itemsize), dtype)
    expected = train(net, X, Y, order, batch, workspace)
    apart = np.full((46, 2 * sizes[0]), np.nan, dtype)
    apart[::2, ::-2] = X
    for same in (np.asfortranarray(X), apart[::2, ::-2]):
        loss, stopped, parameters = train(net, entry.operand(same), np.asfortranarray(Y), order, batch, workspace)
        assert (loss, stopped) == expected[:2]
        np.testing.assert_array_equal(parameters, expected[2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["first input", "last input", "output"])
def test_a_sample_that_is_not_finite_stops_before_its_minibatch(which, value, dtype, rng):
    sizes, batch = CASES[4]
    net, X, Y = case(sizes, 4 * batch, dtype, rng)
    order = np.arange(4 * batch)
    expected = in_turn(net, X, Y, order[: 2 * batch], batch)[2]
    array, column = {"first input": (X, 0), "last input": (X, -1), "output": (Y, 1)}[which]
    array[2 * batch + 1, column] = value
    workspace = np.empty(small_size(sizes, batch, dtype.itemsize), dtype)
    live = np.zeros(1, np.intp)
    loss, stopped, parameters = train(net, X, Y, order, batch, workspace, live)
    assert stopped == 2 * batch
    assert np.isnan(loss)
    assert live[0] == 0
    np.testing.assert_array_equal(parameters, net.parameters)
    parameters = train(net, X, Y, order, batch, workspace, live, slice(stopped))[2]
    np.testing.assert_array_equal(parameters, expected)


def test_weights_live_on_from_call_to_call_until_they_are_committed(dtype, rng):
    sizes, batch = CASES[4]
    net, X, Y = case(sizes, 5 * batch, dtype, rng)
    order = rng.permutation(5 * batch)
    expected = train(net, X, Y, order, batch, np.empty(4096, dtype))
    workspace, live = np.empty(4096, dtype), np.zeros(1, np.intp)
    loss, cut = 0.0, 2 * batch
    loss, stopped, parameters = train(net, X, Y, order, batch, workspace, live, slice(cut), commit=False)
    assert stopped == cut
    assert live[0] == 1
    np.testing.assert_array_equal(parameters, net.parameters)
    loss, _, parameters = train(net, X, Y, order, batch, workspace, live, slice(cut, None), commit=False, loss=loss)
    assert loss == expected[0]
    np.testing.assert_array_equal(parameters, net.parameters)
    parameters = train(net, X, Y, order, batch, workspace, live, slice(0))[2]  # no step, only the commit
    np.testing.assert_array_equal(parameters, expected[2])


def test_weights_that_are_not_finite_are_not_committed(dtype, rng):
    net, X, Y = case([2, 3, 1], 4, dtype, rng)
    workspace, live = np.empty(4096, dtype), np.zeros(1, np.intp)
    net.biases[0][1] = np.inf  # no loss shows it: σ(∞) = 1
    loss, stopped, _ = train(net, X, Y, np.arange(4), 2, workspace, live)
    assert stopped == 4
    assert np.isnan(loss)
    assert live[0] == 0


def test_an_infinite_input_that_changes_no_output_is_noticed(dtype, rng):
    net, X, Y = case([3, 2, 1], 4, dtype, rng)
    net.weights[0][:] = 1
    X[2, 1] = np.inf  # σ(∞) = 1, and nothing further up is NaN
    workspace = np.empty(small_size([3, 2, 1], 1, dtype.itemsize), dtype)
    assert train(net, X, Y, np.arange(4), 1, workspace)[1] == 2


@pytest.mark.parametrize("given", [{"shuffle": False, "batch_size": 3}, {"batch_size": 60}])
def test_samples_as_they_come_are_trained_so_too(given, monkeypatch, dtype, rng):
    calls = counted(monkeypatch, "train_online")
    net, X, Y = case([7, 5, 2], 60, dtype, rng)
    expected = in_turn(net, X, Y, np.arange(60), given["batch_size"])
    history = net.fit(X, Y, epochs=1, learning_rate=0.5, **given)
    assert calls
    assert history.loss == [expected[0]]
    np.testing.assert_array_equal(net.parameters, expected[2])


def test_what_a_callback_does_to_the_parameters_is_trained_further(rng):
    net, X, Y = case([7, 5, 2], 60, np.dtype(np.float32), rng)
    other = net.copy()

    def decay(network, history):
        network.parameters[:] *= 0.5

    net.fit(X, Y, epochs=2, batch_size=3, callbacks=decay)
    for _ in range(2):
        other.fit(X, Y, epochs=1, batch_size=3)
        decay(other, None)
    np.testing.assert_array_equal(net.parameters, other.parameters)


@pytest.mark.parametrize(("sizes", "batch"), CASES[:5])
def test_fit_trains_so(sizes, batch, monkeypatch, dtype, rng):
    calls = counted(monkeypatch, "train_online" if batch > 2 else "train_apart")
    net, X, Y = case(sizes, 10 * batch, dtype, rng)
    other, losses = net.copy(), []
    for _ in range(2):
        loss, _, parameters = in_turn(other, X, Y, shuffled(len(X), other._rng), batch)
        losses.append(loss)
        other.parameters[:] = parameters
    assert net.fit(X, Y, epochs=2, batch_size=batch, learning_rate=0.5).loss == losses
    assert calls
    np.testing.assert_array_equal(net.parameters, other.parameters)


def test_parameters_that_overflow_are_not_kept(rng):
    net, X, Y = case([2, 1], 40, np.dtype(np.float32), rng)
    X[:] = 1e30
    net.weights[0][:] = 1e-31  # so that the sigmoid has a slope
    with pytest.raises(FloatingPointError, match="parameters turned NaN or infinite"):
        net.fit(X, Y, batch_size=1, learning_rate=1e20)
    assert np.isfinite(net.parameters).all()


def test_rows_of_whole_vectors_take_little_memory():
    for sizes, batch in CASES:
        size = small_size(sizes, batch, 4)
        assert fit_size(sizes, batch, 4, 1, 100 * batch) == size
        size += plan_size(sizes, 4)
        assert size <= 3 * Network(sizes, seed=0).n_parameters + 2 * batch * sum(sizes) + PADDING
