"""Programs of two threads, with halves of a layer's inputs, of its units, or of every minibatch; and of more."""

import numba
import numpy as np
import pytest
from test_gradients import check_gradients, check_step

from fastmlp import Network, kernels
from fastmlp.kernels import entry
from fastmlp.kernels.blocking import APART, LETTERS, PADDING, RUN, SHARE, TRIED_FIRST, TRIED_LAST
from fastmlp.kernels.cuts import THREADS, cuts_of, shards_of
from fastmlp.kernels.divided import is_divided
from fastmlp.kernels.matrix import Vector
from fastmlp.kernels.order import order_of
from fastmlp.kernels.pace import ALONE, LEFT, PACE, TOGETHER, WAIT
from fastmlp.kernels.plan import plan_for, plan_size, with_plan
from fastmlp.kernels.programs import fit_size, given_sizes, left_in_turn, program_for
from fastmlp.kernels.together import is_together
from fastmlp.kernels.units import is_by_units
from fastmlp.kernels.wide import is_sliced, slice_length

DIVIDED = (
    ([784, 60, 17], 180),
    ([530, 151, 40, 3], 110),
    ([2000, 100], 110),
    ([257, 900, 17], 40),
    ([784, 128, 17], 85),
)
IN_ROWS = (
    ([784, 24, 10], 10),
    ([530, 101, 40, 3], 39),
    ([784, 20, 10], 2),
    ([784, 17, 12, 3], 11),
    ([300, 20, 1], 13),
    ([1001, 9], 20),
    ([1000, 7, 1, 4], 7),
    ([257, 40, 2], 9),
    ([257, 6], 60),
    ([1500, 9], 60),
    ([1001, 3, 4], 30),
    ([3000, 8], 11),
    ([784, 2, 9], 150),
)
BY_UNITS = (
    ([64, 64, 10], 32),
    ([784, 64, 10], 8),
    ([784, 63, 10], 2),
    ([257, 300, 2], 5),
    ([257, 300, 2], 27),
    ([784, 64, 10], 150),
    ([784, 128, 10], 128),  # by one thread with tiles
    ([5, 110, 3], 30),
    ([1, 201, 16], 13),
    ([100, 24, 2], 120),
    ([300, 512, 9], 3),  # whose rows of weights would clash
)
IN_TURN = (  # or, where that is quicker, by one thread in rows
    ([182, 724], 3),
    ([400, 400, 400, 10], 3),
    ([20, 400, 400, 10], 2),
    ([454, 179, 308], 10),
    ([2249, 123, 133], 4),
)
TOGETHER_CASES = (
    ([17, 64, 64, 6], 64),
    ([40, 300, 9, 7], 51),
    ([1, 77, 77, 1, 77, 1], 40),
    ([16] * 20, 35),
    ([4, 4], 6000),
    ([128, 128, 128, 10], 128),  # whose products would else be shared
)
CASES = [("train_divided", *case) for case in DIVIDED] + [("train_together", *case) for case in TOGETHER_CASES]
CASES += [("train_divided_rows", *case) for case in IN_ROWS]
CASES += [("train_by_units", *case) for case in BY_UNITS]
ONE_EACH = CASES[0], CASES[len(DIVIDED)], CASES[-1 - len(BY_UNITS)], CASES[-len(BY_UNITS)]
ONE_EACH += (("train_in_turn_or_online", *IN_TURN[0]),)
CASES += [("train_in_turn_or_online", *case) for case in IN_TURN]
CASES += [("train_divided", [784, 330, 10], 22), ("train_together", [30, 50, 50, 2], 17)]  # few rows each
MANY_OUTPUTS = [("train_together", [1, 900], 16), ("train_together", [200, 200, 17], 40)]
MANY_OUTPUTS += [("train_together", [47, 16, 941], 61), ("train_divided", [1000, 100, 200], 100)]


def case(sizes, samples, dtype, rng):
    net = Network(sizes, dtype=dtype, seed=0)
    return net, rng.normal(0, 1, (samples, sizes[0])).astype(dtype), rng.random((samples, sizes[-1])).astype(dtype)


