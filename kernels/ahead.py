"""Rows of the next minibatch are fetched into the cache while the products of this one are computed.

They lie anywhere in memory, and gathering them takes a fifth of a step of a small network if it has to wait for each.
They go no further than the second cache: so a step of 784-30-10 by 10 and 64-64-10 by 32 takes 0.86 of the time, from
250 MB of samples. A processor stops when its buffers for lines on their way are full: a few are asked for at a time.
"""

from .blocking import BYTES_AHEAD, BYTES_NEAR, CACHE_LINE, LINES_AHEAD
from .compiling import helper
from .matrix import bytes_of, itemsize
from .parallel import read, write
from .simd import prefetch_far
from .tasks import address, outlined

X_ROWS, Y_ROWS, ORDER, NEXT_ROW = range(4)  # lines of what is expected
FIRST_BYTE, STRIDE, BYTES = range(3)  # of X or Y
# The number in ORDER that is next, where they end, the byte of its row of X; and how much `fetch_more` fetches.
ROW, LAST, OFFSET, TIMES = range(4)
BYTES_OF_LINES = 4 * CACHE_LINE  # of memory for what is expected
NOTHING = (0,) * (BYTES_OF_LINES // 8)


@helper
def are_far(X, Y):
    """Whether all samples together are too much for the cache."""
    return bytes_of(X) + bytes_of(Y) > BYTES_NEAR


@helper
def worth_fetching(X, Y, batch):
    """Whether it pays for such minibatches: all samples are far, and those of one not too much for the cache."""
    return are_far(X, Y) and may_be_fetched(batch, X.columns + Y.columns, itemsize(X.data))


@helper
def may_be_fetched(batch, columns, itemsize):
    """Whether so many samples, of so many inputs and targets, are few enough, with what else is in their lines."""
    return batch * (columns * itemsize + 2 * CACHE_LINE) <= BYTES_AHEAD


@outlined
def expect_rows(ahead, X, Y, order, first, last) -> None:
    """Have `fetch_some` fetch rows order[first], ... order[last-1], if there are so many, of X and Y.

    `ahead` is the address of 4 lines.
    """
    last = min(last, order.size)
    for line, source in ((X_ROWS, X), (Y_ROWS, Y)):
        write(ahead, line, FIRST_BYTE, address(source.data))
        write(ahead, line, STRIDE, source.row_stride * itemsize(source.data))
        write(ahead, line, BYTES, source.columns * itemsize(source.data))
    write(ahead, ORDER, 0, address(order.data))
    write(ahead, NEXT_ROW, ROW, first)
    write(ahead, NEXT_ROW, LAST, last if X.column_stride == 1 and Y.column_stride == 1 else first)
    write(ahead, NEXT_ROW, OFFSET, 0)


@helper
def fetch_some(ahead):
    """Begin to fetch the next few cache lines, if any are left."""
    row, last, offset = read(ahead, NEXT_ROW, ROW), read(ahead, NEXT_ROW, LAST), read(ahead, NEXT_ROW, OFFSET)
    (of_X, x_stride, x_size), (of_Y, y_stride, y_size) = source_of(ahead, X_ROWS), source_of(ahead, Y_ROWS)
    order, lines = read(ahead, ORDER, 0), 0
    while row < last and lines < LINES_AHEAD:
        number = read(order, 0, row)
        x, y = of_X + number * x_stride, of_Y + number * y_stride
        end = min(x_size, offset + LINES_AHEAD * CACHE_LINE)
        for byte in range(offset, end, CACHE_LINE):
            prefetch_far(x + byte)
        lines += (end - offset) // CACHE_LINE + 2
        offset = end
        if end == x_size:
            prefetch_far(x + end - 1)
            prefetch_far(y)
            prefetch_far(y + y_size - 1)
            row, offset = row + 1, 0
    write(ahead, NEXT_ROW, ROW, row)
    write(ahead, NEXT_ROW, OFFSET, offset)


@helper
def source_of(ahead, line):
    """Of X or Y: the first byte, and bytes from row to row and of a row."""
    return read(ahead, line, FIRST_BYTE), read(ahead, line, STRIDE), read(ahead, line, BYTES)


@helper
def fetch_all_in(ahead, turns, rows, X):
    """Have `fetch_more` fetch so many rows in so many turns."""
    lines = rows * (X.columns * itemsize(X.data) // CACHE_LINE + 3)
    write(ahead, NEXT_ROW, TIMES, (lines + turns * LINES_AHEAD - 1) // (turns * LINES_AHEAD))


@outlined
def fetch_more(ahead) -> None:
    """`fetch_some`, so many times as `fetch_all_in` has made out, and out of the way where nothing is fetched."""
    for _ in range(read(ahead, NEXT_ROW, TIMES)):
        fetch_some(ahead)
