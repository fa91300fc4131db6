"""Products fused with what follows them: any extents, any strides, serial or shared, one register tile at a time.

The sum of an element is taken in slices of k that follow from sizes alone: one accumulator holds a slice's terms, the
slices are added in order. So its bits depend on nothing but its own row of A and column of B: not on where the tiles
fall, who computes them, or how many other rows there are.

C is computed in panels of NR columns, from its top to its bottom. Where there are many, and A is in no near cache,
several go down side by side, some rows at a time, so that A comes from afar once for all of them; of long sums more,
slice of k by slice. Where rows of B lie far apart, or are not rows in memory, panels of B are copied before they are
used; for few rows of A the next one is fetched instead, and several go down side by side, slice of k by slice. Where
there are many panels, a large A is copied too, once for all of them, unless its columns are adjacent: then its rows are
fetched a tile ahead, for the first panel. So each tile reads what is adjacent or near.
A C of few columns and many rows is computed as its transpose, if then the rows of B are rows in memory. Where C has few
rows, or its sums few terms, no tiles are computed: the largest operand is streamed (`thin`). The outputs of a layer
that `is_dotted` are dot products (`dot`), whose terms have an order of their own. To compile that takes as long as all
tiles do, and to share products or cut them into blocks a tenth of a first compilation: a crew has the address of what
does the one and the other, of what does the other, or none.
"""

import numpy as np

from .blocking import A_BLOCK, A_PACKED, BETWEEN, COPY, DOTS, KC, LONG, MR, SUMMED
from .compiling import helper, implements, internal, jit
from .epilogue import BIAS_SIGMOID, STORE, finish_row
from .matrix import Matrix, advance, is_in_panels, itemsize, matrix, pointer, row_major, rows, scalar, transposed
from .microkernel import ROWS, add_rows, columns_at_once, tile_shape
from .packing import is_packed, packed_block, panels_at_once, pays_transposed, whole_tiles
from .parallel import Crew, columns_of, lead, product_work, share, tasks_for, worth_sharing
from .tasks import ONE, ZERO, address, call_task, outlined, reference, task_address
from .thin import stream
from .tiles import compute_tiles, has_long_rows, pack


def crew_of(team, like):
    """The Crew of a Team, for the dtype behind the pointer `like`, in compiled code; a Crew is given back as it is."""
    raise NotImplementedError("for compiled code")


