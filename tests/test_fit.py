"""`Network.fit` and its `History`: what is trained on, in which order, and what stops it."""

import copy
import select
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from reference import layers, shuffled
from test_programs import counted

from fastmlp import History, Network

SIZES = [3, 8, 2]
SAMPLES = 50


def data(samples=SAMPLES, seed=1):
    """Something that a network of SIZES can learn."""
    X = np.random.default_rng(seed).uniform(-1, 1, (samples, 3))
    return X, np.stack([X[:, 0] * X[:, 1] > 0, X[:, 2] > 0], axis=1)


def network(dtype=np.float32, seed=0):
    return Network(SIZES, dtype=dtype, seed=seed)


def same_bits(a, b):
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def random_state(net):
    return copy.deepcopy(net._rng.bit_generator.state)


# What is trained on


def descend(parameters, X, Y, order, batch_size, learning_rate):
    """An epoch of gradient descent in plain NumPy, in place; the mean over the samples of their minibatches' loss."""
    ((W1, b1), (W2, b2)), total = layers(parameters, SIZES), 0
    for first in range(0, len(X), batch_size):
        x, y = X[order[first : first + batch_size]], Y[order[first : first + batch_size]]
        g1 = 1 / (1 + np.exp(-(x @ W1.T + b1)))
        g2 = 1 / (1 + np.exp(-(g1 @ W2.T + b2)))
        total += len(x) * np.mean((g2 - y) ** 2)
        delta2 = 2 / y.size * (g2 - y) * g2 * (1 - g2)
        delta1 = delta2 @ W2 * g1 * (1 - g1)
        for parameter, gradient in ((W2, delta2.T @ g1), (b2, delta2.sum(0)), (W1, delta1.T @ x), (b1, delta1.sum(0))):
            parameter -= learning_rate * gradient
    return total / len(X)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 25, 49, 50, 1000], ids="batch_size={}".format)
def test_fit_is_gradient_descent_over_the_documented_minibatches(batch_size, shuffle, dtype):
    """7 and 49 leave a smaller minibatch for the end of an epoch, 1000 is more samples than there are.

    A step rounds by some units of its size, and 150 of them pass it on; left out samples, another order or a mean over
    the wrong number of samples change the first digits.
    """
    X, Y = data()
    generator = np.random.default_rng(5)
    net = Network(SIZES, dtype=dtype, seed=generator)
    draws = copy.deepcopy(generator)
    expected = net.parameters.astype(float)
    before = expected.copy()
    X_held = X.astype(dtype).astype(float)
    losses = []
    for _ in range(3):
        order = shuffled(SAMPLES, draws) if shuffle and batch_size < SAMPLES else np.arange(SAMPLES)
        losses.append(descend(expected, X_held, Y, order, batch_size, 0.5))
    history = net.fit(X, Y, epochs=3, batch_size=batch_size, learning_rate=0.5, shuffle=shuffle)
    tolerance = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(net.parameters, expected, atol=tolerance, rtol=0)
    np.testing.assert_allclose(history.loss, losses, atol=tolerance, rtol=0)
    assert abs(before - expected).max() > 20 * tolerance
    assert generator.bit_generator.state == draws.bit_generator.state


@pytest.mark.parametrize("batch_size", [SAMPLES, SAMPLES + 1, 10**30])
def test_a_batch_of_everything_is_one_step(batch_size, dtype):
    X, Y = data()
    net, stepped = network(dtype), network(dtype)
    history = net.fit(X, Y, epochs=2, batch_size=batch_size, learning_rate=0.5)
    losses = [stepped.train_step(X, Y, learning_rate=0.5) for _ in range(2)]
    assert same_bits(net.parameters, stepped.parameters)
    assert history.loss == pytest.approx(losses, rel=1e-14)


def test_a_fit_is_the_steps_of_its_minibatches(dtype):
    X, Y = data()
    net, stepped = network(dtype), network(dtype)
    net.fit(X, Y, epochs=2, batch_size=7, learning_rate=0.5, shuffle=False)
    for _ in range(2):
        for first in range(0, SAMPLES, 7):
            stepped.train_step(X[first : first + 7], Y[first : first + 7], learning_rate=0.5)
    assert same_bits(net.parameters, stepped.parameters)


