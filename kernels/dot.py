"""Layers of a single output, and first ones of few outputs and many inputs: each sum is a dot product, of a row of W
and a sample's inputs, both rows in memory.

It is of DOT sums, each of every DOT-th term, in order. The second half of these is added to the first, and so on until
one is left. So the terms are taken in vectors as they lie in memory, and the bits do not depend on a vector's width.
"""

import functools

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import BYTES_FAR, DOT, FETCHED_ROW
from .compiling import helper, internal
from .elementwise import activate
from .host import HOST
from .matrix import advance, block, bytes_of, row_major, rows, transposed
from .microkernel import tile_shape
from .panel import copy
from .simd import INDEX, Simd, fma, folded, minimum, shuffled

VECTORS = 16  # of sums, at most, that are taken before σ of them


@intrinsic
def dot_rows(typingctx, c, e, a, b, rsb, m, k, far):
    """c[i] = Σ a[p] b[i*rsb + p] over p < k, + e[0], for i < m. Of c, whole vectors are written.

    If they are `far`, rows of b are fetched beforehand unless they are long, from end to end, as if they were adjacent
    in memory.
    """

    def codegen(context, builder, signature, args):
        c, e, a, b, rsb, m, k, far = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        at_once = max(1, HOST.registers // 2 * simd.lanes // DOT)
        far = builder.and_(far, builder.icmp_signed("<", k, INDEX(simd.elements(FETCHED_ROW))))
        bias, last = simd.splat(builder.load(e)), builder.sub(m, INDEX(1))
        offsets = [builder.mul(minimum(builder, INDEX(t), last), rsb) for t in range(simd.lanes)]
        last_group = builder.sub(m, minimum(builder, m, INDEX(simd.lanes)))

        def fetch_as_much(below, count, p):
            """As much of the next rows as terms of so many rows are summed from p on."""
            with builder.if_then(far):
                simd.fetch(builder.gep(below, [builder.mul(p, INDEX(count))]), DOT * count)

        def emit_rows(i):
            i = minimum(builder, i, last_group)  # a last group that would be cut short begins earlier instead
            start, groups = builder.gep(b, [builder.mul(i, rsb)]), []
            for first in range(0, simd.lanes, at_once):
                some = offsets[first : first + at_once]
                below = builder.gep(start, [builder.mul(rsb, INDEX(simd.lanes + first))])
                fetch = functools.partial(fetch_as_much, below, len(some))
                groups += _folded(_sums(simd, a, start, some, k, fetch), simd.lanes)
            simd.store(_folded(groups, len(groups))[0] + bias, builder.gep(c, [i]))

        def emit_column(i):
            column = simd.load(builder.gep(b, [i]), simd.first(builder.sub(m, i)))
            simd.store(simd.splat(builder.load(a)) * column + bias, builder.gep(c, [i]))

        is_column = builder.and_(*(builder.icmp_signed("==", number, INDEX(1)) for number in (k, rsb)))
        with builder.if_else(is_column) as branches:
            for branch, emit in zip(branches, (emit_column, emit_rows), strict=True):
                with branch, cgutils.for_range_slice(builder, INDEX(0), m, INDEX(simd.lanes)) as (i, _):
                    emit(i)
        return context.get_dummy_value()

    index = types.intp
    return types.void(c, c, c, c, index, index, index, types.boolean), codegen


@helper
def is_far(m):
    """Whether rows of a Matrix come from beyond the caches."""
    return bytes_of(m) > BYTES_FAR


def dot(simd, a, row, k):
    """Σ a[p] row[p] over p < k, as a Vector of one lane."""
    [total] = _sums(simd, a, row, [INDEX(0)], k)
    return folded(total)


def in_halves(sums):
    """Sums added up, the second half of them to the first, as if behind them were zeros, up to a power of two."""
    while len(sums) > 1:
        half = 1 << (len(sums) - 1).bit_length() - 1
        added = [x + y for x, y in zip(sums, sums[half:], strict=False)]
        sums = added + sums[len(added) : half]
    return sums[0]


def _sums(simd, a, b, offsets, k, fetch=lambda p: None):
    """The DOT sums of each row, as many as a vector has lanes: if they are more, those that are to be are added.

    The rows begin so many elements behind b; fetch(p) is called before their terms from p on are.
    """
    builder = simd.builder
    totals = [[simd.variable() for _ in range(DOT // simd.lanes)] for _ in offsets]
    for total in totals:
        for part in total:
            part.set(simd.constant(0))

    def add_terms(p, masks):
        for v, mask in enumerate(masks):
            at = builder.add(p, INDEX(v * simd.lanes))
            weights, start = simd.load(builder.gep(a, [at]), mask), simd.opaque(builder.gep(b, [at]))
            for offset, total in zip(offsets, totals, strict=True):
                total[v].set(fma(weights, simd.load(builder.gep(start, [offset]), mask), total[v].get()))

    whole = builder.and_(k, INDEX(-DOT))
    with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(DOT)) as (p, _):
        fetch(p)
        add_terms(p, [None] * (DOT // simd.lanes))
    rest = builder.sub(k, whole)
    with builder.if_then(builder.icmp_signed(">", rest, INDEX(0))):
        add_terms(whole, [simd.first(rest, v) for v in range(0, DOT, simd.lanes)])
    return [in_halves([part.get() for part in total]) for total in totals]


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
    """Elements of panels for a thread's share of n outputs of k inputs: sums, and copies of W and of some rows."""
    return VECTORS * lanes + (n + lanes) * k


@internal
def some_outputs(arguments, task, worker):
    """One task's share of g = σ(x W + b), of one column or few, some rows at a time.

    Where a row of x, or a column of W, is not adjacent in memory it is copied.
    """
    g, b, x, W, panels, parts = arguments[0]
    _, _, two = tile_shape(g)
    vector, k, n = two // 2, x.columns, g.columns
    sums = advance(panels, worker * dots_size(n, k, vector))
    of_W = row_major(advance(sums, VECTORS * vector), n, k)
    packed = advance(of_W.data, n * k)
    copied = x.column_stride != 1 and k > 1
    if W.row_stride == 1:
        of_W = transposed(W)
    else:
        copy(of_W, transposed(W))
    first, end = task * g.rows // parts, (task + 1) * g.rows // parts
    some = vector if copied or n > 1 else VECTORS * vector
    for i in range(first, end, some):
        m = min(some, end - i)
        of_x = rows(x, i, m)
        if copied:
            copy(row_major(packed, m, k), of_x)
            of_x = row_major(packed, m, k)
        for j in range(n):
            bias, weights = advance(b.data, j * b.column_stride), advance(of_W.data, j * of_W.row_stride)
            dot_rows(sums, bias, weights, of_x.data, of_x.row_stride, m, k, False)
            activate(sums, m)
            copy(block(g, i, j, m, 1), row_major(sums, m, 1))
