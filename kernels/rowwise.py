"""Layers as sums of rows of whole vectors, for one sample after the other: no tiles, no edges and no calls.

Behind its last element a row has zeros up to a whole vector. What ends in `_one` is for layers of a single output, of
which it computes that alone.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid_derivative
from .epilogue import BIAS_SIGMOID, EPILOGUES, SGD, SIGMOID_DELTA
from .loss import squared_error_gradient
from .microkernel import row_sums
from .simd import INDEX, Simd, fma, where


@intrinsic
def copy_row(typingctx, target, source, n):
    """target[j] = source[j] for j < n, and 0 behind that up to a whole vector."""

    def codegen(context, builder, signature, args):
        target, source, n = args
        simd = _simd(builder, signature, False)
        with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):
            row = simd.load(builder.gep(source, [j]), simd.first(builder.sub(n, j)))
            simd.store(row, builder.gep(target, [j]))
        return context.get_dummy_value()

    return types.void(target, target, types.intp), codegen


def _product(number, one):
    """An intrinsic: c[j] = epilogue(Σ a[p] b[p*rsb + j], e[j]) for j < n, the sum over p < k in so many slices of kc.

    Up to whole vectors, c is 0 behind that; or with `one`, n is 1 and c[0] alone is written.
    """

    @intrinsic
    def product(typingctx, c, e, a, b, rsb, k, n, slices, kc):
        def codegen(context, builder, signature, args):
            c, e, a, b, rsb, k, n, slices, kc = args
            simd = _simd(builder, signature, one)
            with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):
                [total] = row_sums(simd, a, INDEX(1), [(builder.gep(b, [j]), None)], rsb, k, slices, kc, (4, 2, 1))
                value = EPILOGUES[number].finish(total, simd.load(builder.gep(e, [j])), None, None)
                simd.store(where(simd.first(builder.sub(n, j)), value, 0), builder.gep(c, [j]))
            return context.get_dummy_value()

        index = types.intp
        return types.void(c, c, c, c, index, index, index, index, index), codegen

    return product


def _output_delta(one):
    """An intrinsic: δ[j] = scale (g[j] - y[j]) g[j] (1 - g[j]) for j < n, as `_product` otherwise."""

    @intrinsic
    def output_delta(typingctx, delta, g, y, scale, n):
        def codegen(context, builder, signature, args):
            delta, g, y, scale, n = args
            simd = _simd(builder, signature, one)
            with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):
                g_row, y_row = simd.load(builder.gep(g, [j])), simd.load(builder.gep(y, [j]))
                value = squared_error_gradient(g_row, y_row, simd.splat(scale)) * sigmoid_derivative(g_row)
                simd.store(where(simd.first(builder.sub(n, j)), value, 0), builder.gep(delta, [j]))
            return context.get_dummy_value()

        return types.void(delta, delta, delta, delta.dtype, types.intp), codegen

    return output_delta


def _update(one):
    """An intrinsic: c[i*rsc + j] = SGD(Σ a[p*rsa + i] b[p*rsb + j]) for i < m, j < n, the sum over p < k.

    Up to whole vectors of j, or for j = 0 alone with `one`.
    """

    @intrinsic
    def update(typingctx, c, rsc, a, rsa, b, rsb, m, n, k, scale):
        def codegen(context, builder, signature, args):
            c, rsc, a, rsa, b, rsb, m, n, k, scale = args
            simd = _simd(builder, signature, one)
            scale = simd.splat(scale)
            with (
                cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _),
                cgutils.for_range(builder, m) as rows_of_c,
            ):
                total = simd.variable()
                total.set(simd.constant(0))
                with cgutils.for_range(builder, k) as terms:
                    p = simd.opaque(terms.index)
                    x = builder.load(builder.gep(a, [builder.add(builder.mul(p, rsa), rows_of_c.index)]))
                    row = simd.load(builder.gep(b, [builder.add(builder.mul(p, rsb), j)]))
                    total.set(fma(simd.splat(x), row, total.get()))
                at = builder.gep(c, [builder.add(builder.mul(rows_of_c.index, rsc), j)])
                simd.store(EPILOGUES[SGD].finish(total.get(), None, simd.load(at), scale), at)
            return context.get_dummy_value()

        index = types.intp
        return types.void(c, index, c, index, c, index, index, index, index, c.dtype), codegen

    return update


def _simd(builder, signature, one):
    """Vectors of the host's width, or of `one` element."""
    dtype = signature.args[0].dtype
    return Simd(builder, dtype, 1) if one else Simd.of_host(builder, dtype)


forward_row, forward_one = _product(BIAS_SIGMOID, False), _product(BIAS_SIGMOID, True)
delta_row = _product(SIGMOID_DELTA, False)
output_delta_row, output_delta_one = _output_delta(False), _output_delta(True)
update_rows, update_one = _update(False), _update(True)