def test_the_defaults_are_those_documented():
    X, Y = data()
    net, explicit = network(), network()
    history = net.fit(X, Y)
    assert history.loss == explicit.fit(X, Y, epochs=10, batch_size=32, learning_rate=1.0, shuffle=True).loss
    assert same_bits(net.parameters, explicit.parameters)
    before = random_state(net)
    net.train_step(X, Y)
    explicit.train_step(X, Y, learning_rate=1.0)
    assert same_bits(net.parameters, explicit.parameters)
    assert random_state(net) == before


@pytest.mark.parametrize("shuffle", [True, False])
def test_two_fits_are_one_of_all_their_epochs(shuffle, dtype):
    X, Y = data()
    net, twice = network(dtype), network(dtype)
    once = net.fit(X, Y, epochs=5, batch_size=7, shuffle=shuffle)
    parts = [twice.fit(X, Y, epochs=epochs, batch_size=7, shuffle=shuffle) for epochs in (2, 0, 3)]
    assert same_bits(net.parameters, twice.parameters)
    assert once.loss == [loss for part in parts for loss in part.loss]
    assert random_state(net) == random_state(twice)


def test_a_seed_decides_every_bit(dtype):
    X, Y = data()
    nets = [network(dtype, seed) for seed in (0, 0, 1)]
    for net in nets[1:]:
        net.parameters[:] = nets[0].parameters  # so that the order of the samples alone tells the last one apart
    losses = [net.fit(X, Y, epochs=3, batch_size=7).loss for net in nets]
    assert same_bits(nets[0].parameters, nets[1].parameters)
    assert losses[0] == losses[1]
    assert not same_bits(nets[0].parameters, nets[2].parameters)


def test_without_shuffling_nothing_is_drawn():
    net, other = network(seed=0), network(seed=1)
    other.parameters[:] = net.parameters
    before = random_state(net)
    for each in (net, other):
        each.fit(*data(), epochs=3, batch_size=7, shuffle=False)
    assert same_bits(net.parameters, other.parameters)
    assert random_state(net) == before


def test_no_epochs_change_nothing(capsys):
    net = network()
    before, state = net.parameters.copy(), random_state(net)
    assert net.fit(*data(), epochs=0, validation_data=data(), progress=True) == History()
    assert same_bits(net.parameters, before)
    assert random_state(net) == state


def test_the_data_are_left_as_they_were():
    X, Y = (values.astype(np.float32) for values in data())
    before = X.copy(), Y.copy()
    network().fit(X, Y, epochs=2, batch_size=7, validation_data=(X, Y))
    assert same_bits(X, before[0])
    assert same_bits(Y, before[1])


# History


def test_history_has_an_entry_an_epoch_and_the_loss_falls(dtype):
    history = network(dtype).fit(*data(), epochs=100, batch_size=10, learning_rate=3)
    assert len(history.loss) == len(history.seconds) == 100
    assert history.validation_loss == []
    assert all(type(value) is float for value in history.loss + history.seconds)
    assert all(seconds > 0 for seconds in history.seconds)
    assert history.loss[-1] < history.loss[0] / 3


def test_validation_measures_held_out_data_after_every_epoch_and_changes_nothing(dtype):
    X, Y = data()
    held_out = data(300, seed=2)  # more than one block of `loss`
    measured = []
    net, alone = network(dtype), network(dtype)
    history = net.fit(
        X,
        Y,
        epochs=4,
        batch_size=7,
        validation_data=held_out,
        callbacks=lambda net, history: measured.append((net.loss(*held_out), history.validation_loss[-1])),
    )
    assert len(history.validation_loss) == len(measured) == 4
    assert len(set(history.validation_loss)) == 4
    assert history.validation_loss == [expected for expected, _ in measured] == [last for _, last in measured]
    assert all(type(loss) is float for loss in history.validation_loss)
    assert history.loss == alone.fit(X, Y, epochs=4, batch_size=7).loss
    assert same_bits(net.parameters, alone.parameters)


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("given_axes", [False, True])
def test_plot_draws_the_losses_over_the_epochs(given_axes, validated, pyplot):
    validation = {"validation_data": data(seed=2)} if validated else {}
    history = network().fit(*data(), epochs=3, **validation)
    ax = pyplot.figure().add_subplot() if given_axes else None
    drawn = history.plot(ax)
    assert isinstance(drawn, pyplot.Axes)
    assert ax in (None, drawn)
    losses = [history.loss, history.validation_loss][: 1 + validated]
    assert [list(line.get_ydata()) for line in drawn.lines] == losses
    assert all(list(line.get_xdata()) == [1, 2, 3] for line in drawn.lines)
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("epoch", "loss")
    assert (drawn.get_legend() is not None) == validated
    drawn.figure.canvas.draw()  # what Matplotlib would warn of, it warns of here


