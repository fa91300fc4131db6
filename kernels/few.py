"""Layers of few outputs: a vector is of as many samples, whose sums are taken side by side, output after output.

By vectors of outputs most lanes would be empty. Squares of x are transposed in registers.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import INDEX, Simd, fma, minimum, transposed, where

SQUARES = 2  # of as many samples as a vector has lanes, that take the same terms one after the other


@intrinsic
def few_sums(typingctx, c, e, a, rsa, b, m, n, k, kc):
    """c[i*n + j] = Σ a[i*rsa + p] b[p*lanes + j] + e[j] for i < m, j < n.

    Of a vector's lanes n has no more, k and kc have no fewer, m SQUARES times as many. The sum over p < k is in slices
    of kc.
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
        self.totals, self.parts = self.vectors(SQUARES * simd.lanes), self.vectors(SQUARES * simd.lanes)
        self.transposed = self.vectors(SQUARES * simd.lanes)

    def vectors(self, count):
        """Pointer to memory for so many vectors."""
        memory = cgutils.alloca_once(self.builder, self.simd.vector, size=count)
        return self.builder.bitcast(memory, self.simd.scalar.as_pointer())

    def at(self, vectors, square, j):
        """Pointer to the vector of a square and an output."""
        number = self.builder.add(self.builder.mul(j, INDEX(SQUARES)), INDEX(square))
        return self.builder.gep(vectors, [self.builder.mul(number, INDEX(self.simd.lanes))])

    def emit(self):
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        last = builder.sub(self.m, INDEX(SQUARES * lanes))  # where the last squares begin: earlier than others end
        with cgutils.for_range_slice(builder, INDEX(0), self.m, INDEX(SQUARES * lanes)) as (i, _):
            i = minimum(builder, i, last)
            self.for_sums(lambda square, j: simd.store(simd.constant(-0.0), self.at(self.totals, square, j)))
            with cgutils.for_range_slice(builder, INDEX(0), self.k, self.kc) as (start, _):
                self.emit_slice(i, start, minimum(builder, builder.add(start, self.kc), self.k))
            self.for_sums(lambda square, j: self.emit_outputs(i, square, j))

    def for_sums(self, change):
        with cgutils.for_range(self.builder, self.n) as outputs:
            for square in range(SQUARES):
                change(square, outputs.index)

    def emit_slice(self, i, start, end):
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        self.for_sums(lambda square, j: simd.store(simd.constant(0), self.at(self.parts, square, j)))
        whole = builder.add(start, builder.and_(builder.sub(end, start), INDEX(-lanes)))
        with cgutils.for_range_slice(builder, start, whole, INDEX(lanes)) as (p, _):
            self.add_terms(i, p)
        with builder.if_then(builder.icmp_signed("<", whole, end)):
            # The last squares begin earlier, with terms that have been added already.
            self.add_terms(i, builder.sub(end, INDEX(lanes)), whole)

        def add(square, j):
            total = self.at(self.totals, square, j)
            simd.store(simd.load(total) + simd.load(self.at(self.parts, square, j)), total)

        self.for_sums(add)

    def add_terms(self, i, p, added=None):
        """So many terms of all sums as a vector has lanes, from p on, or those of them from `added` on."""
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        start = builder.gep(self.a, [builder.add(builder.mul(i, self.rsa), p)])
        self.fetch(i, p)
        for square in range(SQUARES):
            rows = [builder.mul(INDEX(square * lanes + t), self.rsa) for t in range(lanes)]
            columns = transposed([simd.load(builder.gep(start, [row])) for row in rows])
            for t, column in enumerate(columns):
                simd.store(column, self.at(self.transposed, square, INDEX(t)))
        weights = builder.gep(self.b, [builder.mul(p, INDEX(lanes))])
        with cgutils.for_range(builder, self.n) as outputs:
            places = [self.at(self.parts, square, outputs.index) for square in range(SQUARES)]
            sums = [simd.load(at) for at in places]
            for t in range(lanes):
                weight = builder.gep(weights, [builder.add(outputs.index, INDEX(t * lanes))])
                weight = simd.splat(builder.load(weight))
                for square in range(SQUARES):
                    more = fma(weight, simd.load(self.at(self.transposed, square, INDEX(t))), sums[square])
                    if added is not None:
                        more = where(builder.icmp_signed(">=", builder.add(p, INDEX(t)), added), more, sums[square])
                    sums[square] = more
            for total, at in zip(sums, places, strict=True):
                simd.store(total, at)

    def fetch(self, i, p):
        """Begin to fetch a part of the next squares' rows, from end to end, as if they were adjacent in memory."""
        builder, samples = self.builder, SQUARES * self.simd.lanes
        first = builder.mul(builder.add(i, INDEX(samples)), self.rsa)
        start = builder.gep(self.a, [builder.add(first, builder.mul(p, INDEX(samples)))])
        self.simd.fetch(start, samples * self.simd.lanes)

    def emit_outputs(self, i, square, j):
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        at = self.at(self.totals, square, j)
        simd.store(simd.load(at) + simd.splat(builder.load(builder.gep(self.e, [j]))), at)
        for t in range(lanes):
            row = builder.mul(builder.add(i, INDEX(square * lanes + t)), self.n)
            builder.store(builder.load(builder.gep(at, [INDEX(t)])), builder.gep(self.c, [builder.add(row, j)]))
