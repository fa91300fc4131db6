"""Products that are streamed: of few rows, or with few terms in each sum. Their largest operand comes from afar.

And the outputs of a layer that are dot products (`dot`).

Threads share them in parts as large as can be, each of which is read from end to end.
"""

from .ahead import fetch_some
from .blocking import FAR, FEW_FROM_MEMORY, FEW_ROWS, FEW_TERMS, L1, MEMORY, STREAMED, STREAMED_PART, SUMS_STREAMED
from .compiling import helper, internal
from .dot import some_outputs
from .epilogue import SGD, STORE, finish_block
from .matrix import Matrix, advance, block, has_rows_on_pages, rows, scalar
from .microkernel import columns_at_once, multiply_row, tile_shape
from .parallel import columns_of, product_work, share, sharers_of, tasks_for
from .stream import stream_columns, stream_outer, stream_rows
from .tasks import address, outlined, reference, task_address


@outlined
def stream(dots, epilogue, c, e, a, b, scale, panels, crew, kc):
    """`gemm.product_by_crew` for `dots`, and products that are quicker without tiles; whether it is one of those."""
    if dots:
        parts = tasks_for(product_work(c.rows, c.columns, a.columns), crew)
        of_outputs = reference((c, e, a, b, panels, parts))
        share(task_address(some_outputs, of_outputs), address(of_outputs), parts, crew.memory)
        return True
    by_columns = has_few_rows(c, b)
    if not (by_columns or has_few_terms(epilogue, c, b)):
        return False
    if crew.ahead != 0:
        fetch_some(crew.ahead)
    parts = streamed_parts(c, a.columns, by_columns, crew)
    of_parts = reference((epilogue, c, e, a, b, scale, panels, parts, kc))
    if not by_columns:
        share(task_address(some_rows, of_parts), address(of_parts), parts, crew.memory)
    elif parts > 1:
        share(task_address(some_columns, of_parts), address(of_parts), parts, crew.memory)
    else:
        few_rows(epilogue, c, e, a, b, scale, kc, panels)
    return True


@helper
def has_few_rows(c, b):
    """Whether B passes; a single row never is a tile."""
    if b.column_stride != 1:
        return has_columns(c, b)
    size = b.rows * b.columns
    return c.rows == 1 or (c.rows <= most_rows(size, has_rows_on_pages(b)) and c.column_stride == 1 and size > FAR)


@helper
def most_rows(size, on_pages):
    """Rows of C up to which they are few, for a B of so many elements, whose rows may lie whole pages apart."""
    if size > MEMORY:
        return FEW_FROM_MEMORY
    return 3 * FEW_ROWS if on_pages else FEW_ROWS


@helper
def has_columns(c, b):
    """Whether C is a single row and the columns of B are adjacent, each of a vector or more."""
    _, _, two = tile_shape(c)
    return c.rows == 1 and b.row_stride == 1 and b.rows >= two // 2


@helper
def has_few_terms(epilogue, c, b):
    """Whether C passes, if that is all that the epilogue reads."""
    adjacent = c.column_stride == 1 and b.column_stride == 1
    far = c.rows * c.columns > FAR or b.rows == 1
    return epilogue in (STORE, SGD) and adjacent and far and b.rows <= FEW_TERMS and c.columns >= STREAMED_PART


@helper
def streamed_parts(c, k, by_columns, crew):
    """Into how many parts, one for each thread: of the columns of C, or of its rows."""
    most = c.columns // STREAMED_PART if by_columns else c.rows
    return max(1, min(sharers_of(product_work(c.rows, c.columns, k), crew), most))


@helper
def thin_size(n, k, nr, two):
    """Elements of panels for a thread's few rows: staged C and E, and the sums, with those of a slice."""
    sums = 4 * two
    if n > 2 * two and n * k > L1:
        sums = 2 * (SUMS_STREAMED if n * k > FAR else STREAMED)
    return 2 * nr + sums


@internal
def some_columns(arguments, task, worker):
    """One task's share of a product of few rows."""
    epilogue, c, e, a, b, scale, panels, parts, kc = arguments[0]
    _, nr, two = tile_shape(c)
    start, end = columns_of(task, parts, c.columns)
    some, panels = end - start, advance(panels, worker * thin_size(c.columns, a.columns, nr, two))
    c, e = block(c, 0, start, c.rows, some), block(e, 0, start, c.rows, some)
    few_rows(epilogue, c, e, a, block(b, 0, start, a.columns, some), scale, kc, panels)


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
    m, k = c.rows, a.columns
    slices = max(1, (k + kc - 1) // kc)
    staged, whole = panels, advance(panels, 2 * nr)
    part = advance(whole, STREAMED if m == 1 else SUMS_STREAMED)
    j = 0
    while j < c.columns:
        n, stride = columns_at_once(c.columns - j, 2 * two, two), 2 * two
        if b.column_stride != 1:
            n = whole_squares(c.columns - j, two)
            sum_columns(whole, a, block(b, 0, j, k, n), kc)
        elif k * c.columns > L1 and c.columns - j > 2 * two:
            n = min(STREAMED, SUMS_STREAMED // m, c.columns - j) // (two // 2) * (two // 2)
            stride = n
            for p in range(0, k, kc):
                sums = part if p > 0 else whole
                a_p, b_p = advance(a.data, p * a.column_stride), advance(b.data, p * b.row_stride + j)
                stream_rows(sums, a_p, a.row_stride, a.column_stride, b_p, b.row_stride, m, n, min(kc, k - p))
                if p > 0:
                    add_part(whole, part, m * n)
        else:
            for i in range(m):
                sums, row = advance(whole, i * stride), advance(a.data, i * a.row_stride)
                multiply_row(sums, row, a.column_stride, advance(b.data, j), b.row_stride, n, k, slices, kc)
        for i in range(m):
            sums, done = advance(whole, i * stride), 0
            while done < n:
                width = columns_at_once(n - done, nr, two)
                c_block, e_block = block(c, i, j + done, 1, width), block(e, i, j + done, 1, width)
                if width == nr and c.column_stride == 1 and e_block.column_stride == 1:
                    # Rows of a panel's width, as if one were below the other: then some are computed side by side.
                    count = (n - done) // nr
                    c_block = Matrix(c_block.data, count, nr, nr, 1)
                    e_block = Matrix(e_block.data, count, nr, nr, 1)
                    width = count * nr
                finish_block(epilogue, c_block, e_block, sums, scale, staged)
                sums, done = advance(sums, width), done + width
        j += n


@internal
def some_rows(arguments, task, _):
    """One task's share of a product with few terms, some columns at a time, so that B stays in the first cache."""
    epilogue, c, _, a, b, scale, _, parts, kc = arguments[0]
    first, end = task * c.rows // parts, (task + 1) * c.rows // parts
    c, a = rows(c, first, end - first), rows(a, first, end - first)
    blocks = 1 + b.rows * b.columns // L1
    for number in range(blocks):
        start, end = columns_of(number, blocks, c.columns)
        stream_outer(
            epilogue,
            advance(c.data, start),
            c.row_stride,
            a.data,
            a.row_stride,
            a.column_stride,
            advance(b.data, start),
            b.row_stride,
            scalar(scale, c),
            c.rows,
            end - start,
            b.rows,
            kc,
        )
