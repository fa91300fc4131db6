"""The sigmoid's accuracy, in units in the last place of the exact result, and its derivative from the output."""

import numpy as np
import pytest
import reference
from harness import sigmoid
from mpmath import libmp

from fastmlp.kernels.activation import sigmoid_derivative

CHUNK = 1 << 22
TINY = np.finfo(np.float32).tiny


def worst_float32(bits):
    """The largest error in ULP of the exact value, of results that are normal numbers; the others are checked."""
    x = bits.view(np.float32)
    got = sigmoid(x)
    nan = np.isnan(x)
    assert (np.isnan(got) == nan).all()
    got, x = got[~nan], x[~nan]
    assert ((got >= 0) & (got <= 1)).all()
    exact = reference.sigmoid(x.astype(np.float64))
    error, normal = np.abs(got - exact), exact >= TINY
    assert error[~normal].max(initial=0) <= TINY  # may be flushed
    _, exponent = np.frexp(exact[normal])
    return (error[normal] / np.ldexp(1.0, exponent - 24)).max(initial=0)


def test_float32_is_within_1_5_ulp_at_a_million_random_inputs(rng):
    assert worst_float32(rng.integers(0, 1 << 32, 1_000_000, np.uint32)) <= 1.5
    assert worst_float32(rng.uniform(-100, 100, 1_000_000).astype(np.float32).view(np.uint32)) <= 1.5


@pytest.mark.exhaustive
def test_float32_is_within_1_5_ulp_at_every_input():
    worst = max(worst_float32(np.arange(i, i + CHUNK, dtype=np.uint32)) for i in range(0, 1 << 32, CHUNK))
    print(f"worst error {worst:.4f} ULP")
    assert worst <= 1.5


def exact_sigmoid(x, bits=80):
    """σ(x) as an mpmath number of `bits` bits, for a float."""
    one = libmp.fone
    e = libmp.mpf_exp(libmp.from_float(-abs(x)), bits + 10)
    return libmp.mpf_div(one if x > 0 else e, libmp.mpf_add(one, e, bits + 10), bits)


def float64_ulp_error(x, got):
    exact = exact_sigmoid(x)
    error = libmp.mpf_abs(libmp.mpf_sub(libmp.from_float(got), exact, 80))
    _, _, exponent, length = exact
    ulp = (0, 1, max(exponent + length, -1021) - 53, 1)
    if exponent + length < -1021:
        return libmp.to_float(error) / np.finfo(np.float64).tiny * 2
    return libmp.to_float(libmp.mpf_div(error, ulp, 53))


def test_float64_is_within_2_ulp(rng):
    smallest_normal = np.log(np.finfo(np.float64).tiny)
    steps = np.arange(-20, 21) * np.spacing(smallest_normal)
    boundaries = np.concatenate([[0, 1e-300, 1, 36.7, 39.99, 40, 40.01, 745.2, 1e3, 1e300], smallest_normal + steps])
    largest_remainders = np.arange(1, 2044, 2) * np.log(2) / 2
    special = np.concatenate([boundaries, largest_remainders])
    random = rng.uniform(-45, 45, 250_000), rng.uniform(-745, 745, 75_000), rng.normal(0, 1e-3, 75_000)
    x = np.concatenate([special, -special, *random])
    got = sigmoid(x)
    assert ((got >= 0) & (got <= 1)).all()
    assert max(map(float64_ulp_error, x.tolist(), got.tolist())) <= 2


def test_the_ends_are_exact(dtype):
    got = sigmoid(np.array([-np.inf, np.inf, np.nan, 0, -0.0], dtype))
    np.testing.assert_array_equal(got, np.array([0, 1, np.nan, 0.5, 0.5], dtype))


def test_the_place_in_a_vector_changes_no_bit(dtype, rng):
    x = rng.normal(0, 10, 200).astype(dtype)
    whole = sigmoid(x)
    for length in (1, 7, 33):
        np.testing.assert_array_equal(sigmoid(x[-length:].copy()), whole[-length:])


def test_derivative_from_the_output():
    t, h = np.longdouble("0.7"), np.longdouble("1e-6")
    difference = (reference.sigmoid(t + h) - reference.sigmoid(t - h)) / (2 * h)
    assert abs(sigmoid_derivative(reference.sigmoid(t)) - difference) < h * h
