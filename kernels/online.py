"""Training of small networks by minibatches of one or a few samples, where calls and edges would take most of the time.

Everything is a row of whole vectors, 0 behind its last element: no tile, no panel, no mask on the way, and no call but
one for a run. For that the weights are copied before a run and back after it, twice: Wᵀ, whose rows give the sums of
the next layer, and of layers whose δ goes further down W, whose rows give those of the layer below. A layer of a single
output has W alone. Every sum has the order that it has elsewhere: so the bits are the same.
"""

from collections import namedtuple

import numpy as np

from .blocking import CACHE_LINE, HOST, KC, ONLINE, ONLINE_BATCH, ROWS_AHEAD
from .compiling import helper, internal, jit
from .loss import mse
from .matrix import Matrix, Vector, advance, get, pointer_at, put, rows, scalar
from .microkernel import tile_shape
from .network import input_finite, layer_parameters, layer_size, parameters_size
from .parallel import read, write
from .rowwise import (
    copy_row,
    delta_row,
    forward_one,
    forward_row,
    output_delta_one,
    output_delta_row,
    update_one,
    update_rows,
)
from .simd import prefetch
from .tasks import address, reference
from .wide import slice_length

Layer = namedtuple("Layer", "slices kc WT b W g delta")
"""Into how many slices of how many inputs a sum is cut; pointers to Wᵀ, b, W; the Matrices g and δ, a row a sample."""

Online = namedtuple("Online", "table layers lanes x y")
"""Where each Layer is written down, how many there are, the lanes of a vector; and a minibatch as Matrices."""

N_OUT, SLICES, SLICE_LENGTH, ARRAYS = range(4)  # of a Layer, in its line of the table; ARRAYS and further on, addresses


def is_online(sizes, batch_size):
    """Whether that is worth its copies, which take no more memory than twice the parameters, or very little."""
    parameters = parameters_size(Vector(sizes, len(sizes)))
    if batch_size > ONLINE_BATCH or batch_size * parameters > ONLINE:
        return False
    return all(online_size(sizes, batch_size, size) <= 2 * parameters + 4096 for size in (4, 8))


def online_size(sizes, batch_size, itemsize):
    """Elements of the workspace."""
    lanes = HOST.lanes(itemsize)
    size = (len(sizes) + 1) * CACHE_LINE // itemsize + batch_size * sum(whole(int(sizes[i]), lanes) for i in (0, -1))
    for layer in range(1, len(sizes)):
        size += sum(extents(layer, int(sizes[layer - 1]), int(sizes[layer]), batch_size, lanes))
    return size


@helper
def whole(n, lanes):
    """n rounded up to whole vectors."""
    return (n + lanes - 1) // lanes * lanes


@helper
def extents(layer, n_in, n_out, batch_size, lanes):
    """Elements of Wᵀ, b, W, g and δ of a layer."""
    stride = whole(n_out, lanes)
    return (
        n_in * stride if n_out > 1 else 0,
        stride,
        n_out * whole(n_in, lanes) if layer > 1 or n_out == 1 else 0,
        batch_size * stride,
        batch_size * stride,
    )


