"""The innermost loop of products: terms are added to sums in registers, several a turn.

Beside another program's thread on its core a processor multiplies as fast as alone, but gets through half as many
instructions: so those that do not multiply must be few, and pointers move once a turn (see UNROLLED).
"""

from llvmlite import ir
from numba.core import cgutils

from .simd import BYTE, INDEX, fma


class Operand:
    """A pointer that goes from term to term by `stride` elements, with one addition for `group` of them."""

    def __init__(self, simd, pointer, stride, group):
        self.simd, self.builder, self.group = simd, simd.builder, group
        self.slot = cgutils.alloca_once_value(simd.builder, pointer)
        self.offsets = multiples(simd, stride, group + 1)

    def load(self):
        return self.simd.opaque(self.builder.load(self.slot))

    def at(self, pointer, term, offset):
        """Where a term lies that is so many bytes from that of the first row or column."""
        return at_byte(self.builder, at_byte(self.builder, pointer, offset), self.offsets[term % self.group])

    def after(self, pointer, term, is_last):
        """The pointer for the next term."""
        done = term % self.group + 1
        if done < self.group and not is_last:
            return pointer
        return self.simd.opaque(at_byte(self.builder, pointer, self.offsets[done]))


def add_terms(simd, terms, at_once, sums, a, rows, b, columns, fetch=None):
    """Loops that add A[t, p] B[p, j], for so many next p, to the Variable sums[t][j]: so many `at_once`, then the rest.

    `rows` are where those of A begin, in bytes from the first, and `columns` where vectors of B do, with their masks; a
    vector that begins at None is of ones. Before so many are added at once, fetch() is called.
    """
    if at_once > 1:
        turns, terms = simd.builder.udiv(terms, INDEX(at_once)), simd.builder.urem(terms, INDEX(at_once))
        _add_in_turns(simd, turns, at_once, sums, a, rows, b, columns, fetch)
    _add_in_turns(simd, terms, 1, sums, a, rows, b, columns)


def _add_in_turns(simd, turns, at_once, sums, a, rows, b, columns, fetch=None):
    builder = simd.builder
    with cgutils.for_range(builder, turns):
        if fetch:
            fetch()
        at_a, at_b = a.load(), b.load()
        for term in range(at_once):
            vectors = [
                simd.constant(1) if column is None else simd.load(b.at(at_b, term, column), mask)
                for column, mask in columns
            ]
            for of_row, row in zip(sums, rows, strict=True):
                x = simd.splat(builder.load(a.at(at_a, term, row)))
                for total, vector in zip(of_row, vectors, strict=True):
                    total.set(fma(x, vector, total.get()))
            is_last = term == at_once - 1
            at_a, at_b = a.after(at_a, term, is_last), b.after(at_b, term, is_last)
        builder.store(at_a, a.slot)
        builder.store(at_b, b.slot)


def multiples(simd, stride, count):
    """0, 1, 2, ... times a stride of elements, in bytes, each one of few numbers times a power of two.

    As an x86 address can hold them.
    """
    builder, size = simd.builder, simd.bits // 8
    if isinstance(stride, ir.Constant):
        return [INDEX(t * stride.constant * size) for t in range(count)]
    offsets = [INDEX(0), simd.opaque(builder.mul(stride, INDEX(size)))]
    for t in range(2, count):
        if t % 2 == 0:
            offsets.append(builder.shl(offsets[t // 2], INDEX(1)))
        else:
            offsets.append(simd.opaque(builder.mul(offsets[1], INDEX(t))))
    return offsets[:count]


def at_byte(builder, pointer, offset):
    data = builder.bitcast(pointer, BYTE.as_pointer())
    return builder.bitcast(builder.gep(data, [offset]), pointer.type)
