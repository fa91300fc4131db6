"""Many samples through a small network laid out in rows: outputs and loss against a reference and against tiles."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from reference import UNIT_ROUNDOFF, Rounded, forward, layers

from fastmlp import Network
from fastmlp._memory import aligned_empty
from fastmlp.kernels import Team, entry
from fastmlp.kernels.blocking import PREDICTED_ONE
from fastmlp.kernels.plan import predict_plan, small_size
from fastmlp.kernels.programs import evenly, samples_in_rows

NETWORKS = [(1, 1), (2, 1), (9, 1), (33, 1), (70, 1), (300, 1), (5, 1, 3), (3, 20, 1, 9, 1), (17, 64, 64, 6), (500, 30)]
NETWORKS += [(300, 3), (41, 4), (16, 2), (64, 33, 2), (6000, 3)]  # layers of few outputs for many inputs
NETWORKS += [(300, 5, 261)]  # whose many outputs have squared errors in several sums
NETWORKS += [(784, 30, 10), (1000, 256, 200, 5)]  # whose samples come from afar, and rows of weights are spaced
LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "rows apart": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "columns apart": lambda a: np.repeat(a, 3, axis=1)[:, ::3],
}


@pytest.fixture(params=NETWORKS, ids=str)
def net(request, dtype):
    net = Network(request.param, dtype=dtype, seed=1)
    net.parameters[:] = np.random.default_rng(2).standard_normal(net.n_parameters) / 4
    return net


def samples_of(net, samples, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((samples, n)).astype(net.dtype) for n in (net.sizes[0], net.sizes[-1]))


def in_rows(function, net, *arguments, threads=1):
    rows = samples_in_rows(net.sizes)
    workspace = aligned_empty(small_size(net.sizes, rows, net.dtype.itemsize, threads), net.dtype)
    workspace[:] = np.nan
    plan = predict_plan(net.sizes, rows, threads, workspace)
    return function(*arguments, rows, threads, plan, *Team(threads, 1))


@pytest.mark.parametrize("samples", [1, 3, 64, 300])
def test_outputs_have_the_bits_that_tiles_give(net, samples, monkeypatch):
    X, _ = samples_of(net, samples)
    g = np.empty((samples, net.sizes[-1]), net.dtype)
    assert in_rows(entry.predict_in_rows, net, g, net.parameters, X)
    monkeypatch.setattr(net, "_least_in_rows", np.inf)
    assert_array_equal(g, net.predict(X))


@pytest.mark.parametrize("samples", [1, 63, 64, 257, 700])
def test_a_network_predicts_so_where_that_is_quicker(net, samples, monkeypatch):
    X, _ = samples_of(net, samples)
    calls, in_tiles = [], net._in_tiles
    monkeypatch.setattr(net, "_in_tiles", lambda *arguments: calls.append(arguments) or in_tiles(*arguments))
    net.predict(X)
    assert bool(calls) == (net.n_parameters > PREDICTED_ONE and samples < max(64, net.n_parameters // 512))


def test_outputs_and_loss_are_within_the_error_of_arithmetic(net):
    X, Y = samples_of(net, 300)
    of_layers = [(Rounded(W, net.dtype), Rounded(b, net.dtype)) for W, b in layers(net.parameters, net.sizes)]
    *_, g = forward(of_layers, Rounded(X, net.dtype))
    output = net.predict(X)
    assert (np.abs(output - g.value) <= g.error).all()
    loss = np.square(output.astype(np.longdouble) - Y).mean()
    # Every error is rounded once or twice in double precision, and as often as there are sums that it is in.
    assert abs(net.loss(X, Y) - loss) <= (Y.size + 3) * UNIT_ROUNDOFF[np.dtype(np.float64)] * loss


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_change_no_bit(net, layout):
    X, Y = samples_of(net, 300)
    of_layout = LAYOUTS[layout]
    assert_array_equal(net.predict(of_layout(X)), net.predict(X))
    assert net.loss(of_layout(X), of_layout(Y)) == net.loss(X, Y)


def test_threads_change_no_bit(net):
    samples = 1000
    X, Y = samples_of(net, samples)
    outputs, losses = [], []
    for threads in (1, 2, 3):
        g = np.empty((samples, net.sizes[-1]), net.dtype)
        assert in_rows(entry.predict_in_rows, net, g, net.parameters, X, threads=threads)
        of_batches = np.empty(-(-samples // samples_in_rows(net.sizes)))
        arguments = of_batches, net.parameters, X, Y
        losses.append(in_rows(entry.mean_loss_in_rows, net, *arguments, threads=threads))
        outputs.append(g)
    assert_array_equal(outputs[0], outputs[1])
    assert_array_equal(outputs[0], outputs[2])
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_seen(net, value):
    for place in ((0, 0), (299, -1)):
        X, _ = samples_of(net, 300)
        X[place] = value
        with pytest.raises(ValueError, match="X"):
            net.predict(X)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize(("most", "unit"), [(256, 12), (64, 4)])
def test_threads_get_about_as_many_samples(threads, most, unit):
    for samples in (1, 60, 256, 257, 300, 1000, 10_000):
        rows = evenly(samples, most, threads, unit)
        batches = -(-samples // rows)
        assert 1 <= rows <= most
        of_thread = -(-batches // threads) * rows  # at most
        assert of_thread <= samples / threads + unit * -(-samples // (most * threads))
