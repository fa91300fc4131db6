"""Networks of a single layer with one output, as in logistic regression: their gradient in one pass over the samples.

Some samples at a time go forward and back while their inputs are in the first cache. Products would read all inputs
twice, from afar. Every sum has the order that it has in `minibatch`.
"""

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import COLUMNS_ADDED, L1, SAMPLES_AT_ONCE
from .compiling import helper, internal
from .cuts import larger_half
from .dot import dot_rows, is_far
from .elementwise import activate, output_delta
from .layout import lanes_of
from .loss import squared_error
from .matrix import advance, get, padded, row_major, rows, scalar
from .minibatch import gradients_in, part_of_shard
from .network import divide
from .panel import all_finite, copy
from .simd import INDEX, Simd, cases, fma
from .tasks import ONE, outlined


def is_single_output(sizes):
    return len(sizes) == 2 and sizes[1] == 1


@internal
def gradients(arguments, memory, _):
    """The program of `minibatch.gradients` for samples whose inputs are adjacent, without ∇x."""
    gradients_in(of_shard, arguments, memory)


@internal
def of_shard(arguments, shard, worker):
    """`minibatch.of_shard` for that."""
    finite, errors, gradients, samples, then, parameters, sizes, spaces, team = arguments[0]
    X, Y, _, first, batch, halves, kc = samples
    _, target, _, _, _, in_panels = then
    (i, end, microbatches), workspace, gradient = part_of_shard(
        gradients, target, batch, halves, spaces, team, shard, worker
    )
    added = False
    while microbatches > 0:
        count = (end - i) // microbatches
        space = divide(workspace, sizes, count, in_panels, ONE)
        x, y = rows(X, first + i, count), rows(Y, first + i, count)
        found = add_gradient(gradient, added, parameters, x, y, is_far(X), batch, kc, space.activations, space.panels)
        of_y = errors_of_output(space.activations, y)
        if not (found and (np.isfinite(of_y) or all_finite(y))):
            finite[0] = 0
            return
        errors[shard] += of_y
        i, microbatches, added = i + count, microbatches - 1, True


@outlined
def add_gradient(gradient, added, parameters, x, y, far, batch, kc, g, panels):
    """The gradient of some of the samples, of one slice if it is `added` to what is there; whether x is finite.

    `far` is whether x is; g of them is left, a vector.
    """
    n, scale = x.columns, scalar(2.0 / batch, x)
    lanes = lanes_of(x.data)
    at_once = max(lanes, min(SAMPLES_AT_ONCE, L1 // 2 // n) // lanes * lanes)
    delta, target = panels, advance(panels, SAMPLES_AT_ONCE)
    of_W = advance(target, SAMPLES_AT_ONCE)
    of_b = advance(of_W, padded(n))
    finite = True
    for start in range(0, x.rows, kc):
        end = min(start + kc, x.rows)
        for j in range(padded(n) + lanes):
            of_W[j] = 0
        for i in range(start, end, at_once):
            m, of_g = min(at_once, end - i), advance(g, i)
            of_x = rows(x, i, m)
            dot_rows(of_g, 0, advance(parameters, n), parameters, 0, of_x.data, x.row_stride, m, 1, n, n, far)
            activate(of_g, m)
            finite &= all_inside(of_g, m) or all_finite(of_x)
            copy(row_major(target, m, 1), rows(y, i, m))
            output_delta(delta, of_g, target, scale, m)
            add_products(of_W, of_b, delta, of_x.data, x.row_stride, m, n)
        if start > 0 or added:
            for j in range(n):
                gradient[j] += of_W[j]
            gradient[n] += of_b[0]
        else:
            for j in range(n):
                gradient[j] = of_W[j]
            gradient[n] = of_b[0]
    return finite


@helper
def all_inside(g, m):
    """Whether no g is 0, 1 or NaN: then what it is of can only be finite."""
    inside = True
    for i in range(m):
        inside &= (g[i] > 0) & (g[i] < 1)
    return inside


@helper
def errors_of_output(g, y):
    """Σ (g - y)² as `loss.mse` adds it up, but both parts of the samples side by side."""
    first, second = 0.0, 0.0
    half = larger_half(y.rows)
    for i in range(y.rows - half):
        first += squared_error(np.float64(g[i]), np.float64(get(y, i, 0)))
        second += squared_error(np.float64(g[half + i]), np.float64(get(y, half + i, 0)))
    for i in range(y.rows - half, half):
        first += squared_error(np.float64(g[i]), np.float64(get(y, i, 0)))
    return first + second


@intrinsic
def add_products(typingctx, of_W, of_b, delta, x, rsx, m, n):
    """of_W[j] += Σ delta[p] x[p*rsx + j] for j < n, of_b[0] += Σ delta[p], term after term of p < m.

    Of both, whole vectors are read and written.
    """

    def codegen(context, builder, signature, args):
        of_W, of_b, delta, x, rsx, m, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)

        def add(first, vectors, last):
            """The columns of so many vectors from the first on; the `last` too, which may be cut short, with b."""
            at = [builder.add(first, INDEX(v * simd.lanes)) for v in range(vectors)]
            masks = [None] * vectors
            if last:
                masks[-1] = simd.first(builder.sub(n, at[-1]))
            targets = [builder.gep(of_W, [j]) for j in at] + [of_b] * last
            sums = [simd.variable() for _ in targets]
            for total, target in zip(sums, targets, strict=True):
                total.set(simd.load(target))
            with cgutils.for_range(builder, m) as loop:
                factor = simd.splat(builder.load(builder.gep(delta, [loop.index])))
                row = simd.opaque(builder.gep(x, [builder.mul(loop.index, rsx)]))
                terms = [simd.load(builder.gep(row, [j]), mask) for j, mask in zip(at, masks, strict=True)]
                for total, term in zip(sums, terms, strict=False):
                    total.set(fma(factor, term, total.get()))
                if last:
                    sums[-1].set(sums[-1].get() + factor)
            for total, target in zip(sums, targets, strict=True):
                simd.store(total.get(), target)

        vectors = builder.udiv(builder.add(n, INDEX(simd.lanes - 1)), INDEX(simd.lanes))
        whole = builder.and_(builder.sub(vectors, INDEX(1)), INDEX(-COLUMNS_ADDED))
        with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(COLUMNS_ADDED)) as (v, _):
            add(builder.mul(v, INDEX(simd.lanes)), COLUMNS_ADDED, False)
        for rest in cases(builder, builder.sub(vectors, whole), range(1, COLUMNS_ADDED + 1)):
            add(builder.mul(whole, INDEX(simd.lanes)), rest, True)
        return context.get_dummy_value()

    index = types.intp
    return types.void(of_W, of_W, of_W, of_W, index, index, index), codegen
