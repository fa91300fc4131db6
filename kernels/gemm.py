"""Products fused with what follows them: any extents, any strides, serial or shared, one register tile at a time.

The sum of an element is taken in slices of k that follow from sizes alone: one accumulator holds a slice's terms, the
slices are added in order. So its bits depend on nothing but its own row of A and column of B: not on where the tiles
fall, who computes them, or how many other rows there are.

C is computed in panels of NR columns, from its top to its bottom. Where rows of B lie far apart, or are not rows in
memory, a panel of B is copied before it is used. Where there are many panels, so is a large A, once for all of them,
unless its columns are adjacent: then its rows are fetched a tile ahead. So each tile reads what is adjacent or near.
"""

from numba import types
from numba.extending import intrinsic

from .ahead import fetch_some
from .blocking import (
    A_BLOCK,
    A_COLUMNS,
    A_PACKED,
    COPY,
    FLAT,
    HOST,
    KC,
    L1,
    MC,
    MR,
    OUTER,
    PACK_ROWS,
    PREFETCH,
    STREAMED,
)
from .compiling import helper, implements, internal, jit
from .epilogue import SGD, SIGMOID_DELTA, STORE, finish, finish_outer, finish_row
from .matrix import Matrix, advance, block, matrix, pointer, row_major, rows, scalar, transposed
from .microkernel import EXPECT_A, EXPECT_C, EXPECT_E, accumulate, add_rows, multiply_row, stream_rows
from .panel import copy, copy_any
from .parallel import KEPT, WORKER, Crew, columns_of, crew_of, lead, read, share, tasks_for, worth_sharing, write
from .tasks import ONE, ZERO, address, call_task, outlined, reference, task_address

GROUP = HOST.group


def panels_size(m, n, k, itemsize, threads=1):
    """Elements of the vector `panels` for products (m, k) by (k, n), or the other way round."""
    return max(one_way_size(m, n, k, itemsize, threads), one_way_size(n, m, k, itemsize, threads))