def test_plot_of_nothing_is_empty_axes(pyplot):
    ax = History().plot()
    ax.figure.canvas.draw()
    assert [len(line.get_xdata()) for line in ax.lines] in ([], [0])


# Callbacks


@pytest.mark.parametrize("shape", [lambda one: one, lambda one: [one], lambda one: (one,), lambda one: iter([one])])
def test_callbacks_see_the_network_and_its_history_after_every_epoch(shape):
    X, Y = data()
    net, stepped = network(), network()
    seen = []

    def callback(*arguments):
        seen.append((*arguments, len(arguments[1].loss), arguments[0].parameters.copy()))

    history = net.fit(X, Y, epochs=3, batch_size=7, callbacks=shape(callback))
    assert len(seen) == 3
    for epoch, (seen_net, seen_history, epochs, parameters) in enumerate(seen, 1):
        assert seen_net is net
        assert seen_history is history
        assert epochs == epoch
        stepped.fit(X, Y, epochs=1, batch_size=7)
        assert same_bits(parameters, stepped.parameters)


@pytest.mark.parametrize(("value", "epochs"), [(True, 2), (False, 5), (None, 5), (1, 5), ("True", 5)])
def test_true_alone_stops(value, epochs):
    def second_time(net, history):
        return value if len(history.loss) == 2 else None

    history = network().fit(*data(), epochs=5, callbacks=second_time, validation_data=data())
    assert len(history.loss) == len(history.validation_loss) == len(history.seconds) == epochs


@pytest.mark.parametrize("stopper", [0, 1, 2])
def test_any_callback_may_stop_and_all_are_called_in_order(stopper):
    calls = []
    callbacks = [lambda net, history, number=number: calls.append(number) or number == stopper for number in range(3)]
    network().fit(*data(), epochs=5, callbacks=callbacks)
    assert calls == [0, 1, 2]


def test_an_exception_of_a_callback_ends_the_fit_behind_its_epoch():
    net, expected = network(), network()

    def fail(net, history):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        net.fit(*data(), epochs=5, callbacks=fail)
    expected.fit(*data(), epochs=1)
    assert same_bits(net.parameters, expected.parameters)


def test_a_callback_may_use_and_train_the_network():
    """Whatever the fit that runs holds meanwhile, a workspace and a team of threads."""
    X, Y = data()

    def use(net, history):
        net.predict(X)
        net.train_step(X[:20], Y[:20])
        net.fit(X, Y, epochs=1, batch_size=20)

    net, expected = network(), network()
    net.fit(X, Y, epochs=3, batch_size=20, callbacks=use)
    for _ in range(3):
        expected.fit(X, Y, epochs=1, batch_size=20)
        use(expected, None)
    assert same_bits(net.parameters, expected.parameters)


# Progress


