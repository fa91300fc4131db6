"""Products whose largest operand is far larger than the others, and passes once, as it lies in memory, from end to end.

With few rows of A that is B, and the sums stay in the first cache; with few terms in each sum it is C, and B stays
there. A tile would take some cache lines of every row, each on another page. A single row's B may lie in columns.
"""

from itertools import chain

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import FETCHED_FROM_MEMORY, FETCHED_STREAM
from .epilogue import EPILOGUES, SGD, STORE
from .simd import INDEX, Simd, cases, fma, maximum, minimum, transposed, where

ROWS_OF_B = 4  # that pass together
# Vectors up to which a single row of sums stays in registers, and rows of B pass one by one, in a stream that
# processors fetch by themselves: a prediction of one sample takes 0.7 to 0.8 of the time on 10000-100-10 and
# 5000-200-10. With more, in blocks of these or of half as many, it takes 1.0 to 1.1 of it on 784-1000 and 1000-2000.
VECTORS_OF_ONE = 16
VECTORS = 4  # of each of two rows of C that are computed together: two terms a cycle, each of which takes 4


@intrinsic
def stream_rows(typingctx, sums, rss, a, rsa, csa, b, rsb, m, n, k, far):
    """sums = A·B: B passes.

    sums[i*rss + j] is the sum of a row i and a column j, and there is memory for whole vectors of them; A[i, p] =
    a[i*rsa + p*csa], B[p, j] = b[p*rsb + j]. B is fetched a little ahead, not into the first cache if it is `far`.
    """
    index = types.intp
    signature = types.void(sums, index, sums, index, index, sums, index, index, index, index, types.boolean)

    def codegen(context, builder, signature, args):
        StreamRows(Simd.of_host(builder, signature.args[0].dtype), *args).emit()
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def stream_outer(typingctx, epilogue, c, rsc, a, rsa, csa, b, rsb, scale, m, n, k, kc):
    """C = epilogue(A·B) for an epilogue, STORE or SGD, that reads no E, and an n of a vector or more: C passes.

    A and B as above, C[i, j] = c[i*rsc + j]; the sums over k terms are in slices of kc.
    """
    index = types.intp
    signature = types.void(index, c, index, c, index, index, c, index, c.dtype, index, index, index, index)

    def codegen(context, builder, signature, args):
        StreamOuter(Simd.of_host(builder, signature.args[1].dtype), *args).emit()
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def stream_columns(typingctx, sums, a, csa, b, csb, n, k):
    """sums = A·B for an A of one row and a B whose columns are adjacent in memory, as rows are elsewhere: B passes.

    A[p] = a[p*csa], B[p, j] = b[p + j*csb]; k is no less than the lanes of a vector. `sums` is left as by
    `microkernel.accumulate` for two vectors after two vectors: a last one that is cut short holds the last columns, and
    lies where a whole one would if it is the second of two, else it begins earlier.
    """
    index = types.intp
    signature = types.void(sums, sums, index, sums, index, index, index)

    def codegen(context, builder, signature, args):
        StreamColumns(Simd.of_host(builder, signature.args[0].dtype), *args).emit()
        return context.get_dummy_value()

    return signature, codegen


class Stream:
    def __init__(self, simd):
        self.simd, self.builder = simd, simd.builder

    def for_slices(self, first, end, step):
        return cgutils.for_range_slice(self.builder, first, end, INDEX(step))

    def at(self, pointer, *offsets):
        for offset in offsets:
            pointer = self.builder.gep(pointer, [offset])
        return pointer

    def element(self, a, i, p):
        """A vector of copies of A[i, p]."""
        at = self.at(a, self.builder.mul(i, self.rsa), self.builder.mul(p, self.csa))
        return self.simd.splat(self.builder.load(at))

    def numbers(self, first, count):
        return [self.builder.add(first, INDEX(t)) for t in range(count)]


