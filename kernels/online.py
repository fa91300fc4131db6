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
from .gemm import tile_shape
from .loss import squared_error
from .matrix import Vector, advance, get, pointer_at, put, rows, scalar
from .network import layer_parameters, layer_size, parameters_size, training_size
from .panel import all_finite
from .parallel import Crew, read, write
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
from .train import check_parameters, keep_parameters
from .wide import slice_length, slices_of

Rows = namedtuple("Rows", "data n stride")
"""A row of n elements for every sample, so many elements from one to the next: whole vectors."""

Layer = namedtuple("Layer", "slices kc WT b W g delta")
"""Into how many slices of how many inputs a sum is cut; pointers to Wᵀ, b and W; g and δ as Rows."""

Online = namedtuple("Online", "table layers lanes x y")
"""Where each Layer is written down, how many there are, the lanes of a vector; and a minibatch as Rows."""


def is_online(sizes, batch_size):
    """Whether that is worth its copies, which take no more memory than twice the parameters, or very little."""
    parameters = parameters_size(Vector(sizes, len(sizes)))
    if batch_size > ONLINE_BATCH or batch_size * parameters > ONLINE:
        return False
    return all(online_size(sizes, batch_size, size) <= 2 * parameters + 4096 for size in (4, 8))


def fit_size(sizes, batch_size, itemsize, threads=1):
    """`training_size`, with what `train_online` takes of the workspace if it is the one to train."""
    online = online_size(sizes, batch_size, itemsize) if is_online(sizes, batch_size) else 0
    return max(online, training_size(sizes, batch_size, itemsize, threads))


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
        write(table, layer, 0, n_out)
        write(table, layer, 1, slices_of(n_in, n_out))
        write(table, layer, 2, slice_length(n_in, n_out))
        number = 3
        for elements in extents(layer, n_in, n_out, batch_size, lanes):
            write(table, layer, number, address(start))
            start = advance(start, elements)
            number += 1


@helper
def layer_of(net, layer):
    n_out = read(net.table, layer, 0)
    stride = whole(n_out, net.lanes)
    return Layer(
        read(net.table, layer, 1),
        read(net.table, layer, 2),
        pointer_at(read(net.table, layer, 3), net.x.data),
        pointer_at(read(net.table, layer, 4), net.x.data),
        pointer_at(read(net.table, layer, 5), net.x.data),
        Rows(pointer_at(read(net.table, layer, 6), net.x.data), n_out, stride),
        Rows(pointer_at(read(net.table, layer, 7), net.x.data), n_out, stride),
    )


@helper
def row_of(rows, s):
    return advance(rows.data, s * rows.stride)


