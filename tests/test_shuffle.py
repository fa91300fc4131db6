"""The random order in which an epoch takes the samples."""

import collections
import copy
import math

import numpy as np
import pytest
import reference

from fastmlp._training import SHUFFLED_AT_ONCE, shuffled


@pytest.mark.parametrize("samples", [1, 2, 1000, SHUFFLED_AT_ONCE, SHUFFLED_AT_ONCE + 1, 3 * SHUFFLED_AT_ONCE - 1])
def test_it_is_the_shuffle_of_fisher_and_yates(samples, rng):
    draws = copy.deepcopy(rng)
    order = shuffled(samples, rng)
    np.testing.assert_array_equal(order, reference.shuffled(samples, draws, SHUFFLED_AT_ONCE))
    np.testing.assert_array_equal(np.sort(order), np.arange(samples))
    assert rng.bit_generator.state == draws.bit_generator.state


def test_every_order_is_equally_likely(rng):
    """Each of 4! orders is drawn a binomial number of times: six standard deviations hold all with 1 - 5e-8."""
    draws, orders = 24_000, math.factorial(4)
    counts = collections.Counter(tuple(shuffled(4, rng)) for _ in range(draws))
    assert len(counts) == orders
    deviation = math.sqrt(draws / orders * (1 - 1 / orders))
    assert max(abs(count - draws / orders) for count in counts.values()) < 6 * deviation


def test_the_largest_number_below_1_stays_within_the_order():
    class Largest:
        def random(self, out):
            out[:] = np.nextafter(1, 0)
            return out

    np.testing.assert_array_equal(shuffled(100_000, Largest()), np.arange(100_000))
