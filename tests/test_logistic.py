"""Gradients of a single layer with one output: as by products, bit for bit, and within the bound of their sums."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from test_gradients import assert_within, bounded, bounded_layers

from fastmlp import Network
from fastmlp.kernels import entry

SHAPES = [  # inputs, samples: a sample, less than a vector of them, odd ones, slices of the sums, shards
    (1, 1),
    (1, 10_000),
    (2, 3),
    (5, 17),
    (8, 64),
    (16, 65),
    (33, 1025),
    (64, 2049),
    (71, 10_000),
    (129, 5000),
    (784, 1000),
    (3000, 9),
]


def case(inputs, samples, dtype):
    rng = np.random.default_rng(samples)
    net = Network([inputs, 1], dtype=dtype, seed=1)
    net.biases[0][:] = 0.5
    return net, rng.standard_normal((samples, inputs)).astype(dtype), rng.random((samples, 1)).astype(dtype)


@pytest.fixture
def by_products(monkeypatch):
    """A network's gradients without the kernel for such networks."""

    def gradients(net, x, y):
        with monkeypatch.context() as patch:
            patch.setattr(entry, "gradients_of_output", entry.gradients)
            return net.gradients(x, y)

    return gradients


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_they_have_the_bits_of_products(shape, dtype, by_products):
    net, x, y = case(*shape, dtype)
    got, expected = net.gradients(x, y), by_products(net, x, y)
    assert got.loss == expected.loss
    assert_array_equal(got.parameters.view(np.uint8), expected.parameters.view(np.uint8))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_they_are_within_their_rounding_bound(shape, dtype):
    net, x, y = case(*shape, dtype)
    [(grad_W, grad_b)], _ = reference.gradients(bounded_layers(net), bounded(x), bounded(y))
    got = net.gradients(x, y)
    assert_within(got.weights[0], grad_W)
    assert_within(got.biases[0], grad_b)


def test_layouts_change_no_bit(dtype):
    net, x, y = case(33, 300, dtype)
    expected = net.gradients(x, y).parameters
    apart = np.repeat(x, 2, axis=0)[::2], np.repeat(y, 2, axis=0)[::2]
    for pair in (apart, (x[::-1].copy()[::-1], y[::-1].copy()[::-1]), (np.asfortranarray(x), y)):
        assert_array_equal(net.gradients(*pair).parameters, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["X", "Y"])
def test_a_sample_that_is_not_finite_is_refused(name, value, dtype):
    net, x, y = case(33, 300, dtype)
    {"X": x, "Y": y}[name][299] = value
    with pytest.raises(ValueError, match=name):
        net.gradients(x, y)


def test_outputs_of_exactly_0_and_1_are_no_reason_to_refuse(dtype):
    net, x, y = case(33, 300, dtype)
    net.biases[0][:] = 1000
    got = net.gradients(x, y)
    assert got.loss == pytest.approx(np.square(1 - y.astype(np.float64)).mean())
    assert not got.parameters.any()
