"""One register tile: at most MR x NR sums A·B, each finished by an epilogue before it reaches memory.

Every product of the package goes through `tile`. The sums pass to the epilogue through MR * NR elements of stack
that never leave the nearest cache. Unrolling the epilogue over the registers of every body instead saves 10 to 30 ns
a tile, 4 to 13 % of it at k = 32, and makes the code several times as long: the sigmoid's tile compiles in 1.35 s
in place of 0.6, and again in every function that it is linked into.
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .activation import sigmoid, sigmoid_derivative
from .blocking import HOST, NV
from .optimizer import sgd
from .simd import INDEX, Simd, fma


class Epilogue(NamedTuple):
    """What becomes of a sum: C = finish(sum, e, c, scale), all of them vectors; e and c are loaded where read."""

    finish: callable
    reads_e: bool = False
    reads_c: bool = False


EPILOGUES = (
    Epilogue(lambda total, e, c, scale: total),
    Epilogue(lambda total, e, c, scale: sigmoid(total + e), reads_e=True),
    Epilogue(lambda total, e, c, scale: total * sigmoid_derivative(e), reads_e=True),
    Epilogue(lambda total, e, c, scale: sgd(c, total, scale), reads_c=True),
)
# np.intp, because Numba would specialise a kernel for every Python number
STORE, BIAS_SIGMOID, SIGMOID_DELTA, SGD = map(np.intp, range(len(EPILOGUES)))


@intrinsic
def tile(typingctx, epilogue, c, rsc, e, rse, a, rsa, csa, b, rsb, scale, m, n, k):
    """C = epilogue(A·B, E) for 0 < m <= MR, 0 < n <= NR, k >= 0.

    C[i, j] = c[i*rsc + j], E[i, j] = e[i*rse + j], A[i, p] = a[i*rsa + p*csa], B[p, j] = b[p*rsb + j]: pointers,
    and strides in elements. Every sum runs over p = 0, 1, ... k-1, one fused multiply-add a term.
    """
    index = types.intp
    signature = types.void(index, c, index, c, index, c, index, index, c, index, c.dtype, index, index, index)

    def codegen(context, builder, signature, args):
        simd = Simd(builder, c.dtype, HOST.lanes(c.dtype.bitwidth // 8))
        Tile(simd, *args).emit()
        return context.get_dummy_value()

    return signature, codegen


class Tile:
    """Emits one `tile`: its sums by the body that fits m and n, then its epilogue."""

    def __init__(self, simd, epilogue, c, rsc, e, rse, a, rsa, csa, b, rsb, scale, m, n, k):
        self.simd, self.builder = simd, simd.builder
        self.epilogue, self.scale = epilogue, scale
        self.c, self.rsc, self.e, self.rse = c, rsc, e, rse
        self.a, self.rsa, self.csa, self.b, self.rsb = a, rsa, csa, b, rsb
        self.m, self.n, self.k = m, n, k
        self.sums = cgutils.alloca_once(self.builder, simd.scalar, size=HOST.rows * NV * simd.lanes)

    def emit(self):
        lanes = self.simd.lanes
        with self.if_else(">", self.n, lanes) as (wide, narrow):
            with wide:
                masks = self.masks(NV)
                with self.if_else("==", self.n, NV * lanes) as (whole, part):
                    with whole:
                        self.emit_sums(HOST.row_bodies(), [None] * NV)
                    with part:
                        self.emit_sums(HOST.row_bodies(), masks)
                self.emit_epilogue(masks)
            with narrow:
                masks = self.masks(1)
                self.emit_sums(HOST.row_bodies(), masks)
                self.emit_epilogue(masks)

    def emit_sums(self, bodies, masks):
        """The body of the fewest rows, of `bodies` (falling), that holds m; columns in vectors under `masks`."""
        if len(bodies) == 1:
            self.emit_body(bodies[0], masks)
            return
        with self.if_else(">", self.m, bodies[1]) as (more, fewer):
            with more:
                self.emit_body(bodies[0], masks)
            with fewer:
                self.emit_sums(bodies[1:], masks)

    def emit_body(self, rows, masks):
        """sums = A·B over rows x len(masks) accumulators, all in registers."""
        simd, builder = self.simd, self.builder
        # A row past m reads row m-1 again and its sum is not used, so one body serves every smaller m.
        last = builder.sub(self.m, INDEX(1))
        a_rows = [self.at(self.a, builder.mul(self.minimum(INDEX(i), last), self.rsa)) for i in range(rows)]
        sums = [[simd.variable() for _ in masks] for _ in range(rows)]
        for row in sums:
            for total in row:
                total.set(simd.constant(0))
        with cgutils.for_range(builder, self.k) as loop:
            b_row = self.at(self.b, builder.mul(loop.index, self.rsb))
            columns = [simd.load(self.at(b_row, INDEX(j * simd.lanes)), mask) for j, mask in enumerate(masks)]
            p = builder.mul(loop.index, self.csa)
            for a_row, row in zip(a_rows, sums, strict=True):
                x = simd.splat(builder.load(self.at(a_row, p)))
                for column, total in zip(columns, row, strict=True):
                    total.set(fma(x, column, total.get()))
        for i, row in enumerate(sums):
            for j, total in enumerate(row):
                simd.store(total.get(), self.at(self.sums, INDEX((i * NV + j) * simd.lanes)))

    def emit_epilogue(self, masks):
        """C = finish(sums), by the loop of the epilogue asked for."""
        builder = self.builder
        done = builder.append_basic_block("done")
        switch = builder.switch(self.epilogue, done)
        for number, epilogue in enumerate(EPILOGUES):
            case = builder.append_basic_block(f"epilogue_{number}")
            switch.add_case(INDEX(number), case)
            with builder.goto_block(case):
                self.emit_finish(epilogue, masks)
                builder.branch(done)
        builder.position_at_end(done)

    def emit_finish(self, epilogue, masks):
        simd, builder = self.simd, self.builder
        scale = simd.splat(self.scale)
        with cgutils.for_range(builder, self.m) as loop:
            c_row = self.at(self.c, builder.mul(loop.index, self.rsc))
            e_row = self.at(self.e, builder.mul(loop.index, self.rse))
            sums = self.at(self.sums, builder.mul(loop.index, INDEX(NV * simd.lanes)))
            for j, mask in enumerate(masks):
                j = INDEX(j * simd.lanes)
                e = simd.load(self.at(e_row, j), mask) if epilogue.reads_e else None
                c = simd.load(self.at(c_row, j), mask) if epilogue.reads_c else None
                total = simd.load(self.at(sums, j))
                simd.store(epilogue.finish(total, e, c, scale), self.at(c_row, j), mask)

    def masks(self, vectors):
        return [self.simd.first(self.n, j * self.simd.lanes) for j in range(vectors)]

    def at(self, pointer, elements):
        return self.builder.gep(pointer, [elements])

    def if_else(self, comparison, x, constant):
        return self.builder.if_else(self.builder.icmp_signed(comparison, x, INDEX(constant)))

    def minimum(self, x, y):
        return self.builder.select(self.builder.icmp_signed("<", x, y), x, y)