@pytest.mark.parametrize("progress", [True, False])
def test_progress_writes_epoch_loss_and_rate_to_stderr(progress, capsys):
    pytest.importorskip("tqdm")
    net, silent = network(), network()
    history = net.fit(*data(), epochs=3, batch_size=7, progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    if progress:
        last = err.split("\r")[-1]
        for part in ("epoch 3/3", f"loss={history.loss[-1]:.5f}", "samples/s", "150/150", "100%"):
            assert part in last
    else:
        assert err == ""
    silent.fit(*data(), epochs=3, batch_size=7)
    assert same_bits(net.parameters, silent.parameters)


def test_progress_without_tqdm_names_the_extra_and_trains_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    net = network()
    before, state = net.parameters.copy(), random_state(net)
    with pytest.raises(ImportError, match=r'pip install "fastmlp\[cli\]"'):
        net.fit(*data(), progress=True)
    assert same_bits(net.parameters, before)
    assert random_state(net) == state
    net.fit(*data(), epochs=1)


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    for module in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "fastmlp\[plot\]"'):
        History([1.0]).plot()


# What is not finite

DIVERGING = {
    # (g - y)² overflows, in float64 too
    "loss": {"dtype": np.float64, "y": 1e200},
    # the loss of 1e77 does not, but the sum of its gradients times the learning rate does
    "parameters": {"dtype": np.float32, "y": 3.4e38},
}


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("bad", [0, 3, 624, 625], ids="minibatch {}".format)
@pytest.mark.parametrize(("what", "case"), DIVERGING.items(), ids=DIVERGING)
def test_a_fit_that_diverges_keeps_the_parameters_of_its_last_good_step(what, case, bad, shuffle):
    """Whichever minibatch it is of the many that are one compiled call; the last of them is a single sample."""
    X, _ = data(5001)
    Y = 0.5 + 0.1 * X[:, :2]
    generator = np.random.default_rng(5)
    net = Network(SIZES, dtype=case["dtype"], seed=generator)
    net.parameters[:] *= 0.1  # outputs near 1/2, where the slope of σ is 1/4
    stepped = net.copy()
    order = shuffled(len(X), copy.deepcopy(generator)) if shuffle else np.arange(len(X))
    minibatches = [order[first : first + 8] for first in range(0, len(X), 8)]
    Y[minibatches[bad]] = case["y"]
    message = f"^the {what} turned NaN or infinite"
    with pytest.raises(FloatingPointError, match=message) as raised:
        net.fit(X, Y, epochs=2, batch_size=8, learning_rate=6, shuffle=shuffle)
    assert f"samples {8 * bad} to {min(8 * bad + 7, 5000)};" in str(raised.value)
    for rows in minibatches[:bad]:
        stepped.train_step(X[rows], Y[rows], learning_rate=6)
    assert np.isfinite(net.parameters).all()
    assert same_bits(net.parameters, stepped.parameters)
    with pytest.raises(FloatingPointError, match=message):
        stepped.train_step(X[minibatches[bad]], Y[minibatches[bad]], learning_rate=6)
    assert same_bits(net.parameters, stepped.parameters)
    net.fit(*data(), epochs=1)  # it can go on


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_somebody_made_not_finite_end_a_fit_too(value, dtype):
    """There is no good step to go back to: they are left as they are."""
    net = network(dtype)
    net.biases[0][3] = value
    before = net.parameters.copy()
    for train in (lambda: net.fit(*data(), epochs=1), lambda: net.train_step(*data())):
        with pytest.raises(FloatingPointError, match="NaN or infinite at samples 0 to"):
            train()
        assert same_bits(net.parameters, before)


def trains_or_says_so(dtype, X, Y, **arguments):
    """A fit ends with finite losses or with FloatingPointError, and the parameters are finite; True if it trained."""
    net = network(dtype)
    before = net.parameters.copy()
    try:
        history = net.fit(X, Y, epochs=3, **arguments)
    except FloatingPointError:
        history = None
    assert np.isfinite(net.parameters).all()
    if history:
        assert np.isfinite(history.loss).all()
        assert net.loss(X, Y) >= 0
    return not same_bits(net.parameters, before)


@pytest.mark.parametrize("batch_size", [1, 7, 50])
@pytest.mark.parametrize("which", ["X", "Y", "both"])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        *((np.float32, scale) for scale in (1e-45, 1e-40, 1e-20, 1e10, 1e19, 1e20, 1e30, 3e38)),
        *((np.float64, scale) for scale in (5e-324, 1e-310, 1e-200, 1e100, 0.8e154, 1e155, 1e300, 1.7e308)),
    ],
    ids=str,
)
def test_data_of_any_magnitude_train_or_raise(dtype, scale, which, batch_size):
    X, Y = data()
    X, Y = (X * scale if which != "Y" else X), (Y * scale if which != "X" else Y.astype(float))
    trained = trains_or_says_so(dtype, X, Y, batch_size=batch_size, learning_rate=0.5)
    # Nothing overflows where inputs and targets are small, or where targets are and σ takes ±∞ to 0 and 1.
    assert trained or scale > 1


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from([32, 64]))
def test_any_finite_data_train_or_raise(draw, width):
    dtype = np.dtype(f"f{width // 8}").type
    numbers = st.floats(width=width, allow_nan=False, allow_infinity=False)
    X = draw.draw(stn.arrays(dtype, (9, 3), elements=numbers))
    Y = draw.draw(stn.arrays(dtype, (9, 2), elements=numbers))
    learning_rate = draw.draw(st.floats(0, exclude_min=True, allow_infinity=False))
    trains_or_says_so(dtype, X, Y, batch_size=4, learning_rate=learning_rate)


