"""What one task does of a product: its share of the tiles of C, or of a copy of A."""

from .ahead import fetch_some
from .blocking import FAR, L1, PANELS, PREFETCH, TILES_COPIED
from .compiling import helper, internal, jit
from .epilogue import SGD, SIGMOID_DELTA, STORE, finish_block, finish_panels
from .matrix import (
    Matrix,
    advance,
    block,
    has_adjacent_columns,
    itemsize,
    panel_block,
    scalar,
    transposed,
)
from .microkernel import (
    EXPECT_A,
    EXPECT_B,
    EXPECT_C,
    EXPECT_E,
    EXPECT_NEXT,
    accumulate,
    columns_at_once,
    fetched_by,
    tile_shape,
)
from .packing import is_copied, lies_apart, panels_at_once, panels_behind, sums_rows, sums_tiles, worker_size
from .panel import copied_panel, copy, copy_panels, copy_tiles
from .parallel import KEPT, WORKER, first_of, read, write


@jit(inline=True)
def has_long_rows(a):
    """Whether the rows of A for the next tile can be fetched, by us or by the processor, while this one is computed."""
    return a.column_stride == 1 and a.columns >= PREFETCH


@internal
def pack(arguments, task, _):
    """One task's share of the copy of A: tile after tile, MR elements for each p."""
    panels, a, parts = arguments[0]
    mr, _, _ = tile_shape(a)
    tiles = (a.rows + mr - 1) // mr
    tile, end = task * tiles // parts, (task + 1) * tiles // parts
    while tile < end:
        at, m = advance(panels, tile * mr * a.columns), min(TILES_COPIED, end - tile) * mr
        if a.row_stride == 1 and tile * mr + m <= a.rows:
            copy_tiles(at, advance(a.data, tile * mr), a.column_stride, a.columns, m)
            tile += m // mr
        else:
            m = min(mr, a.rows - tile * mr)
            copy(Matrix(at, a.columns, m, mr, 1), transposed(block(a, tile * mr, 0, m, a.columns)))
            tile += 1


@helper
def sum_panel(sums, a, step, b, kc, expected, beside, c, e, behind, stride):
    """sums = A·B for a panel of B, in slices of k: C and E are `expected` with the first, and `beside` with every one.

    Of B what lies at the pointer `behind` is fetched then, and with each next slice so many elements further on as its
    terms take of `stride`.
    """
    k = a.columns
    for p in range(0, max(k, 1), kc):
        accumulate(
            sums,
            advance(a.data, p * a.column_stride),
            step,
            a.row_stride,
            a.column_stride,
            advance(b.data, p * b.row_stride),
            b.row_stride,
            a.rows,
            b.columns,
            min(kc, k - p),
            p > 0,
            expected + beside if p == 0 else beside,
            c.data,
            c.row_stride,
            e.data,
            e.row_stride,
            advance(behind, p * stride),
        )


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
    panels = panels_at_once(c.rows, c.columns, k, nr, itemsize(c.data))
    wide = panels * nr
    tiles = down * ((c.columns + wide - 1) // wide)
    expected = 0
    if c.rows * c.columns > (L1 if k >= PREFETCH else FAR):
        expected = EXPECT_C + EXPECT_E if epilogue == SIGMOID_DELTA else EXPECT_C
    far = has_long_rows(a) and c.rows * k > FAR
    adjacent = has_adjacent_columns(c) and has_adjacent_columns(e)
    group = sums_tiles(k, panels) if adjacent else 1
    sums = advance(scratch, worker * worker_size(c.rows, k, mr, width, panels))
    staged = advance(sums, mr * width)  # of C and E, a tile each, where the group is a single tile
    packed = advance(sums, sums_rows(c.rows, k, mr, panels) * panels * width)
    copied = is_copied(c.rows, b, nr)
    apart = not copied and lies_apart(b)
    tile, end, column, top = 0, tiles, 0, 0
    if parts > 1:
        tile, end = first_of(task, parts, tiles), first_of(task + 1, parts, tiles)
        column = tile // down
        top = tile - column * down
    while tile < end:
        bottom = min(down, top + end - tile)
        tile += bottom - top
        left = column * wide
        right = min(left + wide, c.columns)
        if copied and (parts == 1 or read(crew.memory, WORKER + worker, KEPT) != column):
            copy_panels(packed, b, left, right - left, nr, two)
            if parts > 1:
                write(crew.memory, WORKER + worker, KEPT, column)
        fetched, last = panels_behind(b, right, wide, nr)
        by_rows = epilogue in (STORE, SGD) and c.column_stride == 1 and right - left == PANELS * nr
        for t in range(top, bottom, group):
            i = t * mr
            m = min(min(group, bottom - t) * mr, c.rows - i)
            if parts == 1 and crew.ahead != 0:
                fetch_some(crew.ahead)
            j, panel_sums = left, sums
            while j < right:
                n = columns_at_once(right - j, nr, two)
                c_block, e_block = panel_block(c, i, j, m, n), panel_block(e, i, j, m, n)
                b_panel = panel_block(b, 0, j, k, n)
                if copied:
                    b_panel = copied_panel(packed, j - left, k, n, nr, two)
                beside, behind, stride = EXPECT_A if far and j == 0 else 0, advance(b.data, fetched), fetched_by(m, 1)
                if apart and t == top and j + n < c.columns:
                    beside, behind, stride = beside + EXPECT_NEXT, advance(b_panel.data, n), b_panel.row_stride
                elif fetched < last:
                    beside += EXPECT_B
                a_rows = Matrix(advance(a.data, t * step), m, k, a.row_stride, a.column_stride)
                sum_panel(panel_sums, a_rows, step, b_panel, kc, expected, beside, c_block, e_block, behind, stride)
                fetched += fetched_by(m, k)
                if by_rows:
                    panel_sums = advance(panel_sums, m * nr)
                else:
                    finish_block(epilogue, c_block, e_block, sums, scale, staged)
                j += n
            if by_rows:
                c_rows = block(c, i, left, m, PANELS * nr)
                finish_panels(epilogue, c_rows.data, c.row_stride, sums, scalar(scale, c), m)
        column, top = column + 1, 0