def pace(alone, together, left=1e9, wait=64.0):
    """What is known of the time of a sample; and the runs to the next trial: by default, none is made."""
    known = np.array(PACE)
    known[ALONE : ALONE + 2], known[TOGETHER : TOGETHER + 2], known[[LEFT, WAIT]] = alone, together, (left, wait)
    return known


def train(program, net, X, Y, order, batch, workspace, threads, known=None):
    """Loss, where training stopped, the parameters, and those to go back to; by threads unless `known`."""
    parameters = net.parameters.copy()
    before, live = np.empty_like(parameters), np.zeros(1, np.intp)
    known = pace(np.inf, 0) if known is None else known
    guard = (live, True, True) if program in entry.LAID_OUT else (before, True, True)
    whole = len(order) - left_in_turn(program, net.sizes, batch, len(order))
    run = known, parameters, X, Y, order_of(order), 0, whole, 0.0, batch, 0.5
    sizes = given_sizes(net.sizes, net.dtype.itemsize, batch, len(order) % batch)
    if program in entry.LAID_OUT:
        plan = plan_for(program, net.sizes, batch, len(order), workspace)
        sizes = plan, plan, entry.IN_TILES
    elif program == "train_in_turn_or_online":
        widths, cuts, products = sizes
        sizes = widths, with_plan(cuts, plan_for(program, net.sizes, batch, len(order), workspace)), products
    result = getattr(entry, program)(*guard, *run, *sizes, workspace, threads, 1)
    if result[1] == whole < len(order):
        run = pace(np.inf, 0), parameters, X, Y, order_of(order), whole, len(order), result[0], batch, 0.5
        result = entry.train_in_turn(before, False, True, *run, *sizes, workspace, threads, 1)
    return *result, parameters, parameters if program in entry.LAID_OUT else before


def counted(monkeypatch, program):
    """A list of the calls of entry.`program` from now on."""
    calls, function = [], getattr(entry, program)

    def counting(*arguments):
        calls.append(arguments)
        return function(*arguments)

    monkeypatch.setattr(entry, program, counting)
    return calls


def in_turn(net, X, Y, order, batch):
    """The same by one thread."""
    parameters, sizes = net.parameters.copy(), np.array(net.sizes)
    workspace = np.empty(kernels.workspace_size(net.sizes, batch, X.itemsize), X.dtype)
    run = parameters, X, Y, order, 0, len(order), 0.0, batch, 0.5, sizes, workspace, kernels.SERIAL
    return *kernels.train_minibatches(*run), parameters


@pytest.mark.parametrize(("program", "sizes", "batch"), CASES + MANY_OUTPUTS)
def test_the_cases_are_trained_so(program, sizes, batch):
    assert program_for(sizes, batch, RUN * batch, 2) == program
    assert shards_of(Vector(sizes, len(sizes)), batch) == 1


