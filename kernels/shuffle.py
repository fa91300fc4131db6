"""The order in which an epoch takes the samples: any stretch of it, worked out when it is wanted.

A random permutation that is kept takes 8 bytes a sample; to draw it (Fisher and Yates) takes 4.2 ns a sample, 5.6 where
there are 10⁶, 9 of 5·10⁶, and `Generator.permutation` 16, 40 and 94. This one takes 2 ns, always (AVX2), and its keys
are all that is kept.

It is a cipher of the samples' numbers, with keys that are drawn at random. A number is a pair, l·b + r with l < a and
r < b; by every key, to one of the two, by turns, is added what the other gives, modulo a or b (a Feistel network). Of
all pairs, a·b, few are none of a sample's: such a number is enciphered again until it is one (J. Black, P. Rogaway:
Ciphers with arbitrary finite domains, CT-RSA 2002).
"""

import math
from collections import namedtuple
from contextlib import contextmanager

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import ENCIPHERED, FEW_SAMPLES, KEYS, KEYS_OF_FEW
from .simd import INDEX, INT32, minimum, splat
from .tasks import outlined

FACTORS = 0x21F0AAAD, 0x735A2D97  # mix bits well: C. Wellons, Prospecting for hash functions


Orders = namedtuple("Orders", "samples a b keys")
"""What `take_in_order` is given for random orders of so many samples: the extents of pairs, and the keys of one."""


def random_orders(samples):
    """Orders of so many samples, until `draw` without keys."""
    number = np.uint32 if samples < 1 << 32 else np.uint64
    return Orders(samples, *extents(samples), np.empty(KEYS if samples > FEW_SAMPLES else KEYS_OF_FEW, number))


def draw(orders, rng):
    """Have the keys be those of another random order."""
    orders.keys[:] = rng.bit_generator.random_raw(orders.keys.size)


