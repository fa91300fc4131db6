"""What a product copies, how much of B it takes at once, and how much memory that needs."""

import itertools

from .blocking import (
    A_BLOCK,
    A_COLUMNS,
    A_FAR,
    A_LONG,
    A_PACKED,
    BETWEEN,
    BYTES_ACROSS,
    BYTES_OF_A,
    BYTES_OF_LONG,
    BYTES_OF_PANELS,
    BYTES_OF_ROWS,
    FAR,
    KC,
    L1,
    LONG,
    MANY_TILES,
    MC,
    MR,
    NARROW,
    NEAR_ROWS,
    PACK_ROWS,
    PANELS,
    TERMS_TRANSPOSED,
)
from .compiling import helper
from .dot import dots_size
from .few_rows import thin_size
from .host import HOST
from .matrix import has_rows_on_lines, has_rows_on_pages, is_in_panels, itemsize
from .slices import slices_size

GROUP, WIDE = HOST.group, HOST.vectors == 4
PANEL_BYTES = HOST.vectors * HOST.vector_bytes  # of a row of a panel
MOST_TERMS = BYTES_OF_PANELS // (PANELS * PANEL_BYTES)  # of each sum up to which several panels stay near


def panels_size(m, n, k, itemsize, threads=1):
    """Elements of the vector `panels` for products (m, k) by (k, n), or the other way round."""
    return max(one_way_size(m, n, k, itemsize, threads), one_way_size(n, m, k, itemsize, threads))


def one_way_size(m, n, k, itemsize, threads, streamed=False):
    """`panels_size` for a C whose columns are adjacent; a single one is computed as a row, and a few may be.

    A row is `streamed` where crews do that and B is rows or columns in memory; of few terms, perhaps, only rows.
    """
    if n == 1:
        m, n = n, m
    lanes = HOST.lanes(itemsize)
    nr, two = HOST.vectors * lanes, 2 * lanes
    if streamed and m == 1 and k >= lanes:
        worker = max(thin_size(n, k, nr, two), dots_size(n if n <= NARROW else 1, k, lanes))
        return max(threads * worker, slices_size(m, n, k, nr, two, threads))
    size = size_as_it_is(m, n, k, nr, two, threads, itemsize)
    if pays_transposed(m, n, k, nr, two):
        size = max(size, size_as_it_is(n, m, k, nr, two, threads, itemsize))
    return size


def size_as_it_is(m, n, k, nr, two, threads, itemsize):
    """For a C that is computed as it is, or for one of fewer rows or terms."""
    packed = (min(m, packed_block(m, n, k, itemsize) // max(k, 1)) + 2 * MR) * k if is_packed(m, n, k, nr) else 0
    worker = max(thin_size(n, k, nr, two), worker_size(m, k, MR, two if n <= two else nr, 1, itemsize))
    if n <= NARROW:
        worker = max(worker, dots_size(n, k, two // 2))
    if meets_many(m, n, k, nr, itemsize):
        worker = max(worker, worker_size(m, min(k, MOST_TERMS), MR, nr, PANELS, itemsize))
    workers = max(threads * worker, slices_size(m, n, k, nr, two, threads))
    if k > LONG and meets_many(m, n, k, nr, itemsize):
        for some, panels in itertools.product(range(1, threads + 1), range(2, most_of_long(n, nr) + 1)):
            terms = min(k, BYTES_OF_LONG // (some * panels * PANEL_BYTES))
            workers = max(workers, some * worker_size(m, terms, MR, nr, panels, itemsize))
    return -(-packed // nr) * nr + workers


@helper
def is_packed(m, n, k, nr):
    """Whether A is copied, if its columns are not adjacent: many panels read it, and it is more than a first cache."""
    panels = A_COLUMNS if WIDE or m * k > A_FAR else nr
    return n >= panels * nr and m * k > L1


@helper
def packed_block(m, n, k, itemsize):
    """Elements of A that are copied at once: no more than B or C has, one of which is a layer's weights, unless few."""
    return max(A_BLOCK, min((A_LONG if k > LONG else A_PACKED) // itemsize, n * k, m * n))


@helper
def is_copied(m, b, nr):
    """Whether panels of B are copied: their elements are not adjacent, or rows so far apart that it pays for m of A."""
    if is_in_panels(b):
        return False
    if b.column_stride != 1:
        return True
    if b.rows * b.columns <= L1:
        return False
    if b.row_stride * itemsize(b.data) <= NEAR_ROWS:
        return m > 2 * PACK_ROWS and b.columns > nr and not has_rows_on_lines(b)
    if has_rows_on_pages(b):
        return m > PACK_ROWS // 2
    return m > (2 * PACK_ROWS if b.rows > 2 * KC and lies_apart(b) else PACK_ROWS)


@helper
def lies_apart(b):
    """Whether the rows of a panel are far from the processor and from each other, so that each has to be waited for."""
    return b.column_stride == 1 and b.rows * b.columns > FAR and b.row_stride * itemsize(b.data) > NEAR_ROWS


@helper
def panels_at_once(m, n, k, nr, itemsize, threads):
    """Panels of B that every few tiles of A meet in turn: several, if they but not A stay near, or sums are long."""
    if not meets_many(m, n, k, nr, itemsize):
        return 1
    if k > LONG:
        return max(1, min(most_of_long(n, nr), BYTES_OF_LONG // (threads * k * PANEL_BYTES)))
    return PANELS if k <= MOST_TERMS else 1


@helper
def meets_many(m, n, k, nr, itemsize):
    """Whether A, which is in no near cache, meets many panels, and C has so many tiles that threads share it well."""
    many = n >= 2 * PANELS * nr and (n // nr) * ((m + MR - 1) // MR) >= MANY_TILES
    return many and m * k * itemsize > BYTES_OF_A


@helper
def most_of_long(n, nr):
    """Panels at once of long sums, whose copies are no more than an eighth of B."""
    return min(BYTES_ACROSS // PANEL_BYTES, n // (8 * nr))


@helper
def panels_behind(b, column, columns, nr):
    """Where the next panels of a B that lies in panels begin and end, so many columns, in elements; else 0 and 0."""
    if not is_in_panels(b):
        return 0, 0
    return column * b.rows, min(column + columns, (b.columns + nr - 1) // nr * nr) * b.rows


@helper
def worker_size(m, k, mr, width, panels, itemsize):
    """Elements for a thread's sums and for its copied panels of B, and to the memory of the next thread."""
    return (sums_rows(m, k, mr, panels, itemsize) + k) * panels * width + BETWEEN


@helper
def sums_rows(m, k, mr, panels, itemsize):
    """Rows of a thread's sums: of as many tiles as are there together, or of one tile's sums, C and E."""
    return max(3, min(sums_tiles(k, panels, itemsize), (m + mr - 1) // mr)) * mr


@helper
def whole_tiles(rows):
    """Rows of the tiles that hold so many, all of which have sums."""
    return (rows + MR - 1) // MR * MR


@helper
def sums_tiles(k, panels, itemsize):
    """Tiles one below the other whose sums are there together, if there are so many."""
    if panels > 1:
        return BYTES_OF_ROWS // (MR * KC * itemsize) if k > LONG else max(1, GROUP // 2)
    return max(MC, GROUP) if k > KC else GROUP


@helper
def pays_transposed(m, n, k, nr, two):
    return 1 < n <= min(MR, 3 * two // 4) and m >= nr and k >= TERMS_TRANSPOSED
