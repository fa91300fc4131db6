"""Losses, each a value beside its gradient with respect to the network's output.

g and y are arrays (batch, N) with any strides. The 1/batch of the mean over the minibatch is part of the
gradient, so every sum over the batch further down is a mean.
"""

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid_derivative
from .blocking import COPY, MANY_OUTPUTS, OUTPUT_SUMS, ROWS_AHEAD
from .compiling import helper, internal, jit
from .cuts import range_of_part
from .matrix import advance, as_float64, block, get, matrix, padded, put, rows, scalar
from .parallel import columns_of, share, tasks_for
from .simd import INDEX, Simd, split
from .tasks import address, outlined, reference, references, task_address

NO_SUMS = (0.0,) * OUTPUT_SUMS


@helper
def squared_error(g, y):
    """(g - y)², of numbers or vector registers, as the next is."""
    return (g - y) * (g - y)


@helper
def squared_error_gradient(g, y, scale):
    return scale * (g - y)


@jit(inline=True)
def mse(g, y):
    """𝓛 = 1/(batch N) Σ (g - y)², in float64: of each of the `row_parts`, output after output, then of all.

    Of MANY_OUTPUTS or more, OUTPUT_SUMS sums of every so many-th output are added up, the second half to the first, and
    so on.
    """
    g, y = matrix(g), matrix(y)
    total, parts = 0.0, row_parts(g.rows)
    for part in range(parts):
        first, past = range_of_part(part, parts, g.rows)
        total += part_errors(rows(g, first, past - first), rows(y, first, past - first), past - first)
    return total / (g.rows * g.columns)


@helper
def part_errors(g, y, samples):
    """Σ (g - y)², in float64, of one part's first so many samples: output after output, or as `mse` says."""
    if g.columns >= MANY_OUTPUTS:
        return errors_in_sums(g, y, samples)
    total = 0.0
    for j in range(g.columns):
        total += output_errors(g, y, samples, j)
    return total


@helper
def output_errors(g, y, samples, j):
    """Of one output."""
    total = 0.0
    for i in range(samples):
        total += squared_error(np.float64(get(g, i, j)), np.float64(get(y, i, j)))
    return total


@outlined
def errors_in_sums(g, y, samples):
    """`part_errors` of many outputs."""
    sums = references(NO_SUMS)
    for j in range(g.columns):
        sums[j % OUTPUT_SUMS] += output_errors(g, y, samples, j)
    return folded(sums)


@helper
def folded(sums):
    """The sum of OUTPUT_SUMS numbers, the second half added to the first, and so on until one is left."""
    half = OUTPUT_SUMS // 2
    while half > 0:
        for t in range(half):
            sums[t] += sums[t + half]
        half //= 2
    return sums[0]


@jit(inline=True)
def mse_gradient(grad_g, g, y):
    """∇g = 2/(batch N) (g - y)."""
    grad_g, g, y = matrix(grad_g), matrix(g), matrix(y)
    scale = scalar(2.0 / (g.rows * g.columns), g)
    for i in range(g.rows):
        for j in range(g.columns):
            put(grad_g, i, j, squared_error_gradient(get(g, i, j), get(y, i, j), scale))


@helper
def mse_output_delta(delta, g, y, batch, parts, sums, team):
    """δ = ∇g ⊙ g (1 - g) of the last layer, in one pass with Σ (g - y)², which is returned, of these samples.

    They are some of a minibatch of `batch` samples. For all of them, in `row_parts`, the sum is that of `mse`; for one
    part alone that part's. All are Matrices whose columns are adjacent; delta does not overlap g, and may be y. `sums`
    points to memory for two float64 for each column, rounded up to whole cache lines of either dtype.
    """
    sums = as_float64(sums)
    tasks = tasks_for(COPY * g.rows * g.columns, team)
    arguments = reference((sums, delta, g, y, batch, parts, tasks))
    share(task_address(_some_columns, arguments), address(arguments), tasks, team.memory)
    total = 0.0
    for part in range(parts):
        total += sum_of(advance(sums, part * padded(g.columns)), g.columns)
    return total


@helper
def row_parts(samples):
    """Into how many parts samples are cut, which two threads may take: squared errors are added up part after part."""
    return 2 if samples > 1 else 1


