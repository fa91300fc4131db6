"""A product of few rows by one thread: B passes, as it lies in memory, in rows or columns, some columns at a time."""

from .blocking import FAR, FEW_FROM_MEMORY, FEW_ROWS, L1, MEMORY, STREAMED, SUMS_STREAMED
from .compiling import helper
from .epilogue import finish_block
from .matrix import Matrix, advance, block
from .microkernel import columns_at_once, multiply_row, tile_shape
from .stream import stream_columns, stream_rows
from .tasks import outlined


@helper
def sum_columns(sums, a, b, kc):
    """`stream_columns` for up to 4 vectors, in slices of k, of which the last may be shorter than a vector."""
    _, _, two = tile_shape(a)
    n, k, part = b.columns, a.columns, advance(sums, 2 * two)
    for p in range(0, k, kc):
        of_slice = part if p > 0 else sums
        a_p, b_p = advance(a.data, p * a.column_stride), advance(b.data, p)
        stream_columns(of_slice, a_p, a.column_stride, b_p, b.column_stride, n, min(kc, k - p))
        if p > 0:
            add_part(sums, part, 2 * two)


@helper
def add_part(sums, part, n):
    for t in range(n):
        sums[t] += part[t]


@helper
def whole_squares(left, two):
    """Columns that pass next where so many are left: 4 vectors or fewer, so that none or a vector or more remain."""
    return 3 * two // 2 if 2 * two < left < 5 * two // 2 else min(left, 2 * two)


@outlined
def few_rows(epilogue, c, e, a, b, scale, kc, panels) -> None:
    """`gemm.fused_product` for a C of few rows, or of one and a B of columns in memory, by one thread."""
    _, nr, two = tile_shape(c)
    m, k, lanes = c.rows, a.columns, two // 2
    slices = max(1, (k + kc - 1) // kc)
    staged, whole = panels, advance(panels, 2 * nr)
    j = 0
    while j < c.columns:
        n, stride = columns_at_once(c.columns - j, 2 * two, two), 2 * two
        streamed = b.column_stride == 1 and k * c.columns > L1 and c.columns - j > 2 * two
        if b.column_stride != 1:
            n = whole_squares(c.columns - j, two)
            sum_columns(whole, a, block(b, 0, j, k, n), kc)
        elif streamed:
            n = min(columns_streamed(m, b), c.columns - j)
            stride = (n + lanes - 1) // lanes * lanes
            part = advance(whole, m * stride)
            for p in range(0, k, kc):
                sums = part if p > 0 else whole
                some = min(kc, k - p)
                sum_slice(sums, stride, block(a, 0, p, m, some), block(b, p, j, some, n), n, is_from_memory(b))
                if p > 0:
                    add_part(whole, part, m * stride)
        else:
            for i in range(m):
                sums, row = advance(whole, i * stride), advance(a.data, i * a.row_stride)
                multiply_row(sums, row, a.column_stride, advance(b.data, j), b.row_stride, n, k, slices, kc)
        for i in range(m):
            of_c, of_e, sums = block(c, i, j, 1, n), block(e, i, j, 1, n), advance(whole, i * stride)
            if streamed:
                finish_streamed(epilogue, of_c, of_e, sums, scale, staged)
            else:
                finish_some(epilogue, of_c, of_e, sums, scale, staged)
        j += n


@helper
def finish_some(epilogue, c, e, sums, scale, staged):
    """C = epilogue(sums, E) for a C of one row, of whole vectors or of what is summed at once."""
    _, nr, two = tile_shape(c)
    done = 0
    while done < c.columns:
        width = columns_at_once(c.columns - done, nr, two)
        c_block, e_block = block(c, 0, done, 1, width), block(e, 0, done, 1, width)
        if width == nr and c.column_stride == 1 and e_block.column_stride == 1:
            # Rows of a panel's width, as if one were below the other: then some are computed side by side.
            count = (c.columns - done) // nr
            c_block = Matrix(c_block.data, count, nr, nr, 1)
            e_block = Matrix(e_block.data, count, nr, nr, 1)
            width = count * nr
        finish_block(epilogue, c_block, e_block, advance(sums, done), scale, staged)
        done += width


@helper
def finish_streamed(epilogue, c, e, sums, scale, staged):
    """The same of any columns, of which `stream_rows` has the sums: whole vectors, and then the others."""
    _, _, two = tile_shape(c)
    lanes = two // 2
    whole = c.columns // lanes * lanes
    for first, n in (0, whole), (whole, c.columns - whole):
        of_c, of_e = block(c, 0, first, 1, n), block(e, 0, first, 1, n)
        finish_some(epilogue, of_c, of_e, advance(sums, first), scale, staged)


@outlined
def sum_slice(sums, stride, a, b, at_once, from_memory) -> None:
    """sums = A·B in a single slice, in rows that are so far apart, so many columns `at_once`."""
    for j in range(0, b.columns, at_once):
        n, b_j, x = min(at_once, b.columns - j), advance(b.data, j), (a.data, a.row_stride, a.column_stride)
        stream_rows(advance(sums, j), stride, *x, b_j, b.row_stride, a.rows, n, b.rows, from_memory)


@helper
def columns_streamed(m, b):
    """Columns at most that pass together, in whole vectors, so that their sums stay in the first cache."""
    _, _, two = tile_shape(b)
    lanes, most = two // 2, SUMS_STREAMED // m
    return (most if is_from_memory(b) else min(STREAMED, most)) // lanes * lanes


@helper
def is_from_memory(b):
    """Whether B is more than caches hold."""
    return b.rows * b.columns > MEMORY


@helper
def most_rows(size, on_pages):
    """Rows of C up to which they are few, for a B of so many elements, whose rows may lie whole pages apart."""
    if size > MEMORY:
        return FEW_FROM_MEMORY
    return 3 * FEW_ROWS if on_pages else FEW_ROWS


@helper
def thin_size(n, k, nr, two):
    """Elements of panels for a thread's few rows: staged C and E, and the sums, with those of a slice."""
    sums = 4 * two
    if n > 2 * two and n * k > L1:
        sums = 2 * (SUMS_STREAMED if n * k > FAR else STREAMED)
    return 2 * nr + sums
