"""Layers of a single output: their sums against a reference, and the same bits wherever they are taken."""

import numpy as np
import pytest
from conftest import FORMS, hard_extents
from harness import EAGER, SERIAL, layer_forward
from numpy.testing import assert_array_equal
from reference import Rounded, sigmoid

from fastmlp.kernels.blocking import DOT
from fastmlp.kernels.dot import in_halves

INPUTS = [0, 1, 2, 7, 8, 9, DOT - 1, DOT, DOT + 1, 2 * DOT, 3 * DOT + 5, 300, 3000]


def operands(rng, dtype, m, k):
    return (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (1, k), 1))


def forward(x, W, b, team=SERIAL):
    return layer_forward(np.full((len(x), 1), np.nan, x.dtype), x, W, b, team)


@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_within_the_rounding_bound_on_every_layout(form, dtype, rng):
    for m in hard_extents(dtype):
        for k in INPUTS:
            x, W, b = operands(rng, dtype, m, k)
            g = forward(FORMS[form](x), FORMS[form](W), b)
            exact = sigmoid(Rounded(x, dtype) @ Rounded(W.T, dtype) + Rounded(b, dtype))
            assert (np.abs(g - exact.value) <= exact.error).all(), (m, k)


@pytest.mark.parametrize("form", FORMS)
def test_a_row_has_the_same_bits_alone_and_beside_others(form, dtype, rng):
    for k in INPUTS:
        x, W, b = operands(rng, dtype, 137, k)
        alone = np.concatenate([forward(x[i : i + 1], W, b) for i in range(len(x))])
        for team in (SERIAL, EAGER):
            assert_array_equal(forward(FORMS[form](x), FORMS[form](W), b, team), alone, strict=True)


def test_a_column_of_any_strides_is_written_and_nothing_else(dtype, rng):
    x, W, b = operands(rng, dtype, 53, 20)
    expected = forward(x, W, b)
    memory = np.full((53, 3), -1, dtype)
    layer_forward(memory[:, 1:2], x, W, b)
    assert_array_equal(memory, np.hstack([-np.ones_like(expected), expected, -np.ones_like(expected)]))
    assert_array_equal(layer_forward(np.empty((53, 1), dtype)[::-1], x[::-1], W, b), expected[::-1])


def test_a_number_of_sums_that_is_no_power_of_two_is_added_as_if_zeros_were_behind():
    for n in range(1, DOT + 1):
        values = np.random.default_rng(n).standard_normal(n)
        behind = np.zeros(DOT)
        behind[:n] = values
        assert in_halves(list(values)) == in_halves(list(behind))
