"""Layers as sums of rows of whole vectors: no tiles, no edges and no calls.

A row may be followed by the next at once: what is behind its last element, up to a whole vector, may be overwritten, so
that rows are written from the first to the last; and it may be read, but nothing comes of it. What ends in `_one` is
for layers of a single output, of which it computes that alone.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid, sigmoid_derivative
from .blocking import HOST, ROWS_AT_ONCE, ROWS_UPDATED
from .epilogue import BIAS_SIGMOID, EPILOGUES
from .loss import squared_error, squared_error_gradient
from .optimizer import sgd
from .simd import INDEX, Simd, fma, joined, minimum, split, where
from .tasks import outlined

STEP, STORE = range(2)  # what an update does with its sums
BIAS, SLOPE = range(2)  # what is done to other sums: E is added; or they are times σ′, and E is σ


@outlined
def sum_rows(c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, how):
    """c[i*rsc + j] = finish(Σ a[i*rsa + p] b[p*rsb + j], e[i*rse + j]) for i < m, j < n, with BIAS or SLOPE.

    The sum over p < k is in slices of kc.
    """
    _sum_rows(c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, how)


@intrinsic
def _sum_rows(typingctx, c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, how):
    def codegen(context, builder, signature, args):
        c, rsc, e, rse, a, rsa, b, rsb, m, k, n, kc, how = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        is_slope = builder.icmp_signed("==", how, INDEX(SLOPE))

        def at(pointer, stride, i, j):
            return builder.gep(pointer, [builder.add(builder.mul(i, stride), j)])

        def add_up(rows, columns):
            totals = _add_slices(
                simd, rows, columns, k, kc, lambda p, i: at(a, rsa, i, p), lambda p, j: simd.load(at(b, rsb, p, j))
            )

            def store(finish):
                # A row's last vector may reach into the next row, whose first is stored later.
                for j in reversed(columns):
                    for i in rows:
                        simd.store(finish(totals[i, j], simd.load(at(e, rse, i, j))), at(c, rsc, i, j))

            with builder.if_else(is_slope) as (slope, bias):
                with slope:
                    store(lambda total, g: total * sigmoid_derivative(g))
                with bias:
                    store(lambda total, b: total + b)

        def rows_at_once(columns):
            at_once = min(ROWS_AT_ONCE, HOST.registers // 2 // len(columns))
            _for_rows(builder, m, at_once, lambda rows: add_up(rows, columns))

        _for_columns_from_the_last(simd, n, rows_at_once)
        return context.get_dummy_value()

    index = types.intp
    strided = (c, index) * 4
    return types.void(*strided, *(index,) * 5), codegen


def _add_slices(simd, rows, columns, k, kc, element_at, vector_at):
    """Σ over p < k, in slices of kc, of the element of a row i times the vector of a column j: as Vectors at (i, j).

    `element_at` gives a pointer, `vector_at` a Vector.
    """
    builder = simd.builder
    totals, parts = ({(i, j): simd.variable() for i in rows for j in columns} for _ in range(2))
    for total in totals.values():
        total.set(simd.constant(-0.0))  # which added changes nothing
    with cgutils.for_range_slice(builder, INDEX(0), k, kc) as (start, _):
        for part in parts.values():
            part.set(simd.constant(0))
        end = minimum(builder, builder.add(start, kc), k)
        with cgutils.for_range_slice(builder, start, end, INDEX(1)) as (p, _):
            p = simd.opaque(p)
            vectors = [(j, vector_at(p, j)) for j in columns]
            for i in rows:
                x = simd.splat(builder.load(element_at(p, i)))
                for j, vector in vectors:
                    parts[i, j].set(fma(x, vector, parts[i, j].get()))
        for at, total in totals.items():
            total.set(total.get() + parts[at].get())
    return {at: total.get() for at, total in totals.items()}


def _for_rows(builder, m, at_once, emit):
    """emit(rows) for m rows, so many at once, then half as many, ... and 1."""
    done = INDEX(0)
    while at_once > 0:
        end = builder.and_(m, INDEX(-at_once))
        with cgutils.for_range_slice(builder, done, end, INDEX(at_once)) as (i, _):
            emit([builder.add(i, INDEX(t)) for t in range(at_once)])
        done, at_once = end, at_once // 2


def _for_columns_from_the_last(simd, n, emit, at_once=HOST.vectors):
    """emit(where vectors begin) for n columns, the last ones first: 1, 2, ... vectors, then so many `at_once`."""
    builder = simd.builder
    left, some = builder.udiv(builder.add(n, INDEX(simd.lanes - 1)), INDEX(simd.lanes)), 1

    def emit_before(end, vectors):
        first = builder.mul(builder.sub(end, INDEX(vectors)), INDEX(simd.lanes))
        emit([builder.add(first, INDEX(v * simd.lanes)) for v in range(vectors)])

    while some < at_once:
        odd = builder.and_(left, INDEX(some))
        with builder.if_then(builder.icmp_signed("!=", odd, INDEX(0))):
            emit_before(left, some)
        left, some = builder.sub(left, odd), 2 * some
    with cgutils.for_range_slice(builder, INDEX(0), left, INDEX(at_once)) as (done, _):
        emit_before(builder.sub(left, done), at_once)


@intrinsic
def activate(typingctx, g, n):
    """g[i] = σ(g[i]) for i < n."""

    def codegen(context, builder, signature, args):
        g, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        at_once = EPILOGUES[BIAS_SIGMOID].together
        whole = builder.and_(n, INDEX(-at_once * simd.lanes))
        for start, end, vectors in ((INDEX(0), whole, at_once), (whole, n, 1)):
            with cgutils.for_range_slice(builder, start, end, INDEX(vectors * simd.lanes)) as (i, _):
                at = [builder.gep(g, [builder.add(i, INDEX(v * simd.lanes))]) for v in range(vectors)]
                values = split(sigmoid(joined(simd.load(pointer) for pointer in at)), simd)
                for value, pointer in zip(values, at, strict=True):
                    simd.store(value, pointer)
        return context.get_dummy_value()

    return types.void(g, types.intp), codegen


@intrinsic
def add_sums(typingctx, c, a, b, e, m, n):
    """c[i*n + j] = (a[i*n + j] + b[i*n + j]) + e[j] for i < m, j < n."""

    def codegen(context, builder, signature, args):
        c, a, b, e, m, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        with cgutils.for_range(builder, m) as rows:
            row = builder.mul(rows.index, n)
            with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):
                at = builder.add(row, j)
                total = simd.load(builder.gep(a, [at])) + simd.load(builder.gep(b, [at]))
                simd.store(total + simd.load(builder.gep(e, [j])), builder.gep(c, [at]))
        return context.get_dummy_value()

    return types.void(c, c, c, c, types.intp, types.intp), codegen


@intrinsic
def output_delta(typingctx, delta, g, y, scale, n):
    """δ[i] = scale (g[i] - y[i]) g[i] (1 - g[i]) for i < n."""

    def codegen(context, builder, signature, args):
        delta, g, y, scale, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (i, _):
            g_row, y_row = simd.load(builder.gep(g, [i])), simd.load(builder.gep(y, [i]))
            simd.store(delta_of_output(g_row, y_row, simd.splat(scale)), builder.gep(delta, [i]))
        return context.get_dummy_value()

    return types.void(delta, delta, delta, delta.dtype, types.intp), codegen


@intrinsic
def errors_of_rows(typingctx, g, y, stride, m, n):
    """Σ over j < n of Σ over i < m of (g - y)² at i*stride + j, in float64: vectors of outputs, then one by one."""

    def codegen(context, builder, signature, args):
        g, y, stride, m, n = args
        wide = Simd.of_host(builder, types.float64)
        simd = Simd(builder, signature.args[0].dtype, wide.lanes)
        total = cgutils.alloca_once_value(builder, ir.Constant(ir.DoubleType(), 0.0))
        outputs = wide.variable()
        with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(wide.lanes)) as (j, _):
            outputs.set(wide.constant(0))
            with cgutils.for_range(builder, m) as rows:
                at = builder.add(builder.mul(rows.index, stride), j)
                of_g, of_y = (simd.widened(simd.load(builder.gep(pointer, [at])), wide) for pointer in (g, y))
                outputs.set(outputs.get() + squared_error(of_g, of_y))
            sums = outputs.get().llvm
            with cgutils.for_range(builder, minimum(builder, builder.sub(n, j), INDEX(wide.lanes))) as lanes:
                output = builder.extract_element(sums, lanes.index)
                builder.store(builder.fadd(builder.load(total), output), total)
        return builder.load(total)

    return types.float64(g, g, types.intp, types.intp, types.intp), codegen


def delta_of_output(g, y, scale):
    return squared_error_gradient(g, y, scale) * sigmoid_derivative(g)


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
            scale, stored = simd.splat(scale), builder.icmp_signed("==", how, INDEX(STORE))

            def element_at(p, i):
                return builder.gep(a, [builder.add(builder.mul(p, rsa), i)])

            def vector_at(p, j):
                return simd.load(builder.gep(b, [builder.add(builder.mul(p, rsb), j)]))

            def add_up(rows, columns):
                for (i, j), total in _add_slices(simd, rows, columns, k, kc, element_at, vector_at).items():
                    at = builder.gep(c, [builder.add(builder.mul(i, rsc), j)])
                    simd.store(where(stored, total, sgd(simd.load(at), total, scale)), at)

            def rows_at_once(columns):
                at_once = max(ROWS_UPDATED, ROWS_AT_ONCE // len(columns))
                _for_rows(builder, m, at_once, lambda rows: add_up(rows, columns))

            if one:
                add_up([INDEX(0)], [INDEX(0)])
                return context.get_dummy_value()
            with builder.if_else(builder.icmp_signed("==", m, INDEX(1))) as (one_row, several):
                with one_row:
                    _for_columns_from_the_last(simd, n, lambda columns: add_up([INDEX(0)], columns), 8)
                with several:
                    _for_columns_from_the_last(simd, n, rows_at_once)
            return context.get_dummy_value()

        index = types.intp
        return types.void(c, index, c, index, c, index, *(index,) * 4, c.dtype, index), codegen

    return update


@intrinsic
def update_output(typingctx, c, b, delta, rsd, x, rsx, k, kc, scale):
    """c[j] = SGD(Σ delta[p*rsd] x[p*rsx + j]) for the j of one vector, and b[0] = SGD(Σ delta[p*rsd]).

    The sums over p < k are in slices of kc: both at once, because each term waits for the last.
    """

    def codegen(context, builder, signature, args):
        c, b, delta, rsd, x, rsx, k, kc, scale = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        scale = simd.splat(scale)

        def element_at(p, _):
            return builder.gep(delta, [builder.mul(p, rsd)])

        def vector_at(p, column):
            return simd.load(builder.gep(x, [builder.mul(p, rsx)])) if column == "W" else simd.constant(1)

        totals = _add_slices(simd, [0], ["W", "b"], k, kc, element_at, vector_at)
        for column, target in (("W", c), ("b", b)):
            simd.store(sgd(simd.load(target), totals[0, column], scale), target)
        return context.get_dummy_value()

    index = types.intp
    return types.void(c, c, c, index, c, index, index, index, c.dtype), codegen


def simd_of(builder, signature, one):
    """Vectors of the host's width, or of `one` element."""
    dtype = signature.args[0].dtype
    return Simd(builder, dtype, 1) if one else Simd.of_host(builder, dtype)


update_rows, update_one = _update(False), _update(True)