class StreamRows(Stream):
    def __init__(self, simd, sums, rss, a, rsa, csa, b, rsb, m, n, k, far):
        super().__init__(simd)
        self.sums, self.rss, self.a, self.rsa, self.csa = sums, rss, a, rsa, csa
        self.b, self.rsb, self.m, self.n, self.k, self.far = b, rsb, m, n, k, far

    def emit(self):
        builder = self.builder
        most = INDEX(VECTORS_OF_ONE * self.simd.lanes)
        is_one = builder.icmp_signed("==", self.m, INDEX(1))
        is_short = builder.icmp_signed("<=", self.n, most)
        with builder.if_else(builder.and_(is_one, is_short)) as (in_registers, in_memory):
            with in_registers:
                self.emit_in_registers()
            with in_memory:
                self.emit_in_memory()

    def emit_in_registers(self):
        """One row, all of whose sums are there together."""
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        vectors = builder.sdiv(builder.add(self.n, INDEX(lanes - 1)), INDEX(lanes))
        for count in cases(builder, vectors, range(1, VECTORS_OF_ONE + 1)):
            last = simd.first(self.n, (count - 1) * lanes)
            masks, offsets = [None] * (count - 1) + [last], [INDEX(v * lanes) for v in range(count)]
            sums = [simd.variable() for _ in offsets]
            for total in sums:
                total.set(simd.constant(0))
            with self.for_slices(INDEX(0), self.k, 1) as (p, _):
                x, b_row = self.element(self.a, INDEX(0), p), self.at(self.b, builder.mul(p, self.rsb))
                for total, offset, mask in zip(sums, offsets, masks, strict=True):
                    total.set(fma(x, simd.load(self.at(b_row, offset), mask), total.get()))
            for total, offset in zip(sums, offsets, strict=True):
                simd.store(total.get(), self.at(self.sums, offset))

    def emit_in_memory(self):
        """Any rows, whose sums are loaded and stored for every few terms."""
        builder, lanes = self.builder, self.simd.lanes
        with self.for_slices(INDEX(0), self.m, 1) as (i, _), self.for_slices(INDEX(0), self.n, lanes) as (j, _):
            self.simd.store(self.simd.constant(0), self.at(self.sums, builder.mul(i, self.rss), j))
        whole = builder.and_(self.k, INDEX(-ROWS_OF_B))
        self.emit_terms(INDEX(0), whole, ROWS_OF_B)
        self.emit_terms(whole, self.k, 1)

    def emit_terms(self, first, end, at_once):
        """So many terms of all sums, then the next, two rows of sums at a time, or the first alone."""
        builder = self.builder
        odd = builder.and_(self.m, INDEX(1))
        with self.for_slices(first, end, at_once) as (p, _):
            terms = self.numbers(p, at_once)
            with builder.if_else(builder.icmp_signed("==", odd, INDEX(1))) as (one, two):
                with one:
                    self.emit_rows(self.numbers(INDEX(0), 1), terms, fetch=True)
                with two:
                    self.emit_rows(self.numbers(INDEX(0), 2), terms, fetch=True)
            with self.for_slices(builder.sub(INDEX(2), odd), self.m, 2) as (i, _):
                self.emit_rows(self.numbers(i, 2), terms)

    def emit_rows(self, rows, terms, fetch=False):
        builder, simd = self.builder, self.simd
        x = [[self.element(self.a, row, term) for term in terms] for row in rows]
        sums = [self.at(self.sums, builder.mul(row, self.rss)) for row in rows]
        b_rows = [self.at(self.b, builder.mul(term, self.rsb)) for term in terms]

        def emit_vector(j, mask=None):
            vectors = [simd.load(self.at(row, j), mask) for row in b_rows]
            for sum, of_row in zip(sums, x, strict=True):
                total = simd.load(self.at(sum, j))
                for of_term, vector in zip(of_row, vectors, strict=True):
                    total = fma(of_term, vector, total)
                simd.store(total, self.at(sum, j))

        def emit_vectors(first, end, ahead=None, far=False):
            with self.for_slices(first, end, simd.lanes) as (j, _):
                for row in b_rows if ahead else ():
                    simd.prefetch(self.at(row, j, ahead), written=False, far=far)
                emit_vector(j)

        whole = builder.and_(self.n, INDEX(-simd.lanes))
        if not fetch:
            emit_vectors(INDEX(0), whole)
        else:
            distances = [INDEX(simd.elements(size)) for size in (FETCHED_FROM_MEMORY, FETCHED_STREAM)]
            distance = builder.select(self.far, *distances)
            last = maximum(builder, builder.sub(whole, distance), INDEX(0))  # from there on the next rows are fetched
            next_rows = builder.sub(builder.mul(self.rsb, INDEX(len(terms))), last)
            with builder.if_else(self.far) as branches:
                for branch, far in zip(branches, (True, False), strict=True):
                    with branch:
                        emit_vectors(INDEX(0), last, distance, far)
                        emit_vectors(last, whole, next_rows, far)
        with builder.if_then(builder.icmp_signed("<", whole, self.n)):
            emit_vector(whole, simd.first(builder.sub(self.n, whole)))


