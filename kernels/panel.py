"""Copies of blocks of a matrix, by vectors along whichever dimension is adjacent in memory."""

from math import gcd

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import COPIED_AHEAD, GATHERED_AHEAD
from .compiling import helper
from .host import HOST
from .matrix import Matrix, advance, block, get, is_in_panels, panel_block, put
from .matrix import transposed as transposed_matrix
from .microkernel import ROWS, columns_at_once
from .simd import INDEX, Simd, maximum, minimum, transposed
from .tasks import outlined

COPIED = INDEX(COPIED_AHEAD) if HOST.vectors == 2 else None


@outlined
def copy(target, source) -> None:
    """target = source, Matrices of the same shape that do not overlap."""
    if target.column_stride != 1 and target.row_stride == 1:
        target, source = transposed_matrix(target), transposed_matrix(source)
    if target.column_stride != 1:
        copy_any(target, source)
    elif is_adjacent(source) and is_adjacent(target):
        copy_rows(target.data, 0, source.data, 0, 1, source.rows * source.columns)
    elif source.column_stride == 1:
        copy_rows(target.data, target.row_stride, source.data, source.row_stride, source.rows, source.columns)
    elif source.row_stride == 1:
        copy_transposed(target.data, target.row_stride, source.data, source.column_stride, source.rows, source.columns)
    else:
        copy_any(target, source)


@helper
def is_adjacent(m):
    """Whether the elements of a Matrix are one row in memory."""
    return m.column_stride == 1 and m.row_stride == m.columns


@outlined
def gather(target, source, order):
    """target = rows order[0], order[1], ... of source, and whether all of them are finite.

    `order` is a pointer to as many numbers as target has rows; the columns of target are adjacent.
    """
    if source.column_stride == 1:
        return _gather(
            target.data, target.row_stride, source.data, source.row_stride, order, target.rows, target.columns
        )
    finite = True
    for i in range(target.rows):
        for j in range(target.columns):
            put(target, i, j, get(source, order[i], j))
            finite &= np.isfinite(get(source, order[i], j))
    return finite


@outlined
def copy_any(target, source) -> None:
    """target = source, element by element: few of them, or in a rare order."""
    for i in range(source.rows):
        for j in range(source.columns):
            put(target, i, j, get(source, i, j))


@outlined
def all_finite(m):
    """Whether no element of a Matrix is NaN or infinite."""
    if m.column_stride != 1:
        m = transposed_matrix(m)
    if m.column_stride != 1:
        for i in range(m.rows):
            for j in range(m.columns):
                if not np.isfinite(get(m, i, j)):
                    return False
        return True
    rows, columns = (1, m.rows * m.columns) if is_adjacent(m) else (m.rows, m.columns)
    return _all_finite(m.data, m.row_stride, rows, columns)


