"""Products that are streamed: of few rows, or with few terms in each sum. Their largest operand comes from afar.

And the outputs of a layer that are dot products (`dot`).

Threads share them in parts as large as can be, each of which is read from end to end.
"""

from .ahead import fetch_some
from .blocking import FAR, FEW_TERMS, L1, STREAMED_PART
from .compiling import helper, internal
from .dot import some_outputs
from .epilogue import SGD, STORE
from .few_rows import few_rows, most_rows, thin_size
from .matrix import advance, block, has_rows_on_pages, rows, scalar
from .microkernel import tile_shape
from .parallel import columns_of, product_work, share, sharers_of, tasks_for
from .slices import by_slices, is_by_slices
from .stream import stream_outer
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
    threads = sharers_of(product_work(c.rows, c.columns, a.columns), crew)
    parts = max(1, min(threads, c.columns // STREAMED_PART if by_columns else c.rows))
    of_parts = reference((epilogue, c, e, a, b, scale, panels, parts, kc))
    if not by_columns:
        share(task_address(some_rows, of_parts), address(of_parts), parts, crew.memory)
    elif is_by_slices(c, b, kc, threads, crew):
        by_slices(epilogue, c, e, a, b, scale, kc, panels, threads, crew)
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


@internal
def some_columns(arguments, task, worker):
    """One task's share of a product of few rows."""
    epilogue, c, e, a, b, scale, panels, parts, kc = arguments[0]
    _, nr, two = tile_shape(c)
    start, end = columns_of(task, parts, c.columns)
    some, panels = end - start, advance(panels, worker * thin_size(c.columns, a.columns, nr, two))
    c, e = block(c, 0, start, c.rows, some), block(e, 0, start, c.rows, some)
    few_rows(epilogue, c, e, a, block(b, 0, start, a.columns, some), scale, kc, panels)


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
