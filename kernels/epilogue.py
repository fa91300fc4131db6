"""What becomes of sums before they reach C: the epilogue of a product, on whole registers."""

from typing import NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid, sigmoid_derivative
from .blocking import MR, PANELS
from .host import HOST
from .matrix import advance, row_major
from .microkernel import Emitter
from .optimizer import sgd
from .panel import copy
from .simd import INDEX, Simd, cases, joined, split
from .tasks import outlined


class Epilogue(NamedTuple):
    """What becomes of a sum: C = finish(sum, e, c, scale), all of them vectors; e and c are loaded where read.

    `together` registers, or a row's if those are more, are computed at once, their operations interleaved: a long chain
    of operations, each waiting for the one before, would leave the processor idle. And where C is E in short rows, no
    load waits for the masked store of the row before: row by row a gradient of 10x6 by 10,000 takes 1.2 times as long.
    """

    finish: callable
    reads_e: bool = False
    reads_c: bool = False
    together: int = 1


EPILOGUES = (
    Epilogue(lambda total, e, c, scale: total),
    Epilogue(lambda total, e, c, scale: sigmoid(total + e), reads_e=True, together=4),
    Epilogue(lambda total, e, c, scale: total * sigmoid_derivative(e), reads_e=True, together=8),
    Epilogue(lambda total, e, c, scale: sgd(c, total, scale), reads_c=True),
)
# np.intp, because Numba would specialise a kernel for every Python number
NUMBERS = tuple(map(np.intp, range(len(EPILOGUES))))
STORE, BIAS_SIGMOID, SIGMOID_DELTA, SGD = NUMBERS
READING_E = tuple(number for number in NUMBERS if EPILOGUES[number].reads_e)
READING_C = tuple(number for number in NUMBERS if EPILOGUES[number].reads_c)


@intrinsic
def finish(typingctx, epilogue, c, rsc, e, rse, sums, scale, m, n):
    """C = epilogue(sums, E), for the m and n of `accumulate`: C[i, j] = c[i*rsc + j], E[i, j] = e[i*rse + j]."""
    index = types.intp
    signature = types.void(index, c, index, c, index, c, c.dtype, index, index)

    def codegen(context, builder, signature, args):
        Finish(Simd.of_host(builder, c.dtype), *args).emit(*range(len(EPILOGUES)))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def finish_row(typingctx, epilogue, c, sums, scale, n):
    """`finish` for one row of C and an epilogue, STORE or SGD, that reads no E."""
    signature = types.void(types.intp, c, c, c.dtype, types.intp)

    def codegen(context, builder, signature, args):
        epilogue, c, sums, scale, n = args
        row = Finish(
            Simd.of_host(builder, signature.args[1].dtype), epilogue, c, INDEX(0), c, INDEX(0), sums, scale, INDEX(1), n
        )
        row.emit(STORE, SGD)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def finish_panels(typingctx, epilogue, c, rsc, sums, scale, m):
    """`finish` with STORE or SGD for PANELS whole panels side by side, whose sums lie one panel behind the other.

    All of a row of C before the next: of a single panel each row is on another page, and where they lie whole pages
    apart, they are in each other's way, in a few sets of the caches. Panel by panel a gradient of 24 samples from afar
    takes 1.25 to 1.6 times as long, one of 80 1.06 to 1.2 times (AVX2).
    """
    signature = types.void(types.intp, c, types.intp, c, c.dtype, types.intp)

    def codegen(context, builder, signature, args):
        epilogue, c, rsc, sums, scale, m = args
        simd, vectors = Simd.of_host(builder, signature.args[1].dtype), PANELS * HOST.vectors
        panels = Finish(simd, epilogue, c, rsc, c, INDEX(0), sums, scale, m, INDEX(vectors * simd.lanes))
        steps = builder.icmp_signed("==", epilogue, INDEX(int(SGD)))
        with builder.if_else(steps) as (step, store):
            for case, number in (step, SGD), (store, STORE):
                with case:
                    panels.emit_rows(EPILOGUES[number], panels.overlapping(vectors))
        return context.get_dummy_value()

    return signature, codegen


