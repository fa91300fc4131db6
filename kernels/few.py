"""Layers of few outputs whose sums are no dot products: a vector is of samples, which are summed side by side.

By vectors of outputs most lanes would be empty. Squares of x, of as many samples and inputs as a vector has lanes, are
transposed in registers, one after the other: of the time of two below each other, whose sums do not wait for each
other, 10,000 predictions take 0.77 to 0.97 on 100-2, 40-3 and, which are dot products now, 784-2 and 784-4 (AVX2).
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import FETCHED_FAR, LINES_FAR
from .simd import INDEX, Simd, fma, minimum, transposed, where


@intrinsic
def few_sums(typingctx, c, e, a, rsa, b, m, n, k, kc):
    """c[i*n + j] = Σ a[i*rsa + p] b[p*lanes + j] + e[j] for i < m, j < n.

    Of a vector's lanes n has no more, and m, k and kc have no fewer. The sum over p < k is in slices of kc.
    """

    def codegen(context, builder, signature, args):
        FewSums(Simd.of_host(builder, signature.args[0].dtype), *args).emit()
        return context.get_dummy_value()

    index = types.intp
    return types.void(c, c, c, index, c, *(index,) * 4), codegen


class FewSums:
    def __init__(self, simd, c, e, a, rsa, b, m, n, k, kc):
        self.simd, self.builder = simd, simd.builder
        self.c, self.e, self.a, self.rsa, self.b = c, e, a, rsa, b
        self.m, self.n, self.k, self.kc = m, n, k, kc
        self.totals, self.parts, self.transposed = self.vectors(), self.vectors(), self.vectors()
        self.is_near = cgutils.true_bit
        if simd.lanes * simd.lanes >= LINES_FAR * simd.line:
            self.is_near = self.builder.icmp_signed("<", k, INDEX(simd.elements(FETCHED_FAR)))

    def vectors(self):
        """Pointer to memory for as many vectors as they have lanes."""
        memory = cgutils.alloca_once(self.builder, self.simd.vector, size=self.simd.lanes)
        return self.builder.bitcast(memory, self.simd.scalar.as_pointer())

    def at(self, vectors, j):
        """Pointer to one of them."""
        return self.builder.gep(vectors, [self.builder.mul(j, INDEX(self.simd.lanes))])

    def emit(self):
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        last = builder.sub(self.m, INDEX(lanes))  # where the last squares begin: earlier than others end
        with cgutils.for_range_slice(builder, INDEX(0), self.m, INDEX(lanes)) as (i, _):
            i = minimum(builder, i, last)
            self.for_sums(lambda j: simd.store(simd.constant(-0.0), self.at(self.totals, j)))
            with cgutils.for_range_slice(builder, INDEX(0), self.k, self.kc) as (start, _):
                self.emit_slice(i, start, minimum(builder, builder.add(start, self.kc), self.k))
            self.for_sums(lambda j: self.emit_outputs(i, j))

    def for_sums(self, change):
        with cgutils.for_range(self.builder, self.n) as outputs:
            change(outputs.index)

    def emit_slice(self, i, start, end):
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        self.for_sums(lambda j: simd.store(simd.constant(0), self.at(self.parts, j)))
        whole = builder.add(start, builder.and_(builder.sub(end, start), INDEX(-lanes)))
        with cgutils.for_range_slice(builder, start, whole, INDEX(lanes)) as (p, _):
            self.add_terms(i, p)
        with builder.if_then(builder.icmp_signed("<", whole, end)):
            # The last squares begin earlier, with terms that have been added already.
            self.add_terms(i, builder.sub(end, INDEX(lanes)), whole)

        def add(j):
            total = self.at(self.totals, j)
            simd.store(simd.load(total) + simd.load(self.at(self.parts, j)), total)

        self.for_sums(add)

    def add_terms(self, i, p, added=None):
        """So many terms of all sums as a vector has lanes, from p on, or those of them from `added` on."""
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        start = builder.gep(self.a, [builder.add(builder.mul(i, self.rsa), p)])
        with builder.if_else(self.is_near) as branches:
            for branch, far in zip(branches, (False, True), strict=True):
                with branch:
                    self.fetch(i, p, far)
        rows = [builder.mul(INDEX(t), self.rsa) for t in range(lanes)]
        columns = transposed([simd.load(builder.gep(start, [row])) for row in rows])
        for t, column in enumerate(columns):
            simd.store(column, self.at(self.transposed, INDEX(t)))
        weights = builder.gep(self.b, [builder.mul(p, INDEX(lanes))])
        with cgutils.for_range(builder, self.n) as outputs:
            at = self.at(self.parts, outputs.index)
            total = simd.load(at)
            for t in range(lanes):
                weight = builder.gep(weights, [builder.add(outputs.index, INDEX(t * lanes))])
                more = fma(simd.splat(builder.load(weight)), simd.load(self.at(self.transposed, INDEX(t))), total)
                if added is not None:
                    more = where(builder.icmp_signed(">=", builder.add(p, INDEX(t)), added), more, total)
                total = more
            simd.store(total, at)

    def fetch(self, i, p, far):
        """Begin to fetch a part of the next square's rows, from end to end, as if they were adjacent in memory."""
        builder, lanes = self.builder, self.simd.lanes
        first = builder.mul(builder.add(i, INDEX(lanes)), self.rsa)
        start = builder.gep(self.a, [builder.add(first, builder.mul(p, INDEX(lanes)))])
        self.simd.fetch(start, lanes * lanes, far)

    def emit_outputs(self, i, j):
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        at = self.at(self.totals, j)
        simd.store(simd.load(at) + simd.splat(builder.load(builder.gep(self.e, [j]))), at)
        for t in range(lanes):
            row = builder.mul(builder.add(i, INDEX(t)), self.n)
            builder.store(builder.load(builder.gep(at, [INDEX(t)])), builder.gep(self.c, [builder.add(row, j)]))