@intrinsic
def _all_finite(typingctx, data, stride, m, n):
    signature = types.boolean(data, types.intp, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        data, stride, m, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        return Rows(simd, m, n, lambda i: (builder.gep(data, [builder.mul(i, stride)]), None)).finite()

    return signature, codegen


@intrinsic
def _gather(typingctx, target, rst, source, rss, order, m, n):
    index = types.intp
    signature = types.boolean(target, index, target, index, types.CPointer(index), index, index)

    def codegen(context, builder, signature, args):
        target, rst, source, rss, order, m, n = args

        def row(i):
            number = builder.load(builder.gep(order, [i]))
            of, to = builder.mul(number, rss), builder.mul(i, rst)
            return builder.gep(source, [of]), builder.gep(target, [to])

        dtype, finite = signature.args[0].dtype, cgutils.alloca_once_value(builder, cgutils.true_bit)
        ahead = rows_in(builder, GATHERED_AHEAD, n)

        def gathered(lanes):
            """By vectors of so many lanes, or of half as many, ... where a row has fewer."""
            with builder.if_else(builder.icmp_signed(">=", n, INDEX(lanes))) as (wide, narrow):
                with wide:
                    builder.store(Rows(Simd(builder, dtype, lanes), m, n, row, ahead).finite(move=True), finite)
                with narrow:
                    if lanes > 1:
                        gathered(lanes // 2)

        gathered(HOST.lanes(dtype.bitwidth // 8))
        return builder.load(finite)

    return signature, codegen


def rows_in(builder, elements, n):
    """How many rows of n so many elements are, at least one."""
    return maximum(builder, builder.sdiv(INDEX(elements), maximum(builder, n, INDEX(1))), INDEX(1))


class Rows:
    """Code that goes through m rows of n elements, vector by vector, row(i) = (source, target).

    It is one loop, without calls and almost without branches: the processor then reads far enough ahead to wait for
    many rows at once, which lie anywhere in memory. Of rows of a vector or more those so far `ahead` are fetched. The
    elements from j on are copied to place(j) of the target.
    """

    def __init__(self, simd, m, n, row, ahead=None, place=lambda j: j):
        self.simd, self.builder, self.m, self.n, self.row = simd, simd.builder, m, n, row
        self.ahead, self.place = ahead, place

    def copy(self):
        """Copy every row from its source to its target."""
        self.emit(self.move)

    def finite(self, move=False):
        """Whether all elements of the sources are finite; if `move`, they are copied, from rows of a vector or more."""
        simd, builder = self.simd, self.builder
        zero = ir.Constant(simd.integers, [0] * simd.lanes)
        bits = cgutils.alloca_once_value(builder, zero)  # of 0 x, which is 0, -0 or NaN, of all x together

        def vector(source, target, j, mask=None):
            value = self.move(source, target, j, mask) if move else self.load(source, j, mask)
            of_value = builder.bitcast((value * 0).llvm, simd.integers)
            builder.store(builder.or_(builder.load(bits), of_value), bits)

        (self.emit_wide if move else self.emit)(vector)
        return simd.all_zero(builder.load(bits))

    def load(self, source, j, mask):
        return self.simd.load(self.builder.gep(source, [j]), mask)

    def move(self, source, target, j, mask=None):
        value = self.load(source, j, mask)
        self.simd.store(value, self.builder.gep(target, [self.place(j)]), mask)
        return value

    def emit(self, vector):
        """vector(source, target, j, mask) for all vectors of all rows; the last two of a row may overlap."""
        builder = self.builder
        with builder.if_else(builder.icmp_signed(">=", self.n, INDEX(self.simd.lanes))) as (wide, narrow):
            with wide:
                self.emit_wide(vector)
            with narrow:
                mask = self.simd.first(self.n)
                with cgutils.for_range(builder, self.m) as loop:
                    vector(*self.row(loop.index), INDEX(0), mask)

    def emit_wide(self, vector):
        """`emit` for rows of a vector or more."""
        builder, lanes = self.builder, INDEX(self.simd.lanes)
        last = builder.sub(self.n, lanes)
        with cgutils.for_range(builder, self.m) as loop:
            source, target = self.row(loop.index)
            fetch = self.fetching(loop.index)
            with cgutils.for_range_slice(builder, INDEX(0), last, lanes) as (j, _):
                fetch(j)
                vector(source, target, j)
            fetch(last)
            fetch(builder.sub(self.n, INDEX(1)))  # which may be in another cache line
            vector(source, target, last)

    def fetching(self, i):
        """A function that begins to fetch what is in column j of the row that is so far ahead of row i, or the last."""
        if self.ahead is None:
            return lambda j: None
        builder = self.builder
        later, end = builder.add(i, self.ahead), builder.sub(self.m, INDEX(1))
        source, _ = self.row(minimum(builder, later, end))
        return lambda j: self.simd.prefetch(builder.gep(source, [j]), written=False, far=True)


@outlined
def copy_rows(target, rst, source, rss, m, n) -> None:
    """target[i*rst + j] = source[i*rss + j] for i < m, j < n."""
    _copy_rows(target, rst, source, rss, m, n)


@intrinsic
def _copy_rows(typingctx, target, rst, source, rss, m, n):
    signature = types.void(target, types.intp, target, types.intp, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        target, rst, source, rss, m, n = args

        def row(i):
            return builder.gep(source, [builder.mul(i, rss)]), builder.gep(target, [builder.mul(i, rst)])

        Rows(Simd.of_host(builder, signature.args[0].dtype), m, n, row, COPIED).copy()
        return context.get_dummy_value()

    return signature, codegen


@helper
def copy_either(own, other, back):
    """own = other, or other = own if `back`."""
    if back != 0:
        copy(other, own)
    else:
        copy(own, other)


@outlined
def copy_panels(target, source, first, columns, nr, two) -> None:
    """So many columns of `source` from the first on, panel by panel, to where `copied_panel` says."""
    k, j, whole = source.rows, 0, columns // nr * nr
    if is_in_panels(transposed_matrix(source)):
        copy_transposed_panels(target, source, first, columns, nr, two)
        return
    source = block(source, 0, first, k, columns)
    if source.column_stride == 1 and whole > nr:
        _copy_panels(target, source.data, source.row_stride, k, whole)
        j = whole
    while j < columns:
        n = columns_at_once(columns - j, nr, two)
        copy(copied_panel(target, j, k, n, nr, two), block(source, 0, j, k, n))
        j += n


@helper
def copy_transposed_panels(target, source, first, columns, nr, two):
    """`copy_panels` of a `source` whose transpose lies in panels: what is adjacent there, some columns, together."""
    k = source.rows
    for p in range(0, k, nr):
        m, j = min(nr, k - p), 0
        while j < columns:
            n = columns_at_once(columns - j, nr, two)
            to, of = copied_panel(target, j, k, n, nr, two), panel_block(transposed_matrix(source), first + j, p, n, m)
            copy_transposed(advance(to.data, p * to.row_stride), to.row_stride, of.data, of.row_stride, m, n)
            j += n


@helper
def copied_panel(target, j, k, n, nr, two):
    """Where the n columns from column j lie: panel behind panel, with adjacent rows of NR elements, or 2 vectors."""
    return Matrix(advance(target, j * k), k, n, two if n <= two else nr, 1)


@intrinsic
def _copy_panels(typingctx, target, source, rss, k, n):
    """n columns of B, whole panels."""
    signature = types.void(target, target, types.intp, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        simd = Simd.of_host(builder, signature.args[0].dtype)
        copy_side_by_side(simd, HOST.vectors * simd.lanes, *args)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def copy_tiles(typingctx, target, source, rss, k, n):
    """n rows of A, whole tiles, whose elements for a term are adjacent: tile behind tile, ROWS for each term.

    So every tile of a product reads what is adjacent. With tiles of MR rows, of which each reads a part, a product of
    1500x1000 by 1000x1500 takes 1.1 times as long in float64, 1.02 in float32 (AVX2).
    """
    signature = types.void(target, target, types.intp, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        dtype = signature.args[0].dtype
        lanes = gcd(ROWS, HOST.lanes(dtype.bitwidth // 8))  # so that a tile is whole vectors
        copy_side_by_side(Simd(builder, dtype, lanes), ROWS, *args)
        return context.get_dummy_value()

    return signature, codegen


def copy_side_by_side(simd, width, target, source, rss, k, n):
    """Copy rows of n elements, k of them, to blocks of `width` columns, one behind the other.

    Row after row, through all blocks: so many adjacent cache lines are asked for together.
    """
    builder = simd.builder

    def row(p):
        return builder.gep(source, [builder.mul(p, rss)]), builder.gep(target, [builder.mul(p, INDEX(width))])

    def place(j):
        within = builder.urem(j, INDEX(width))
        return builder.add(builder.mul(builder.sub(j, within), k), within)

    ahead = None if COPIED is None else rows_in(builder, COPIED_AHEAD * simd.line, n)
    Rows(simd, k, n, row, ahead, place).copy()


@outlined
def copy_transposed(target, rst, source, css, m, n) -> None:
    """target[i*rst + j] = source[i + j*css] for i < m, j < n: squares of vectors, transposed in registers."""
    _copy_transposed(target, rst, source, css, m, n)


@intrinsic
def _copy_transposed(typingctx, target, rst, source, css, m, n):
    signature = types.void(target, types.intp, target, types.intp, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        target, rst, source, css, m, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        lanes = INDEX(simd.lanes)

        def square(to, of):
            """Of as many rows and columns as a vector has lanes."""
            loaded = [simd.load(builder.gep(of, [builder.mul(css, INDEX(t))])) for t in range(simd.lanes)]
            for t, row in enumerate(transposed(loaded)):
                simd.store(row, builder.gep(to, [builder.mul(rst, INDEX(t))]))

        def part(to, of, rows, columns):
            """Of fewer."""
            mask, last = simd.first(rows), builder.sub(columns, INDEX(1))
            loaded = []
            for t in range(simd.lanes):
                column = minimum(builder, INDEX(t), last)
                loaded.append(simd.load(builder.gep(of, [builder.mul(css, column)]), mask))
            mask = simd.first(columns)
            for t, row in enumerate(transposed(loaded)):
                with builder.if_then(builder.icmp_signed("<", INDEX(t), rows)):
                    simd.store(row, builder.gep(to, [builder.mul(rst, INDEX(t))]), mask)

        with (
            cgutils.for_range_slice(builder, INDEX(0), n, lanes) as (j, _),
            cgutils.for_range_slice(builder, INDEX(0), m, lanes) as (i, _),
        ):
            to = builder.gep(target, [builder.add(builder.mul(i, rst), j)])
            of = builder.gep(source, [builder.add(i, builder.mul(j, css))])
            rows, columns = builder.sub(m, i), builder.sub(n, j)
            fewer = minimum(builder, rows, columns)
            with builder.if_else(builder.icmp_signed(">=", fewer, lanes)) as (whole, rest):
                with whole:
                    square(to, of)
                with rest:
                    part(to, of, rows, columns)
        return context.get_dummy_value()

    return signature, codegen
