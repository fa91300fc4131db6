"""What a product copies, how much of B it takes at once, and how much memory that needs."""

from .blocking import (
    A_BLOCK,
    A_COLUMNS,
    A_FAR,
    A_PACKED,
    BETWEEN,
    BYTES_OF_A,
    BYTES_OF_PANELS,
    FAR,
    KC,
    L1,
    MANY_TILES,
    MC,
    MR,
    NEAR_ROWS,
    PACK_ROWS,
    PANELS,
    TERMS_TRANSPOSED,
)
from .compiling import helper
from .host import HOST
from .matrix import has_rows_on_lines, has_rows_on_pages, is_in_panels, itemsize
from .thin import thin_size

GROUP, WIDE = HOST.group, HOST.vectors == 4


def panels_size(m, n, k, itemsize, threads=1):
    """Elements of the vector `panels` for products (m, k) by (k, n), or the other way round."""
    return max(one_way_size(m, n, k, itemsize, threads), one_way_size(n, m, k, itemsize, threads))


def one_way_size(m, n, k, itemsize, threads):
    """`panels_size` for a C whose columns are adjacent; a single one is computed as a row, and a few may be."""
    if n == 1:
        m, n = n, m
    lanes = HOST.lanes(itemsize)
    nr, two = HOST.vectors * lanes, 2 * lanes
    size = size_as_it_is(m, n, k, nr, two, threads, itemsize)
    if pays_transposed(m, n, k, nr, two):
        size = max(size, size_as_it_is(n, m, k, nr, two, threads, itemsize))
    return size


def size_as_it_is(m, n, k, nr, two, threads, itemsize):
    """For a C that is computed as it is, or for one of fewer rows or terms."""
    packed = (min(m, packed_block(m, n, k, itemsize) // max(k, 1)) + 2 * MR) * k if is_packed(m, n, k, nr) else 0
    worker = max(thin_size(n, k, nr, two), worker_size(m, k, MR, two if n <= two else nr, 1))
    terms = min(k, most_terms(nr, itemsize))
    if panels_at_once(m, n, terms, nr, itemsize) > 1:
        worker = max(worker, worker_size(m, terms, MR, nr, PANELS))
    return -(-packed // nr) * nr + threads * worker


@helper
def is_packed(m, n, k, nr):
    """Whether A is copied, if its columns are not adjacent: many panels read it, and it is more than a first cache."""
    panels = A_COLUMNS if WIDE or m * k > A_FAR else nr
    return n >= panels * nr and m * k > L1


@helper
def packed_block(m, n, k, itemsize):
    """Elements of A that are copied at once: no more than B or C has, one of which is a layer's weights, unless few."""
    return max(A_BLOCK, min(A_PACKED // itemsize, n * k, m * n))


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
def panels_at_once(m, n, k, nr, itemsize):
    """Panels of B that every few tiles of A meet in turn: several, if A is in no near cache but they are."""
    many = n >= 2 * PANELS * nr and (n // nr) * ((m + MR - 1) // MR) >= MANY_TILES
    return PANELS if many and m * k * itemsize > BYTES_OF_A and k <= most_terms(nr, itemsize) else 1


@helper
def panels_behind(b, column, columns, nr):
    """Where the next panels of a B that lies in panels begin and end, so many columns, in elements; else 0 and 0."""
    if not is_in_panels(b):
        return 0, 0
    return column * b.rows, min(column + columns, (b.columns + nr - 1) // nr * nr) * b.rows


@helper
def most_terms(nr, itemsize):
    """Terms of each sum up to which several panels of B stay near."""
    return BYTES_OF_PANELS // (PANELS * nr * itemsize)


@helper
def worker_size(m, k, mr, width, panels):
    """Elements for a thread's sums and for its copied panels of B, and to the memory of the next thread."""
    return (sums_rows(m, k, mr, panels) + k) * panels * width + BETWEEN


@helper
def sums_rows(m, k, mr, panels):
    """Rows of a thread's sums: of as many tiles as are there together, or of one tile's sums, C and E."""
    return max(3, min(sums_tiles(k, panels), (m + mr - 1) // mr)) * mr


@helper
def whole_tiles(rows):
    """Rows of the tiles that hold so many, all of which have sums."""
    return (rows + MR - 1) // MR * MR


@helper
def sums_tiles(k, panels):
    """Tiles one below the other whose sums are there together, if there are so many."""
    if panels > 1:
        return max(1, GROUP // 2)
    return max(MC, GROUP) if k > KC else GROUP


@helper
def pays_transposed(m, n, k, nr, two):
    return 1 < n <= min(MR, 3 * two // 4) and m >= nr and k >= TERMS_TRANSPOSED
