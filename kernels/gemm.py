"""Products fused with what follows them: any extents, any strides, serial or shared, one tile at a time.

The sum of an element is never split: one accumulator holds it from its first term to its last. So its bits
depend on nothing but its own row of A and column of B: not on where the tiles fall, who computes them, or how
many other rows there are.
"""

from numba.extending import overload, register_jitable

from .blocking import HOST, NV
from .compiling import jit
from .matrix import Matrix, advance, block, copy, matrix, pointer, transposed
from .microkernel import STORE, tile
from .parallel import address, reference, run_tasks_parallel, run_tasks_serial, task_address


def panels_size(k, itemsize, threads=1):
    """Elements of the vector `panels` for products of inner extent up to k: a part for each thread."""
    return threads * (k + 2 * HOST.rows) * NV * HOST.lanes(itemsize)


@jit
def product(c, a, b, panels, team):
    """C = A B.

    c (m, n), a (m, k), b (k, n) are arrays of one dtype, float32 or float64, with any strides, and c overlaps
    neither a nor b; `panels` is a vector of `panels_size` elements, `team` says who computes.
    """
    c = matrix(c)
    fused_product(STORE, c, c, matrix(a), matrix(b), 0.0, pointer(panels), team)


@jit
def fused_product(epilogue, c, e, a, b, scale, panels, team):
    """C = epilogue(A B, E), all Matrices; `panels` is a pointer."""
    if c.column_stride != 1 and c.row_stride == 1:
        c, e, a, b = transposed(c), transposed(e), transposed(b), transposed(a)
    tasks = max(1, min(team.threads, c.rows * c.columns * a.columns // team.grain))
    arguments = reference((epilogue, c, e, a, b, scale, panels, tasks))
    function = task_address(compute_tiles, arguments)
    if tasks > 1:
        run_tasks_parallel(function, address(arguments), tasks)
    else:
        run_tasks_serial(function, address(arguments), tasks)


@jit
def compute_tiles(arguments, task):
    """One task's share of the tiles of C, which are numbered down each column panel of NR, panel after panel."""
    epilogue, c, e, a, b, scale, panels, tasks = arguments[0]
    mr, nr = tile_shape(c)
    k = a.columns
    row_tiles = (c.rows + mr - 1) // mr
    tiles = row_tiles * ((c.columns + nr - 1) // nr)
    b_panel = advance(panels, task * (k + 2 * mr) * nr)
    c_panel = advance(b_panel, k * nr)
    e_panel = advance(c_panel, mr * nr)
    b_j = -1
    b_tile = b
    for number in range(task * tiles // tasks, (task + 1) * tiles // tasks):
        i, j = number % row_tiles * mr, number // row_tiles * nr  # splits m by MR, n by NR
        m, n = min(mr, c.rows - i), min(nr, c.columns - j)
        if j != b_j:
            b_j = j
            b_tile = with_adjacent_columns(block(b, 0, j, k, n), b_panel)
        c_block = block(c, i, j, m, n)
        c_tile = with_adjacent_columns(c_block, c_panel)
        e_tile = with_adjacent_columns(block(e, i, j, m, n), e_panel)
        tile(
            epilogue,
            c_tile.data,
            c_tile.row_stride,
            e_tile.data,
            e_tile.row_stride,
            advance(a.data, i * a.row_stride),
            a.row_stride,
            a.column_stride,
            b_tile.data,
            b_tile.row_stride,
            scale,
            m,
            n,
            k,
        )
        if c.column_stride != 1:
            copy(c_block, c_tile)


def tile_shape(m):
    """(MR, NR) of the tile for the elements of Matrix m, in compiled code."""
    raise NotImplementedError("for compiled code")


@overload(tile_shape)
def _tile_shape(m):
    shape = HOST.rows, NV * HOST.lanes(m[0].dtype.bitwidth // 8)
    return lambda m: shape


@register_jitable
def with_adjacent_columns(m, panel):
    """m, copied to `panel` if its columns are not adjacent, as the vector loads of the tile want them."""
    if m.column_stride == 1:
        return m
    _, nr = tile_shape(m)
    staged = Matrix(panel, m.rows, m.columns, nr, 1)
    copy(staged, m)
    return staged
