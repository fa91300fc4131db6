"""What one task does of a product: its share of the tiles of C, or of a copy of A."""

from collections import namedtuple

from .ahead import fetch_some
from .blocking import FAR, L1, PANELS, PANELS_AFAR, PREFETCH, TILES_COPIED
from .compiling import helper, internal, jit
from .epilogue import SGD, SIGMOID_DELTA, STORE, finish_block, finish_panels
from .matrix import (
    Matrix,
    advance,
    block,
    has_adjacent_columns,
    itemsize,
    panel_block,
    rows,
    scalar,
    transposed,
)
from .microkernel import (
    EXPECT_A,
    EXPECT_B,
    EXPECT_C,
    EXPECT_E,
    EXPECT_NEXT,
    ROWS,
    accumulate,
    columns_at_once,
    fetched_by,
    tile_shape,
)
from .packing import (
    is_copied,
    lies_apart,
    panels_at_once,
    panels_behind,
    sums_rows,
    sums_tiles,
    whole_tiles,
    worker_size,
)
from .panel import copied_panel, copy, copy_panels, copy_tiles
from .parallel import FROM_AFAR, KEPT, WORKER, first_of, read, write


@jit(inline=True)
def has_long_rows(a):
    """Whether the rows of A for the next tile can be fetched, by us or by the processor, while this one is computed."""
    return a.column_stride == 1 and a.columns >= PREFETCH


@internal
def pack(arguments, task, _):
    """One task's share of the copy of A: tile after tile, ROWS elements for each p."""
    panels, a, parts = arguments[0]
    tiles = (a.rows + ROWS - 1) // ROWS
    tile, end = task * tiles // parts, (task + 1) * tiles // parts
    while tile < end:
        at, m = advance(panels, tile * ROWS * a.columns), min(TILES_COPIED, end - tile) * ROWS
        if a.row_stride == 1 and tile * ROWS + m <= a.rows:
            copy_tiles(at, advance(a.data, tile * ROWS), a.column_stride, a.columns, m)
            tile += m // ROWS
        else:
            m = min(ROWS, a.rows - tile * ROWS)
            copy(Matrix(at, a.columns, m, ROWS, 1), transposed(block(a, tile * ROWS, 0, m, a.columns)))
            tile += 1


Across = namedtuple("Across", "left right nr two")
"""Panels of C side by side: from which column to which, and how wide they are."""


