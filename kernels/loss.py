"""Losses, each a value beside its gradient with respect to the network's output.

g and y are arrays (batch, N) with any strides. The 1/batch of the mean over the minibatch is part of the
gradient, so every sum over the batch further down is a mean.
"""

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid_derivative
from .compiling import helper, jit
from .matrix import get, matrix, put, scalar
from .simd import INDEX, Simd, split
from .tasks import reference


@helper
def squared_error(g, y):
    """(g - y)², of numbers or vector registers, as the next is."""
    return (g - y) * (g - y)


@helper
def squared_error_gradient(g, y, scale):
    return scale * (g - y)


@jit(inline=True)
def mse(g, y):
    """𝓛 = 1/(batch N) Σ (g - y)², summed in float64 over the samples of each output, then over the outputs."""
    g, y = matrix(g), matrix(y)
    total = 0.0
    for j in range(g.columns):
        output = 0.0
        for i in range(g.rows):
            output += squared_error(np.float64(get(g, i, j)), np.float64(get(y, i, j)))
        total += output
    return total / (g.rows * g.columns)


@jit(inline=True)
def mse_gradient(grad_g, g, y):
    """∇g = 2/(batch N) (g - y)."""
    grad_g, g, y = matrix(grad_g), matrix(g), matrix(y)
    scale = scalar(2.0 / (g.rows * g.columns), g)
    for i in range(g.rows):
        for j in range(g.columns):
            put(grad_g, i, j, squared_error_gradient(get(g, i, j), get(y, i, j), scale))


@jit(inline=True)
def mse_output_delta(delta, g, y, batch):
    """δ = ∇g ⊙ g (1 - g) of the last layer, in one pass with the part in 𝓛, which is returned, of these samples.

    They are some of a minibatch of `batch` samples; for all of them it is 𝓛, in the same bits as by `mse`. All are
    Matrices whose columns are adjacent; delta overlaps neither g nor y.
    """
    total = reference(0.0)
    scale = scalar(2.0 / (batch * g.columns), g)
    _mse_output_delta(
        total, delta.data, delta.row_stride, g.data, g.row_stride, y.data, y.row_stride, scale, g.rows, g.columns
    )
    return total[0] / (batch * g.columns)


@intrinsic
def _mse_output_delta(typingctx, total, delta, rsd, g, rsg, y, rsy, scale, m, n):
    index = types.intp
    signature = types.void(total, delta, index, delta, index, delta, index, delta.dtype, index, index)

    def codegen(context, builder, signature, args):
        total, delta, rsd, g, rsg, y, rsy, scale, m, n = args
        simd = Simd.of_host(builder, signature.args[1].dtype)
        wide = Simd.of_host(builder, types.float64)
        part = Simd(builder, simd.dtype, wide.lanes)
        lanes = INDEX(simd.lanes)
        scale = simd.splat(scale)
        sums = cgutils.alloca_once(builder, wide.scalar, size=simd.lanes)
        outputs = [wide.variable() for _ in range(0, simd.lanes, wide.lanes)]
        with cgutils.for_range_slice(builder, INDEX(0), n, lanes) as (j, _):
            left = builder.sub(n, j)
            mask = simd.first(left)
            for output in outputs:
                output.set(wide.constant(0))
            with cgutils.for_range(builder, m) as loop:

                def at(pointer, stride, i=loop.index, j=j):
                    return builder.gep(pointer, [builder.add(builder.mul(i, stride), j)])

                g_row, y_row = simd.load(at(g, rsg), mask), simd.load(at(y, rsy), mask)
                for output, g_part, y_part in zip(outputs, split(g_row, part), split(y_row, part), strict=True):
                    error = squared_error(part.widened(g_part, wide), part.widened(y_part, wide))
                    output.set(output.get() + error)
                grad_g = squared_error_gradient(g_row, y_row, scale)
                simd.store(grad_g * sigmoid_derivative(g_row), at(delta, rsd), mask)
            for p, output in enumerate(outputs):
                wide.store(output.get(), builder.gep(sums, [INDEX(p * wide.lanes)]))
            columns = builder.select(builder.icmp_signed("<", left, lanes), left, lanes)
            with cgutils.for_range(builder, columns) as loop:
                one = builder.load(builder.gep(sums, [loop.index]))
                builder.store(builder.fadd(builder.load(total), one), total)
        return context.get_dummy_value()

    return signature, codegen
