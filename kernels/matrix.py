"""`Matrix` and `Vector`: where they lie in memory, so that one compiled kernel serves every layout.

A transpose is a swap of strides, a block is a moved pointer; neither counts references nor allocates. The
array that one was made of must outlive it: kernels make them of their arguments, which do.
"""

from collections import namedtuple

from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .blocking import CACHE_LINE, PAGE
from .compiling import helper, implements
from .tasks import address

Matrix = namedtuple("Matrix", "data rows columns row_stride column_stride")
"""Element [i, j] is at data + i*row_stride + j*column_stride, in elements; strides may be 0 or negative.

Or, where column_stride is IN_PANELS or more, which is above any stride, it lies in panels of row_stride columns, as
products take them: panel behind panel, column_stride - IN_PANELS elements apart, of adjacent rows.
"""

IN_PANELS = 1 << 62


Vector = namedtuple("Vector", "data size")
"""Element [i] is at data + i."""


@intrinsic
def pointer(typingctx, array):
    """Pointer to the first element of an array; a pointer is given back as it is."""
    if isinstance(array, types.CPointer):
        return array(array), lambda context, builder, signature, args: args[0]

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def advance(typingctx, pointer, elements):
    """pointer + elements."""

    def codegen(context, builder, signature, args):
        start, elements = args
        typed = builder.bitcast(start, context.get_data_type(pointer.dtype).as_pointer())
        return builder.bitcast(builder.gep(typed, [elements]), start.type)

    return pointer(pointer, types.intp), codegen


@intrinsic
def pointer_at(typingctx, address, like):
    """The integer `address` as a pointer to the dtype of the vector `like`."""
    result = types.CPointer(like.dtype)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(result))

    return result(types.intp, like), codegen


@intrinsic
def as_float64(typingctx, pointer):
    """The same address as a pointer to float64."""
    result = types.CPointer(types.float64)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(result))

    return result(pointer), codegen


@intrinsic
def itemsize(typingctx, data):
    """Bytes of an element of an array or behind a pointer: a constant, so that compiled code divides by a shift."""
    size = data.dtype.bitwidth // 8
    return types.intp(data), lambda context, builder, signature, args: context.get_constant(types.intp, size)


def matrix(array):
    """Matrix of a 2-D array, in compiled code; a Matrix is given back as it is."""
    raise NotImplementedError("for compiled code")


@implements(matrix)
def _matrix(array):
    if isinstance(array, types.Array) and array.ndim == 2 and array.aligned:

        def from_array(array):
            return Matrix(
                pointer(array),
                array.shape[0],
                array.shape[1],
                array.strides[0] // itemsize(array),
                array.strides[1] // itemsize(array),
            )

        return from_array
    if isinstance(array, types.NamedTuple) and array.instance_class is Matrix:
        return lambda array: array
    raise TypingError(f"expected an aligned two-dimensional array or a Matrix, got {array}")


def vector(array):
    """Vector of a 1-D array whose elements are adjacent, in compiled code; a Vector is given back as it is."""
    raise NotImplementedError("for compiled code")


@implements(vector)
def _vector(array):
    if isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C":
        return lambda array: Vector(pointer(array), array.size)
    if isinstance(array, types.NamedTuple) and array.instance_class is Vector:
        return lambda array: array
    raise TypingError(f"expected a one-dimensional contiguous array or a Vector, got {array}")


def row(vector):
    """Matrix of one row of a 1-D array, in compiled code; a Matrix is given back as it is."""
    raise NotImplementedError("for compiled code")


@implements(row)
def _row(vector):
    if isinstance(vector, types.Array) and vector.ndim == 1 and vector.aligned:

        def from_array(vector):
            return Matrix(pointer(vector), 1, vector.shape[0], 0, vector.strides[0] // itemsize(vector))

        return from_array
    if isinstance(vector, types.NamedTuple) and vector.instance_class is Matrix:
        return lambda vector: vector
    raise TypingError(f"expected an aligned one-dimensional array or a Matrix, got {vector}")


@intrinsic
def scalar(typingctx, value, m):
    """value in the dtype of Matrix m."""
    dtype = m[0].dtype
    return dtype(value, m), lambda context, builder, signature, args: context.cast(builder, args[0], value, dtype)


@helper
def get(m, i, j):
    return m.data[i * m.row_stride + j * m.column_stride]


@helper
def put(m, i, j, value):
    m.data[i * m.row_stride + j * m.column_stride] = value


@helper
def bytes_of(m):
    return m.rows * m.columns * itemsize(m.data)


@helper
def row_major(data, rows, columns):
    """Matrix of rows * columns consecutive elements at the pointer `data`."""
    return Matrix(data, rows, columns, columns, 1)


@helper
def transposed(m):
    return Matrix(m.data, m.columns, m.rows, m.column_stride, m.row_stride)


@helper
def block(m, i, j, rows, columns):
    """m[i : i+rows, j : j+columns]."""
    start = advance(m.data, i * m.row_stride + j * m.column_stride)
    return Matrix(start, rows, columns, m.row_stride, m.column_stride)


@helper
def is_in_panels(m):
    return m.column_stride >= IN_PANELS


@helper
def has_adjacent_columns(m):
    return m.column_stride == 1 or is_in_panels(m)


@helper
def panel_block(m, i, j, rows, columns):
    """`block`, which is within a panel, if there are any."""
    if not is_in_panels(m):
        return block(m, i, j, rows, columns)
    panel = j // m.row_stride
    of_panel = panel * (m.column_stride - IN_PANELS) + j - panel * m.row_stride
    return Matrix(advance(m.data, of_panel + i * m.row_stride), rows, columns, m.row_stride, 1)


@helper
def rows(m, first, count):
    """m[first : first+count]."""
    return block(m, first, 0, count, m.columns)


@helper
def has_rows_on_pages(m):
    """Whether rows begin whole pages apart: some columns of many rows then lie in the same few sets of a cache."""
    return m.row_stride * itemsize(m.data) % PAGE == 0


@helper
def has_rows_on_lines(m):
    """Whether every row begins with a cache line."""
    return (address(m.data) | m.row_stride * itemsize(m.data)) % CACHE_LINE == 0


@helper
def broadcast_rows(m, rows):
    """The one row of m, `rows` times."""
    return Matrix(m.data, rows, m.columns, 0, m.column_stride)


@helper
def row_stride(n, itemsize):
    """Elements from row to row of an array of the workspace with n columns.

    Rows that are long are an odd number of cache lines: powers of two would all lie in the same few sets of the cache.
    """
    line = CACHE_LINE // itemsize
    lines = (n + line - 1) // line
    return (lines | 1) * line if lines >= 8 else n


@helper
def padded(elements):
    """`elements` rounded up, so that what follows begins a cache line if the workspace does, in either dtype."""
    return (elements + 15) // 16 * 16


@helper
def spaced(data, rows, columns):
    """Matrix of the workspace that begins at the pointer `data`."""
    return Matrix(data, rows, columns, row_stride(columns, itemsize(data)), 1)