def one_way_size(m, n, k, itemsize, threads):
    """`panels_size` for a C whose columns are adjacent; a single column is computed as a row."""
    if n == 1:
        m, n = n, m
    lanes = HOST.lanes(itemsize)
    nr = HOST.vectors * lanes
    packed = (min(m, A_PACKED // max(k, 1)) + 2 * MR) * k if is_packed(m, n, k, nr) else 0
    worker = max(worker_size(k, MR, 2 * lanes if n <= 2 * lanes else nr), row_size(nr) if n > 4 * lanes else 0)
    return -(-packed // nr) * nr + threads * worker


@helper
def is_packed(m, n, k, nr):
    """Whether A is copied, if its columns are not adjacent: many panels read it, and it is more than a first cache."""
    return n >= A_COLUMNS * nr and m * k > L1


@helper
def worker_size(k, mr, width):
    """Elements for a thread's sums, or those of a single tile with its C and E, and for its copied panel of B."""
    return (k + (sums_tiles(k) + 1) * mr) * width


@helper
def sums_tiles(k):
    """Tiles one below the other whose sums are there together."""
    return max(MC, GROUP) if k > KC else GROUP


@jit
def product(c, a, b, panels, team):
    """C = A B.

    c (m, n), a (m, k), b (k, n) are arrays of one dtype, float32 or float64, with any strides, and c overlaps
    neither a nor b; `panels` is a vector of panels_size(m, n, k, itemsize, threads) elements, `team` says who
    computes.
    """
    c = matrix(c)
    fused_product(STORE, c, c, matrix(a), matrix(b), 0.0, KC, pointer(panels), team)


def fused_product(epilogue, c, e, a, b, scale, kc, panels, team):
    """C = epilogue(A B, E), all Matrices, `panels` a pointer; by a Crew, or by a Team, called together for it.

    The sum over k is in slices of `kc`.
    """
    raise NotImplementedError("for compiled code")


@outlined
def product_by_crew(epilogue, c, e, a, b, scale, kc, panels, team):
    c, e, a, b = oriented(c, e, a, b)
    if c.rows == 1 and b.column_stride == 1:
        parts = max(1, min(tasks_for(c.columns * a.columns, team), 2 * c.columns // STREAMED))
        if parts == 1:
            row_product(epilogue, c, e, a, b, scale, kc, panels)
            return
        arguments = reference((epilogue, c, e, a, ZERO, b, scale, panels, parts, team, kc))
        share(task_address(row_task, arguments), address(arguments), parts, team.memory)
        return
    arguments = reference((epilogue, c, e, a, MR * a.row_stride, b, scale, panels, ONE, team, kc))
    function = task_address(compute_tiles, arguments)
    if not is_one_task(c, a.columns, team):
        function = task_address(compute, arguments)
    call_task(function, address(arguments), team.memory, 0)


@implements(fused_product)
def _fused_product(epilogue, c, e, a, b, scale, kc, panels, team):
    def by_team(epilogue, c, e, a, b, scale, kc, panels, team):
        c, e, a, b = oriented(c, e, a, b)
        arguments = reference((epilogue, c, e, a, MR * a.row_stride, b, scale, panels, ONE, crew_of(team), kc))
        lead(task_address(compute, arguments), address(arguments), crew_of(team), c.rows * c.columns * a.columns)

    def by_crew(epilogue, c, e, a, b, scale, kc, panels, team):
        product_by_crew(epilogue, c, e, a, b, scale, kc, panels, team)

    return by_crew if team.instance_class is Crew else by_team


@helper
def oriented(c, e, a, b):
    """The product as it is, or transposed if then the columns of C are adjacent; a column is computed as a row."""
    if c.row_stride == 1 and (c.column_stride != 1 or c.columns == 1):
        return transposed(c), transposed(e), transposed(b), transposed(a)
    return c, e, a, b


@jit(inline=True)
def is_one_task(c, k, crew):
    """Whether a product is neither shared nor cut into blocks, nor A copied."""
    _, nr, _ = tile_shape(c)
    alone = crew.memory == 0 or not worth_sharing(c.rows * c.columns * k, crew.grain)
    return alone and c.rows * k <= A_BLOCK and not is_packed(c.rows, c.columns, k, nr)


@internal
def compute(arguments, memory, _):
    """The product, block after block of its rows, each shared by the crew."""
    epilogue, c, e, a, step, b, scale, panels, _, crew, kc = arguments[0]
    crew = Crew(crew.threads, crew.grain, memory, crew.ahead)
    if c.rows == 0 or c.columns == 0:
        return
    mr, nr, _ = tile_shape(c)
    k = a.columns
    packed = is_packed(c.rows, c.columns, k, nr) and a.column_stride != 1 and k > 1
    block_rows, largest = c.rows, A_PACKED if packed or has_long_rows(a) else A_BLOCK
    if c.rows * k > largest:
        block_rows = max(1, largest // (mr * k)) * mr
    scratch = panels
    if packed:
        scratch = advance(panels, (((block_rows + mr - 1) // mr * mr) * k + nr - 1) // nr * nr)
    for i in range(0, c.rows, block_rows):
        m = min(block_rows, c.rows - i)
        a_block = rows(a, i, m)
        if packed:
            parts = tasks_for(COPY * m * k, crew)
            packing = reference((panels, a_block, parts))
            share(task_address(pack, packing), address(packing), parts, memory)
            a_block, step = Matrix(panels, m, k, 1, mr), mr * k
        parts = tasks_for(m * c.columns * k, crew)
        tiles = reference((epilogue, rows(c, i, m), rows(e, i, m), a_block, step, b, scale, scratch, parts, crew, kc))
        share(task_address(compute_tiles, tiles), address(tiles), parts, memory)


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
    for tile in range(task * tiles // parts, (task + 1) * tiles // parts):
        m = min(mr, a.rows - tile * mr)
        source = transposed(block(a, tile * mr, 0, m, a.columns))
        copy(Matrix(advance(panels, tile * mr * a.columns), a.columns, m, mr, 1), source)


@internal
def compute_tiles(arguments, task, worker):
    """One task's share of C: of a block of its rows, some of the tiles, numbered down one panel after the other.

    Where C is large and the sums short, it is C that has to come from afar: then in bands of a few rows, and in each
    panel after panel. The rows of A for one tile begin `step` elements behind those for the one before.
    """
    epilogue, c, e, a, step, b, scale, scratch, parts, crew, kc = arguments[0]
    mr, nr, two = tile_shape(c)
    k = a.columns
    down = (c.rows + mr - 1) // mr
    whole = c.columns // nr  # panels; behind them a narrower one, or two
    rest = c.columns - whole * nr
    panels = whole + (rest > 0) + (rest > columns_at_once(rest, nr, two))
    tiles = down * panels
    expected = 0
    if k >= PREFETCH and c.rows * c.columns > L1:
        expected = EXPECT_C + EXPECT_E if epilogue == SIGMOID_DELTA else EXPECT_C
    rows_of_a = EXPECT_A if nr > two and has_long_rows(a) and c.rows * k > 4 * L1 else 0
    of_outer = k == 1 and epilogue in (STORE, SGD) and c.column_stride == 1
    group = sums_tiles(k) if c.column_stride == 1 and e.column_stride == 1 else 1
    width = two if c.columns <= two else nr
    sums = advance(scratch, worker * worker_size(k, mr, width))
    staged = advance(sums, mr * width)  # of C and E, a tile each, where the group is a single tile
    packed = advance(sums, (sums_tiles(k) + 1) * mr * width)
    band, copied = down, b.column_stride != 1 or (c.rows > PACK_ROWS and k * c.columns > L1)
    if k <= FLAT and c.rows * c.columns > A_BLOCK and b.column_stride == 1:
        band, copied = group, False
    tile, end, panel, first, top = 0, tiles, 0, 0, 0  # the band's first row of tiles, and the task's in this panel
    if parts > 1:
        tile, end = task * tiles // parts, (task + 1) * tiles // parts
        first = tile // (band * panels) * band
        left, height = tile - first * panels, min(band, down - first)
        panel = left // height
        top = first + left - panel * height
    while tile < end:
        bottom = min(first + band, down, top + end - tile)
        tile += bottom - top
        j = panel * nr if panel <= whole else whole * nr + two
        n = columns_at_once(c.columns - j, nr, two)
        b_panel = block(b, 0, j, k, n)
        if copied:
            b_packed = Matrix(packed, k, n, width, 1)
            if parts == 1 or read(crew.memory, WORKER + worker, KEPT) != panel:
                copy(b_packed, b_panel)
                if parts > 1:
                    write(crew.memory, WORKER + worker, KEPT, panel)
            b_panel = b_packed
        outer = of_outer and n > two // 2
        at_once = OUTER if outer else group
        for t in range(top, bottom, at_once):
            i = t * mr
            m = min(min(at_once, bottom - t) * mr, c.rows - i)
            c_block, e_block = block(c, i, j, m, n), block(e, i, j, m, n)
            if parts == 1 and crew.ahead != 0:
                fetch_some(crew.ahead)
            if outer:
                x = advance(a.data, t * step)
                factor = scalar(scale, c)
                finish_outer(epilogue, c_block.data, c.row_stride, x, a.row_stride, b_panel.data, factor, m, n)
                continue
            for p in range(0, max(k, 1), kc):
                accumulate(
                    sums,
                    advance(a.data, t * step + p * a.column_stride),
                    step,
                    a.row_stride,
                    a.column_stride,
                    advance(b_panel.data, p * b_panel.row_stride),
                    b_panel.row_stride,
                    m,
                    n,
                    min(kc, k - p),
                    p > 0,
                    expected + rows_of_a if p == 0 else rows_of_a,
                    c_block.data,
                    c_block.row_stride,
                    e_block.data,
                    e_block.row_stride,
                )
            finish_block(epilogue, c_block, e_block, sums, scale, staged)
        panel += 1
        if panel == panels:
            panel, first = 0, first + band
        top = first


@jit(inline=True)
def columns_at_once(left, nr, two):
    """Columns of the next panel where so many are left: NR, or up to 2 vectors, so that 3 are computed as 2 and 1."""
    return min(left, nr) if left > nr - two // 2 else min(left, two)


@outlined
def finish_block(epilogue, c, e, sums, scale, staged):
    """C = epilogue(sums, E), by way of `staged` where the columns of C or E are not adjacent."""
    c_data, c_stride, e_data, e_stride = c.data, c.row_stride, e.data, e.row_stride
    adjacent = c.column_stride == 1 and e.column_stride == 1
    if not adjacent:
        c_data, e_data, c_stride, e_stride = staged, advance(staged, c.rows * c.columns), c.columns, c.columns
        copy_any(row_major(c_data, c.rows, c.columns), c)
        copy_any(row_major(e_data, c.rows, c.columns), e)
    finish(epilogue, c_data, c_stride, e_data, e_stride, sums, scale, c.rows, c.columns)
    if not adjacent:
        copy_any(c, row_major(c_data, c.rows, c.columns))


@helper
def row_size(nr):
    """Elements for the sums of a single row of many columns, and for its C and E."""
    return 2 * STREAMED + 2 * nr


@internal
def row_task(arguments, task, worker):
    """One task's share of the columns of `row_product`."""
    epilogue, c, e, a, _, b, scale, panels, parts, _, kc = arguments[0]
    _, nr, _ = tile_shape(c)
    start, end = columns_of(task, parts, c.columns)
    some, panels = end - start, advance(panels, worker * row_size(nr))
    c, e = block(c, 0, start, 1, some), block(e, 0, start, 1, some)
    row_product(epilogue, c, e, a, block(b, 0, start, a.columns, some), scale, kc, panels)


@outlined
def row_product(epilogue, c, e, a, b, scale, kc, panels):
    """`fused_product` for a C of one row and rows of B in memory, by one thread; `panels` has `row_size` elements."""
    _, nr, two = tile_shape(c)
    k = a.columns
    slices = max(1, (k + kc - 1) // kc)
    staged, whole = panels, advance(panels, 2 * nr)
    part = advance(whole, STREAMED)
    j = 0
    while j < c.columns:
        n = columns_at_once(c.columns - j, 2 * two, two)
        if k * c.columns > L1 and c.columns - j > 2 * two:
            n = min(STREAMED, c.columns - j) // (two // 2) * (two // 2)
            for p in range(0, k, kc):
                sums = part if p > 0 else whole
                a_p, b_p = advance(a.data, p * a.column_stride), advance(b.data, p * b.row_stride + j)
                stream_rows(sums, a_p, a.column_stride, b_p, b.row_stride, n, min(kc, k - p), False)
                if p > 0:
                    stream_rows(whole, reference(scalar(1, c)), 0, part, 0, n, 1, True)
        else:
            multiply_row(whole, a.data, a.column_stride, advance(b.data, j), b.row_stride, n, k, slices, kc)
        sums, end = whole, j + n
        while j < end:
            n = columns_at_once(end - j, nr, two)
            finish_block(epilogue, block(c, 0, j, 1, n), block(e, 0, j, 1, n), sums, scale, staged)
            sums, j = advance(sums, n), j + n


@outlined
def fused_sum(epilogue, c, b, scale, panels, team):
    """C = epilogue(sum of the rows of B), for a C of one row: the bits of a product by a row of ones."""
    near = b.column_stride == 1 and c.column_stride == 1 and b.rows <= KC
    if near and not worth_sharing(b.rows * b.columns, team.grain):
        _, nr, two = tile_shape(c)
        j = 0
        while j < c.columns:
            n = columns_at_once(c.columns - j, nr, two)
            add_rows(panels, advance(b.data, j), b.row_stride, n, b.rows)
            finish_row(epilogue, advance(c.data, j), panels, scalar(scale, b), n)
            j += n
    else:
        ones = Matrix(reference(scalar(1, b)), 1, b.rows, 0, 0)
        fused_product(epilogue, c, c, ones, b, scale, KC, panels, team)


@intrinsic
def tile_shape(typingctx, m):
    """(MR, NR, 2 VL) for the elements of Matrix m."""
    lanes = HOST.lanes(m[0].dtype.bitwidth // 8)

    def codegen(context, builder, signature, args):
        shape = [context.get_constant(types.intp, extent) for extent in (MR, HOST.vectors * lanes, 2 * lanes)]
        return context.make_tuple(builder, signature.return_type, shape)

    return types.UniTuple(types.intp, 3)(m), codegen