@helper
def lay_out(table, start, sizes, batch_size, lanes):
    """Put every Layer, whose arrays begin at the pointer `start`, into the lines of a `table`."""
    for layer in range(1, sizes.size):
        n_in, n_out = sizes.data[layer - 1], sizes.data[layer]
        write(table, layer, N_OUT, n_out)
        kc = slice_length(n_in, n_out)
        write(table, layer, SLICES, (n_in + kc - 1) // kc)
        write(table, layer, SLICE_LENGTH, kc)
        number = ARRAYS
        for elements in extents(layer, n_in, n_out, batch_size, lanes):
            write(table, layer, number, address(start))
            start = advance(start, elements)
            number += 1


@helper
def layer_of(net, layer):
    n_out, samples = read(net.table, layer, N_OUT), net.x.rows
    stride = whole(n_out, net.lanes)
    return Layer(
        read(net.table, layer, SLICES),
        read(net.table, layer, SLICE_LENGTH),
        pointer_at(read(net.table, layer, ARRAYS), net.x.data),
        pointer_at(read(net.table, layer, ARRAYS + 1), net.x.data),
        pointer_at(read(net.table, layer, ARRAYS + 2), net.x.data),
        Matrix(pointer_at(read(net.table, layer, ARRAYS + 3), net.x.data), samples, n_out, stride, 1),
        Matrix(pointer_at(read(net.table, layer, ARRAYS + 4), net.x.data), samples, n_out, stride, 1),
    )


@helper
def row_of(m, s):
    """Pointer to the row of a sample."""
    return advance(m.data, s * m.row_stride)


@internal
def train_online(arguments, end, _):
    """A program as `train.train_in_turn` is one, for samples of an `order` only."""
    result, parameters, X, Y, order, batch_size, rate, sizes, workspace, _ = arguments[0]
    loss, first = result[0]
    for i in range(workspace.size):
        workspace.data[i] = 0
    _, _, two = tile_shape(X)
    lanes = two // 2
    table = (address(workspace.data) + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
    start = pointer_at(table + sizes.size * CACHE_LINE, parameters)
    x = Matrix(start, batch_size, X.columns, whole(X.columns, lanes), 1)
    y = Matrix(row_of(x, batch_size), batch_size, Y.columns, whole(Y.columns, lanes), 1)
    net = Online(table, sizes.size - 1, lanes, x, y)
    lay_out(table, row_of(y, batch_size), sizes, batch_size, lanes)
    exchange(net, parameters, False)
    rate = scalar(rate, X)
    while first < end:
        batch = min(batch_size, end - first)
        for s in range(batch):
            take_row(row_of(x, s), X, order.data[first + s])
            take_row(row_of(y, s), Y, order.data[first + s])
            later = order.data[min(first + s + ROWS_AHEAD, end - 1)]
            prefetch(address(advance(X.data, later * X.row_stride)))
            prefetch(address(advance(Y.data, later * Y.row_stride)))
        forward_rows(net, batch)
        of_batch = mse(rows(layer_of(net, net.layers).g, 0, batch), rows(y, 0, batch))
        if not (input_finite(rows(x, 0, batch), layer_of(net, 1).g) and np.isfinite(of_batch)):
            break
        backward_rows(net, batch, rate, scalar(2.0 / (batch * Y.columns), X), reference(scalar(1, X)))
        loss += of_batch * (batch / X.rows)
        first += batch
    exchange(net, parameters, True)
    result[0] = (loss, first)


@jit(inline=True)
def forward_rows(net, batch):
    """g of all layers."""
    below = net.x
    for layer in range(1, net.layers + 1):
        at = layer_of(net, layer)
        n_in, n_out = below.columns, at.g.columns
        for s in range(batch):
            g, x = row_of(at.g, s), row_of(below, s)
            if n_out > 1:
                forward_row(g, at.b, x, at.WT, at.g.row_stride, n_in, n_out, at.slices, at.kc)
            else:
                forward_one(g, at.b, x, at.W, 1, n_in, 1, at.slices, at.kc)
        below = at.g


@jit(inline=True)
def backward_rows(net, batch, rate, scale, one):
    """A step of gradient descent; `one` points to a 1, the input that b is the weight of."""
    at = layer_of(net, net.layers)
    for s in range(batch):
        delta, g, y = row_of(at.delta, s), row_of(at.g, s), row_of(net.y, s)
        if net.y.columns > 1:
            output_delta_row(delta, g, y, scale, net.y.columns)
        else:
            output_delta_one(delta, g, y, scale, 1)
    for layer in range(net.layers, 0, -1):
        at, below = layer_of(net, layer), net.x
        n_out, delta, stride = at.g.columns, at.delta.data, at.delta.row_stride
        if layer > 1:
            lower, slices = layer_of(net, layer - 1), (n_out + KC - 1) // KC
            below = lower.g
            for s in range(batch):
                target, g = row_of(lower.delta, s), row_of(below, s)
                delta_row(target, g, row_of(at.delta, s), at.W, below.row_stride, n_out, below.columns, slices, KC)
        n_in, x, x_stride = below.columns, below.data, below.row_stride
        if n_out > 1:
            update_rows(at.WT, stride, x, x_stride, delta, stride, n_in, n_out, batch, rate)
            update_rows(at.b, 0, one, 0, delta, stride, 1, n_out, batch, rate)
        else:
            update_one(at.b, 0, one, 0, delta, stride, 1, 1, batch, rate)
        if layer > 1 or n_out == 1:
            update_rows(at.W, x_stride, delta, stride, x, x_stride, n_out, n_in, batch, rate)


@helper
def take_row(target, m, i):
    """target = m[i], up to a whole vector."""
    if m.column_stride == 1:
        copy_row(target, advance(m.data, i * m.row_stride), m.columns)
    else:
        for j in range(m.columns):
            target[j] = get(m, i, j)


@helper
def exchange(net, parameters, back):
    """Copy the parameters to all layers' arrays, or `back`."""
    below = net.x
    for layer in range(1, net.layers + 1):
        at = layer_of(net, layer)
        W, b = layer_parameters(parameters, below.columns, at.g.columns)
        for j in range(at.g.columns):
            for i in range(below.columns):
                if back:
                    put(W, j, i, at.WT[i * at.g.row_stride + j] if at.g.columns > 1 else at.W[i])
                else:
                    if at.g.columns > 1:
                        at.WT[i * at.g.row_stride + j] = get(W, j, i)
                    if layer > 1 or at.g.columns == 1:
                        at.W[j * below.row_stride + i] = get(W, j, i)
            if back:
                b.data[j] = at.b[j]
            else:
                at.b[j] = b.data[j]
        parameters = advance(parameters, layer_size(below.columns, at.g.columns))
        below = at.g
