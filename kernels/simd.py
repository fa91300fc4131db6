"""Vectors of the host's width, as values in the code that an ``@intrinsic`` emits.

`Simd` fixes an element type and a number of lanes for one function being generated, `Vector` is a value in
it. Arithmetic is written as in NumPy (``n = t - magic``, ``fma(a, b, c)``) and emits one instruction per
operator and nothing else: no reassociation, no contraction, no assumption about NaN. LLVM splits a vector
that is wider than the target's registers, so any number of lanes is correct everywhere.
"""

from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .blocking import CACHE_LINE
from .host import HOST

INDEX = ir.IntType(64)
INT32 = ir.IntType(32)
BYTE = ir.IntType(8)


class Simd:
    """Emits vectors of `lanes` elements of the Numba float type `dtype` through an LLVM `builder`."""

    def __init__(self, builder, dtype, lanes):
        self.builder = builder
        self.dtype = dtype
        self.lanes = lanes
        self.bits = dtype.bitwidth
        self.scalar = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, lanes)
        self.integer = ir.IntType(self.bits)
        self.integers = ir.VectorType(self.integer, lanes)
        self.suffix = f"v{lanes}f{self.bits}"

    @classmethod
    def of_host(cls, builder, dtype):
        """Vectors of the width that kernels are compiled for."""
        return cls(builder, dtype, HOST.lanes(dtype.bitwidth // 8))

    def call(self, name, result, *args):
        """Call an LLVM intrinsic by its full name: llvmlite cannot spell the suffix of a vector overload."""
        function = ir.FunctionType(result, [arg.type for arg in args])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function, name), args)

    def constant(self, value):
        return Vector(self, ir.Constant(self.vector, [float(value)] * self.lanes))

    def splat(self, scalar):
        """All lanes equal to the LLVM value `scalar`."""
        return Vector(self, splat(self.builder, scalar, self.vector))

    def first(self, count, offset=0):
        """Mask of the lanes t with offset + t < count, `count` an LLVM 64-bit integer."""
        lanes = ir.VectorType(INT32, self.lanes)
        numbers = ir.Constant(lanes, [offset + t for t in range(self.lanes)])
        bits = self.builder.icmp_signed("<", numbers, splat(self.builder, self.builder.trunc(count, INT32), lanes))
        return Mask(bits, self.builder.sub(count, INDEX(offset)))

    def load(self, pointer, mask=None):
        """Load unaligned; lanes outside `mask` are not read and give 0."""
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        align = self.bits // 8
        if mask is None:
            value = self.builder.load(pointer)
            value.align = align  # LLVM would assume a whole vector's alignment, and fault
        else:
            value = self.call(
                f"llvm.masked.load.{self.suffix}.p0",
                self.vector,
                pointer,
                ir.Constant(INT32, align),
                mask.bits,
                ir.Constant(self.vector, [0.0] * self.lanes),
            )
        return Vector(self, value)

    def store(self, value, pointer, mask=None):
        """Store unaligned; lanes outside `mask` are not written."""
        if mask is not None and HOST.vector_bytes < 64:
            self._store_first(value, pointer, mask.count)
            return
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        align = self.bits // 8
        if mask is None:
            self.builder.store(value.llvm, pointer).align = align
        else:
            self.call(
                f"llvm.masked.store.{self.suffix}.p0",
                ir.VoidType(),
                value.llvm,
                pointer,
                ir.Constant(INT32, align),
                mask.bits,
            )

    def _store_first(self, value, pointer, count):
        """Store the first `count` lanes, or all if it is more: half a vector, a quarter, ... by the bits of the count.

        Without AVX-512 processors have no good way to store under a mask: it takes AMD's 12 cycles.
        """
        builder, simd = self.builder, self
        with builder.if_else(builder.icmp_signed(">=", count, INDEX(self.lanes))) as (whole, rest):
            with whole:
                self.store(value, pointer)
            with rest:
                while simd.lanes > 1:
                    simd = Simd(builder, simd.dtype, simd.lanes // 2)
                    low, high = split(value, simd)
                    bit = builder.and_(count, INDEX(simd.lanes))
                    is_set = builder.icmp_signed("!=", bit, INDEX(0))
                    with builder.if_then(is_set):
                        simd.store(low, pointer)
                    pointer = builder.gep(pointer, [bit])
                    value = where(is_set, high, low)

    def variable(self):
        """A `Variable`: a vector that a loop of the generated code changes."""
        return Variable(self)

    def all(self, mask):
        """Whether a mask has all lanes, as an LLVM Boolean."""
        bits = ir.IntType(self.lanes)
        return self.builder.icmp_unsigned("==", self.builder.bitcast(mask, bits), ir.Constant(bits, -1))

    def all_zero(self, bits):
        """Whether all lanes, given as integers, are 0 or -0: as 0 x is for all x but NaN and infinity."""
        without_sign = self.builder.shl(bits, ir.Constant(self.integers, [1] * self.lanes))
        return self.all(self.builder.icmp_unsigned("==", without_sign, ir.Constant(self.integers, [0] * self.lanes)))

    @property
    def line(self):
        """Elements of a cache line."""
        return self.elements(CACHE_LINE)

    def elements(self, size):
        """How many elements so many bytes are."""
        return size * 8 // self.bits

    def prefetch(self, pointer, written, far=False):
        """Begin to fetch a cache line, to be read or to be `written`; not into the first cache, if `far` (Booleans).

        The first has buffers for some 20 lines on their way; from memory, that is half of what a core could have.
        """
        pointer = self.builder.bitcast(pointer, BYTE.as_pointer())
        written, stay, data = (ir.Constant(INT32, number) for number in (int(written), 2 if far else 3, 1))
        self.call("llvm.prefetch.p0", ir.VoidType(), pointer, written, stay, data)

    def fetch(self, pointer, elements, far=False):
        """Begin to fetch so many elements, a Python number, to be read."""
        for element in range(0, elements, self.line):
            self.prefetch(self.builder.gep(pointer, [INDEX(element)]), written=False, far=far)

    def widened(self, vector, wider):
        """A vector of float32 as one of float64, of the Simd `wider` of as many lanes; one of float64 as it is."""
        if self.bits == wider.bits:
            return vector
        return Vector(wider, self.builder.fpext(vector.llvm, wider.vector))

    def opaque(self, value):
        """value, about which LLVM knows nothing."""
        asm = ir.InlineAsm(ir.FunctionType(value.type, [value.type]), "", "=r,0")
        return self.builder.call(asm, [value])


class Mask(NamedTuple):
    """Which lanes are used: `bits` of an LLVM vector, and how many are the first ones, an LLVM integer."""

    bits: object
    count: object


class Variable:
    """A mutable vector; LLVM promotes it from the stack to a register."""

    def __init__(self, simd):
        self.simd = simd
        self.slot = cgutils.alloca_once(simd.builder, simd.vector)

    def get(self):
        return Vector(self.simd, self.simd.builder.load(self.slot))

    def set(self, value):
        self.simd.builder.store(value.llvm, self.slot)


class Vector:
    """A vector value; the other operand of an operator is a Vector or a Python number."""

    def __init__(self, simd, llvm):
        self.simd = simd
        self.llvm = llvm

    def _operand(self, other):
        return other if isinstance(other, Vector) else self.simd.constant(other)

    def _emit(self, instruction, *others):
        operands = [self._operand(other).llvm for other in others]
        return Vector(self.simd, getattr(self.simd.builder, instruction)(self.llvm, *operands))

    def __neg__(self):
        return self._emit("fneg")

    def __add__(self, other):
        return self._emit("fadd", other)

    def __radd__(self, other):
        return self._operand(other) + self

    def __sub__(self, other):
        return self._emit("fsub", other)

    def __rsub__(self, other):
        return self._operand(other) - self

    def __mul__(self, other):
        return self._emit("fmul", other)

    def __rmul__(self, other):
        return self._operand(other) * self

    def __rtruediv__(self, other):
        return self._operand(other)._emit("fdiv", self)

    def __lt__(self, other):
        """Mask of the lanes where self < other; false for NaN."""
        return self.simd.builder.fcmp_ordered("<", self.llvm, self._operand(other).llvm)

    def __gt__(self, other):
        """Mask of the lanes where self > other; false for NaN."""
        return self.simd.builder.fcmp_ordered(">", self.llvm, self._operand(other).llvm)


def splat(builder, scalar, vector):
    """An LLVM vector of this type with all lanes equal to a scalar."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, vector.count), [0] * vector.count))


def fma(x, y, z):
    """x * y + z rounded once (twice on a host without fused multiply-add, where one would be a slow call)."""
    vector = next(v for v in (x, y, z) if isinstance(v, Vector))
    x, y, z = (vector._operand(v) for v in (x, y, z))
    if not HOST.has_fma:
        return x * y + z
    simd = vector.simd
    return Vector(simd, simd.call(f"llvm.fma.{simd.suffix}", simd.vector, x.llvm, y.llvm, z.llvm))


def minimum(builder, x, y):
    """The smaller of two LLVM integers."""
    return builder.select(builder.icmp_signed("<", x, y), x, y)


def maximum(builder, x, y):
    """The larger of two LLVM integers."""
    return builder.select(builder.icmp_signed(">", x, y), x, y)


def where(mask, x, y):
    """x in the lanes of `mask`, y in the others."""
    vector = x if isinstance(x, Vector) else y
    return Vector(vector.simd, vector.simd.builder.select(mask, vector._operand(x).llvm, vector._operand(y).llvm))


def two_to_the(t, mantissa_bits):
    """2**n where t = 1.5 * 2**mantissa_bits + bias + n, n a whole number: the low bits of t become an exponent."""
    simd = t.simd
    shift = ir.Constant(simd.integers, [mantissa_bits] * simd.lanes)
    bits = simd.builder.shl(simd.builder.bitcast(t.llvm, simd.integers), shift)
    return Vector(simd, simd.builder.bitcast(bits, simd.vector))


def transposed(rows):
    """The columns of a square of vectors: as many Vectors as each has lanes.

    In steps of one instruction for each row: while what is swapped is 16 bytes or more, rows h apart swap, in each 2h
    lanes, the upper h of one and the lower h of the other. Then the 16 bytes of rows that are half of so many lanes
    apart are interleaved, until squares of so many are transposed.
    """
    rows, lanes = list(rows), rows[0].simd.lanes
    n = min(lanes, 128 // rows[0].simd.bits)
    h = lanes // 2
    while h >= n:
        low = [t if not t & h else lanes + t - h for t in range(lanes)]
        for i in range(lanes):
            if not i & h:
                pair = rows[i], rows[i + h]
                rows[i], rows[i + h] = shuffled(*pair, low), shuffled(*pair, [t + h for t in low])
        h //= 2
    low = [t - t % n + t % n // 2 + t % 2 * lanes for t in range(lanes)]
    steps = n
    while steps > 1:
        for i in range(0, lanes, n):
            pairs = [(rows[i + t], rows[i + t + n // 2]) for t in range(n // 2)]
            rows[i : i + n] = [shuffled(*pair, [t + up for t in low]) for pair in pairs for up in (0, n // 2)]
        steps //= 2
    return rows


def joined(vectors):
    """One vector of the lanes of 1, 2, 4, ... vectors. LLVM splits it, and interleaves what is done with the parts."""
    vectors = list(vectors)
    while len(vectors) > 1:
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [shuffled(*pair, range(2 * vectors[0].simd.lanes)) for pair in pairs]
    return vectors[0]


def split(vector, simd):
    """The vectors of `simd` that were joined."""
    starts = range(0, vector.simd.lanes, simd.lanes)
    return [shuffled(vector, vector, range(start, start + simd.lanes)) for start in starts]


def folded(vector):
    """The sum of its lanes, as a vector of one: the second half added to the first, and so on."""
    while vector.simd.lanes > 1:
        half = vector.simd.lanes // 2
        vector = shuffled(vector, vector, range(half)) + shuffled(vector, vector, range(half, 2 * half))
    return vector


def shuffled(x, y, lanes):
    """A vector of those lanes of x, followed by the lanes of y, that have these numbers."""
    simd = Simd(x.simd.builder, x.simd.dtype, len(lanes))
    numbers = ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes))
    return Vector(simd, simd.builder.shuffle_vector(x.llvm, y.llvm, numbers))


def cases(builder, value, numbers):
    """Each of the numbers, while code is emitted that runs if the value is this one."""
    done = builder.append_basic_block("done")
    switch = builder.switch(value, done)
    for number in numbers:
        case = builder.append_basic_block(f"case_{number}")
        switch.add_case(INDEX(number), case)
        with builder.goto_block(case):
            yield number
            builder.branch(done)
    builder.position_at_end(done)


def _prefetch(far):
    @intrinsic
    def prefetch(typingctx, byte):
        """Begin to fetch the cache line at an address, which may be of no memory at all."""

        def codegen(context, builder, signature, args):
            Simd(builder, types.float32, 1).prefetch(builder.inttoptr(args[0], BYTE.as_pointer()), False, far)
            return context.get_dummy_value()

        return types.void(types.intp), codegen

    return prefetch


prefetch, prefetch_far = _prefetch(False), _prefetch(True)
