"""Layers as sums of rows of whole vectors: no tiles, no edges and no calls.

A row may be followed by the next at once: what is behind its last element, up to a whole vector, may be overwritten, so
that rows are written from the first to the last; and it may be read, but nothing comes of it. What ends in `_one` is
for layers of a single output, of which it computes that alone.
"""

import functools
from itertools import chain

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid_derivative
from .blocking import ROWS_OF_ONE, ROWS_OF_SEVERAL, SIDE_BY_SIDE, UNROLLED, VECTORS_OF_TERMS
from .host import HOST
from .microkernel import row_sums
from .optimizer import sgd
from .simd import INDEX, Simd, fma, minimum
from .tasks import outlined
from .terms import Operand, add_terms, at_byte, multiples

STEP, STORE = range(2)  # what an update does with its sums
BIAS, SLOPE = range(2)  # what is done to other sums: E is added; or they are times σ′, and E is σ


@outlined
def sum_rows(c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, how) -> None:
    """c[i*rsc + j] = finish(Σ a[i*rsa + p] b[p*rsb + j], e[i*rse + j]) for i < m, j < n, with BIAS or SLOPE.

    The sum over p < k is in slices of kc.
    """
    _sum_rows(c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, how)


@intrinsic
def _sum_rows(typingctx, c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, how):
    def codegen(context, builder, signature, args):
        *operands, how = args
        simd = Simd.of_host(builder, signature.args[0].dtype)

        def finish(store):
            with builder.if_else(builder.icmp_signed("==", how, INDEX(SLOPE))) as (slope, bias):
                with slope:
                    store(lambda total, g: total * sigmoid_derivative(g))
                with bias:
                    store(lambda total, b: total + b)

        _emit_few_or(simd, *operands, finish)
        return context.get_dummy_value()

    index = types.intp
    strided = (c, index) * 4
    return types.void(*strided, *(index,) * 5), codegen


@outlined
def sum_far_rows(c, rsc, e, a, b, rsb, m, k, n, kc) -> None:
    """`sum_rows` with BIAS, of A whose rows are adjacent, while as many rows that lie behind them are fetched."""
    _sum_far_rows(c, rsc, e, a, b, rsb, m, k, n, kc)


@intrinsic
def _sum_far_rows(typingctx, c, rsc, e, a, b, rsb, m, k, n, kc):
    def codegen(context, builder, signature, args):
        c, rsc, e, a, b, rsb, m, k, n, kc = args
        simd, elements = Simd.of_host(builder, signature.args[0].dtype), builder.mul(m, k)
        fetched = cgutils.alloca_once_value(builder, builder.gep(a, [elements]))
        end = builder.gep(a, [builder.mul(elements, INDEX(2))])

        def fetch():
            line = builder.load(fetched)
            with builder.if_then(builder.icmp_unsigned("<", line, end)):
                simd.fetch(line, simd.line)
                builder.store(builder.gep(line, [INDEX(simd.line)]), fetched)

        def finish(store):
            store(lambda total, b: total + b)

        _emit_sums(simd, c, rsc, e, INDEX(0), a, k, b, rsb, m, k, n, kc, finish, fetch)
        return context.get_dummy_value()

    index = types.intp
    return types.void(c, index, c, c, c, index, *(index,) * 4), codegen


def _emit_few_or(simd, c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, finish):
    """`_emit_sums`, or, of few terms in one slice, row by row."""

    def add_few(j, vectors, terms):
        def put(i, totals):
            of_c, of_e = places_in_row(simd, c, rsc, i, j, vectors), places_in_row(simd, e, rse, i, j, vectors)

            def store(become):
                for total, at_c, at_e in zip(totals, of_c, of_e, strict=True):
                    simd.store(become(total, simd.load(at_e)), at_c)

            finish(store)

        few_terms(simd, (a, rsa, INDEX(1)), (b, rsb), m, j, vectors, terms, put)

    _for_few(simd, n, k, kc, add_few, lambda: _emit_sums(simd, c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, finish))


