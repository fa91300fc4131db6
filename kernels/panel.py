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
def copy_checked(target, source):
    """target = source, Matrices of one row; whether all of it is finite. The columns of target are adjacent."""
    if source.column_stride == 1:
        return _copy_checked(target.data, source.data, source.columns)
    finite = True
    for j in range(source.columns):
        put(target, 0, j, get(source, 0, j))
        finite &= np.isfinite(get(source, 0, j))
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
        row = Row(Simd.of_host(builder, signature.args[0].dtype), n)
        with cgutils.for_range(builder, m) as loop:
            row.check(builder.gep(data, [builder.mul(loop.index, stride)]))
        return row.finite()

    return signature, codegen


@intrinsic
def _copy_checked(typingctx, target, source, n):
    signature = types.boolean(target, target, types.intp)

    def codegen(context, builder, signature, args):
        target, source, n = args
        row = Row(Simd.of_host(builder, signature.args[0].dtype), n)
        row.check(source, target)
        return row.finite()

    return signature, codegen


class Row:
    """Code that looks through rows of n adjacent elements, vector by vector, for one that is not finite."""

    def __init__(self, simd, n):
        self.simd, self.builder, self.n = simd, simd.builder, n
        self.whole = self.builder.and_(n, INDEX(-simd.lanes))
        self.mask = simd.first(self.builder.sub(n, self.whole))
        self.total = simd.variable()  # of 0 x: 0 or NaN
        self.total.set(simd.constant(0))

    def check(self, source, target=None):
        """Look through the row at `source`, and copy it to `target`."""
        builder, simd = self.builder, self.simd

        def vector(j, mask=None):
            value = simd.load(builder.gep(source, [j]), mask)
            if target is not None:
                simd.store(value, builder.gep(target, [j]), mask)
            self.total.set(fma(value, 0, self.total.get()))

        with cgutils.for_range_slice(builder, INDEX(0), self.whole, INDEX(simd.lanes)) as (j, _):
            vector(j)
        with builder.if_then(builder.icmp_signed("<", self.whole, self.n)):
            vector(self.whole, self.mask)

    def finite(self):
        return self.simd.all(self.total.get() < 1)


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
        last = builder.sub(n, INDEX(1))

        with cgutils.for_range_slice(builder, INDEX(0), n, lanes) as (j, _):
            columns = builder.sub(n, j)
            with cgutils.for_range_slice(builder, INDEX(0), m, lanes) as (i, _):
                rows = builder.sub(m, i)
                mask = simd.first(rows)
                loaded = []
                for t in range(simd.lanes):
                    column = builder.add(j, INDEX(t))
                    column = builder.select(builder.icmp_signed("<", column, last), column, last)
                    start = builder.add(i, builder.mul(column, css))
                    loaded.append(simd.load(builder.gep(source, [start]), mask))
                for t, row in enumerate(transposed(loaded)):
                    at = builder.gep(target, [builder.add(builder.mul(builder.add(i, INDEX(t)), rst), j)])
                    inside = builder.icmp_signed("<", INDEX(t), rows)
                    simd.store(row, at, simd.first(builder.select(inside, columns, INDEX(0))))
        return context.get_dummy_value()

    return signature, codegen
