"""What is done to rows of whole vectors element by element: σ, sums of sums, copies, δ of the outputs and their errors.

As in `rowwise`, what is behind a row's last element, up to a whole vector, may be read, and overwritten.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid, sigmoid_derivative
from .blocking import MANY_OUTPUTS, OUTPUT_SUMS
from .epilogue import BIAS_SIGMOID, EPILOGUES
from .loss import squared_error, squared_error_gradient
from .simd import INDEX, Simd, folded, joined, maximum, minimum, split, transposed, where
from .tasks import outlined


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


@outlined
def transpose_rows(target, rst, source, rss, m, n) -> None:
    """target[i*rst + j] = source[j*rss + i] for i < m, j < n: squares of whole vectors, the last ones overlapping."""
    _transpose_rows(target, rst, source, rss, m, n)


@intrinsic
def _transpose_rows(typingctx, target, rst, source, rss, m, n):
    def codegen(context, builder, signature, args):
        target, rst, source, rss, m, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        lanes, last = INDEX(simd.lanes), maximum(builder, builder.sub(m, INDEX(simd.lanes)), INDEX(0))
        with cgutils.for_range_slice(builder, INDEX(0), n, lanes) as (j, _):
            numbers = [minimum(builder, builder.add(j, INDEX(t)), builder.sub(n, INDEX(1))) for t in range(simd.lanes)]
            rows = [builder.gep(source, [builder.mul(number, rss)]) for number in numbers]
            with cgutils.for_range_slice(builder, INDEX(0), m, lanes) as (first, _):
                i = minimum(builder, first, last)
                squares = transposed([simd.load(builder.gep(row, [i])) for row in rows])
                for t, row in enumerate(squares):
                    with builder.if_then(builder.icmp_signed("<", INDEX(t), m), likely=True):
                        at = builder.add(builder.mul(builder.add(i, INDEX(t)), rst), j)
                        simd.store(row, builder.gep(target, [at]))
        return context.get_dummy_value()

    return types.void(target, types.intp, target, types.intp, types.intp, types.intp), codegen


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
    """Σ over j < n of Σ over i < m of (g - y)² at i*stride + j, in float64: in the order of `loss.mse`."""

    def codegen(context, builder, signature, args):
        g, y, stride, m, n = args
        total = cgutils.alloca_once_value(builder, ir.Constant(ir.DoubleType(), 0.0))

        def errors(wide, j):
            """Of as many outputs as a vector of the Simd `wide` has lanes."""
            simd, outputs = Simd(builder, signature.args[0].dtype, wide.lanes), wide.variable()
            outputs.set(wide.constant(0))
            with cgutils.for_range(builder, m) as rows:
                at = builder.add(builder.mul(rows.index, stride), j)
                of_g, of_y = (simd.widened(simd.load(builder.gep(pointer, [at])), wide) for pointer in (g, y))
                outputs.set(outputs.get() + squared_error(of_g, of_y))
            return outputs.get()

        def add_one_by_one():
            wide = Simd.of_host(builder, types.float64)
            with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(wide.lanes)) as (j, _):
                outputs = errors(wide, j).llvm
                with cgutils.for_range(builder, minimum(builder, builder.sub(n, j), INDEX(wide.lanes))) as lanes:
                    output = builder.extract_element(outputs, lanes.index)
                    builder.store(builder.fadd(builder.load(total), output), total)

        def add_side_by_side():
            wide = Simd(builder, types.float64, OUTPUT_SUMS)
            sums = wide.variable()
            sums.set(wide.constant(0))
            with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(wide.lanes)) as (j, _):
                sums.set(sums.get() + where(wide.first(builder.sub(n, j)).bits, errors(wide, j), 0))
            builder.store(builder.extract_element(folded(sums.get()).llvm, INDEX(0)), total)

        many = builder.icmp_signed(">=", n, INDEX(MANY_OUTPUTS))
        with builder.if_else(many) as branches:
            for branch, add in zip(branches, (add_side_by_side, add_one_by_one), strict=True):
                with branch:
                    add()
        return builder.load(total)

    return types.float64(g, g, types.intp, types.intp, types.intp), codegen


def delta_of_output(g, y, scale):
    return squared_error_gradient(g, y, scale) * sigmoid_derivative(g)
