"""The product, against float64 and longdouble, on every hard shape and form of operand."""

import itertools

import numpy as np
import pytest
from conftest import FORMS, hard_extents
from harness import EAGER, SERIAL, layer_update, product
from reference import gamma

from fastmlp import kernels
from fastmlp.kernels.blocking import TASKS_EACH
from fastmlp.kernels.parallel import first_of

HIGHER = {"float32": np.float64, "float64": np.longdouble}


def operands(rng, dtype, m, n, k):
    return rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)


@pytest.mark.parametrize("form_a", FORMS)
@pytest.mark.parametrize("form_b", FORMS)
def test_products_of_all_extents_are_within_the_rounding_bound(form_a, form_b, dtype, rng):
    """|C - A B| <= γ_k |A| |B| elementwise (Higham 3.5): k fused multiply-adds, in any order."""
    higher = HIGHER[dtype.name]
    extents = hard_extents(dtype)
    for m, n, k in itertools.product(extents, extents, extents):
        a, b = operands(rng, dtype, m, n, k)
        c = product(np.full((m, n), np.nan, dtype), FORMS[form_a](a), FORMS[form_b](b))
        exact = a.astype(higher) @ b.astype(higher)
        bound = gamma(k, dtype) * (np.abs(a).astype(higher) @ np.abs(b).astype(higher))
        assert (np.abs(c - exact) <= bound).all(), (m, n, k)


# (m, n, k) beyond one slice of k, block of A or panel of B, and wide enough for A to be copied; in the next two a
# few rows or terms are streamed, and a C that comes from afar is fetched; in the fourth, rows of B lie whole pages
# apart, or C has few columns and many rows; then rows of B are near to each other, on cache lines or not; in the last,
# panels go down side by side, some slice of k by slice
LARGE = [(50, 300, 1100), (300, 40, 1100), (1000, 280, 1060), (13, 700, 2100), (130, 1, 5000), (1, 600, 1025)]
LARGE += [(2, 1234, 130), (7, 1023, 1027), (600, 500, 16), (523, 517, 3), (300, 771, 1), (800, 700, 40)]
LARGE += [(17, 2070, 2040)]
LARGE += [(11, 1024, 1027), (27, 1024, 300), (700, 9, 1100), (333, 5, 40)]
LARGE += [(128, 128, 200), (130, 100, 300), (60, 90, 130)]
LARGE += [(39, 300, 1300), (262, 200, 600), (100, 1603, 1100)]


@pytest.mark.parametrize("team", [SERIAL, EAGER], ids=["serial", "shared"])
@pytest.mark.parametrize(("form_a", "form_b"), [(form, form) for form in FORMS] + [("row-major", "column-major")])
def test_large_products_are_within_the_rounding_bound(form_a, form_b, team, dtype, rng):
    higher = HIGHER[dtype.name]
    for m, n, k in LARGE:
        a, b = operands(rng, dtype, m, n, k)
        c = product(np.full((m, n), np.nan, dtype), FORMS[form_a](a), FORMS[form_b](b), team)
        some = rng.permutation(m)[:8]
        exact = a[some].astype(higher) @ b.astype(higher)
        bound = gamma(k, dtype) * (np.abs(a[some]).astype(higher) @ np.abs(b).astype(higher))
        assert (np.abs(c[some] - exact) <= bound).all(), (m, n, k)
        one = product(np.empty((1, 1), dtype), a[-1:], b[:, -1:])
        assert c[-1, -1] == one[0, 0]  # however the product was cut


@pytest.mark.parametrize("team", [SERIAL, EAGER], ids=["serial", "shared"])
def test_a_column_times_a_row_is_rounded_once(team, dtype, rng):
    for m, n in itertools.product([1, 12, 95, 97, 700], [*hard_extents(dtype), 300, 530]):
        a, b = operands(rng, dtype, m, n, 1)
        np.testing.assert_array_equal(product(np.empty((m, n), dtype), a, b, team), a * b)


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_output_changes_no_bit_and_nothing_around_it(form, dtype, rng):
    for m, n, k in itertools.product(hard_extents(dtype), hard_extents(dtype), (0, 1, 33)):
        a, b = operands(rng, dtype, m, n, k)
        plain = product(np.empty((m, n), dtype), a, b)
        frame = FORMS[form](np.full((m + 2, n + 2), -1, dtype))
        product(frame[1:-1, 1:-1], a, b)
        np.testing.assert_array_equal(frame[1:-1, 1:-1], plain)
        frame[1:-1, 1:-1] = -1
        assert (frame == -1).all()