def test_slices_cover_the_inputs():
    for n_in in (1, 23, 24, 255, 256, 300, 511, 512, 784, 3000, 100_000):
        for n_out in (1, 10, 1000):
            length = slice_length(n_in, n_out)
            slices = -(-n_in // length)
            assert slices == 2 or not is_sliced(n_in, n_out)
            assert slices == 1 or length >= 12


@pytest.mark.parametrize(
    ("sizes", "batch", "threads"),
    [([64, 64, 10], 32, 1), ([784, 128, 10], 128, 12), ([64, 64, 10], 3000, 16), ([512, 512, 512], 64, 16)],
)
def test_no_more_threads_are_called_than_find_something_to_do(sizes, batch, threads):
    assert cuts_of(Vector(sizes, len(sizes)), batch, 0, SHARE)[THREADS] == threads


def test_what_gains_nothing_is_not_divided():
    assert not is_divided([256, 8, 3], 4, 1000, 2)  # too little to do
    assert not is_divided([784, 30, 10], 1, 1000, 2)  # one sample
    assert not is_divided([784, 30, 10], 200, 10_000, 2)  # more sums than weights
    assert not is_divided([784, 512, 10], 10, 1000, 2)  # many outputs
    assert not is_divided([64, 64, 10], 32, 1000, 2)  # few inputs
    assert not is_divided([784, 30, 10], 10, 1000, 1)  # one thread
    assert not is_divided([784, 30, 10], 10, 10, 2)  # one minibatch
    assert not is_divided([784, 128, 10], 128, 2000, 16)  # products that many threads can share
    assert is_divided([784, 128, 10], 128, 2000, 2)
    assert is_divided([784, 128, 10], 32, 2000, 16)  # products that few can


def test_what_gains_nothing_is_not_trained_by_units():
    assert not is_by_units([64, 64, 64, 10], 32, 1000, 2)  # more than one hidden layer
    assert not is_by_units([64, 64, 1], 32, 1000, 2)  # a single output, whose sums have an order of their own
    assert not is_by_units([64, 64, 17], 32, 1000, 2)  # many outputs
    assert not is_by_units([64, 20, 10], 32, 1000, 2)  # few units
    assert not is_by_units([4, 50, 3], 20, 1000, 2)  # too little to do
    assert not is_by_units([2, 30, 10], 100, 1000, 2)  # more to hand over than a gradient
    assert not is_by_units([784, 24, 10], 10, 1000, 2)  # vectors that would be partly empty
    assert not is_by_units([784, 128, 10], 180, 5000, 2)  # quicker by tiles
    assert not is_by_units([257, 24, 3], 70, 5000, 2)  # halves that would have sums of another order
    assert not is_by_units([784, 128, 10], 32, 1000, 16)  # quicker by all threads, perhaps
    assert not is_by_units([64, 64, 10], 1, 1000, 2)  # one sample
    assert not is_by_units([64, 64, 10], 32, 1000, 1)  # one thread
    assert not is_by_units([64, 64, 10], 32, 32, 2)  # one minibatch


def test_what_gains_nothing_or_takes_much_memory_is_not_trained_together():
    assert not is_together([2, 4, 1], 32, 1000, 2)  # too little to do
    assert not is_together([64, 64, 10], 15, 1000, 2)  # few samples
    assert not is_together([9, 1, 900], 17, 10_000, 2)  # more memory than is promised
    assert not is_together([500, 500, 10], 64, 1000, 2)  # products that are shared
    assert not is_together([500, 100], 150, 10_000, 2)  # no hidden layer besides
    assert is_together([10, 256, 256, 3], 96, 10_000, 5)
    assert not is_together([10, 256, 256, 3], 96, 10_000, 6)  # products that many share
    assert not is_together([20, 61, 30, 9], 700, 10_000, 2)  # shards that are shared
    assert not is_together([64, 64, 10], 32, 1000, 1)  # one thread
    assert not is_together([64, 64, 10], 32, 32, 2)  # one minibatch


@pytest.mark.parametrize(("_", "sizes", "batch"), CASES)
def test_every_gradient_is_within_its_rounding_bound(_, sizes, batch, dtype, rng):
    check_gradients(*case(sizes, batch, dtype, rng))
    check_step(*case(sizes, batch, dtype, rng))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize(("program", "sizes", "batch"), CASES + MANY_OUTPUTS)
def test_any_team_gives_the_same_bits_and_stays_within_its_workspace(program, sizes, batch, threads, dtype, rng):
    samples = 4 * batch + 3
    net, X, Y = case(sizes, samples, dtype, rng)
    order = rng.permutation(samples)
    expected = in_turn(net, X, Y, order, batch)
    # Where one thread has come for two; and for more, what is left is trained by all.
    size = max(fit_size(sizes, batch, dtype.itemsize, number, RUN * batch) for number in (2, max(threads, 2)))
    workspace = np.full(size + 4096, 7, dtype)
    workspace[:size] = np.nan
    loss, stopped, parameters, _ = train(program, net, X, Y, order, batch, workspace[:size], threads)
    assert (loss, stopped) == expected[:2] == (loss, samples)
    np.testing.assert_array_equal(parameters, expected[2])
    assert (workspace[size:] == 7).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("program", "sizes", "batch", "rest"),
    [
        ("train_together", [17, 64, 64, 6], 64, 63),
        ("train_together", [289, 35, 17], 108, 25),  # few beside the inputs, as the others are not
        ("train_divided_rows", [784, 24, 10], 10, 9),
        ("train_divided", [784, 60, 17], 180, 100),
        ("train_by_units", [257, 26, 3], 70, 20),
    ],
)
def test_a_last_minibatch_gives_the_bits_of_one_thread(program, sizes, batch, rest, threads, dtype, rng):
    samples = RUN * batch + rest
    assert program_for(sizes, batch, samples, 2) == program
    net, X, Y = case(sizes, samples, dtype, rng)
    order = rng.permutation(samples)
    workspace = np.empty(fit_size(sizes, batch, dtype.itemsize, 2, samples), dtype)
    loss, _, parameters, _ = train(program, net, X, Y, order, batch, workspace, threads)
    expected_loss, _, expected = in_turn(net, X, Y, order, batch)
    assert loss == expected_loss
    np.testing.assert_array_equal(parameters, expected)


