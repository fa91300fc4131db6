"""The order in which an epoch takes the samples: any stretch of it, worked out when it is wanted.

A random permutation that is kept takes 8 bytes a sample; to draw it (Fisher and Yates) takes 4.2 ns a sample, 5.6 where
there are 10⁶, 9 of 5·10⁶, and `Generator.permutation` 16, 40 and 94. This one takes 3 ns, always (AVX2), and no memory
but for its keys.

It is a cipher of the samples' numbers, with keys that are drawn at random. A number is a pair, l·b + r with l < a and
r < b; by every key, to one of the two, by turns, is added what the other gives, modulo a or b (a Feistel network). Of
all pairs, a·b, few are none of a sample's: such a number is enciphered again until it is one (J. Black, P. Rogaway:
Ciphers with arbitrary finite domains, CT-RSA 2002).
"""

import math
from collections import namedtuple

import numpy as np

from .blocking import ENCIPHERED, FEW_SAMPLES, KEYS, KEYS_OF_FEW
from .compiling import helper
from .matrix import itemsize, vector
from .tasks import outlined

FACTORS = 0x21F0AAAD, 0x735A2D97  # mix bits well: C. Wellons, Prospecting for hash functions


Orders = namedtuple("Orders", "samples a b keys memory")
"""What `take_in_order` is given for random orders of so many samples: the extents of pairs, the keys of one, memory."""

NONE = Orders(0, 1, 1, np.empty(0, np.uint32), np.empty((3, 0), np.uint32))


def random_orders(samples):
    """Orders of so many samples, until `draw` without keys."""
    number = np.uint32 if samples < 1 << 32 else np.uint64
    keys = np.empty(KEYS if samples > FEW_SAMPLES else KEYS_OF_FEW, number)
    return Orders(samples, *extents(samples), keys, np.empty((3, ENCIPHERED), number))


def draw(orders, rng):
    """Have the keys be those of another random order."""
    orders.keys[:] = rng.bit_generator.random_raw(orders.keys.size)


def extents(samples):
    """a and b, for few more pairs than samples. a is even, so that a single key may exchange an odd number of times."""
    root = math.isqrt(samples - 1) + 1  # rounded up
    a = root + root % 2
    return a, -(-samples // a)


def stretch(numbers, first=0, orders=NONE):
    """An order for compiled code: what a random one has in the places first, first+1, ..., or numbers as they are."""
    return numbers, first, *orders


@helper
def numbers_of(order):
    """The Vector of numbers of a `stretch`, which are worked out now."""
    numbers, first, samples, a, b, keys, memory = order
    if keys.size > 0:
        take_in_order(numbers, first, samples, a, b, keys, memory)
    return vector(numbers)


@outlined
def take_in_order(numbers, first, samples, a, b, keys, memory) -> None:
    """numbers = those of the samples that a random order has in the places first, first+1, ...

    `numbers` is a contiguous vector of np.intp. The other arguments are those of Orders.
    """
    number, half = keys.dtype.type, 4 * itemsize(keys)
    left, right, place = memory[0], memory[1], memory[2]
    for start in range(0, numbers.size, ENCIPHERED):
        count = min(ENCIPHERED, numbers.size - start)
        high, low = (first + start) // b, (first + start) % b
        for i in range(count):
            left[i], right[i], place[i] = high, low, start + i
            last = low == b - 1
            high += last
            low = 0 if last else low + 1
        while count > 0:
            for k in range(keys.size):
                key, extent, moved, other = keys[k], number(a if k % 2 == 0 else b), memory[k % 2], memory[1 - k % 2]
                for i in range(count):
                    h = number((other[i] ^ key) * number(FACTORS[0]))
                    h = number((h ^ (h >> number(half - 1))) * number(FACTORS[1]))
                    y = number(moved[i] + (number((h >> number(half)) * extent) >> number(half)))
                    moved[i] = min(y, number(y - extent))
            outside = 0
            for i in range(count):
                n = number(left[i] * number(b) + right[i])
                if n < number(samples):
                    numbers[place[i]] = n
                else:
                    left[outside], right[outside], place[outside] = n // number(b), n % number(b), place[i]
                    outside += 1
            count = outside