def test_the_parallel_and_the_serial_build_give_the_same_bits(dtype, rng):
    extents = hard_extents(dtype)
    for m, n, k in itertools.product(extents, extents, extents):
        a, b = operands(rng, dtype, m, n, k)
        b = np.asfortranarray(b)  # goes through each thread's panel
        serial = product(np.empty((m, n), dtype), a, b, SERIAL)
        np.testing.assert_array_equal(product(np.empty((m, n), dtype), a, b, EAGER), serial)


def test_an_element_depends_on_its_row_and_column_alone(dtype, rng):
    a, b = operands(rng, dtype, 40, 70, 33)
    whole = product(np.empty((40, 70), dtype), a, b)
    for i, j in ((0, 0), (11, 31), (12, 32), (39, 69)):
        alone = product(np.empty((1, 1), dtype), a[i : i + 1], b[:, j : j + 1])
        assert alone[0, 0] == whole[i, j]


@pytest.mark.parametrize("form", FORMS)
def test_product_takes_arrays_of_any_layout_from_python(form, dtype, rng):
    a, b = operands(rng, dtype, 13, 5, 7)
    c = FORMS[form](np.empty((13, 5), dtype))
    panels = np.empty(kernels.panels_size(13, 5, 7, dtype.itemsize), dtype)
    kernels.product(c, FORMS[form](a), FORMS[form](b), panels, SERIAL)
    np.testing.assert_array_equal(c, product(np.empty((13, 5), dtype), a, b))


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize(("m", "n"), [(130, 1), (1, 130), (130, 3)])
def test_product_stays_within_its_panels_where_c_is_part_of_something(m, n, layout, dtype, rng):
    a, b = operands(rng, dtype, m, n, 600)
    c = np.empty((m, n + 3), dtype)[:, :n] if layout == "rows" else np.empty((n, m + 3), dtype)[:, :m].T
    size = kernels.panels_size(m, n, 600, dtype.itemsize)
    panels = np.full(size + 4096, 7, dtype)
    kernels.product(c, a, b, panels[:size], SERIAL)
    assert (panels[size:] == 7).all()
    np.testing.assert_array_equal(c, product(np.empty((m, n), dtype), a, b))


@pytest.mark.parametrize("threads", [2, 3, 64])
@pytest.mark.parametrize("tiles", [0, 1, 7, 1000])
def test_tasks_of_a_product_are_of_every_tile_once_and_those_of_a_thread_get_smaller(threads, tiles):
    tasks = threads * TASKS_EACH
    begins = np.array([first_of(task, tasks, tiles) for task in range(tasks + 1)])
    sizes = np.diff(begins).reshape(threads, TASKS_EACH)
    assert (begins[0], begins[-1]) == (0, tiles)
    assert sizes.min() >= 0
    assert np.diff(sizes).max() <= 1  # what is rounded
    assert np.ptp(sizes.sum(1)) <= 1


@pytest.mark.parametrize("team", [SERIAL, EAGER], ids=["serial", "shared"])
@pytest.mark.parametrize("form", FORMS)
def test_an_update_of_many_panels_subtracts_the_product(form, team, dtype, rng):
    """By a learning rate of a power of two: W - η ∇W is then rounded once, however it is computed.

    For rows of W whole pages apart; for panels that are left over by several at once, and columns by panels.
    """
    for n_out, n_in, batch in ((512, 130, 100), (16 * 16 + 21, 200, 130), (512, 110, 1024), (700, 400, 30)):
        shapes = (batch, n_in), (batch, n_out), (n_out, n_in)
        x, delta, before = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        W = FORMS[form](before.copy())
        layer_update(W, np.zeros(n_out, dtype), delta, x, 0.125, team)
        gradient = product(np.empty((n_out, n_in), dtype), delta.T, x)
        np.testing.assert_array_equal(W, before - dtype.type(0.125) * gradient)


def test_infinity_and_nan_go_through(dtype):
    a = np.array([[np.inf, 1], [np.nan, 1], [0, 1]], dtype)
    b = np.array([[2], [3]], dtype)
    np.testing.assert_array_equal(product(np.empty((3, 1), dtype), a, b)[:, 0], [np.inf, np.nan, 3])