@pytest.mark.parametrize(("program", "sizes", "batch"), ONE_EACH)
def test_any_layout_of_the_samples_gives_the_same_bits(program, sizes, batch, dtype, rng):
    samples = 5 * batch + 3
    net, X, Y = case(sizes, samples, dtype, rng)
    order = rng.permutation(samples)
    workspace = np.empty(fit_size(sizes, batch, dtype.itemsize, 2, RUN * batch), dtype)
    expected = train(program, net, X, Y, order, batch, workspace, 2)
    apart = np.full((2 * samples, 2 * sizes[0]), np.nan, dtype)
    apart[::2, ::-2] = X
    for same, same_Y in ((np.asfortranarray(X), np.asfortranarray(Y)), (apart[::2, ::-2], Y)):
        operands = entry.operand(same), entry.operand(same_Y)
        loss, stopped, parameters, _ = train(program, net, *operands, order, batch, workspace, 2)
        assert (loss, stopped) == expected[:2]
        np.testing.assert_array_equal(parameters, expected[2])


@pytest.mark.parametrize("alone", [False, True])  # one thread trains both halves
@pytest.mark.parametrize("row", [1, -1])
@pytest.mark.parametrize("which", ["first input", "last input", "output"])
@pytest.mark.parametrize(("program", "sizes", "batch"), [CASES[2], *ONE_EACH[1:]])
def test_a_sample_that_is_not_finite_stops_before_its_minibatch(program, sizes, batch, which, row, alone, dtype, rng):
    net, X, Y = case(sizes, 4 * batch, dtype, rng)
    order = np.arange(4 * batch)
    expected = in_turn(net, X, Y, order[: 2 * batch], batch)[2]
    array, column = {"first input": (X, 0), "last input": (X, -1), "output": (Y, 1)}[which]
    array[2 * batch : 3 * batch][row, column] = np.inf
    workspace = np.empty(fit_size(sizes, batch, dtype.itemsize, 2, RUN * batch), dtype)
    known = pace(0, np.inf) if alone else None
    _, stopped, parameters, before = train(program, net, X, Y, order, batch, workspace, 2, known)
    assert stopped == 2 * batch
    np.testing.assert_array_equal(before, net.parameters)
    if program in entry.LAID_OUT:
        parameters = train(program, net, X, Y, order[:stopped], batch, workspace, 2)[2]
    np.testing.assert_array_equal(parameters, expected)


@pytest.mark.parametrize(("program", "sizes", "batch"), ONE_EACH)
def test_a_loss_that_overflows_stops_before_its_step(program, sizes, batch, rng):
    net, X, Y = case(sizes, 3 * batch, np.dtype(np.float64), rng)
    order = np.arange(3 * batch)
    expected = in_turn(net, X, Y, order[:batch], batch)[2]
    Y[batch, 0] = 1e200
    workspace = np.empty(fit_size(sizes, batch, 8, 2, RUN * batch))
    _, stopped, parameters, before = train(program, net, X, Y, order, batch, workspace, 2)
    assert stopped == batch
    np.testing.assert_array_equal(before, net.parameters)
    if program in entry.LAID_OUT:
        parameters = train(program, net, X, Y, order[:stopped], batch, workspace, 2)[2]
    np.testing.assert_array_equal(parameters, expected)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="the quicker is one thread, if there is only one")
