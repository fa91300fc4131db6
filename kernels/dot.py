"""Layers of a single output, and first ones of few outputs and many inputs: each sum is a dot product, of a row of W
and a sample's inputs, both rows in memory.

It is of DOT sums, each of every DOT-th term, in order. The second half of these is added to the first, and so on until
one is left. So the terms are taken in vectors as they lie in memory, and the bits do not depend on a vector's width. Of
a first layer of several outputs it is the sum of two such, as `wide.sum_length` says, and two threads can share it.
"""

import functools

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import BYTES_FAR, DOT, NARROW
from .compiling import helper, internal
from .elementwise import activate
from .host import HOST
from .matrix import advance, block, bytes_of, row_major, rows, transposed
from .microkernel import tile_shape
from .panel import copy
from .simd import INDEX, Simd, cases, fma, folded, maximum, minimum, shuffled, where
from .wide import sum_length

OUTPUTS = 6 if HOST.registers >= 32 else 3  # for which x is read once, at most: with 4 of AVX2 1.1 on 784-8 by 30
ROWS = 8  # of x, at most, that are read at once: with 16 10,000 predictions of 784-1 take 1.06 to 1.15 times as long
SLICES = 2  # of a sum, at most
VECTORS = 16  # of sums, at most, that are taken before σ of them