def extents(samples):
    """a and b, for few more pairs than samples. a is even, so that a single key may exchange an odd number of times."""
    root = math.isqrt(samples - 1) + 1  # rounded up
    a = root + root % 2
    return a, -(-samples // a)


@outlined
def take_in_order(numbers, first, samples, a, b, keys) -> None:
    """numbers = those of the samples that an order has in the places first, first+1, ...: as they are without keys.

    `numbers` is a Vector of np.intp, as `keys` is one. The other arguments are those of Orders.
    """
    if keys.size == 0:
        for i in range(numbers.size):
            numbers.data[i] = first + i
        return
    encipher(numbers.data, numbers.size, first, samples, a, b, keys.data, keys.size)


@intrinsic
def encipher(typingctx, numbers, count, first, samples, a, b, keys, key_count):
    """`take_in_order`, some numbers at a time, in vectors: those that are none of a sample's again, one by one."""
    index = types.intp
    signature = types.void(numbers, index, index, index, index, index, keys, index)

    def codegen(context, builder, signature, args):
        numbers, count, first, samples, *of_pairs = args
        bits = signature.args[6].dtype.bitwidth
        several, one = (Cipher(builder, bits, lanes, *of_pairs) for lanes in (ENCIPHERED * 32 // bits, 1))
        emit_numbers(several, one, numbers, count, first, samples)
        return context.get_dummy_value()

    return signature, codegen


def emit_numbers(several, one, numbers, count, first, samples):
    """Where fewer are left than are enciphered at once, by way of a buffer, and no others are enciphered again."""
    builder, lanes = several.builder, several.lanes
    buffer = cgutils.alloca_once(builder, INDEX, size=lanes)
    pairs, limit = several.pairs_from(first), several.splat(samples)
    with cgutils.for_range_slice(builder, INDEX(0), count, INDEX(lanes)) as (start, _):
        found = several.enciphered(*several.next_of(pairs))
        left = minimum(builder, builder.sub(count, start), INDEX(lanes))
        is_short = builder.icmp_signed("<", left, INDEX(lanes))
        at = builder.select(is_short, buffer, builder.gep(numbers, [start]))
        wide = several.widened(found)
        builder.store(wide, builder.bitcast(at, wide.type.as_pointer())).align = INDEX.width // 8
        outside = several.any(builder.icmp_unsigned(">=", found, limit))
        with builder.if_then(outside, likely=False), cgutils.for_range(builder, left) as loop:
            emit_again(one, builder.gep(at, [loop.index]), samples)
        with builder.if_then(is_short), cgutils.for_range(builder, left) as loop:
            number = builder.load(builder.gep(buffer, [loop.index]))
            builder.store(number, builder.gep(numbers, [builder.add(start, loop.index)]))


def emit_again(one, place, samples):
    """Encipher the number in a place until it is one of a sample's."""
    builder = one.builder
    with loop_while(builder, lambda: builder.icmp_unsigned(">=", builder.load(place), samples)):
        pair = one.split(builder.load(place))
        number = one.widened(one.enciphered(*map(one.splat, pair)))
        builder.store(builder.extract_element(number, INT32(0)), place)


@contextmanager
def loop_while(builder, condition):
    head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
    builder.branch(head)
    with builder.goto_block(head):
        builder.cbranch(condition(), body, end)
    builder.position_at_end(body)
    yield
    builder.branch(head)
    builder.position_at_end(end)


class Cipher:
    """Emits what enciphers numbers, as pairs of vectors of so many unsigned integers."""

    def __init__(self, builder, bits, lanes, a, b, keys, key_count):
        self.builder, self.bits, self.lanes, self.divisor = builder, bits, lanes, b
        self.vector = ir.VectorType(ir.IntType(bits), lanes)
        self.a, self.b, self.keys, self.key_count = self.splat(a), self.splat(b), keys, key_count

    def constant(self, number):
        return ir.Constant(self.vector, [number] * self.lanes)

    def splat(self, number):
        if number.type.width > self.bits:
            number = self.builder.trunc(number, self.vector.element)
        return splat(self.builder, number, self.vector)

    def widened(self, numbers):
        if self.bits == INDEX.width:
            return numbers
        return self.builder.zext(numbers, ir.VectorType(INDEX, self.lanes))

    def any(self, mask):
        bits = ir.IntType(self.lanes)
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(mask, bits), ir.Constant(bits, 0))

    def variable(self, value):
        return cgutils.alloca_once_value(self.builder, value)

    def split(self, number):
        """The pair (l, r) of a number."""
        return self.builder.udiv(number, self.divisor), self.builder.urem(number, self.divisor)

    def pairs_from(self, first):
        """Variables of l and of r, of the first numbers from `first` on, as `next_of` wants them."""
        left, right = map(self.splat, self.split(first))
        following = ir.Constant(self.vector, list(range(self.lanes)))
        return self.variable(left), self.variable(self.builder.add(right, following))

    def next_of(self, pairs):
        """The pairs of the next numbers: where r has come to b, or beyond, it begins again, and l goes on."""
        builder, (left, right) = self.builder, pairs

        def beyond():
            return builder.icmp_unsigned(">=", builder.load(right), self.b)

        with loop_while(builder, lambda: self.any(beyond())):
            mask, r = beyond(), builder.load(right)
            builder.store(builder.select(mask, builder.sub(r, self.b), r), right)
            builder.store(builder.sub(builder.load(left), builder.sext(mask, self.vector)), left)
        pair = builder.load(left), builder.load(right)
        builder.store(builder.add(pair[1], self.constant(self.lanes)), right)
        return pair

    def enciphered(self, left, right):
        """The numbers of the pairs that come of these, by two keys at a time."""
        builder, left, right = self.builder, self.variable(left), self.variable(right)
        with cgutils.for_range_slice(builder, INDEX(0), self.key_count, INDEX(2)) as (k, _):
            self.change(left, right, k, self.a)
            self.change(right, left, builder.add(k, INDEX(1)), self.b)
        return builder.add(builder.mul(builder.load(left), self.b), builder.load(right))

    def change(self, one, other, k, extent):
        """Add to one of a pair what key k makes of the other, modulo its extent."""
        builder, half = self.builder, self.constant(self.bits // 2)
        key = self.splat(builder.load(builder.gep(self.keys, [k])))
        h = builder.mul(builder.xor(builder.load(other), key), self.constant(FACTORS[0]))
        h = builder.xor(h, builder.lshr(h, self.constant(self.bits // 2 - 1)))
        h = builder.lshr(builder.mul(h, self.constant(FACTORS[1])), half)
        total = builder.add(builder.load(one), builder.lshr(builder.mul(h, extent), half))
        less = builder.sub(total, extent)
        builder.store(builder.select(builder.icmp_unsigned("<", total, less), total, less), one)
