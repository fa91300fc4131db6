"""Copies of blocks of a matrix, by vectors along whichever dimension is adjacent in memory."""

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from .blocking import CACHE_LINE
from .matrix import get, put
from .simd import INDEX, Simd, fma, transposed

ROWS_AT_ONCE = 4


@register_jitable
def copy(target, source):
    """target = source, Matrices of the same shape that do not overlap; the columns of target are adjacent."""
    if source.column_stride == 1:
        copy_rows(target.data, target.row_stride, source.data, source.row_stride, source.rows, source.columns)
    elif source.row_stride == 1:
        copy_transposed(target.data, target.row_stride, source.data, source.column_stride, source.rows, source.columns)
    else:
        copy_any(target, source)


@register_jitable
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


@register_jitable
def copy_any(target, source):
    """target = source, element by element: few of them, or in a rare order."""
    for i in range(source.rows):
        for j in range(source.columns):
            put(target, i, j, get(source, i, j))


@register_jitable
def all_finite(m):
    """Whether no element of a Matrix is NaN or infinite."""
    if m.column_stride == 1:
        return _all_finite(m.data, m.row_stride, m.rows, m.columns)
    if m.row_stride == 1:
        return _all_finite(m.data, m.column_stride, m.columns, m.rows)
    for i in range(m.rows):
        for j in range(m.columns):
            if not np.isfinite(get(m, i, j)):
                return False
    return True


@intrinsic
def _all_finite(typingctx, data, stride, m, n):
    signature = types.boolean(data, types.intp, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        data, stride, m, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        return emit_rows(simd, m, n, lambda i: (builder.gep(data, [builder.mul(i, stride)]), None))

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

        return emit_rows(Simd.of_host(builder, signature.args[0].dtype), m, n, row)

    return signature, codegen


def emit_rows(simd, m, n, row):
    """Code that looks through m rows of n elements, row(i) = (source, target), copying those that have a target.

    Returns whether all elements are finite. It is one loop, without calls and almost without branches: the processor
    then reads far enough ahead to wait for many rows at once, which lie anywhere in memory.
    """
    builder, lanes = simd.builder, INDEX(simd.lanes)
    total = simd.variable()  # of 0 x: 0 or NaN
    total.set(simd.constant(0))

    def vector(source, target, j, mask=None):
        value = simd.load(builder.gep(source, [j]), mask)
        if target is not None:
            simd.store(value, builder.gep(target, [j]), mask)
        total.set(fma(value, 0, total.get()))

    with builder.if_else(builder.icmp_signed(">=", n, lanes)) as (wide, narrow):
        with wide:
            last = builder.sub(n, lanes)  # where the last vector begins, which may overlap the one before
            with cgutils.for_range(builder, m) as loop:
                source, target = row(loop.index)
                with cgutils.for_range_slice(builder, INDEX(0), last, lanes) as (j, _):
                    vector(source, target, j)
                vector(source, target, last)
        with narrow:
            mask = simd.first(n)
            with cgutils.for_range(builder, m) as loop:
                vector(*row(loop.index), INDEX(0), mask)
    return simd.all(total.get() < 1)


@register_jitable
def expect(m, written):
    """Begin to fetch a Matrix, whose columns are adjacent, into the cache: to be read, or `written`."""
    if written:
        _prefetch(m.data, m.row_stride, m.rows, m.columns, 1)
    else:
        _prefetch(m.data, m.row_stride, m.rows, m.columns, 0)


@intrinsic(prefer_literal=True)
def _prefetch(typingctx, data, stride, m, n, written):
    signature = types.void(data, types.intp, types.intp, types.intp, written)

    def codegen(context, builder, signature, args):
        data, stride, m, n, _ = args
        simd = Simd(builder, signature.args[0].dtype, 1)
        with cgutils.for_range(builder, m) as loop:
            row = builder.gep(data, [builder.mul(loop.index, stride)])
            with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(CACHE_LINE * 8 // simd.bits)) as (j, _):
                simd.prefetch(builder.gep(row, [j]), written.literal_value)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def copy_rows(typingctx, target, rst, source, rss, m, n):
    """target[i*rst + j] = source[i*rss + j] for i < m, j < n: in strips of 2 vectors, some rows at a time."""
    signature = types.void(target, types.intp, target, types.intp, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        target, rst, source, rss, m, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        width = INDEX(2 * simd.lanes)
        unrolled = builder.and_(m, INDEX(-ROWS_AT_ONCE))

        def strip(to, of, masks):
            def move(i, count):
                pairs = []
                for t in range(count):
                    row = builder.add(i, INDEX(t))
                    for v, mask in enumerate(masks):
                        at = builder.add(builder.mul(row, rss), INDEX(v * simd.lanes))
                        pairs.append((simd.load(builder.gep(of, [at]), mask), row, v, mask))
                for value, row, v, mask in pairs:
                    at = builder.add(builder.mul(row, rst), INDEX(v * simd.lanes))
                    simd.store(value, builder.gep(to, [at]), mask)

            with cgutils.for_range_slice(builder, INDEX(0), unrolled, INDEX(ROWS_AT_ONCE)) as (i, _):
                move(i, ROWS_AT_ONCE)
            with cgutils.for_range_slice(builder, unrolled, m, INDEX(1)) as (i, _):
                move(i, 1)

        with cgutils.for_range_slice(builder, INDEX(0), n, width) as (j, _):
            left = builder.sub(n, j)
            to, of = builder.gep(target, [j]), builder.gep(source, [j])
            with builder.if_else(builder.icmp_signed(">=", left, width)) as (whole, part):
                with whole:
                    strip(to, of, [None] * 2)
                with part, builder.if_else(builder.icmp_signed(">", left, INDEX(simd.lanes))) as (wide, narrow):
                    with wide:
                        strip(to, of, [simd.first(left, v * simd.lanes) for v in range(2)])
                    with narrow:
                        strip(to, of, [simd.first(left)])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def copy_transposed(typingctx, target, rst, source, css, m, n):
    """target[i*rst + j] = source[i + j*css] for i < m, j < n: squares of vectors, transposed in registers."""
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
                column = builder.select(builder.icmp_signed("<", INDEX(t), last), INDEX(t), last)
                loaded.append(simd.load(builder.gep(of, [builder.mul(css, column)]), mask))
            for t, row in enumerate(transposed(loaded)):
                mask = simd.first(builder.select(builder.icmp_signed("<", INDEX(t), rows), columns, INDEX(0)))
                simd.store(row, builder.gep(to, [builder.mul(rst, INDEX(t))]), mask)

        with (
            cgutils.for_range_slice(builder, INDEX(0), n, lanes) as (j, _),
            cgutils.for_range_slice(builder, INDEX(0), m, lanes) as (i, _),
        ):
            to = builder.gep(target, [builder.add(builder.mul(i, rst), j)])
            of = builder.gep(source, [builder.add(i, builder.mul(j, css))])
            rows, columns = builder.sub(m, i), builder.sub(n, j)
            fewer = builder.select(builder.icmp_signed("<", rows, columns), rows, columns)
            with builder.if_else(builder.icmp_signed(">=", fewer, lanes)) as (whole, rest):
                with whole:
                    square(to, of)
                with rest:
                    part(to, of, rows, columns)
        return context.get_dummy_value()

    return signature, codegen