@internal
def compute_tiles(arguments, task, worker):
    """One task's share of C: of a block of its rows, some of the tiles.

    A tile is as wide as the panels that go down side by side, and they are numbered down these, then down the next.
    The rows of A for one tile begin `step` elements behind those for the one before.
    """
    epilogue, c, e, a, step, b, scale, scratch, parts, crew, kc = arguments[0]
    mr, nr, two = tile_shape(c)
    k = a.columns
    down = (c.rows + mr - 1) // mr
    width = two if c.columns <= two else nr
    adjacent = has_adjacent_columns(c) and has_adjacent_columns(e)
    copied = is_copied(c.rows, b, nr)
    apart = not copied and lies_apart(b)
    item = itemsize(c.data)
    panels = panels_at_once(c.rows, c.columns, k, nr, item, crew.threads)
    sums = advance(scratch, worker * worker_size(c.rows, k, mr, width, panels, item))
    packed = advance(sums, sums_rows(c.rows, k, mr, panels, item) * panels * width)
    group = sums_tiles(k, panels, item) if adjacent else 1
    if apart and adjacent and kc < k:
        most = min(PANELS_AFAR, c.columns // (parts * nr), k // (down * mr))  # their sums take what copies would
        if most > panels:
            panels, group = most, down
    staged = advance(sums, panels * mr * width)  # of C and E, a tile each, where the group is a single tile
    wide = panels * nr
    tiles = down * ((c.columns + wide - 1) // wide)
    expected = 0
    if c.rows * c.columns > (L1 if k >= PREFETCH else FAR):
        expected = EXPECT_C + EXPECT_E if epilogue == SIGMOID_DELTA else EXPECT_C
    far = has_long_rows(a) and c.rows * k > (L1 if crew.known & FROM_AFAR else FAR)
    tile, end, column, top = 0, tiles, 0, 0
    if parts > 1:
        tile, end = first_of(task, parts, tiles), first_of(task + 1, parts, tiles)
        column = tile // down
        top = tile - column * down
    while tile < end:
        bottom = min(down, top + end - tile)
        tile += bottom - top
        across = Across(column * wide, min((column + 1) * wide, c.columns), nr, two)
        if copied and (parts == 1 or read(crew.memory, WORKER + worker, KEPT) != column):
            copy_panels(packed, b, across.left, across.right - across.left, nr, two)
            if parts > 1:
                write(crew.memory, WORKER + worker, KEPT, column)
        behind, last = panels_behind(b, across.right, wide, nr)
        for t in range(top, bottom, group):
            m = min(min(group, bottom - t) * mr, c.rows - t * mr)
            if parts == 1 and crew.ahead != 0:
                fetch_some(crew.ahead)
            c_rows, e_rows = rows(c, t * mr, m), rows(e, t * mr, m)
            a_rows = Matrix(advance(a.data, t * step), m, k, a.row_stride, a.column_stride)
            copies = packed, copied, apart and t == top
            ahead = expected, far, behind, last
            behind = sum_panels(sums, c_rows, e_rows, a_rows, step, b, copies, across, kc, ahead)
            finish_across(epilogue, c_rows, e_rows, sums, scale, staged, across)
        column, top = column + 1, 0


@helper
def sum_panels(sums, c, e, a, step, b, copies, across, kc, ahead):
    """sums = A·B for panels side by side, slice of k by slice, panel by panel.

    C and E are `expected` with the first slice, the next rows of A with C's first panel if they are `far`, and of B the
    next panel if it lies `apart`; or what lies `behind` the panels, as far as the `last`. From where on that has not
    been fetched is returned.
    """
    packed, copied, apart = copies
    expected, far, behind, last = ahead
    left, right, nr, two = across
    m, k = c.rows, a.columns
    for p in range(0, max(k, 1), kc):
        terms, j = min(kc, k - p), left
        while j < right:
            n = columns_at_once(right - j, nr, two)
            c_block, e_block = panel_block(c, 0, j, m, n), panel_block(e, 0, j, m, n)
            b_block = copied_panel(packed, j - left, k, n, nr, two) if copied else panel_block(b, 0, j, k, n)
            b_slice = advance(b_block.data, p * b_block.row_stride)
            then, fetched = expected if p + kc >= k else 0, advance(b.data, behind)
            if far and j == 0:
                then += EXPECT_A
            if apart and (j + n < c.columns or p + kc < k):
                then, fetched = then + EXPECT_NEXT, advance(b_slice, n)
                if j + n == right:
                    fetched = advance(b.data, (p + kc) * b.row_stride + left if p + kc < k else right)
            elif behind < last:
                then += EXPECT_B
            accumulate(
                advance(sums, (j - left) * whole_tiles(m)),
                advance(a.data, p * a.column_stride),
                step,
                a.row_stride,
                a.column_stride,
                b_slice,
                b_block.row_stride,
                m,
                n,
                terms,
                p > 0,
                then,
                c_block.data,
                c_block.row_stride,
                e_block.data,
                e_block.row_stride,
                fetched,
            )
            behind += fetched_by(m, terms)
            j += n
    return behind


@helper
def finish_across(epilogue, c, e, sums, scale, staged, across):
    """C = epilogue(sums, E) for panels side by side."""
    left, right, nr, two = across
    m, j = c.rows, left
    while epilogue in (STORE, SGD) and c.column_stride == 1 and right - j >= PANELS * nr:
        of_panels = advance(sums, (j - left) * whole_tiles(m))
        finish_panels(epilogue, advance(c.data, j), c.row_stride, of_panels, scalar(scale, c), m)
        j += PANELS * nr
    while j < right:
        n = columns_at_once(right - j, nr, two)
        c_block, e_block = panel_block(c, 0, j, m, n), panel_block(e, 0, j, m, n)
        finish_block(epilogue, c_block, e_block, advance(sums, (j - left) * whole_tiles(m)), scale, staged)
        j += n