# Ctrl-C

INTERRUPTED = {
    # Minibatches of some 50 µs, so that a compiled call is many of them.
    "many samples": {"sizes": [1, 256, 256, 1], "samples": 20_000_000, "batch_size": 3},
    # Minibatches of some ms, and megabytes of parameters to look at and to keep between compiled calls.
    "many parameters": {"sizes": [1, 2048, 2048, 2048, 1], "samples": 1_000_000, "batch_size": 2},
}


@pytest.mark.usefixtures("without_own_code")
@pytest.mark.parametrize(
    ("program", "sizes", "batch_size"), [("train_apart", [1, 1], 1), ("train_online", [2, 4, 1], 8)]
)
def test_the_first_compiled_call_is_short_where_a_minibatch_is_little_work(program, sizes, batch_size, monkeypatch):
    """10,000 minibatches take well under 0.2 s, whatever they are: until then nobody knows how long one takes."""
    calls = counted(monkeypatch, program)
    X = np.zeros((50_000 * batch_size, sizes[0]), np.float32)
    Network(sizes, seed=0).fit(X, X[:, :1], epochs=1, batch_size=batch_size)
    first, last = calls[0][8:10]
    assert last - first <= 10_000 * batch_size


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process")
@pytest.mark.parametrize("case", INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_a_fit_long_before_its_epoch(case, tmp_path):
    """The sum of a busy machine's delays is well under 5 s, and the epoch takes minutes.

    The parameters are those of a completed step: as many steps by hand lead to the same bits. The data are one sample,
    which takes no memory.
    """
    code = f"""
    import signal
    import numpy as np
    from fastmlp import Network

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    net = Network({case["sizes"]}, seed=0)
    stepped = net.copy()
    one = np.full((1, 1), 0.5, np.float32)
    X, Y = np.broadcast_to(one, ({case["samples"]}, 1)), np.broadcast_to(one / 8, ({case["samples"]}, 1))
    batch_size = {case["batch_size"]}
    given = {{"epochs": 1, "batch_size": batch_size, "learning_rate": 1e-3, "shuffle": False}}
    net.copy().train_step(X[:batch_size], Y[:batch_size])  # compiles, as does this
    net.copy().fit(X[: 100 * batch_size], Y[: 100 * batch_size], **given)
    print("training", flush=True)
    try:
        net.fit(X, Y, **given)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert np.isfinite(net.parameters).all()
    assert not np.array_equal(net.parameters, stepped.parameters)
    while not np.array_equal(net.parameters, stepped.parameters):
        stepped.train_step(X[:batch_size], Y[:batch_size], learning_rate=1e-3)
    print("replayed", flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "training\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
        child.send_signal(signal.SIGINT)
        heard, _, _ = select.select([child.stdout], [], [], 5)
        assert heard
        assert child.stdout.readline() == "interrupted\n"
        out, err = child.communicate(timeout=120)
    finally:
        child.kill()
        child.communicate()
    assert (out, child.returncode) == ("replayed\n", 0), err


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that sends a signal")
def test_ctrl_c_in_the_middle_of_a_step_that_diverges_leaves_finite_parameters():
    """The signal comes while the one step is computed, some 0.1 s, and is raised before anything looks at the result.

    Were the step over by then, it would have said so itself, which is as good.
    """

    def interrupt(*_):
        raise KeyboardInterrupt

    net = Network([1, 1024, 1024, 1], seed=0)
    X, Y = np.full((3000, 1), 0.5, np.float32), np.full((3000, 1), 1e38, np.float32)
    with pytest.raises(FloatingPointError, match="the parameters"):
        net.train_step(X[:1], Y[:1], learning_rate=1e30)
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        with pytest.raises((KeyboardInterrupt, FloatingPointError)):
            net.train_step(X, Y, learning_rate=1e30)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert np.isfinite(net.parameters).all()
