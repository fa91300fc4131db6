"""Layers of a single output, and first ones of few outputs and many inputs: each sum is a dot product, of a row of W
and a sample's inputs, both rows in memory.

It is of DOT sums, each of every DOT-th term, in order. The second half of these is added to the first, and so on until
one is left. So the terms are taken in vectors as they lie in memory, and the bits do not depend on a vector's width.
"""

import functools
import itertools

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import BYTES_FAR, DOT, FETCHED_ROW, FEW_DOTS
from .compiling import helper, internal
from .elementwise import activate
from .host import HOST
from .matrix import advance, block, bytes_of, row_major, rows, transposed
from .microkernel import tile_shape
from .panel import copy
from .simd import INDEX, Simd, cases, fma, folded, minimum, shuffled
from .wide import sum_length

OUTPUTS = 6 if HOST.registers >= 32 else 3  # that each load of x is for, at most; twice 2 of AVX2 0.92 of once 4
ROWS = 8  # of x, at most, that are read at once: 16 from beyond the caches take up to 1.07 times as long
VECTORS = 16  # of sums, at most, that are taken before σ of them


@intrinsic
def dot_rows(typingctx, c, rsc, e, a, rsa, b, rsb, m, n, k, length, far):
    """c[j*rsc + i] = Σ a[j*rsa + p] b[i*rsb + p] over p < k, + e[j], for i < m and j < n, of which there are few.

    The sums over slices of so many p, a `length`, are added up. Of each row of c, whole vectors are written. If they
    are `far`, rows of b are fetched beforehand unless they are long, from end to end, as if they were adjacent.
    """

    def codegen(context, builder, signature, args):
        c, rsc, e, a, rsa, b, rsb, m, n, k, length, far = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        far = builder.and_(far, builder.icmp_signed("<", k, INDEX(simd.elements(FETCHED_ROW))))
        of_b, last = _Rows(simd, b, rsb, m, k, length), builder.sub(m, minimum(builder, m, INDEX(simd.lanes)))

        def emit_rows(i):
            i = minimum(builder, i, last)  # a last group that would be cut short begins earlier instead
            for outputs in cases(builder, n, range(1, FEW_DOTS + 1)):
                parts = -(-outputs // OUTPUTS)
                cuts = [outputs * part // parts for part in range(parts + 1)]
                for first, end in itertools.pairwise(cuts):
                    emit_outputs(i, range(first, end), far if first == 0 else None)

        def emit_outputs(i, outputs, fetching):
            outputs = [INDEX(j) for j in outputs]
            totals = of_b.sums([builder.gep(a, [builder.mul(j, rsa)]) for j in outputs], i, fetching)
            for j, total in zip(outputs, totals, strict=True):
                at = builder.add(builder.mul(j, rsc), i)
                simd.store(total + simd.splat(builder.load(builder.gep(e, [j]))), builder.gep(c, [at]))

        def emit_column(i):
            column = simd.load(builder.gep(b, [i]), simd.first(builder.sub(m, i)))
            simd.store(simd.splat(builder.load(a)) * column + simd.splat(builder.load(e)), builder.gep(c, [i]))

        is_column = builder.and_(*(builder.icmp_signed("==", number, INDEX(1)) for number in (k, rsb)))
        with builder.if_else(is_column) as branches:
            for branch, emit in zip(branches, (emit_column, emit_rows), strict=True):
                with branch, cgutils.for_range_slice(builder, INDEX(0), m, INDEX(simd.lanes)) as (i, _):
                    emit(i)
        return context.get_dummy_value()

    index = types.intp
    return types.void(c, index, c, c, index, c, index, index, index, index, index, types.boolean), codegen


class _Rows:
    """m rows of k elements, each so many behind the one before it."""

    def __init__(self, simd, b, stride, m, k, length):
        self.simd, self.builder, self.b, self.stride = simd, simd.builder, b, stride
        self.k, self.length = k, length
        self.m, last = m, self.builder.sub(m, INDEX(1))
        self.offsets = [self.builder.mul(minimum(self.builder, INDEX(t), last), stride) for t in range(simd.lanes)]

    def sums(self, a, i, fetching):
        """For each of the rows at the pointers a, a vector of its dot products with the rows from i on."""
        simd, builder = self.simd, self.builder
        totals = [simd.variable() for _ in a]
        for total in totals:
            total.set(simd.constant(-0.0))
        with cgutils.for_range_slice(builder, INDEX(0), self.k, self.length) as (start, _):
            count = minimum(builder, self.length, builder.sub(self.k, start))
            of_a = [builder.gep(row, [start]) for row in a]
            of_b = builder.gep(self.b, [builder.add(builder.mul(i, self.stride), start)])
            for total, of_slice in zip(totals, self.sums_of_slice(of_a, of_b, count, fetching), strict=True):
                total.set(total.get() + of_slice)
        return [total.get() for total in totals]

    def sums_of_slice(self, a, b, k, fetching):
        simd, builder, groups = self.simd, self.builder, [[] for _ in a]
        at_once = HOST.registers * 3 // 4 // (DOT // simd.lanes * len(a))
        at_once = 1 << min(max(1, at_once), ROWS).bit_length() - 1  # a power of two
        for first in range(0, simd.lanes, at_once):
            some = self.offsets[first : first + at_once]
            below = builder.gep(b, [builder.mul(self.stride, INDEX(simd.lanes + first))])
            fetch = functools.partial(self.fetch, fetching, below, len(some))
            with builder.if_then(builder.icmp_signed("<", INDEX(first), self.m)):
                for group, sums in zip(groups, _sums(simd, a, b, some, k, fetch), strict=True):
                    group.append(simd.variable())
                    group[-1].set(_folded(sums, simd.lanes)[0])
        return [_folded([some.get() for some in group], len(group))[0] for group in groups]

    def fetch(self, fetching, below, count, p):
        """As much of the next rows as terms of so many rows are summed from p on."""
        if fetching is None:
            return
        with self.builder.if_then(fetching):
            self.simd.fetch(self.builder.gep(below, [self.builder.mul(p, INDEX(count))]), DOT * count)


@helper
def is_far(m):
    """Whether rows of a Matrix come from beyond the caches."""
    return bytes_of(m) > BYTES_FAR


def dot(simd, a, row, k):
    """Σ a[p] row[p] over p < k, as a Vector of one lane."""
    [[total]] = _sums(simd, [a], row, [INDEX(0)], k)
    return folded(total)


def in_halves(sums):
    """Sums added up, the second half of them to the first, as if behind them were zeros, up to a power of two."""
    while len(sums) > 1:
        half = 1 << (len(sums) - 1).bit_length() - 1
        added = [x + y for x, y in zip(sums, sums[half:], strict=False)]
        sums = added + sums[len(added) : half]
    return sums[0]


def _sums(simd, a, b, offsets, k, fetch=lambda p: None):
    """For each of the rows a, the DOT sums of each row of b, as many as a vector has lanes: those more are added.

    The rows of b begin so many elements behind it; fetch(p) is called before their terms from p on are.
    """
    builder, parts = simd.builder, DOT // simd.lanes
    totals = [[[simd.variable() for _ in range(parts)] for _ in offsets] for _ in a]
    for rows_of_a in totals:
        for total in rows_of_a:
            for part in total:
                part.set(simd.constant(0))

    def add_terms(p, masks):
        for v, mask in enumerate(masks):
            at = builder.add(p, INDEX(v * simd.lanes))
            weights, start = [simd.load(builder.gep(row, [at]), mask) for row in a], simd.opaque(builder.gep(b, [at]))
            for i, offset in enumerate(offsets):
                terms = simd.load(builder.gep(start, [offset]), mask)
                for weight, total in zip(weights, totals, strict=True):
                    total[i][v].set(fma(weight, terms, total[i][v].get()))

    whole = builder.and_(k, INDEX(-DOT))
    with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(DOT)) as (p, _):
        fetch(p)
        add_terms(p, [None] * parts)
    rest = builder.sub(k, whole)
    with builder.if_then(builder.icmp_signed(">", rest, INDEX(0))):
        add_terms(whole, [simd.first(rest, v) for v in range(0, DOT, simd.lanes)])
    return [[in_halves([part.get() for part in total]) for total in rows_of_a] for rows_of_a in totals]


def _folded(vectors, sums):
    """One vector of the rows of several, side by side, each with so many `sums`, which are added up by halves."""
    while len(vectors) > 1:
        lanes = range(2 * vectors[0].simd.lanes)  # of two vectors
        first = [t for t in lanes if t % sums < sums // 2]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [shuffled(x, y, first) + shuffled(x, y, [t + sums // 2 for t in first]) for x, y in pairs]
        sums //= 2
    return vectors


@helper
def dots_size(n, k, lanes):
    """Elements of panels for a thread's share of n outputs of k inputs: sums, and copies of W, some rows and b."""
    return VECTORS * lanes + (n + lanes) * k + n


@internal
def some_outputs(arguments, task, worker):
    """One task's share of g = σ(x W + b), of one column or few, some rows at a time.

    Where a row of x, or a column of W, is not adjacent in memory it is copied.
    """
    g, b, x, W, panels, parts = arguments[0]
    _, _, two = tile_shape(g)
    vector, k, n = two // 2, x.columns, g.columns
    length = sum_length(1, k, n)
    sums = advance(panels, worker * dots_size(n, k, vector))
    of_W = row_major(advance(sums, VECTORS * vector), n, k)
    packed = advance(of_W.data, n * k)
    biases = advance(packed, vector * k)
    copied = x.column_stride != 1 and k > 1
    if W.row_stride == 1:
        of_W = transposed(W)
    else:
        copy(of_W, transposed(W))
    for j in range(n):
        biases[j] = b.data[j * b.column_stride]
    first, end = task * g.rows // parts, (task + 1) * g.rows // parts
    some = vector if copied or n > 1 else VECTORS * vector
    for i in range(first, end, some):
        m = min(some, end - i)
        of_x = rows(x, i, m)
        if copied:
            copy(row_major(packed, m, k), of_x)
            of_x = row_major(packed, m, k)
        dot_rows(sums, some, biases, of_W.data, of_W.row_stride, of_x.data, of_x.row_stride, m, n, k, length, False)
        activate(sums, (n - 1) * some + m)
        copy(block(g, i, 0, m, n), transposed(block(row_major(sums, n, some), 0, 0, n, m)))