@intrinsic
def dot_rows(typingctx, c, rsc, e, a, rsa, b, rsb, m, n, k, length, far):
    """c[j*rsc + i] = Σ a[j*rsa + p] b[i*rsb + p] over p < k, + e[j], for i < m and j < n, of which there are few.

    The sums over slices of so many p, a `length`, are added up. Of each row of c, whole vectors are written. If they
    are `far`, rows of b are fetched beforehand, from end to end, as if they were adjacent.
    """

    def codegen(context, builder, signature, args):
        c, rsc, e, a, rsa, b, rsb, m, n, k, length, far = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        rows = _Rows(simd, a, rsa, b, rsb, m, n, k, length, far)
        last = builder.sub(m, minimum(builder, m, INDEX(simd.lanes)))

        def emit_rows(i):
            i = minimum(builder, i, last)  # a last group that would be cut short begins earlier instead

            def put(j, total):
                at = builder.add(builder.mul(j, rsc), i)
                simd.store(total + simd.splat(builder.load(builder.gep(e, [j]))), builder.gep(c, [at]))

            with builder.if_else(builder.icmp_signed("==", n, INDEX(1))) as (one, several):
                with one:
                    rows.emit(i, [1], put)
                with several:
                    rows.emit(i, range(1, OUTPUTS + 1), put)

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
    """Dot products of n rows of a with m rows of b, all of k elements, each so many behind the one before it."""

    def __init__(self, simd, a, rsa, b, rsb, m, n, k, length, far):
        self.simd, self.builder = simd, simd.builder
        self.a, self.rsa, self.b, self.rsb = a, rsa, b, rsb
        self.m, self.n, self.k, self.length, self.far = m, n, k, length, far

    def emit(self, i, counts, put):
        """put(j, a vector of the sums with rows from i on) for all j < n, of which so many are computed at a time.

        Of a whole vector of rows a few that lie apart are read at a time, from end to end, and then those behind each:
        so each load reads on where it was. From beyond the caches that takes 0.73 of the time on 784-2 (AVX2).
        """
        simd, builder = self.simd, self.builder
        at_once = HOST.registers * 3 // 4 // (DOT // simd.lanes * max(counts))
        at_once = 1 << min(max(1, at_once), ROWS).bit_length() - 1  # a power of two
        groups = simd.lanes // at_once
        memory = _Memory(simd, 1 if max(counts) == 1 else NARROW, groups)
        are_whole = builder.icmp_signed(">=", self.m, INDEX(simd.lanes))
        to_group, to_row = (builder.select(are_whole, INDEX(x), INDEX(y)) for x, y in ((1, at_once), (groups, 1)))
        start, last = builder.gep(self.b, [builder.mul(i, self.rsb)]), builder.sub(self.m, INDEX(1))
        end = minimum(builder, self.m, INDEX(simd.lanes))
        with cgutils.for_range_slice(builder, INDEX(0), end, INDEX(at_once)) as (first, group):
            begin = builder.mul(group, to_group)
            rows = [builder.add(begin, builder.mul(to_row, INDEX(t))) for t in range(at_once)]
            offsets = [builder.mul(minimum(builder, row, last), self.rsb) for row in rows]
            below = builder.gep(start, [builder.mul(self.rsb, builder.add(first, INDEX(simd.lanes)))])
            for turn, turns, j, count in self.parts_of_outputs(counts):
                fetch = functools.partial(self.fetch, turn, turns, below, at_once)
                self.emit_slices(j, count, start, offsets, fetch, functools.partial(memory.place, group))
        with cgutils.for_range(builder, self.n) as outputs:
            total = simd.variable()
            total.set(memory.total(outputs.index, 0))
            with builder.if_then(builder.icmp_signed("<", self.length, self.k)):
                total.set(total.get() + memory.total(outputs.index, 1))
            in_order = [t % groups * at_once + t // groups for t in range(simd.lanes)]
            put(outputs.index, where(are_whole, shuffled(total.get(), total.get(), in_order), total.get()))

    def emit_slices(self, first, count, start, offsets, fetch, place):
        """Store the sums of each slice, of so many rows of a from the `first` on, with those at the `offsets`.

        fetch(p) is called before the terms from p on are added.
        """
        simd, builder = self.simd, self.builder
        outputs = [builder.add(first, INDEX(j)) for j in range(count)]
        # One of no terms, if there are none.
        slices = INDEX(0), maximum(builder, self.k, INDEX(1)), maximum(builder, self.length, INDEX(1))
        with cgutils.for_range_slice(builder, *slices) as (p, number):
            of_a = [builder.gep(self.a, [builder.add(builder.mul(j, self.rsa), p)]) for j in outputs]
            terms = minimum(builder, self.length, builder.sub(self.k, p))
            sums = _sums(simd, of_a, builder.gep(start, [p]), offsets, terms, lambda q, p=p: fetch(builder.add(p, q)))
            for j, of_j in zip(outputs, sums, strict=True):
                simd.store(_folded(of_j, simd.lanes)[0], place(j, number))

    def fetch(self, turn, turns, below, rows, p):
        """As much of so many rows `below` as they have terms from p on that are added next, if it is the turn of these.

        Where the first part of the outputs alone fetches, 10,000 predictions take 1.16 times as long on 784-8; with all
        in the first cache 1.5, on 784-6 1.9, on 784-1 1.4.
        """
        builder = self.builder
        with builder.if_then(self.far):
            is_turn = builder.icmp_signed("==", builder.urem(builder.udiv(p, INDEX(DOT)), turns), turn)
            with builder.if_then(is_turn):
                self.simd.fetch(builder.gep(below, [builder.mul(p, INDEX(rows))]), DOT * rows, far=True)

    def parts_of_outputs(self, counts):
        """Yield (part, parts, first, how many) while code for so many outputs is emitted, one of `counts`."""
        if max(counts) == 1:
            yield INDEX(0), INDEX(1), INDEX(0), 1
            return
        builder, most = self.builder, INDEX(max(counts))
        parts = builder.udiv(builder.add(self.n, builder.sub(most, INDEX(1))), most)
        with cgutils.for_range(builder, parts) as part:
            numbers = part.index, builder.add(part.index, INDEX(1))
            first, end = (builder.udiv(builder.mul(self.n, number), parts) for number in numbers)
            for count in cases(builder, builder.sub(end, first), counts):
                yield part.index, parts, first, count


class _Memory:
    """For the sums of a vector of rows, as many vectors as `groups` of these rows, of each output and slice."""

    def __init__(self, simd, outputs, groups):
        self.simd, self.groups = simd, groups
        self.start = cgutils.alloca_once(simd.builder, simd.vector, size=SLICES * outputs * groups)

    def place(self, group, j, number):
        """Pointer to that of a group, of output j and a slice."""
        builder = self.simd.builder
        of_slice = builder.add(builder.mul(j, INDEX(SLICES)), number)
        return builder.gep(self.start, [builder.add(builder.mul(of_slice, INDEX(self.groups)), group)])

    def total(self, j, number):
        """A vector of all rows' sums, of output j and a slice, group after group."""
        places = [self.place(INDEX(group), j, INDEX(number)) for group in range(self.groups)]
        return _folded([self.simd.load(place) for place in places], self.groups)[0]


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
