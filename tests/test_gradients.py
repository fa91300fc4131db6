"""Every gradient of many random networks, against longdouble within the rounding bound of its sums."""

import numpy as np
import pytest
import reference
from reference import Rounded

from fastmlp import Network

NETWORKS = 200


def random_case(seed, dtype):
    """1 to 6 layers, widths 1 to 70, batches 1 to 65; some weights small, some so large that units saturate."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 71, rng.integers(2, 8)).tolist()
    net = Network(sizes, dtype=dtype, seed=rng)
    net.parameters[:] += rng.normal(0, rng.choice([0.1, 1, 3]), net.n_parameters)
    batch = rng.integers(1, 66)
    x = rng.normal(0, 2, (batch, sizes[0])).astype(dtype)
    y = rng.random((batch, sizes[-1])).astype(dtype)
    return net, x, y


def bounded(array):
    return Rounded(array, array.dtype)


def assert_within(got, bound):
    excess = np.abs(got - bound.value) - bound.error
    assert (excess <= 0).all(), f"{(excess > 0).sum()} of {excess.size} beyond the bound"


def bounded_layers(net):
    return [(bounded(W), bounded(b)) for W, b in zip(net.weights, net.biases, strict=True)]


def check_gradients(net, x, y):
    """Every gradient is within its rounding bound; 𝓛 is returned."""
    expected, expected_inputs = reference.gradients(bounded_layers(net), bounded(x), bounded(y))
    got = net.gradients(x, y, inputs=True)
    for l, (grad_W, grad_b) in enumerate(expected):
        assert_within(got.weights[l], grad_W)
        assert_within(got.biases[l], grad_b)
    assert_within(got.inputs, expected_inputs)
    return got.loss


def check_step(net, x, y):
    """A step is the parameters minus the gradient: the same sums, halved exactly, and one rounding."""
    before, gradient = net.parameters.copy(), net.gradients(x, y)
    assert net.train_step(x, y, learning_rate=0.5) == gradient.loss
    np.testing.assert_array_equal(net.parameters, before - net.dtype.type(0.5) * gradient.parameters)


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_every_gradient_is_within_its_rounding_bound(seed, dtype):
    net, x, y = random_case(seed, dtype)
    got_loss = check_gradients(net, x, y)

    layers = bounded_layers(net)
    g = reference.forward(layers, bounded(x))[-1]
    assert_within(net.predict(x), g)
    loss = reference.mse(g.value, y.astype(np.longdouble))
    # in float64, from outputs that are off by their own error
    error = (2 * np.abs(g.value - y) * g.error + g.error**2).mean() + reference.gamma(2 * y.size + 4, np.float64) * loss
    assert abs(got_loss - loss) <= error
    assert abs(net.loss(x, y) - loss) <= error


def test_the_bound_is_tight_enough_to_notice_one_wrong_sample(dtype):
    rng = np.random.default_rng(0)
    net = Network([5, 4, 3], dtype=dtype, seed=0)
    x, y = rng.random((20, 5)).astype(dtype), rng.random((20, 3)).astype(dtype)
    layers = bounded_layers(net)
    expected, _ = reference.gradients(layers, bounded(x), bounded(y))
    x[-1] += 0.01
    got = net.gradients(x, y)
    with pytest.raises(AssertionError):
        assert_within(got.weights[0], expected[0][0])


def test_a_step_is_the_parameters_minus_the_gradient(dtype):
    for seed in range(20):
        check_step(*random_case(seed, dtype))


def test_one_sample_is_a_minibatch_too(dtype, rng):
    """The gradient of each layer is then a column times a row."""
    for sizes in ([97, 70, 33, 5], [5, 300, 2], [203, 17]):
        net = Network(sizes, dtype=dtype, seed=0)
        x, y = rng.random((1, sizes[0])).astype(dtype), rng.random((1, sizes[-1])).astype(dtype)
        check_gradients(net, x, y)
        check_step(net, x, y)
