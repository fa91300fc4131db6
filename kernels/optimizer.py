"""Update rules, as expressions on vector registers, all with the signature (w, gradient, learning_rate)."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

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