@pytest.mark.parametrize(
    ("known", "measured", "wait"),
    [
        (pace(0, 1e18), {ALONE}, 64),
        (pace(1e18, 0), {TOGETHER}, 64),
        (pace(1e18, 0, left=0), {ALONE, TOGETHER}, TRIED_LAST),  # one trial, and back
        (pace(0, 1e18, left=0), {ALONE, TOGETHER}, TRIED_LAST),
        (pace(1e18, 0, left=0, wait=0), {ALONE, TOGETHER}, TRIED_FIRST),
        (pace(1e18, 1e17, left=0), {ALONE}, TRIED_FIRST),  # a trial that was the quicker
        (pace(1e17, 1e18, left=0), {TOGETHER}, TRIED_FIRST),
    ],
)
@pytest.mark.parametrize(("program", "sizes", "batch"), ONE_EACH)
def test_the_quicker_trains_and_the_slower_is_tried_again(program, sizes, batch, known, measured, wait, rng):
    samples = 2 * RUN * batch + 3
    net, X, Y = case(sizes, samples, np.dtype(np.float64), rng)
    order = rng.permutation(samples)
    expected = in_turn(net, X, Y, order, batch)[2]
    workspace, first = np.empty(fit_size(sizes, batch, 8, 2, RUN * batch)), known
    for _ in range(1000):  # until the second thread has not slept too long to take part
        known = first.copy()
        parameters = train(program, net, X, Y, order, batch, workspace, 2, known)[2]
        np.testing.assert_array_equal(parameters, expected)
        found = {which for which in (ALONE, TOGETHER) if known[which] != first[which]}
        if found == measured:
            break
    assert found == measured
    assert known[WAIT] == wait
    assert known[LEFT] < first[LEFT] or first[LEFT] == 0


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread has none to train with")
@pytest.mark.parametrize(("program", "sizes", "batch"), ONE_EACH)
def test_fit_takes_the_program_and_gives_the_bits_of_one_thread(program, sizes, batch, monkeypatch, dtype, rng):
    calls = counted(monkeypatch, program)
    net, X, Y = case(sizes, 3 * RUN * batch + 1, dtype, rng)  # one sample is left
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


def test_fit_takes_of_a_larger_workspace_what_it_needs(monkeypatch, rng):
    """What lays weights out clears its workspace in every epoch."""
    calls, sizes, batch = counted(monkeypatch, "train_online"), [64, 30, 10], 8
    net, X, Y = case(sizes, 2000, np.dtype(np.float32), rng)
    net.gradients(X, Y)
    net.fit(X[:20], Y[:20], epochs=1, batch_size=batch)
    *_, workspace, _, _ = calls[0]
    assert workspace.size == fit_size(sizes, batch, 4, 1, 20)


@pytest.mark.parametrize(("program", "sizes", "batch"), CASES)
def test_training_takes_no_more_memory_than_it_may(program, sizes, batch):
    net = Network(sizes, seed=0)
    for threads in (1, 2):
        taken = program_for(sizes, batch, RUN * batch, threads)
        letters = LETTERS * net.n_parameters
        more = {"train_divided": 3 * APART // 4, "train_together": letters, "train_by_units": letters}.get(taken, 0)
        beside = net.n_parameters  # and a copy of them, or a plan
        beside += 0 if taken in entry.LAID_OUT else net.n_parameters
        beside += 0 if taken in ("train_in_turn", "train_divided") else plan_size(sizes, 4, together=threads > 1)
        beside += fit_size(sizes, batch, 4, threads, RUN * batch)
        assert beside <= 4 * net.n_parameters + 2 * batch * sum(sizes) + more + PADDING
