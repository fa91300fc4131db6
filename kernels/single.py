"""A single sample's way through a layer, from register to register, and the step of gradient descent against it.

For rows of whole vectors, as in `rowwise`, that lie apart. What ends in `_one` is for layers of a single output, of
which it computes that alone.
"""

from operator import add

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid, sigmoid_derivative
from .blocking import VECTORS_OF_SINGLE
from .dot import dot
from .elementwise import delta_of_output
from .microkernel import row_sums
from .optimizer import sgd
from .rowwise import few_terms, for_columns_from_the_last, places_in_row, simd_of
from .simd import INDEX, Simd, Vector, fma, joined, minimum, split


@intrinsic
def copy_row(typingctx, target, source, n):
    """target[j] = source[j] for j < n, and 0 behind that up to a whole vector."""

    def codegen(context, builder, signature, args):
        target, source, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        with cgutils.for_range_slice(builder, INDEX(0), n, INDEX(simd.lanes)) as (j, _):
            row = simd.load(builder.gep(source, [j]), simd.first(builder.sub(n, j)))
            simd.store(row, builder.gep(target, [j]))
        return context.get_dummy_value()

    return types.void(target, target, types.intp), codegen


@intrinsic
def layer_row(typingctx, g, b, x, w, rsw, k, n, slices, kc, is_last, delta, y, scale):
    """g = σ(Σ + b) for one row, and δ if it `is_last`, none by way of memory."""

    def codegen(context, builder, signature, args):
        g, b, x, w, rsw, k, n, slices, kc, is_last, delta, y, scale = args
        simd = Simd.of_host(builder, signature.args[0].dtype)

        def add_up(j, vectors):
            offsets = [builder.add(j, INDEX(v * simd.lanes)) for v in range(vectors)]
            columns = [(builder.gep(w, [offset]), None) for offset in offsets]
            totals = row_sums(simd, x, INDEX(1), columns, rsw, k, slices, kc, (2, 1))
            biases = [simd.load(builder.gep(b, [offset])) for offset in offsets]
            values = split(sigmoid(joined(map(add, totals, biases))), simd)
            for value, offset in zip(values, offsets, strict=True):
                simd.store(value, builder.gep(g, [offset]))
            with builder.if_then(builder.icmp_signed("!=", is_last, INDEX(0))):
                for value, offset in zip(values, offsets, strict=True):
                    of_y = simd.load(builder.gep(y, [offset]))
                    simd.store(delta_of_output(value, of_y, simd.splat(scale)), builder.gep(delta, [offset]))

        for_columns_from_the_last(simd, n, add_up, VECTORS_OF_SINGLE)
        return context.get_dummy_value()

    index = types.intp
    return types.void(g, g, g, g, index, index, index, index, index, index, g, g, g.dtype), codegen


@intrinsic
def layer_one(typingctx, g, b, x, w, k, length, is_last, y, scale):
    """g = σ(Σ + b), Σ in slices of a `length`, for one row and a single output, whose δ is returned if it `is_last`."""

    def codegen(context, builder, signature, args):
        g, b, x, w, k, length, is_last, y, scale = args
        dtype = signature.args[0].dtype
        # In place of a single number, which LLVM would move to other registers and back, 16 bytes with it in front.
        one, few = Simd(builder, dtype, 1), Simd(builder, dtype, 128 // dtype.bitwidth)
        of_last = few.variable()
        total = one.variable()
        total.set(one.constant(-0.0))
        with cgutils.for_range_slice(builder, INDEX(0), k, length) as (start, _):
            of_w, of_x = builder.gep(w, [start]), builder.gep(x, [start])
            count = minimum(builder, length, builder.sub(k, start))
            total.set(total.get() + dot(Simd.of_host(builder, dtype), of_w, of_x, count))
        value = sigmoid(_widened(total.get(), few) + _widened(one.load(b), few))
        one.store(split(value, one)[0], g)
        of_last.set(few.constant(0))
        with builder.if_then(builder.icmp_signed("!=", is_last, INDEX(0))):
            of_last.set(delta_of_output(value, _widened(one.load(y), few), few.splat(scale)))
        return builder.extract_element(of_last.get().llvm, ir.Constant(ir.IntType(32), 0))

    index = types.intp
    return g.dtype(g, g, g, g, index, index, index, g, g.dtype), codegen


def _widened(number, few):
    """A vector of one lane as the first of one of the Simd `few`."""
    undefined, first = ir.Constant(few.vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    element = few.builder.extract_element(number.llvm, first)
    return Vector(few, few.builder.insert_element(undefined, element, first))


@intrinsic
def step_rows_by(typingctx, c, rsc, a, b, m, n, scale):
    """c[i*rsc + j] = SGD(a[i] b[j]) for i < m, j < n: `_update` for k = 1."""

    def codegen(context, builder, signature, args):
        c, rsc, a, b, m, n, scale = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        scale = simd.splat(scale)

        def step(j, vectors):
            def put(i, totals):
                for total, at in zip(totals, places_in_row(simd, c, rsc, i, j, vectors), strict=True):
                    simd.store(sgd(simd.load(at), total, scale), at)

            few_terms(simd, (a, INDEX(1), INDEX(0)), (b, INDEX(0)), m, j, vectors, 1, put)

        for_columns_from_the_last(simd, n, step, VECTORS_OF_SINGLE)
        return context.get_dummy_value()

    index = types.intp
    return types.void(c, index, c, c, index, index, c.dtype), codegen


@intrinsic
def delta_by(typingctx, target, g, x, row, n):
    """target[j] = x row[j] g[j] (1 - g[j]) for j < n: `sum_rows` with SLOPE for k = 1, from a number."""

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


step_row_by, step_one_by = _step_by(False), _step_by(True)
