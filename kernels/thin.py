"""Products that are streamed: of few rows, or with few terms in each sum. Their largest operand comes from afar.

And the outputs of a layer that are dot products (`dot`).

Threads share them in parts as large as can be, each of which is read from end to end.
"""

from .ahead import fetch_some
from .blocking import (
    FAR,
    FEW_FROM_MEMORY,
    FEW_ROWS,
    FEW_SLICED,
    FEW_TERMS,
    KC,
    L1,
    MEMORY,
    STREAMED,
    STREAMED_PART,
    SUMS_STREAMED,
)
from .compiling import helper, internal
from .dot import some_outputs
from .epilogue import SGD, STORE, finish_block
from .matrix import Matrix, advance, block, has_rows_on_pages, rows, scalar
from .microkernel import columns_at_once, multiply_row, tile_shape
from .parallel import UNCHANGED, columns_of, product_work, share, sharers_of, tasks_for
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
    slicers = sharers_of(product_work(c.rows, c.columns, a.columns), crew)
    of_parts = reference((epilogue, c, e, a, b, scale, panels, parts, kc))
    if not by_columns:
        share(task_address(some_rows, of_parts), address(of_parts), parts, crew.memory)
    elif is_by_slices(c, b, kc, slicers, crew):
        by_slices(epilogue, c, e, a, b, scale, kc, panels, slicers, crew)
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
    part = advance(whole, SUMS_STREAMED if k * c.columns > FAR else STREAMED)
    j = 0
    while j < c.columns:
        n, stride = columns_at_once(c.columns - j, 2 * two, two), 2 * two
        streamed = b.column_stride == 1 and k * c.columns > L1 and c.columns - j > 2 * two
        if b.column_stride != 1:
            n = whole_squares(c.columns - j, two)
            sum_columns(whole, a, block(b, 0, j, k, n), kc)
        elif streamed:
            n = min(columns_streamed(m, b), c.columns - j)
            stride = (n + two // 2 - 1) // (two // 2) * (two // 2)
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
    whole = c.columns // (two // 2) * (two // 2)
    for first, n in (0, whole), (whole, c.columns - whole):
        of_c, of_e = block(c, 0, first, 1, n), block(e, 0, first, 1, n)
        finish_some(epilogue, of_c, of_e, advance(sums, first), scale, staged)


@helper
def is_by_slices(c, b, kc, parts, crew):
    """Whether threads share a product's slices: then each reads whole rows of B, against which it then steps itself."""
    gain = c.rows <= FEW_SLICED or crew.known & UNCHANGED == 0
    return gain and parts > 1 and b.column_stride == 1 and b.rows > kc and b.rows * b.columns > FAR


@helper
def sums_of_slices(m, n, two):
    """Elements of the sums of a slice, and of one of their rows, where all slices have memory of their own."""
    stride = (n // two + 2) * two
    return m * stride, stride


def slices_size(m, n, k, nr, two, threads):
    """Elements of panels for few rows whose slices threads share."""
    if threads == 1 or n * k <= FAR:
        return 0
    size, _ = sums_of_slices(min(m, most_rows(n * k, True)), n, two)
    return 2 * nr * threads + max(2, -(-k // KC)) * size


@helper
def by_slices(epilogue, c, e, a, b, scale, kc, panels, parts, crew):
    """`few_rows` in so many parts of about as many rows of B, each read from end to end."""
    _, nr, two = tile_shape(c)
    size, stride = sums_of_slices(c.rows, c.columns, two)
    sums, slices = advance(panels, parts * 2 * nr), (b.rows + kc - 1) // kc
    of_slices = reference((sums, size, stride, a, b, parts, kc))
    share(task_address(some_slices, of_slices), address(of_slices), parts, crew.memory)
    parts = parts if c.rows > 1 else 1
    of_columns = reference((epilogue, c, e, sums, size, stride, slices, scale, panels, parts))
    share(task_address(finish_slices, of_columns), address(of_columns), parts, crew.memory)


@internal
def some_slices(arguments, task, _):
    """One task's share of them: of the first and the last perhaps only some columns."""
    sums, size, stride, a, b, parts, kc = arguments[0]
    first, start = slice_at(task, parts, b, kc)
    last, end = slice_at(task + 1, parts, b, kc)
    for number in range(first, last + 1):
        left, right = start if number == first else 0, end if number == last else b.columns
        p, at_once = number * kc, columns_streamed(a.rows, b)
        of_slice, k = advance(sums, number * size + left), min(kc, b.rows - p)
        if left < right:
            a_p, b_p = block(a, 0, p, a.rows, k), block(b, p, left, k, right - left)
            sum_slice(of_slice, stride, a_p, b_p, at_once, is_from_memory(b))


@helper
def slice_at(task, parts, b, kc):
    """In which slice a task's share of B begins, and at which of its columns, where a cache line begins."""
    first = task * b.rows * b.columns // parts
    number = first // (kc * b.columns)
    length = min(kc, b.rows - number * kc)
    column = (first - number * kc * b.columns) // max(length, 1)
    return number, column if column == b.columns else column // 16 * 16


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
    most = SUMS_STREAMED // m
    return (most if is_from_memory(b) else min(STREAMED, most)) // (two // 2) * (two // 2)


@internal
def finish_slices(arguments, task, worker):
    """One task's share of the columns: the slices' sums are added up, and finished."""
    epilogue, c, e, sums, size, stride, slices, scale, panels, parts = arguments[0]
    _, nr, _ = tile_shape(c)
    start, end = columns_of(task, parts, c.columns)
    staged = advance(panels, worker * 2 * nr)
    c, e = block(c, 0, start, c.rows, end - start), block(e, 0, start, c.rows, end - start)
    for i in range(c.rows):
        total = advance(sums, i * stride + start)
        for number in range(1, slices):
            add_part(total, advance(total, number * size), end - start)
        finish_streamed(epilogue, rows(c, i, 1), rows(e, i, 1), total, scale, staged)


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
