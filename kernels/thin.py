"""Products that are streamed: of few rows, or with few terms in each sum. Their largest operand comes from afar.

Threads share them in parts as large as can be, each of which is read from end to end.
"""

from .blocking import FAR, FEW_ROWS, FEW_TERMS, L1, STREAMED, STREAMED_PART, SUMS_STREAMED, TASKS_EACH
from .compiling import helper, internal
from .epilogue import SGD, STORE, finish_block
from .matrix import advance, block, has_rows_on_pages, rows, scalar
from .microkernel import columns_at_once, multiply_row, tile_shape
from .parallel import columns_of, product_work, tasks_for
from .stream import stream_outer, stream_rows
from .tasks import outlined


@helper
def has_few_rows(c, b):
    """Whether B passes; a single row never is a tile."""
    few = 2 * FEW_ROWS if has_rows_on_pages(b) else FEW_ROWS
    return b.column_stride == 1 and (c.rows == 1 or (c.rows <= few and b.rows * b.columns > FAR))


@helper
def has_few_terms(epilogue, c, b):
    """Whether C passes, if that is all that the epilogue reads."""
    adjacent = c.column_stride == 1 and b.column_stride == 1
    passes = b.rows <= FEW_TERMS and c.rows * c.columns > FAR and c.columns >= STREAMED_PART
    return epilogue in (STORE, SGD) and adjacent and passes


@helper
def streamed_parts(c, k, by_columns, crew):
    """Into how many parts, one for each thread: of the columns of C, or of its rows."""
    most = c.columns // STREAMED_PART if by_columns else c.rows
    return max(1, min(tasks_for(product_work(c.rows, c.columns, k), crew) // TASKS_EACH, most))


@helper
def thin_size(n, k, nr, two):
    """Elements of panels for a thread's few rows: staged C and E, and the sums, if B passes with those of a slice."""
    sums = 2 * two
    if n > 2 * two and n * k > L1:
        sums = 2 * (SUMS_STREAMED if n * k > FAR else STREAMED)
    return 2 * nr + sums


@internal
def some_columns(arguments, task, worker):
    """One task's share of a product of few rows."""
    epilogue, c, e, a, _, b, scale, panels, parts, _, kc = arguments[0]
    _, nr, two = tile_shape(c)
    start, end = columns_of(task, parts, c.columns)
    some, panels = end - start, advance(panels, worker * thin_size(c.columns, a.columns, nr, two))
    c, e = block(c, 0, start, c.rows, some), block(e, 0, start, c.rows, some)
    few_rows(epilogue, c, e, a, block(b, 0, start, a.columns, some), scale, kc, panels)


@outlined
def few_rows(epilogue, c, e, a, b, scale, kc, panels):
    """`gemm.fused_product` for a C of few rows and rows of B in memory, by one thread."""
    _, nr, two = tile_shape(c)
    m, k = c.rows, a.columns
    slices = max(1, (k + kc - 1) // kc)
    staged, whole = panels, advance(panels, 2 * nr)
    part = advance(whole, STREAMED if m == 1 else SUMS_STREAMED)
    j = 0
    while j < c.columns:
        n, stride = columns_at_once(c.columns - j, 2 * two, two), 2 * two
        if k * c.columns > L1 and c.columns - j > 2 * two:
            n = min(STREAMED, SUMS_STREAMED // m, c.columns - j) // (two // 2) * (two // 2)
            stride = n
            for p in range(0, k, kc):
                sums = part if p > 0 else whole
                a_p, b_p = advance(a.data, p * a.column_stride), advance(b.data, p * b.row_stride + j)
                stream_rows(sums, a_p, a.row_stride, a.column_stride, b_p, b.row_stride, m, n, min(kc, k - p))
                if p > 0:
                    for t in range(m * n):
                        whole[t] += part[t]
        else:
            for i in range(m):
                sums, row = advance(whole, i * stride), advance(a.data, i * a.row_stride)
                multiply_row(sums, row, a.column_stride, advance(b.data, j), b.row_stride, n, k, slices, kc)
        for i in range(m):
            sums, done = advance(whole, i * stride), 0
            while done < n:
                width = columns_at_once(n - done, nr, two)
                c_block, e_block = block(c, i, j + done, 1, width), block(e, i, j + done, 1, width)
                finish_block(epilogue, c_block, e_block, sums, scale, staged)
                sums, done = advance(sums, width), done + width
        j += n


@internal
def some_rows(arguments, task, _):
    """One task's share of a product with few terms, some columns at a time, so that B stays in the first cache."""
    epilogue, c, _, a, _, b, scale, _, parts, _, _ = arguments[0]
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
        )
