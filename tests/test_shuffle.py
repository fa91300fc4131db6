"""The random order in which an epoch takes the samples."""

import collections
import copy
import itertools
import math
import tracemalloc

import numpy as np
import pytest
import reference
from numba import njit

from fastmlp import Network
from fastmlp.kernels.blocking import ENCIPHERED, FEW_SAMPLES, KEYS
from fastmlp.kernels.matrix import vector
from fastmlp.kernels.order import as_order, as_they_are, in_stretches, next_stretch, order_of, stretch_size
from fastmlp.kernels.shuffle import draw, extents, random_orders, take_in_order

SAMPLES = [1, 2, 3, 5, 17, FEW_SAMPLES, FEW_SAMPLES + 1, 1000, 40_000]
SAMPLES += [ENCIPHERED - 1, ENCIPHERED, ENCIPHERED + 1, 16 * ENCIPHERED]


@njit
def take(numbers, first, samples, a, b, keys):
    take_in_order(vector(numbers), first, samples, a, b, vector(keys))


def drawn(samples, rng, places=None):
    """A random order, or what it has in some places that follow each other."""
    orders = random_orders(samples)
    draw(orders, rng)
    places = places or range(samples)
    numbers = np.full(len(places) + 1, -1, np.intp)
    take(numbers[:-1], places.start, *orders)
    assert numbers[-1] == -1
    return numbers[:-1]


@pytest.mark.parametrize("samples", SAMPLES)
def test_it_is_a_permutation_by_the_documented_cipher(samples, rng):
    draws = copy.deepcopy(rng)
    order = drawn(samples, rng)
    np.testing.assert_array_equal(order, reference.shuffled(samples, draws))
    np.testing.assert_array_equal(np.sort(order), np.arange(samples))
    assert rng.bit_generator.state == draws.bit_generator.state


@pytest.mark.parametrize("samples", [*range(1, 60), 999, 1001, 2**16 + 1])
def test_every_number_of_samples_has_few_pairs_more(samples):
    a, b = extents(samples)
    assert a % 2 == 0
    assert samples <= a * b < samples + a


@pytest.mark.parametrize("samples", [2**32 - 1, 2**32, 2**32 + 1, 2**40 + 12345])
@pytest.mark.parametrize("first", [0, 10_000, -3000])
def test_so_many_samples_that_their_numbers_take_64_bits(samples, first, rng):
    first %= samples
    count = min(3000, samples - first)
    given = random_orders(samples)
    bits = 8 * given.keys.itemsize
    assert bits == (32 if samples < 2**32 else 64)
    given.keys[:] = keys = rng.integers(2**bits, size=KEYS, dtype=np.uint64)
    numbers = np.empty(count, np.intp)
    take(numbers, first, *given)
    np.testing.assert_array_equal(numbers, reference.enciphered(np.arange(first, first + count), samples, keys, bits))
    assert numbers.min() >= 0
    assert numbers.max() < samples
    assert len(np.unique(numbers)) == count
    assert abs(np.mean(numbers / samples) - 0.5) < 6 / math.sqrt(12 * count)


def test_every_order_of_few_is_equally_likely(rng):
    """Each of 4! orders is drawn a binomial number of times: six standard deviations hold all with 1 - 5e-8."""
    draws, orders = 24_000, math.factorial(4)
    counts = collections.Counter(tuple(drawn(4, rng)) for _ in range(draws))
    assert len(counts) == orders
    deviation = math.sqrt(draws / orders * (1 - 1 / orders))
    assert max(abs(count - draws / orders) for count in counts.values()) < 6 * deviation


@pytest.mark.parametrize("samples", [30, FEW_SAMPLES + 1])
def test_pairs_do_not_keep_together(samples, rng):
    """How often two samples that follow each other in a row or in a column of pairs come to do so again: binomial.

    Six standard deviations, as above. By 4 keys those in a column do twice as often.
    """
    draws, (a, b) = 5000, extents(samples)

    def in_row(n, m):
        return (n // b == m // b) & ((m - n) % b == 1)

    def in_column(n, m):
        return (m // b - n // b) % a == 1

    n, m = np.indices((samples, samples))
    starts = [drawn(samples, rng, range(b + 1)) for _ in range(draws)]
    for apart, follow in (1, in_row), (b, in_column):
        probability = follow(n, m)[n != m].mean()
        deviation = math.sqrt(draws * probability * (1 - probability))
        times = sum(follow(start[0], start[apart]) for start in starts)
        assert abs(times - draws * probability) < 6 * deviation


@njit
def stretch(order, begun, first, last, batch_size):
    return next_stretch(as_order(order), begun, first, last, batch_size)


@pytest.mark.parametrize(("samples", "batch_size"), [(100, 7), (100_000, 32), (100_000, 60_000), (5, 9)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_order_comes_stretch_after_stretch(samples, batch_size, shuffle, rng):
    """Each has whole minibatches, if it is not the last, and the numbers of the one behind, where that is fetched."""
    expected = reference.shuffled(samples, copy.deepcopy(rng)) if shuffle else np.arange(samples)
    orders = random_orders(samples) if shuffle else as_they_are(samples)
    if shuffle:
        draw(orders, rng)
    numbers, *_ = order = in_stretches(orders, stretch_size((10, 80, 1), 4, batch_size, samples))
    behind = batch_size if batch_size < 60_000 else 0
    assert numbers.size > behind
    first = begun = 2 * batch_size if samples > 2 * batch_size else 0
    last = samples // batch_size * batch_size or samples
    while first < last:
        begin, end = stretch(order, begun, first, last, batch_size)
        assert begin == 0
        assert end > 0
        assert end % batch_size == 0 or first + end == last
        there = expected[first : first + end + behind]
        np.testing.assert_array_equal(numbers[: len(there)], there)
        first += end
    assert first == last


def test_numbers_that_are_given_come_as_one_stretch():
    numbers = np.array([3, 1, 2])
    for order in order_of(numbers), numbers:
        assert stretch(order, 1, 1, 3, 1) == (1, 3)
    np.testing.assert_array_equal(numbers, [3, 1, 2])


@pytest.mark.parametrize("itemsize", [4, 8])
def test_an_order_takes_little_memory(itemsize):
    """Half as much as the parameters, or 8 KB, or a minibatch, and a minibatch; or one that is large alone."""
    networks = ((9, 1), 10), ((64, 64, 10), 4810), ((1000, 999, 1), 10**6)
    for (sizes, parameters), batch_size, samples in itertools.product(networks, [1, 32, 5000], [40, 10**4, 10**7]):
        size = stretch_size(sizes, itemsize, batch_size, samples)
        assert size % batch_size == 0
        assert size >= batch_size * (1 if batch_size == 5000 else 2)
        assert 8 * size <= max(2**13, itemsize * parameters / 2, 8 * batch_size) + 8 * batch_size
    assert stretch_size((4, 8, 3), 4, 5000, 10**6) == 5000


@pytest.mark.parametrize("sizes", [(2, 8, 1), (64, 64, 10)])
def test_memory_does_not_grow_with_the_samples(sizes, rng):
    def peak(samples):
        X = rng.random((samples, sizes[0]), np.float32)
        Y = rng.random((samples, sizes[-1]), np.float32)
        net = Network(sizes, seed=0)
        net.fit(X, Y, epochs=1, batch_size=50)
        tracemalloc.start()
        net.fit(X, Y, epochs=2, batch_size=50)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(400_000) < peak(50_000) + 2**16
