"""A single sample's way through a layer, from register to register, and the step of gradient descent against it.

For rows of whole vectors, as in `rowwise`, that lie apart. What ends in `_one` is for layers of a single output, of
which it computes that alone.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid, sigmoid_derivative
from .microkernel import row_sums
from .optimizer import sgd
from .rowwise import delta_of_output, simd_of
from .simd import INDEX, Simd, Vector, fma, split


@intrinsic
def copy_row(typingctx, target, source, n):
    """target[j] = source[j] for j < n, and 0 behind that up to a whole vector."""

    def codegen(context, builder, signature, args):
        target, source, n = args
        simd = simd_of(builder, signature, False)
        with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):
            row = simd.load(builder.gep(source, [j]), simd.first(builder.sub(n, j)))
            simd.store(row, builder.gep(target, [j]))
        return context.get_dummy_value()

    return types.void(target, target, types.intp), codegen


def _layer(one):
    """An intrinsic: g = σ(Σ + b) for one row, and δ if it `is_last`, none by way of memory.

    With `one`, δ is returned instead.
    """

    @intrinsic
    def layer(typingctx, g, b, x, w, rsw, k, n, slices, kc, is_last, delta, y, scale):
        def codegen(context, builder, signature, args):
            g, b, x, w, rsw, k, n, slices, kc, is_last, delta, y, scale = args
            simd, dtype = simd_of(builder, signature, one), signature.args[0].dtype
            # In place of a single number, which LLVM would move to other registers and back, 16 bytes with it in front.
            wide = Simd(builder, dtype, 128 // dtype.bitwidth) if one else simd
            of_last = wide.variable()
            of_last.set(wide.constant(0))
            with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):

                def load(pointer):
                    return _widened(simd.load(builder.gep(pointer, [j])), wide)

                columns, at_once = [(builder.gep(w, [j]), None)], (4, 1) if one else (2, 1)
                [total] = row_sums(simd, x, INDEX(1), columns, rsw, k, slices, kc, at_once)
                value = sigmoid(_widened(total, wide) + load(b))
                simd.store(_narrowed(value, simd), builder.gep(g, [j]))
                with builder.if_then(builder.icmp_signed("!=", is_last, INDEX(0))):
                    of_last.set(delta_of_output(value, load(y), wide.splat(scale)))
                    if not one:
                        simd.store(of_last.get(), builder.gep(delta, [j]))
            first = ir.Constant(ir.IntType(32), 0)
            return builder.extract_element(of_last.get().llvm, first) if one else context.get_dummy_value()

        index, result = types.intp, g.dtype if one else types.void
        return result(g, g, g, g, index, index, index, index, index, index, g, g, g.dtype), codegen

    return layer


def _widened(vector, wide):
    """A vector as the first lanes of one of the Simd `wide`."""
    if vector.simd.lanes == wide.lanes:
        return vector
    undefined, first = ir.Constant(wide.vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    builder = wide.builder
    number = builder.extract_element(vector.llvm, first)
    return Vector(wide, builder.insert_element(undefined, number, first))


def _narrowed(vector, simd):
    """The first lanes of a vector, as many as `simd` has."""
    return split(vector, simd)[0]


@intrinsic
def step_rows_by(typingctx, c, rsc, a, b, m, n, scale):
    """c[i*rsc + j] = SGD(a[i] b[j]) for i < m, j < n: `_update` for k = 1."""

    def codegen(context, builder, signature, args):
        c, rsc, a, b, m, n, scale = args
        simd = simd_of(builder, signature, False)
        scale = simd.splat(scale)
        with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):
            row = simd.load(builder.gep(b, [j]))
            with cgutils.for_range(builder, m) as rows:
                x = simd.splat(builder.load(builder.gep(a, [rows.index])))
                at = builder.gep(c, [builder.add(builder.mul(rows.index, rsc), j)])
                simd.store(sgd(simd.load(at), fma(x, row, 0), scale), at)
        return context.get_dummy_value()

    index = types.intp
    return types.void(c, index, c, c, index, index, c.dtype), codegen


@intrinsic
def delta_by(typingctx, target, g, x, row, n):
    """target[j] = x row[j] g[j] (1 - g[j]) for j < n: `delta_rows` for k = 1, from a number."""

    def codegen(context, builder, signature, args):
        target, g, x, row, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):
            total = fma(simd.splat(x), simd.load(builder.gep(row, [j])), 0)
            simd.store(total * sigmoid_derivative(simd.load(builder.gep(g, [j]))), builder.gep(target, [j]))
        return context.get_dummy_value()

    return types.void(target, target, target.dtype, target, types.intp), codegen


def _step_by(one):
    """An intrinsic: c[j] = SGD(x row[j]) for j < n: `_update` for k = 1, from a number."""

    @intrinsic
    def step_by(typingctx, c, x, row, n, scale):
        def codegen(context, builder, signature, args):
            c, x, row, n, scale = args
            simd = simd_of(builder, signature, one)
            with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):
                total, at = fma(simd.splat(x), simd.load(builder.gep(row, [j])), 0), builder.gep(c, [j])
                simd.store(sgd(simd.load(at), total, simd.splat(scale)), at)
            return context.get_dummy_value()

        return types.void(c, c.dtype, c, types.intp, c.dtype), codegen

    return step_by


layer_row, layer_one = _layer(False), _layer(True)
step_row_by, step_one_by = _step_by(False), _step_by(True)