@outlined
def finish_block(epilogue, c, e, sums, scale, staged) -> None:
    """C = epilogue(sums, E), by way of `staged` where the columns of C or E are not adjacent."""
    c_data, c_stride, e_data, e_stride = c.data, c.row_stride, e.data, e.row_stride
    adjacent = c.column_stride == 1 and e.column_stride == 1
    if not adjacent:
        c_data, e_data, c_stride, e_stride = staged, advance(staged, c.rows * c.columns), c.columns, c.columns
        if epilogue in READING_C:
            copy(row_major(c_data, c.rows, c.columns), c)
        if epilogue in READING_E:
            copy(row_major(e_data, c.rows, c.columns), e)
    finish(epilogue, c_data, c_stride, e_data, e_stride, sums, scale, c.rows, c.columns)
    if not adjacent:
        copy(c, row_major(c_data, c.rows, c.columns))


class Finish(Emitter):
    def __init__(self, simd, epilogue, c, rsc, e, rse, sums, scale, m, n):
        super().__init__(simd, n)
        self.epilogue, self.scale = epilogue, scale
        self.c, self.rsc, self.e, self.rse, self.sums, self.m = c, rsc, e, rse, sums, m

    def emit(self, *numbers):
        """The loop of the epilogue asked for, one of these."""
        for number in cases(self.builder, self.epilogue, map(int, numbers)):
            self.for_columns(lambda vectors, number=number: self.emit_rows(EPILOGUES[number], vectors))

    def emit_rows(self, epilogue, vectors):
        if epilogue.reads_c and vectors[0].mask is not None:
            # A masked store delays the load of a row of C that begins right behind it: then all loads come first.
            self.emit_loop(epilogue, vectors, into_sums=True)
            epilogue = EPILOGUES[STORE]
        self.emit_loop(epilogue, vectors)

    def emit_loop(self, epilogue, vectors, into_sums=False):
        """Some rows at a time, then the rest one by one."""
        builder = self.builder
        at_once = max(1, epilogue.together // len(vectors))
        whole = builder.and_(self.m, INDEX(-at_once))
        loops = [(INDEX(0), whole, at_once), (whole, self.m, 1)]
        for start, end, step in loops if at_once > 1 else loops[:1]:
            with cgutils.for_range_slice(builder, start, end, INDEX(step)) as (i, _):
                rows = [builder.add(i, INDEX(t)) for t in range(step)]
                self.emit_vectors(epilogue, rows, vectors, into_sums)

    def emit_vectors(self, epilogue, rows, vectors, into_sums):
        """The registers of some rows of C, as if they were one."""
        simd, places = self.simd, [(row, vector) for row in rows for vector in vectors]

        def load(pointer, stride):
            return joined(simd.load(self.at_row(pointer, stride, row, v.offset), v.mask) for row, v in places)

        total = joined(simd.load(at) for at in self.sums_at(rows, vectors))
        e = load(self.e, self.rse) if epilogue.reads_e else None
        scale = total.simd.splat(self.scale)
        c = load(self.c, self.rsc) if epilogue.reads_c else None
        values = split(epilogue.finish(total, e, c, scale), simd)
        if into_sums:
            for value, at in zip(values, self.sums_at(rows, vectors), strict=True):
                simd.store(value, at)
            return
        for value, (row, v) in zip(values, places, strict=True):
            simd.store(value, self.at_row(self.c, self.rsc, row, v.offset), v.mask)

    def sums_at(self, rows, vectors):
        """Where the registers' sums are: those of a panel behind the whole tiles of the one before."""
        builder, lanes = self.builder, self.simd.lanes
        tiles = builder.udiv(builder.add(self.m, INDEX(MR - 1)), INDEX(MR))
        stride = INDEX(self.sums_stride(vectors[: HOST.vectors]))
        places = []
        for row in rows:
            for panel, j in (divmod(v, HOST.vectors) for v in range(len(vectors))):
                of_panel = builder.add(row, builder.mul(tiles, INDEX(panel * MR))) if panel else row
                places.append(self.at_row(self.sums, stride, of_panel, INDEX(j * lanes)))
        return places

    def at_row(self, pointer, stride, row, offset):
        return self.at(pointer, self.builder.add(self.builder.mul(row, stride), offset))
