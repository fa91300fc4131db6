"""Update rules, as expressions on vector registers, all with the signature (w, gradient, learning_rate)."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import HOST, PANELS
from .simd import INDEX, Simd, fma


def sgd(w, gradient, learning_rate):
    """w - η ∇w, rounded once."""
    return fma(-learning_rate, gradient, w)


@intrinsic
def step_against_sum(typingctx, w, first, second, learning_rate, n):
    """w = sgd(w, first + second, learning_rate) for n elements at each of the pointers."""
    signature = types.void(w, w, w, w.dtype, types.intp)

    def codegen(context, builder, signature, args):
        w, first, second, learning_rate, n = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        whole, rate = builder.and_(n, INDEX(-simd.lanes)), simd.splat(learning_rate)

        def step(i, mask=None):
            at_w, at_first, at_second = (builder.gep(pointer, [i]) for pointer in (w, first, second))
            gradient = simd.load(at_first, mask) + simd.load(at_second, mask)
            simd.store(sgd(simd.load(at_w, mask), gradient, rate), at_w, mask)

        with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(simd.lanes)) as (i, _):
            step(i)
        with builder.if_then(builder.icmp_signed("<", whole, n)):
            step(whole, simd.first(builder.sub(n, whole)))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def step_against_panels(typingctx, w, stride, sums, m, learning_rate):
    """w[i*stride + j] = sgd(w[i*stride + j], ∇w, learning_rate) for m rows of PANELS whole panels.

    `sums` has ∇w panel after panel, as `accumulate` leaves them. But all of a row is updated before the next: where
    rows lie whole pages apart, their lines of a single panel are in each other's way, in a few sets of the caches.
    """
    signature = types.void(w, types.intp, w, types.intp, w.dtype)

    def codegen(context, builder, signature, args):
        w, stride, sums, m, learning_rate = args
        simd = Simd.of_host(builder, signature.args[0].dtype)
        nr, rate = HOST.vectors * simd.lanes, simd.splat(learning_rate)
        starts = [divmod(v * simd.lanes, nr) for v in range(PANELS * HOST.vectors)]
        with cgutils.for_range(builder, m) as loop:
            row = builder.gep(w, [builder.mul(loop.index, stride)])
            updated = []
            for panel, j in starts:
                at = builder.mul(builder.add(builder.mul(m, INDEX(panel)), loop.index), INDEX(nr))
                gradient = simd.load(builder.gep(sums, [builder.add(at, INDEX(j))]))
                updated.append(sgd(simd.load(builder.gep(row, [INDEX(panel * nr + j)])), gradient, rate))
            for (panel, j), value in zip(starts, updated, strict=True):
                simd.store(value, builder.gep(row, [INDEX(panel * nr + j)]))
        return context.get_dummy_value()

    return signature, codegen
