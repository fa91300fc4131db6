"""Training of small networks by one thread, laid out in rows of whole vectors."""

import numpy as np

from .ahead import NOTHING, expect_rows, fetch_all_in, worth_fetching
from .blocking import CACHE_LINE, FEW_OUTPUTS, KC, MOST_ACROSS, ONLINE, ONLINE_SINGLE, PADDING, ROWS_AHEAD
from .compiling import helper, internal
from .layout import lay_out, layer_of, places, row_of, small_size
from .loss import mse, row_parts, rows_of_part
from .matrix import Vector, advance, get, itemsize, rows, scalar
from .network import gradient_length, input_finite, parameters_size, promised
from .panel import gather
from .rowwise import copy_row
from .simd import prefetch
from .small import delta_of_outputs, errors_of_outputs, forward_apart, forward_rows, step_rows, turns_of_fetching
from .tasks import address, outlined, reference


def is_online(sizes, batch_size):
    """Whether that is worth its copies, in the memory that is promised, or very little more."""
    vector, most = Vector(sizes, len(sizes)), promised(sizes, batch_size, copies=0) + PADDING
    sizes_of_both = (small_size(vector, batch_size, itemsize) for itemsize in (4, 8))
    return pays_online(vector, batch_size) and all(size <= most for size in sizes_of_both)


@helper
def pays_online(sizes, batch_size):
    """Whether so small products are the quicker without tiles."""
    limit = ONLINE_SINGLE if batch_size == 1 else ONLINE
    if sizes.data[1] == 1 and batch_size * sizes.data[0] > MOST_ACROSS:
        return False
    return batch_size <= KC and batch_size * parameters_size(sizes) <= limit


@internal
def train_online(arguments, end, _):
    """A program for samples of an `order`, with the weights that are laid out in the workspace, as `laid_out` says."""
    result, _, X, Y, order, batch_size, rate, sizes, workspace, _ = arguments[0]
    loss, first = result[0]
    ahead = address(reference(NOTHING)) if worth_fetching(X, Y, batch_size) else 0
    net = lay_out(*places(workspace, sizes), sizes, batch_size, ahead)
    if ahead != 0:
        fetch_all_in(ahead, turns_of_fetching(sizes, batch_size), batch_size, X)
    rate = scalar(rate, X)
    kc = gradient_length(sizes, batch_size)
    while first < end:
        batch = min(batch_size, end - first)
        if batch < batch_size:
            kc = gradient_length(sizes, batch)
        x, y = rows(net.x, 0, batch), rows(net.y, 0, batch)
        numbers, scale = advance(order.data, first), scalar(2.0 / (batch * Y.columns), X)
        delta, finite = scalar(0, X), True
        if net.apart:
            for s in range(batch):
                take_row(row_of(x, s), X, numbers[s])
                take_row(row_of(y, s), Y, numbers[s])
                if ahead != 0:
                    later = order.data[min(first + s + ROWS_AHEAD, end - 1)]
                    x_row, size = address(advance(X.data, later * X.row_stride)), X.columns * itemsize(X.data)
                    for byte in range(0, size, CACHE_LINE):
                        prefetch(x_row + byte)
                    prefetch(x_row + size - 1)
                    prefetch(address(advance(Y.data, later * Y.row_stride)))
            delta = forward_apart(net, batch, scale)
            finite = input_finite(x, layer_of(net, 1).g)
        else:
            finite = gather(x, X, numbers)
            finite &= gather(y, Y, numbers)
            if ahead != 0:
                expect_rows(ahead, X, Y, order, first + batch, first + 2 * batch)
            forward_rows(net, batch, 0, 0)
        if net.apart or Y.columns <= FEW_OUTPUTS:
            of_batch = mse(rows(layer_of(net, net.layers).g, 0, batch), y)
        else:
            of_batch = mean_error(net, batch)
        if not (finite and np.isfinite(of_batch)):
            break
        if not net.apart:
            delta_of_outputs(net, batch, scale)
        step_rows(net, batch, kc, rate, delta)
        loss += of_batch * (batch / X.rows)
        first += batch
    result[0] = (loss, first)


@outlined
def mean_error(net, batch):
    """`loss.mse` of many samples."""
    errors, parts = 0.0, row_parts(batch, net.y.columns)
    for part in range(parts):
        errors += errors_of_outputs(net, *rows_of_part(part, parts, batch))
    return errors / (batch * net.y.columns)


@helper
def take_row(target, m, i):
    """target = m[i], up to a whole vector."""
    if m.column_stride == 1:
        copy_row(target, advance(m.data, i * m.row_stride), m.columns)
    else:
        for j in range(m.columns):
            target[j] = get(m, i, j)