class StreamOuter(Stream):
    def __init__(self, simd, epilogue, c, rsc, a, rsa, csa, b, rsb, scale, m, n, k, kc):
        super().__init__(simd)
        self.stores = self.builder.icmp_signed("==", epilogue, INDEX(int(STORE)))
        self.c, self.rsc, self.a, self.rsa, self.csa = c, rsc, a, rsa, csa
        self.b, self.rsb, self.scale, self.m, self.n = b, rsb, simd.splat(scale), m, n
        self.k, self.kc = k, kc

    def emit(self):
        """For one slice, as there mostly is, and for several: a single loop for both takes 1.05 times as long."""
        with self.builder.if_else(self.builder.icmp_signed("<", self.kc, self.k)) as (several, one):
            for block, ends in (several, (self.kc, self.k)), (one, (self.k,)):
                with block:
                    self.emit_sums(ends)

    def emit_sums(self, ends):
        """Two rows at a time, then perhaps one. `ends` are those of the first slice, and of all others if there are."""
        whole = self.builder.and_(self.m, INDEX(-2))
        for first, end, count in (INDEX(0), whole, 2), (whole, self.m, 1):
            with self.for_slices(first, end, count) as (i, _):
                self.emit_rows(self.numbers(i, count), ends)

    def emit_rows(self, rows, ends):
        """Some vectors at a time, then the rest one by one, of which the last may share columns with that before."""
        builder, lanes = self.builder, self.simd.lanes
        c_rows = [self.at(self.c, builder.mul(row, self.rsc)) for row in rows]
        last, end = builder.sub(self.n, INDEX(lanes)), builder.and_(self.n, INDEX(-lanes))
        whole = builder.and_(self.n, INDEX(-VECTORS * lanes))
        before = [self.simd.load(self.at(row, last)) for row in c_rows]
        for first, past, count in (INDEX(0), whole, VECTORS), (whole, end, 1):
            with self.for_slices(first, past, count * lanes) as (j, _):
                self.emit_vectors(rows, ends, j, [self.places(row, j, count) for row in c_rows])
        with builder.if_then(builder.icmp_signed("<", end, self.n)):
            self.emit_vectors(rows, ends, last, [self.places(row, last, 1) for row in c_rows], before)

    def places(self, row, j, count):
        return [self.at(row, j, INDEX(v * self.simd.lanes)) for v in range(count)]

    def emit_vectors(self, rows, ends, j, places, before=None):
        """The vectors of C at these places, as many in each row, from column j on, which were as in `before` or are."""
        builder, simd = self.builder, self.simd
        first_end, *others = ends
        sums, parts = ([[simd.variable() for _ in of_row] for of_row in places] for _ in range(2))
        self.add_terms(sums, rows, j, INDEX(0), first_end)
        for end in others:
            with cgutils.for_range_slice(builder, first_end, end, self.kc) as (start, _):
                self.add_terms(parts, rows, j, start, minimum(builder, builder.add(start, self.kc), end))
                for sum, part in zip(chain(*sums), chain(*parts), strict=True):
                    sum.set(sum.get() + part.get())
        places = list(chain(*places))
        for sum, at, c in zip(chain(*sums), places, before or map(simd.load, places), strict=True):
            stored, stepped = (EPILOGUES[e].finish(sum.get(), None, c, self.scale) for e in (STORE, SGD))
            simd.store(where(self.stores, stored, stepped), at)

    def add_terms(self, sums, rows, j, first, end):
        """Sums of the terms first ... end-1."""
        for sum in chain(*sums):
            sum.set(self.simd.constant(0))
        with self.for_slices(first, end, 1) as (p, _):
            b_row = self.at(self.b, self.builder.mul(p, self.rsb))
            vectors = [self.simd.load(at) for at in self.places(b_row, j, len(sums[0]))]
            for row, of_row in zip(rows, sums, strict=True):
                x = self.element(self.a, row, p)
                for sum, vector in zip(of_row, vectors, strict=True):
                    sum.set(fma(x, vector, sum.get()))


