"""The kernels in other people's compiled code."""

import numpy as np
import pytest
import reference
from conftest import FORMS
from numba import njit, prange

from fastmlp import Network, kernels
from fastmlp.kernels import SERIAL


@njit
def train(steps, parameters, x, y, learning_rate, sizes, workspace):
    loss = 0.0
    for _ in range(steps):
        loss = kernels.train_step(parameters, x, y, learning_rate, sizes, workspace, SERIAL)
    return loss


@njit(parallel=True)
def predict_many(g, parameters, x, sizes, workspaces):
    for i in prange(len(x)):
        kernels.predict(g[i], parameters, x[i], 4, sizes, workspaces[i], SERIAL)


def test_a_network_trained_in_compiled_code_is_the_network_trained_from_python(dtype, rng):
    net = Network([5, 4, 3], dtype=dtype, seed=0)
    other = net.copy()
    x, y = rng.random((9, 5)).astype(dtype), rng.random((9, 3)).astype(dtype)
    workspace = np.empty(kernels.workspace_size(net.sizes, 9, dtype.itemsize), dtype)
    loss = train(50, net.parameters, x, y, 0.5, np.array(net.sizes), workspace)
    for _ in range(50):
        expected = other.train_step(x, y, learning_rate=0.5)
    assert loss == expected
    np.testing.assert_array_equal(net.parameters, other.parameters)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_step_in_compiled_code_on_what_is_not_finite_is_no_step(bad, dtype, rng):
    net = Network([5, 4, 3], dtype=dtype, seed=0)
    before = net.parameters.copy()
    workspace = np.empty(kernels.workspace_size(net.sizes, 9, dtype.itemsize), dtype)
    for position in range(2):
        pair = [rng.random((9, columns)).astype(dtype) for columns in (5, 3)]
        pair[position][8, 2] = bad
        assert np.isnan(train(1, net.parameters, *pair, 0.5, np.array(net.sizes), workspace))
        np.testing.assert_array_equal(net.parameters, before)


def test_serial_kernels_in_a_parallel_loop(dtype, rng):
    net = Network([5, 40, 3], dtype=dtype, seed=0)
    x, g = rng.random((6, 9, 5)).astype(dtype), np.empty((6, 9, 3), dtype)
    workspaces = np.empty((6, kernels.workspace_size(net.sizes, 4, dtype.itemsize)), dtype)
    predict_many(g, net.parameters, x, np.array(net.sizes), workspaces)
    for i in range(6):
        np.testing.assert_array_equal(g[i], net.predict(x[i]))


@pytest.mark.parametrize("form", ["column-major", "strided"])
def test_a_layer_forward_and_backward(form, rng):
    """Each public kernel of a layer, by itself, against its formula."""
    dtype = np.dtype(np.float64)
    batch, n_in, n_out = 7, 13, 5
    shapes = (batch, n_in), (n_out, n_in), (batch, n_out)
    x, W, delta = (FORMS[form](rng.standard_normal(shape)) for shape in shapes)
    b, g_below = rng.standard_normal(n_out), reference.sigmoid(x)
    panels = np.empty(kernels.panels_size(13, 13, 13, dtype.itemsize), dtype)

    g = FORMS[form](np.empty((batch, n_out)))
    kernels.layer_forward(g, x, W, b, panels, SERIAL)
    np.testing.assert_allclose(g, reference.sigmoid(x @ W.T + b), rtol=1e-13)

    delta_below = FORMS[form](np.empty((batch, n_in)))
    kernels.layer_delta(delta_below, delta, g_below, W, panels, SERIAL)
    np.testing.assert_allclose(delta_below, (delta @ W) * g_below * (1 - g_below), rtol=1e-12, atol=1e-14)

    grad_x = FORMS[form](np.empty((batch, n_in)))
    kernels.layer_input_gradient(grad_x, delta, W, panels, SERIAL)
    np.testing.assert_allclose(grad_x, delta @ W, rtol=1e-12, atol=1e-14)

    grad_W, grad_b = FORMS[form](np.empty((n_out, n_in))), np.empty(n_out)
    kernels.layer_gradient(grad_W, grad_b, delta, x, panels, SERIAL)
    np.testing.assert_allclose(grad_W, delta.T @ x, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grad_b, delta.sum(0), rtol=1e-12, atol=1e-14)

    new_W, new_b = FORMS[form](W.copy()), b.copy()
    kernels.layer_update(new_W, new_b, delta, x, 0.5, panels, SERIAL)
    np.testing.assert_allclose(new_W, W - 0.5 * (delta.T @ x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(new_b, b - 0.5 * delta.sum(0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_loss_and_its_gradient(form, dtype, rng):
    g, y = (FORMS[form](rng.random((6, 4)).astype(dtype)) for _ in range(2))
    np.testing.assert_allclose(kernels.mse(g, y), reference.mse(g.astype(np.longdouble), y), rtol=1e-14)
    grad_g, delta = np.empty((6, 4), dtype), np.empty((6, 4), dtype)
    kernels.mse_gradient(grad_g, g, y)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(grad_g, 2 / 24 * (g.astype(np.longdouble) - y), rtol=2 * eps)
    kernels.output_delta(delta, grad_g, g)
    np.testing.assert_allclose(delta, grad_g.astype(np.longdouble) * g * (1 - g.astype(np.longdouble)), rtol=2 * eps)