@implements(crew_of)
def _crew_of(team, like):
    if team.instance_class is Crew:
        return lambda team, like: team
    return lambda team, like: Crew(
        np.intp(team.threads), np.intp(team.grain), 0, 0, 0, task_address(streamed_or_in_blocks, any_product(like))
    )


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

    The sum over k is in slices of `kc`; of g, if that is DOTS, it is a dot product.
    """
    raise NotImplementedError("for compiled code")


@implements(fused_product)
def _fused_product(epilogue, c, e, a, b, scale, kc, panels, team):
    def by_team(epilogue, c, e, a, b, scale, kc, panels, team):
        crew = crew_of(team, panels)
        arguments = reference((epilogue, c, e, a, b, scale, kc, panels, crew))
        lead(task_address(_product, arguments), address(arguments), crew, product_work(c.rows, c.columns, a.columns))

    def by_crew(epilogue, c, e, a, b, scale, kc, panels, team):
        product_by_crew(epilogue, c, e, a, b, scale, kc, panels, team)

    return by_crew if team.instance_class is Crew else by_team


@internal
def _product(arguments, memory, _):
    """A product by a crew that has just been called together for it."""
    epilogue, c, e, a, b, scale, kc, panels, crew = arguments[0]
    crew = Crew(crew.threads, crew.grain, memory, crew.ahead, crew.known, crew.otherwise)
    product_by_crew(epilogue, c, e, a, b, scale, kc, panels, crew)


@outlined
def product_by_crew(epilogue, c, e, a, b, scale, kc, panels, crew) -> None:
    """`fused_product` by `otherwise`, if the crew has it and it takes such a product, or by tiles in a single task."""
    dots = epilogue == BIAS_SIGMOID and (c.columns == 1 or kc == DOTS)
    if not dots:
        c, e, a, b = oriented(c, e, a, b)
    if crew.otherwise != 0:
        done = reference(ZERO)
        product = reference(of_product(done, dots, epilogue, c, e, a, b, scale, panels, crew, kc))
        call_task(crew.otherwise, address(product), crew.memory, 0)
        if done[0] != 0:
            return
    tiles = reference((epilogue, c, e, a, MR * a.row_stride, b, scale, panels, ONE, crew, kc))
    call_task(task_address(compute_tiles, tiles), address(tiles), crew.memory, 0)


@internal
def in_blocks(arguments, memory, _):
    """A product that is shared, or cut into blocks; done[0] is 1 after such a one."""
    done, _, epilogue, c, e, a, b, scale, panels, crew, kc = arguments[0]
    if not is_one_task(c, a.columns, crew):
        done[0] = 1
        blocks = reference((epilogue, c, e, a, MR * a.row_stride, b, scale, panels, ONE, crew, kc))
        call_task(task_address(compute, blocks), address(blocks), memory, 0)


@internal
def streamed_or_in_blocks(arguments, memory, _):
    """A product that is streamed, or as by `in_blocks`."""
    done, dots, epilogue, c, e, a, b, scale, panels, crew, kc = arguments[0]
    if stream(dots != 0, epilogue, c, e, a, b, scale, panels, crew, kc):
        done[0] = 1
    else:
        call_task(task_address(in_blocks, arguments), address(arguments), memory, 0)


@helper
def any_product(like):
    """What points to the arguments of these two, for the dtype behind the pointer `like`."""
    m = row_major(like, 0, 0)
    return reference(of_product(reference(ZERO), False, 0, m, m, m, m, 0.0, like, Crew(0, 0, 0, 0, 0, 0), 0))


@helper
def of_product(done, dots, epilogue, c, e, a, b, scale, panels, crew, kc):
    """The arguments of these, in the types that they are compiled for, whatever integers the sizes are."""
    c, e, a, b = of_intp(c), of_intp(e), of_intp(a), of_intp(b)
    return done, np.intp(dots), np.intp(epilogue), c, e, a, b, np.float64(scale), panels, crew, np.intp(kc)


@helper
def of_intp(m):
    return Matrix(m.data, np.intp(m.rows), np.intp(m.columns), np.intp(m.row_stride), np.intp(m.column_stride))


@helper
def oriented(c, e, a, b):
    """The product as it is, or transposed if then the columns of C are adjacent; a column is computed as a row.

    Or the other way round, if these columns are too few.
    """
    if c.rows == 1:
        return c, e, a, b
    upright = c.columns == 1 or is_in_panels(transposed(c)) or (c.row_stride == 1 and c.column_stride != 1)
    if (upright and not has_narrow_rows(transposed(c), transposed(b))) or has_narrow_rows(c, a):
        return transposed(c), transposed(e), transposed(b), transposed(a)
    return c, e, a, b


@helper
def has_narrow_rows(c, a):
    """Whether the columns of C, of which there are few, fill lanes so much better that it pays to transpose C twice."""
    _, nr, two = tile_shape(c)
    adjacent = c.column_stride == 1 and a.row_stride == 1
    return adjacent and pays_transposed(c.rows, c.columns, a.columns, nr, two)


@jit(inline=True)
def is_one_task(c, k, crew):
    """Whether a product is neither shared nor cut into blocks, nor A copied."""
    _, nr, _ = tile_shape(c)
    alone = crew.memory == 0 or not worth_sharing(product_work(c.rows, c.columns, k), crew.grain)
    return alone and fits_in_a_block(c.rows, c.columns, k, nr)


@helper
def fits_in_a_block(m, n, k, nr):
    return m * k <= A_BLOCK and not is_packed(m, n, k, nr)


@internal
def compute(arguments, memory, _):
    """The product, block after block of its rows, each shared by the crew."""
    epilogue, c, e, a, step, b, scale, panels, _, crew, kc = arguments[0]
    if c.rows == 0 or c.columns == 0:
        return
    mr, nr, _ = tile_shape(c)
    k = a.columns
    packed = is_packed(c.rows, c.columns, k, nr) and a.column_stride != 1 and k > 1
    block_rows, largest = c.rows, A_PACKED // itemsize(c.data) if has_long_rows(a) else A_BLOCK
    if packed:
        largest = packed_block(c.rows, c.columns, k, itemsize(c.data))
    elif k > LONG and panels_at_once(c.rows, c.columns, k, nr, itemsize(c.data), crew.threads) > 1:
        largest = c.rows * k  # each time it is read is for many columns
    if c.rows * k > largest:
        block_rows = max(1, largest // (mr * k)) * mr
    scratch = panels
    if packed:
        scratch = advance(panels, (whole_tiles(block_rows) * k + nr - 1) // nr * nr)
    for i in range(0, c.rows, block_rows):
        m = min(block_rows, c.rows - i)
        a_block = rows(a, i, m)
        if packed:
            parts = tasks_for(COPY * m * k, crew)
            packing = reference((panels, a_block, parts))
            share(task_address(pack, packing), address(packing), parts, memory)
            a_block, step = Matrix(panels, m, k, 1, ROWS), mr * k
        parts = tasks_for(product_work(m, c.columns, k), crew)
        tiles = reference((epilogue, rows(c, i, m), rows(e, i, m), a_block, step, b, scale, scratch, parts, crew, kc))
        share(task_address(compute_tiles, tiles), address(tiles), parts, memory)


@outlined
def fused_sum(epilogue, c, b, scale, kc, panels, crew) -> None:
    """C = epilogue(sum of the rows of B), for a C of one row: the bits of a product by a row of ones, in slices too."""
    if b.column_stride == 1 and c.column_stride == 1:
        parts = tasks_for(SUMMED * b.rows * b.columns, crew)
        sums = reference((epilogue, c, b, scale, kc, panels, parts))
        share(task_address(some_sums, sums), address(sums), parts, crew.memory)
    else:
        ones = Matrix(reference(scalar(1, b)), 1, b.rows, 0, 0)
        fused_product(epilogue, c, c, ones, b, scale, kc, panels, crew)


@internal
def some_sums(arguments, task, worker):
    """One task's share of the columns."""
    epilogue, c, b, scale, kc, panels, parts = arguments[0]
    _, nr, two = tile_shape(c)
    sums = advance(panels, worker * (nr + BETWEEN))
    j, end = columns_of(task, parts, c.columns)
    while j < end:
        n = columns_at_once(end - j, nr, two)
        add_rows(sums, advance(b.data, j), b.row_stride, n, b.rows, kc)
        finish_row(epilogue, advance(c.data, j), sums, scalar(scale, b), n)
        j += n