@helper
def sum_of(data, size):
    """Of so many outputs' errors, in the order of `mse`."""
    if size >= MANY_OUTPUTS:
        sums = references(NO_SUMS)
        for i in range(size):
            sums[i % OUTPUT_SUMS] += data[i]
        return folded(sums)
    total = 0.0
    for i in range(size):
        total += data[i]
    return total


@internal
def _some_columns(arguments, task, _):
    """One task's share of the columns; where it begins, a line of `sums` does too."""
    sums, delta, g, y, batch, parts, tasks = arguments[0]
    start, end = columns_of(task, tasks, g.columns)
    scale, some = scalar(2.0 / (batch * g.columns), g), end - start
    for part in range(parts):
        row, past = range_of_part(part, parts, g.rows)
        squared_errors(
            advance(sums, part * padded(g.columns) + start),
            block(delta, row, start, past - row, some),
            block(g, row, start, past - row, some),
            block(y, row, start, past - row, some),
            scale,
        )


@outlined
def squared_errors(sums, delta, g, y, scale) -> None:
    """`mse_output_delta` by one thread, for ∇g = scale (g - y); `sums` is left with those of each output."""
    _mse_output_delta(
        sums, delta.data, delta.row_stride, g.data, g.row_stride, y.data, y.row_stride, scale, g.rows, g.columns
    )


@intrinsic
def _mse_output_delta(typingctx, sums, delta, rsd, g, rsg, y, rsy, scale, m, n):
    """`mse_output_delta` with the sum of each column in `sums`, and undefined numbers up to a whole vector of them."""
    index = types.intp
    signature = types.void(sums, delta, index, delta, index, delta, index, delta.dtype, index, index)

    def codegen(context, builder, signature, args):
        sums, delta, rsd, g, rsg, y, rsy, scale, m, n = args
        dtype = signature.args[1].dtype

        def emit(simd, wide, first, end, masked=False):
            """Of columns first ... end-1, by vectors of these lanes, the sums of one in several of `wide`."""
            part, factor = Simd(builder, simd.dtype, wide.lanes), simd.splat(scale)
            outputs = [wide.variable() for _ in range(0, simd.lanes, wide.lanes)]
            lanes, mask = INDEX(simd.lanes), simd.first(builder.sub(n, first)) if masked else None

            def add_row(i, j):
                def at(pointer, stride, i=i):
                    return builder.gep(pointer, [builder.add(builder.mul(i, stride), j)])

                later = builder.add(i, INDEX(ROWS_AHEAD))
                simd.prefetch(at(g, rsg, later), written=False)
                simd.prefetch(at(y, rsy, later), written=False)
                simd.prefetch(at(delta, rsd, later), written=True)
                g_row, y_row = simd.load(at(g, rsg), mask), simd.load(at(y, rsy), mask)
                for sum, g_part, y_part in zip(outputs, split(g_row, part), split(y_row, part), strict=True):
                    error = squared_error(part.widened(g_part, wide), part.widened(y_part, wide))
                    sum.set(sum.get() + error)
                grad_g = squared_error_gradient(g_row, y_row, factor)
                simd.store(grad_g * sigmoid_derivative(g_row), at(delta, rsd), mask)

            with cgutils.for_range_slice(builder, first, end, lanes) as (j, _):
                for output in outputs:
                    output.set(wide.constant(0))
                with cgutils.for_range(builder, m) as loop:
                    add_row(loop.index, j)
                for p, output in enumerate(outputs):
                    wide.store(output.get(), builder.gep(sums, [builder.add(j, INDEX(p * wide.lanes))]))

        simd, wide = Simd.of_host(builder, dtype), Simd.of_host(builder, types.float64)
        with builder.if_else(builder.icmp_signed("==", n, INDEX(1))) as (one, several):
            with one:  # without a mask
                emit(Simd(builder, dtype, 1), Simd(builder, types.float64, 1), INDEX(0), n)
            with several:
                whole = builder.and_(n, INDEX(-simd.lanes))
                emit(simd, wide, INDEX(0), whole)
                emit(simd, wide, whole, n, masked=True)
        return context.get_dummy_value()

    return signature, codegen