class StreamColumns(Stream):
    """Squares of B, of as many columns as a vector has lanes, are transposed in registers."""

    def __init__(self, simd, sums, a, csa, b, csb, n, k):
        super().__init__(simd)
        self.sums, self.a, self.csa, self.b, self.csb, self.n, self.k = sums, a, csa, b, csb, n, k

    def emit(self):
        builder, simd, lanes = self.builder, self.simd, self.simd.lanes
        with self.for_slices(INDEX(0), self.n, lanes) as (j, _):
            simd.store(simd.constant(0), self.at(self.sums, j))
        rest = builder.sub(self.n, INDEX(1))  # the last, which takes the place of those that are missing in a vector
        self.offsets = [builder.mul(minimum(builder, INDEX(t), rest), self.csb) for t in range(lanes)]
        whole = builder.and_(self.k, INDEX(-lanes))
        with self.for_slices(INDEX(0), whole, lanes) as (p, _):
            self.emit_terms(p)
        with builder.if_then(builder.icmp_signed("<", whole, self.k)):
            # The last squares begin earlier, with terms that have been added already.
            self.emit_terms(builder.sub(self.k, INDEX(lanes)), added=whole)
        last = builder.and_(rest, INDEX(-lanes))
        is_first_of_two = builder.icmp_signed("==", builder.and_(last, INDEX(lanes)), INDEX(0))
        with builder.if_then(builder.and_(is_first_of_two, builder.icmp_signed(">", self.n, INDEX(lanes)))):
            simd.store(simd.load(self.at(self.sums, last)), self.at(self.sums, builder.sub(self.n, INDEX(lanes))))

    def emit_terms(self, p, added=None):
        """So many terms of all sums as a vector has lanes, from p on, or those of them from `added` on."""
        builder, simd = self.builder, self.simd
        numbers = self.numbers(p, simd.lanes)
        x = [simd.splat(builder.load(self.at(self.a, builder.mul(number, self.csa)))) for number in numbers]
        with self.for_slices(INDEX(0), self.n, simd.lanes) as (j, _):
            end = builder.sub(self.n, INDEX(simd.lanes))
            first = builder.select(builder.icmp_signed("<", end, INDEX(0)), INDEX(0), minimum(builder, j, end))
            start = self.at(self.b, p, builder.mul(first, self.csb))
            columns = [simd.load(self.at(start, offset)) for offset in self.offsets]
            at = self.at(self.sums, j)
            total = simd.load(at)
            for number, of_term, row in zip(numbers, x, transposed(columns), strict=True):
                more = fma(of_term, row, total)
                total = more if added is None else where(builder.icmp_signed(">=", number, added), more, total)
            simd.store(total, at)