@internal
def train_online(arguments, memory, _):
    """As `train.train_in_turn`, for the samples of an `order` only."""
    guard, rest = arguments[0]
    parameters, X, Y, order, last, batch_size, rate, sizes, workspace, team = rest
    loss, first = keep_parameters(guard, parameters, Crew(team.threads, team.grain, memory, 0))
    for i in range(workspace.size):
        workspace.data[i] = 0
    _, _, two = tile_shape(X)
    lanes = two // 2
    table = (address(workspace.data) + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
    x = Rows(pointer_at(table + sizes.size * CACHE_LINE, parameters), X.columns, whole(X.columns, lanes))
    y = Rows(advance(x.data, batch_size * x.stride), Y.columns, whole(Y.columns, lanes))
    net = Online(table, sizes.size - 1, lanes, x, y)
    lay_out(table, advance(y.data, batch_size * y.stride), sizes, batch_size, lanes)
    exchange(net, parameters, False)
    rate = scalar(rate, X)
    while first < last:
        batch = min(batch_size, last - first)
        for s in range(batch):
            take_row(row_of(x, s), X, order.data[first + s])
            take_row(row_of(y, s), Y, order.data[first + s])
            later = order.data[min(first + s + ROWS_AHEAD, last - 1)]
            prefetch(address(advance(X.data, later * X.row_stride)))
            prefetch(address(advance(Y.data, later * Y.row_stride)))
        forward_rows(net, batch)
        finite, lowest = True, layer_of(net, 1).g
        for s in range(batch):  # as `input_finite`
            finite &= 0 < row_of(lowest, s)[0] < 1 or all_finite(rows(X, order.data[first + s], 1))
        of_batch = mean_error(layer_of(net, net.layers).g, y, batch)
        if not (finite and np.isfinite(of_batch)):
            break
        backward_rows(net, batch, rate, scalar(2.0 / (batch * Y.columns), X), reference(scalar(1, X)))
        loss += of_batch * (batch / X.rows)
        first += batch
    exchange(net, parameters, True)
    check_parameters(guard, parameters, sizes, loss, first, Crew(team.threads, team.grain, memory, 0))


@jit(inline=True)
def forward_rows(net, batch):
    """g of all layers."""
    below = net.x
    for layer in range(1, net.layers + 1):
        at = layer_of(net, layer)
        for s in range(batch):
            if at.g.n > 1:
                forward_row(
                    row_of(at.g, s), at.b, row_of(below, s), at.WT, at.g.stride, below.n, at.g.n, at.slices, at.kc
                )
            else:
                forward_one(row_of(at.g, s), at.b, row_of(below, s), at.W, 1, below.n, 1, at.slices, at.kc)
        below = at.g


@jit(inline=True)
def mean_error(g, y, batch):
    """𝓛, in the bits of `loss.mse`."""
    total = 0.0
    for j in range(y.n):
        output = 0.0
        for s in range(batch):
            output += squared_error(np.float64(row_of(g, s)[j]), np.float64(row_of(y, s)[j]))
        total += output
    return total / (batch * y.n)


@jit(inline=True)
def backward_rows(net, batch, rate, scale, one):
    """A step of gradient descent; `one` points to a 1, the input that b is the weight of."""
    at = layer_of(net, net.layers)
    for s in range(batch):
        if at.g.n > 1:
            output_delta_row(row_of(at.delta, s), row_of(at.g, s), row_of(net.y, s), scale, at.g.n)
        else:
            output_delta_one(row_of(at.delta, s), row_of(at.g, s), row_of(net.y, s), scale, 1)
    for layer in range(net.layers, 0, -1):
        at, below = layer_of(net, layer), net.x
        delta, n_out = at.delta, at.g.n
        if layer > 1:
            lower, slices = layer_of(net, layer - 1), (n_out + KC - 1) // KC
            below = lower.g
            for s in range(batch):
                target, g = row_of(lower.delta, s), row_of(below, s)
                delta_row(target, g, row_of(delta, s), at.W, below.stride, n_out, below.n, slices, KC)
        if n_out > 1:
            update_rows(
                at.WT, delta.stride, below.data, below.stride, delta.data, delta.stride, below.n, n_out, batch, rate
            )
            update_rows(at.b, 0, one, 0, delta.data, delta.stride, 1, n_out, batch, rate)
        else:
            update_one(at.b, 0, one, 0, delta.data, delta.stride, 1, 1, batch, rate)
        if layer > 1 or n_out == 1:
            update_rows(
                at.W, below.stride, delta.data, delta.stride, below.data, below.stride, n_out, below.n, batch, rate
            )


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
        W, b = layer_parameters(parameters, below.n, at.g.n)
        for j in range(at.g.n):
            for i in range(below.n):
                if back:
                    put(W, j, i, at.WT[i * at.g.stride + j] if at.g.n > 1 else at.W[i])
                else:
                    if at.g.n > 1:
                        at.WT[i * at.g.stride + j] = get(W, j, i)
                    if layer > 1 or at.g.n == 1:
                        at.W[j * below.stride + i] = get(W, j, i)
            if back:
                b.data[j] = at.b[j]
            else:
                at.b[j] = b.data[j]
        parameters = advance(parameters, layer_size(below.n, at.g.n))
        below = at.g