def _emit_sums(simd, c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, finish, fetch=None):
    """`sum_rows`, where finish(store) calls store(what becomes of a sum and E), and fetch() is called in between."""
    builder = simd.builder

    def add_up(i, j, rows, vectors):
        of_a, of_b = _element(builder, a, rsa, i, INDEX(0)), _element(builder, b, rsb, INDEX(0), j)
        totals = _add_slices(
            simd, of_a, multiples(simd, rsa, rows), INDEX(1), of_b, _columns(simd, vectors), rsb, k, kc, fetch
        )
        of_c = _places(simd, _element(builder, c, rsc, i, j), rsc, rows, vectors)
        of_e = _places(simd, _element(builder, e, rse, i, j), rse, rows, vectors)

        def store(become):
            # A row's last vector may reach into the next row, whose first is stored later.
            for v in reversed(range(vectors)):
                for t in range(rows):
                    simd.store(become(totals[t][v], simd.load(of_e[t][v])), of_c[t][v])

        finish(store)

    _for_tiles_from_the_last(simd, m, n, add_up)


def _add_slices(simd, a, rows, csa, b, columns, rsb, k, kc, fetch=None):
    """Σ over p < k, in slices of kc, of A[t, p] B[p, j], as Vectors at [t][j]: see `add_terms`."""
    builder = simd.builder
    sums = [[simd.variable() for _ in columns] for _ in rows]
    totals = [total for of_row in sums for total in of_row]
    before = simd.opaque(cgutils.alloca_once(builder, simd.vector, len(totals)))  # or they would be in registers
    before = [builder.gep(before, [INDEX(number)]) for number in range(len(totals))]
    for total in totals:
        total.set(simd.constant(0))
    at_once = UNROLLED if len(totals) >= SIDE_BY_SIDE else 1
    a, b = Operand(simd, a, csa, at_once), Operand(simd, b, rsb, at_once)
    with cgutils.for_range_slice(builder, INDEX(0), k, kc) as (start, _):
        is_later = builder.icmp_signed("!=", start, INDEX(0))
        with builder.if_then(is_later):
            for total, place in zip(totals, before, strict=True):
                simd.store(total.get(), place)
                total.set(simd.constant(0))
        terms = minimum(builder, builder.sub(k, start), kc)
        add_terms(simd, terms, at_once, sums, a, rows, b, columns, fetch)
        with builder.if_then(is_later):
            for total, place in zip(totals, before, strict=True):
                total.set(simd.load(place) + total.get())
    return [[total.get() for total in of_row] for of_row in sums]


def _element(builder, pointer, stride, i, j):
    return builder.gep(pointer, [builder.add(builder.mul(i, stride), j)])


