"""A product of few rows, of whose sums threads share the slices: each reads about as many rows of B, from end to end.

Parts of every row would be half of a page or less, and what a processor fetches behind them is another thread's. And a
thread that trains steps against the same rows: others' would come from another core, which on far ones takes longer
than to compute. But the sums of all slices have to be added up, which other threads have just written.
"""

from .blocking import FAR, FEW_SLICED, KC
from .compiling import helper, internal
from .few_rows import add_part, columns_streamed, finish_streamed, is_from_memory, most_rows, sum_slice
from .matrix import advance, block, rows
from .microkernel import tile_shape
from .parallel import UNCHANGED, columns_of, share
from .tasks import address, reference, task_address


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
