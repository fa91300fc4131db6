"""The inner loop of every product: sums A·B, kept in registers.

`accumulate` adds A·B to a panel of sums, NR columns wide, in register tiles; an epilogue then turns them into NR
columns of C. So the sums pass through memory, which never leaves the nearest cache; but a product can be cut along k,
into slices of B that stay near, or that threads take side by side: to the sums of those before a slice adds its own.
And the epilogue is compiled once, not unrolled over the registers of every body.
"""

from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import NamedTuple

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import MR, SIDE_BY_SIDE, UNROLLED
from .compiling import helper, jit
from .host import HOST
from .simd import INDEX, Simd, fma, maximum, minimum
from .terms import Operand, add_terms, at_byte, multiples

EXPECT_C, EXPECT_E, EXPECT_A, EXPECT_B, EXPECT_NEXT = 1, 2, 4, 8, 16  # sums of which say what is fetched
ROWS = HOST.row_bodies(HOST.vectors)[0]  # of the largest tile, and of those in which A is copied
FETCHED = 2  # elements of B for a term of the largest tile
ROWS_FETCHED = 4  # of a next panel, one after the other
TURNS = 4  # in which a tile's rows of C and E are fetched; those of A in as many as they have cache lines


@intrinsic
def accumulate(typingctx, sums, a, step, rsa, csa, b, rsb, m, n, k, more, expected, c, rsc, e, rse, ahead):
    """sums = A·B, or sums += A·B if `more`: m > 0, k >= 0, n of up to 2 vectors or, where NV is 4, more than 3.

    A[i, p] = a[i*rsa + p*csa] for i < MR, and every MR rows from `step` elements further on, B[p, j] = b[p*rsb + j]:
    pointers, and strides in elements. Unless `step` is MR*rsa, A is a copy, in tiles of ROWS, which divide MR. A·B runs
    over p = 0, 1, ... k-1, one fused multiply-add a term. Where in `sums` each lies, `finish` knows. What is `expected`
    is fetched into the cache on the way: C and E, which `finish` will ask for, or the next MR rows of A; and of B
    elements from `ahead` on, `FETCHED` with every term of a tile, or k rows of the next panel, the first of which
    begins at `ahead`, some with every few terms of each tile.
    """
    index = types.intp
    a_b_k = sums, index, index, index, sums, index, index, index, index, types.boolean
    signature = types.void(sums, *a_b_k, index, sums, index, sums, index, sums)

    def codegen(context, builder, signature, args):
        Accumulate(Simd.of_host(builder, sums.dtype), *args).emit()
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_rows(typingctx, sums, b, rsb, n, k, kc):
    """sums = a row of ones times B, as `accumulate` leaves them, in slices of kc; quicker than `multiply_row`."""
    index = types.intp
    signature = types.void(sums, sums, index, index, index, index)

    def codegen(context, builder, signature, args):
        AddRows(Simd.of_host(builder, sums.dtype), *args).emit()
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def multiply_row(typingctx, sums, a, csa, b, rsb, n, k, slices, kc):
    """sums = A·B for an A of one row, as `accumulate` leaves them for n of up to 2 vectors.

    n may be more than 3 vectors and up to 4 on any host, and `sums` then as long as n. The sum over k terms is in so
    many slices of kc, of which the last may be shorter.
    """
    index = types.intp
    signature = types.void(sums, sums, index, sums, index, index, index, index, index)

    def codegen(context, builder, signature, args):
        MultiplyRow(Simd.of_host(builder, sums.dtype), *args).emit()
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def tile_shape(typingctx, m):
    """(MR, NR, 2 VL) for the elements of Matrix m."""
    lanes = HOST.lanes(m[0].dtype.bitwidth // 8)

    def codegen(context, builder, signature, args):
        shape = [context.get_constant(types.intp, extent) for extent in (MR, HOST.vectors * lanes, 2 * lanes)]
        return context.make_tuple(builder, signature.return_type, shape)

    return types.UniTuple(types.intp, 3)(m), codegen


@helper
def fetched_by(m, k):
    """Elements of B that `accumulate` fetches with k terms of m rows, if that is expected."""
    return FETCHED * (m // ROWS) * k


@jit(inline=True)
def columns_at_once(left, nr, two):
    """Columns of the next panel where so many are left: NR, or up to 2 vectors, so that 3 are computed as 2 and 1."""
    return min(left, nr) if left > nr - two // 2 else min(left, two)


class Columns(NamedTuple):
    """A vector of the panel's columns: where it begins, and which of its lanes are used, None for all."""

    offset: object
    mask: object = None


class Emitter:
    """Code for n columns, as NV vectors, 2 or 1.

    Where the last of several vectors would be cut short it begins earlier instead, and shares columns with the one
    before: they are computed twice, to the same bits, and no mask is needed.
    """

    def __init__(self, simd, n):
        self.simd, self.builder, self.n = simd, simd.builder, n

    def for_columns(self, emit, most=HOST.vectors):
        """emit(vectors) for the case that n asks for."""
        lanes = self.simd.lanes
        with self.if_else(">", self.n, 2 * lanes) as (wide, narrow):
            with wide:
                if most > 2:
                    emit(self.overlapping(most))
            with narrow, self.if_else(">", self.n, lanes) as (two, one):
                with two:
                    emit(self.overlapping(2))
                with one:
                    emit([Columns(INDEX(0), self.simd.first(self.n))])

    def sums_stride(self, vectors):
        """From row to row of the sums: 2 vectors where not more are asked for."""
        return max(2, len(vectors)) * self.simd.lanes

    def overlapping(self, vectors):
        last = Columns(self.builder.sub(self.n, INDEX(self.simd.lanes)))
        return [*(Columns(INDEX(v * self.simd.lanes)) for v in range(vectors - 1)), last]

    def at(self, pointer, elements):
        return self.builder.gep(pointer, [elements])

    def if_else(self, comparison, x, constant):
        return self.builder.if_else(self.builder.icmp_signed(comparison, x, INDEX(constant)))


class Accumulate(Emitter):
    def __init__(self, simd, sums, a, step, rsa, csa, b, rsb, m, n, k, more, expected, c, rsc, e, rse, ahead):
        super().__init__(simd, n)
        self.sums, self.a, self.step, self.rsa, self.csa, self.b, self.rsb = sums, a, step, rsa, csa, b, rsb
        self.m, self.k, self.more = m, k, more
        self.expected, self.c, self.rsc, self.e, self.rse = expected, c, rsc, e, rse
        self.ahead = cgutils.alloca_once_value(simd.builder, ahead)
        self.left = cgutils.alloca_once_value(simd.builder, k)  # rows of the next panel

    def emit(self):
        builder = self.builder
        line = self.simd.line
        cases = [
            (self.expects(EXPECT_C | EXPECT_E), INDEX(TURNS), builder.udiv(self.k, INDEX(TURNS))),
            (
                self.expects(EXPECT_A | EXPECT_B | EXPECT_NEXT),
                builder.udiv(builder.add(self.k, INDEX(line - 1)), INDEX(line)),
                INDEX(line),
            ),
        ]
        self.turns, self.terms = INDEX(1), self.k
        for case, turns, terms in cases:
            self.turns = builder.select(case, turns, self.turns)
            self.terms = builder.select(case, terms, self.terms)
        self.last_terms = builder.sub(self.k, builder.mul(self.terms, builder.sub(self.turns, INDEX(1))))
        self.for_columns(self.emit_tiles)

    def expects(self, any_of):
        return self.builder.icmp_signed("!=", self.builder.and_(self.expected, INDEX(any_of)), INDEX(0))

    def emit_tiles(self, vectors):
        """Tile after tile down the rows."""
        builder, bodies = self.builder, HOST.row_bodies(len(vectors))
        a, of_row = cgutils.alloca_once_value(builder, self.a), builder.sdiv(self.step, INDEX(MR))
        are_copies = builder.icmp_signed("!=", of_row, self.rsa)
        with cgutils.for_range_slice(builder, INDEX(0), self.m, INDEX(MR)) as (i, _):
            a_rows, m = builder.load(a), minimum(builder, builder.sub(self.m, i), INDEX(MR))
            largest = builder.select(are_copies, INDEX(ROWS), self.largest_body(bodies, m))
            with cgutils.for_range_slice(builder, INDEX(0), m, largest) as (t, _):
                a_tile = self.at(a_rows, builder.mul(of_row, t))
                rows = minimum(builder, builder.sub(m, t), largest)
                self.emit_tile(bodies, vectors, builder.add(i, t), rows, a_tile)
            builder.store(self.at(a_rows, self.step), a)

    def largest_body(self, bodies, m):
        """The rows of the largest body, or of the second where m rows take no more than two of those: less in vain."""
        builder, second = self.builder, bodies[min(1, len(bodies) - 1)]
        more = builder.icmp_signed(">", m, INDEX(bodies[0]))
        two = builder.and_(more, builder.icmp_signed("<=", m, INDEX(2 * second)))
        return builder.select(two, INDEX(second), INDEX(bodies[0]))

    def emit_tile(self, bodies, vectors, i, m, a):
        """The body of the fewest rows, of `bodies` (falling), that holds m rows from i."""
        if len(bodies) == 1:
            self.emit_body(bodies[0], vectors, i, m, a)
            return
        with self.if_else(">", m, bodies[1]) as (more, fewer):
            with more:
                self.emit_body(bodies[0], vectors, i, m, a)
            with fewer:
                self.emit_tile(bodies[1:], vectors, i, m, a)

    def emit_body(self, rows, vectors, i, m, a):
        """rows x len(vectors) accumulators, all in registers."""
        simd, builder = self.simd, self.builder
        offsets = self.row_offsets(rows, m, HOST.row_bodies(len(vectors)))
        stride = self.sums_stride(vectors)
        tile = self.at(self.sums, builder.mul(i, INDEX(stride)))
        sums = [[simd.variable() for _ in vectors] for _ in range(rows)]
        for total in chain(*sums):
            total.set(simd.constant(0))
        is_largest = rows == HOST.row_bodies(len(vectors))[0]
        a, b = Operand(simd, a, self.csa, 1), Operand(simd, self.b, self.rsb, 1)
        columns = [(builder.mul(vector.offset, INDEX(simd.bits // 8)), vector.mask) for vector in vectors]
        with self.expecting(i, offsets, vectors, a.slot) if is_largest else nullcontext(self.k) as terms:
            at_once = UNROLLED if len(vectors) == HOST.vectors and is_largest else 1
            add_terms(simd, terms, at_once, sums, a, offsets, b, columns)
        places = [[self.at(tile, INDEX(t * stride + j * simd.lanes)) for j in range(len(vectors))] for t in range(rows)]
        with builder.if_then(self.more):
            for total, at in zip(chain(*sums), chain(*places), strict=True):
                total.set(simd.load(at) + total.get())
        for total, at in zip(chain(*sums), chain(*places), strict=True):
            simd.store(total.get(), at)

    @contextmanager
    def expecting(self, i, offsets, vectors, a_p):
        """A loop over the k terms in turns, between which rows of C and E, or of A, are fetched, to be there in time.

        The rows of this tile lie at `offsets` from where the pointer in a_p is; so do those of the next, `step` on.
        """
        builder = self.builder
        with cgutils.for_range(builder, self.turns) as loop:
            first_turns = builder.icmp_signed("<", loop.index, INDEX(TURNS))
            for expected, written, pointer, stride in (
                (EXPECT_C, True, self.c, self.rsc),
                (EXPECT_E, False, self.e, self.rse),
            ):
                with builder.if_then(builder.and_(self.expects(expected), first_turns)):
                    for t in range(0, len(offsets), TURNS):
                        row = builder.mul(builder.add(builder.add(i, INDEX(t)), loop.index), stride)
                        for vector in vectors:
                            self.simd.prefetch(self.at(pointer, builder.add(row, vector.offset)), written)
            with builder.if_then(self.expects(EXPECT_A)):
                below = self.at(builder.load(a_p), self.step)
                for offset in offsets:
                    self.simd.prefetch(at_byte(builder, below, offset), written=False)
            with builder.if_then(self.expects(EXPECT_B)):
                ahead = builder.load(self.ahead)
                self.simd.fetch(ahead, FETCHED * self.simd.line, far=True)
                builder.store(self.at(ahead, INDEX(FETCHED * self.simd.line)), self.ahead)
            with builder.if_then(self.expects(EXPECT_NEXT)):
                self.fetch_rows(len(vectors) * self.simd.lanes)
            is_last = builder.icmp_signed("==", loop.index, builder.sub(self.turns, INDEX(1)))
            yield builder.select(is_last, self.last_terms, self.terms)

    def fetch_rows(self, width):
        """Fetch the end of each cache line of the next rows of a panel: its first line is an earlier panel's last.

        In each turn so many that all tiles together fetch all, in groups of a few, of which the last may be beyond.
        """
        builder, line = self.builder, self.simd.line
        tiles = builder.mul(builder.udiv(self.m, INDEX(MR)), INDEX(MR // ROWS))
        tiles = maximum(builder, tiles, INDEX(1))
        groups = builder.udiv(builder.add(tiles, INDEX(line // ROWS_FETCHED - 1)), tiles)
        left = builder.load(self.left)
        builder.store(builder.sub(left, builder.mul(groups, INDEX(ROWS_FETCHED))), self.left)
        with builder.if_then(builder.icmp_signed(">", left, INDEX(0))), cgutils.for_range(builder, groups):
            row = builder.load(self.ahead)
            for _ in range(ROWS_FETCHED):
                for end in range(min(width, line), width + 1, line):
                    self.simd.prefetch(self.at(row, INDEX(end - 1)), written=False)
                row = self.at(row, self.rsb)
            builder.store(row, self.ahead)

    def row_offsets(self, rows, m, bodies):
        """Bytes at which the rows of a tile begin. A row past m reads row m-1 again and its sum is not used.

        So one body serves every m from the next smaller body's up.
        """
        simd, builder = self.simd, self.builder
        certain = bodies[bodies.index(rows) + 1] + 1 if rows > 1 else 1
        last = builder.sub(m, INDEX(1))
        stride = builder.mul(self.rsa, INDEX(simd.bits // 8))
        clamped = [builder.mul(minimum(builder, INDEX(t), last), stride) for t in range(certain, rows)]
        return [*multiples(simd, self.rsa, certain), *map(simd.opaque, clamped)]


class AddRows(Emitter):
    def __init__(self, simd, sums, b, rsb, n, k, kc):
        super().__init__(simd, n)
        self.sums, self.b, self.rsb, self.k, self.kc = sums, b, rsb, k, kc

    def emit(self):
        self.for_columns(self.emit_sums)

    def emit_sums(self, vectors):
        simd, builder = self.simd, self.builder
        totals, parts = ([simd.variable() for _ in vectors] for _ in range(2))
        for total in totals:
            total.set(simd.constant(0))
        with cgutils.for_range_slice(builder, INDEX(0), self.k, self.kc) as (start, _):
            for part in parts:
                part.set(simd.constant(0))
            end = minimum(builder, builder.add(start, self.kc), self.k)
            with cgutils.for_range_slice(builder, start, end, INDEX(1)) as (p, _):
                row = self.at(self.b, builder.mul(p, self.rsb))
                for part, vector in zip(parts, vectors, strict=True):
                    part.set(part.get() + simd.load(self.at(row, vector.offset), vector.mask))
            for total, part in zip(totals, parts, strict=True):
                total.set(total.get() + part.get())
        for j, total in enumerate(totals):
            self.simd.store(total.get(), self.at(self.sums, INDEX(j * self.simd.lanes)))


class MultiplyRow(Emitter):
    def __init__(self, simd, sums, a, csa, b, rsb, n, k, slices, kc):
        super().__init__(simd, n)
        self.sums, self.a, self.csa, self.b, self.rsb = sums, a, csa, b, rsb
        self.k, self.slices, self.kc = k, slices, kc

    def emit(self):
        self.for_columns(self.emit_sums, 4)

    def emit_sums(self, vectors):
        columns = [(self.at(self.b, vector.offset), vector.mask) for vector in vectors]
        at_once = min(4, SIDE_BY_SIDE // len(columns)), 1
        totals = row_sums(self.simd, self.a, self.csa, columns, self.rsb, self.k, self.slices, self.kc, at_once)
        for j, total in enumerate(totals):
            self.simd.store(total, self.at(self.sums, INDEX(j * self.simd.lanes)))


def row_sums(simd, a, csa, columns, rsb, k, slices, kc, at_once):
    """Σ a[p*csa] b[p*rsb : p*rsb + lanes] over p < k, for every (b, mask) of `columns`, as Vectors.

    The sum is in slices of kc, so many `at_once`, falling numbers that end with 1: else each term waits for the last.
    """
    builder = simd.builder

    def add_terms(sums, starts, first, last):
        with cgutils.for_range_slice(builder, first, last, INDEX(1)) as (p, _):
            for parts, start in zip(sums, starts, strict=True):
                at = builder.add(start, p)
                x = simd.splat(builder.load(builder.gep(a, [builder.mul(at, csa)])))
                row = builder.mul(at, rsb)
                for part, (b, mask) in zip(parts, columns, strict=True):
                    part.set(fma(x, simd.load(builder.gep(b, [row]), mask), part.get()))

    def add_slices(totals, number, group):
        # Opaque, or LLVM would compute many addresses beforehand, of groups that most sums do not have.
        starts = [simd.opaque(builder.mul(builder.add(number, INDEX(t)), kc)) for t in range(group)]
        sums = [[simd.variable() for _ in columns] for _ in starts]
        for parts in sums:
            for part in parts:
                part.set(simd.constant(0))
        left = builder.sub(k, starts[-1])
        shortest = minimum(builder, left, kc)  # the last may be
        add_terms(sums, starts, INDEX(0), shortest)
        if group > 1:
            add_terms(sums[:-1], starts[:-1], shortest, kc)
        for parts in sums:
            for total, part in zip(totals, parts, strict=True):
                total.set(total.get() + part.get())

    totals = [simd.variable() for _ in columns]
    with builder.if_else(builder.icmp_signed("==", slices, INDEX(1))) as (single, several):
        with single:
            for total in totals:
                total.set(simd.constant(0))
            add_terms([totals], [INDEX(0)], INDEX(0), k)
        with several:
            for total in totals:
                total.set(simd.constant(-0.0))  # which added changes nothing
            done = INDEX(0)
            for group in at_once:
                end = builder.and_(slices, INDEX(-group))
                with cgutils.for_range_slice(builder, done, end, INDEX(group)) as (number, _):
                    add_slices(totals, number, group)
                done = end
    return [total.get() for total in totals]