def _columns(simd, vectors):
    """So many vectors one behind the other, for `add_terms`."""
    return [(INDEX(v * simd.lanes * simd.bits // 8), None) for v in range(vectors)]


def _places(simd, first, stride, rows, vectors):
    """Where vectors of a tile lie that begins at the pointer `first`: at [t][v]."""
    builder, columns = simd.builder, _columns(simd, vectors)
    starts = [at_byte(builder, first, row) for row in multiples(simd, stride, rows)]
    return [[at_byte(builder, start, column) for column, _ in columns] for start in starts]


def places_in_row(simd, first, stride, i, j, vectors):
    """Where vectors of row i lie, from column j on."""
    [places] = _places(simd, _element(simd.builder, first, stride, i, j), stride, 1, vectors)
    return places


def _for_tiles_from_the_last(simd, m, n, emit):
    """emit(i, j, rows, vectors) for tiles of m rows and n columns that begin at i, j: the last columns first.

    Of several vectors tiles have 6 rows, or 4; what is left then, up to 3 rows, is computed more vectors at a time.
    """
    builder, several, fewer = simd.builder, ROWS_OF_SEVERAL, ROWS_OF_SEVERAL - 2
    whole = builder.select(builder.icmp_signed("<", m, INDEX(fewer)), INDEX(0), builder.and_(m, INDEX(-2)))
    rest = builder.urem(whole, INDEX(several))
    rest = builder.select(builder.icmp_signed("==", rest, INDEX(2)), INDEX(2 * fewer), rest)  # not 6 and 2 but 4 and 4
    end = builder.sub(whole, rest)

    def rows_of_one(j):
        done, rows = INDEX(0), ROWS_OF_ONE
        while rows > 0:
            last = builder.and_(m, INDEX(-rows))
            _for_rows(builder, done, last, rows, lambda i, rows=rows: emit(i, j, rows, 1))
            done, rows = last, rows // 2

    def rows_of_several(j, vectors):
        _for_rows(builder, INDEX(0), end, several, lambda i: emit(i, j, several, vectors))
        _for_rows(builder, end, whole, fewer, lambda i: emit(i, j, fewer, vectors))

    def rows_left(j, vectors):
        last = builder.and_(m, INDEX(-2))
        _for_rows(builder, whole, last, 2, lambda i: emit(i, j, 2, vectors))
        _for_rows(builder, last, m, 1, lambda i: emit(i, j, 1, vectors))

    for_columns_from_the_last(
        simd, n, lambda j, vectors: rows_of_one(j) if vectors == 1 else rows_of_several(j, vectors)
    )
    pairs = builder.and_(builder.add(n, INDEX(simd.lanes - 1)), INDEX(-2 * simd.lanes))
    with builder.if_then(builder.icmp_signed("<", whole, m)):
        for_columns_from_the_last(simd, pairs, rows_left, SIDE_BY_SIDE // 2, least=2)


def _for_rows(builder, first, end, rows, emit):
    """emit(i) for first ... end-1 in steps of so many rows."""
    with cgutils.for_range_slice(builder, first, end, INDEX(rows)) as (i, _):
        emit(i)


def for_columns_from_the_last(simd, n, emit, at_once=HOST.vectors, least=1):
    """emit(where they begin, vectors) for n columns, the last ones first: 1, 2, ... vectors, then so many `at_once`.

    Of a multiple of `least` vectors, 1 or 2, as many or more.
    """
    builder = simd.builder
    left, some = builder.udiv(builder.add(n, INDEX(simd.lanes - 1)), INDEX(simd.lanes)), least

    def emit_before(end, vectors):
        emit(builder.mul(builder.sub(end, INDEX(vectors)), INDEX(simd.lanes)), vectors)

    while some < at_once:
        odd = builder.and_(left, INDEX(some))
        with builder.if_then(builder.icmp_signed("!=", odd, INDEX(0))):
            emit_before(left, some)
        left, some = builder.sub(left, odd), 2 * some
    with cgutils.for_range_slice(builder, INDEX(0), left, INDEX(at_once)) as (done, _):
        emit_before(builder.sub(left, done), at_once)


def _update(one):
    """An intrinsic: c[i*rsc + j] = SGD(Σ a[p*rsa + i] b[p*rsb + j]) for i < m, j < n.

    The sum over p < k is in slices of kc; `how` is STEP, or STORE where it is put into c itself. Up to whole vectors of
    j; with `one`, for i = j = 0 alone.
    """

    @intrinsic
    def update(typingctx, c, rsc, a, rsa, b, rsb, m, n, k, kc, scale, how):
        def codegen(context, builder, signature, args):
            c, rsc, a, rsa, b, rsb, m, n, k, kc, scale, how = args
            simd = simd_of(builder, signature, one)
            scale = simd.splat(scale)

            def put(totals, places):
                with builder.if_else(builder.icmp_signed("==", how, INDEX(STORE))) as (stored, stepped):
                    with stored:
                        for total, at in zip(totals, places, strict=True):
                            simd.store(total, at)
                    with stepped:
                        for total, at in zip(totals, places, strict=True):
                            simd.store(sgd(simd.load(at), total, scale), at)

            def add_up(i, j, rows, vectors):
                of_a, of_b = builder.gep(a, [i]), builder.gep(b, [j])
                totals = _add_slices(
                    simd, of_a, multiples(simd, INDEX(1), rows), rsa, of_b, _columns(simd, vectors), rsb, k, kc
                )
                places = _places(simd, _element(builder, c, rsc, i, j), rsc, rows, vectors)
                put(list(chain(*totals)), list(chain(*places)))

            def add_few(j, vectors, terms):
                def put_row(i, totals):
                    put(totals, places_in_row(simd, c, rsc, i, j, vectors))

                few_terms(simd, (a, INDEX(1), rsa), (b, rsb), m, j, vectors, terms, put_row)

            def add_row(j, vectors):
                columns = [(builder.gep(b, [builder.add(j, INDEX(v * simd.lanes))]), None) for v in range(vectors)]
                at_once = (2, 1) if vectors < SIDE_BY_SIDE else (1,)
                slices = builder.udiv(builder.add(k, builder.sub(kc, INDEX(1))), kc)
                totals = row_sums(simd, a, rsa, columns, rsb, k, slices, kc, at_once)
                put(totals, places_in_row(simd, c, rsc, INDEX(0), j, vectors))

            if one:
                add_row(INDEX(0), 1)
                return context.get_dummy_value()
            with builder.if_else(builder.icmp_signed("==", m, INDEX(1))) as (one_row, several):
                with one_row:
                    for_columns_from_the_last(simd, n, add_row, SIDE_BY_SIDE)
                with several:
                    _for_few(simd, n, k, kc, add_few, lambda: _for_tiles_from_the_last(simd, m, n, add_up))
            return context.get_dummy_value()

        index = types.intp
        return types.void(c, index, c, index, c, index, *(index,) * 4, c.dtype, index), codegen

    return update


def few_terms(simd, a, b, m, j, vectors, terms, put):
    """put(i, totals) for the vectors from column j of all m rows of A B, of so few terms: B's in registers.

    A is (pointer, from row to row, from term to term), B (pointer, from row to row).
    """
    builder, columns = simd.builder, _columns(simd, vectors)
    rows_of_b = [_element(builder, *b, INDEX(p), j) for p in range(terms)]
    of_b = [[simd.load(at_byte(builder, row, column)) for row in rows_of_b] for column, _ in columns]
    a, rsa, csa = a
    columns_of_a = [_element(builder, a, csa, INDEX(p), INDEX(0)) for p in range(terms)]
    with cgutils.for_range(builder, m) as rows:
        at = builder.mul(rows.index, rsa)
        of_a = [simd.splat(builder.load(builder.gep(column, [at]))) for column in columns_of_a]
        totals = [
            functools.reduce(lambda total, xy: fma(*xy, total), zip(of_a, of_column, strict=True), 0)
            for of_column in of_b
        ]
        put(rows.index, totals)


def _for_few(simd, n, k, kc, emit, otherwise):
    """emit(j, vectors, k) for n columns where k terms, of VECTORS_OF_TERMS, are one slice; else otherwise()."""
    builder = simd.builder
    others, done = builder.append_basic_block("others"), builder.append_basic_block("done")
    switch = builder.switch(builder.select(builder.icmp_signed("<=", k, kc), k, INDEX(0)), others)
    for terms, at_once in VECTORS_OF_TERMS.items():
        few = builder.append_basic_block("few")
        switch.add_case(INDEX(terms), few)
        with builder.goto_block(few):
            for_columns_from_the_last(simd, n, lambda j, vectors, terms=terms: emit(j, vectors, terms), at_once)
            builder.branch(done)
    with builder.goto_block(others):
        otherwise()
        builder.branch(done)
    builder.position_at_end(done)


@intrinsic
def update_output(typingctx, c, b, delta, rsd, x, rsx, k, kc, scale):
    """c[j] = SGD(Σ delta[p*rsd] x[p*rsx + j]) for the j of one vector, and b[0] = SGD(Σ delta[p*rsd]).

    The sums over p < k are in slices of kc: both at once, because each term waits for the last.
    """

    def codegen(context, builder, signature, args):
        c, b, delta, rsd, x, rsx, k, kc, scale = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        scale = simd.splat(scale)

        columns = [*_columns(simd, 1), (None, None)]  # of x, and of ones
        [(of_W, of_b)] = _add_slices(simd, delta, [INDEX(0)], rsd, x, columns, rsx, k, kc)
        for total, target in ((of_W, c), (of_b, b)):
            simd.store(sgd(simd.load(target), total, scale), target)
        return context.get_dummy_value()

    index = types.intp
    return types.void(c, c, c, index, c, index, index, index, c.dtype), codegen


def simd_of(builder, signature, one):
    """Vectors of the host's width, or of `one` element."""
    dtype = signature.args[0].dtype
    return Simd(builder, dtype, 1) if one else Simd.of_host(builder, dtype)


update_rows, update_one = _update(False), _update(True)
