"""A small network laid out in rows of whole vectors, so that calls and edges take little of a step's time.

There is no tile and no panel. For that the weights are copied before an epoch and back after it, twice: Wᵀ, whose rows
give the sums of the next layer, and of layers whose δ goes further down W, whose rows give those of the layer below. A
layer of a single output has W alone. Rows of activations follow each other without a gap, so that σ of a narrow layer
is one of several samples at a time; those of a few samples lie apart, and no pass waits for what another has just
stored in other pieces.
"""

from collections import namedtuple

from .blocking import ACROSS, APART_PARAMETERS, APART_SAMPLES, CACHE_LINE, HOST
from .compiling import helper
from .matrix import Matrix, advance, itemsize, padded, pointer_at
from .network import layer_parameters, layer_size, parameters_size
from .panel import all_finite, copy
from .parallel import read, write
from .tasks import address, outlined
from .wide import slice_length

VECTOR_BYTES = HOST.vector_bytes

Layer = namedtuple("Layer", "slices kc WT b W stride width g delta")
"""Into how many slices of how many inputs a sum is cut; pointers to Wᵀ, b, W, and from row to row of Wᵀ and of W; the
Matrices g and δ, a row a sample."""

Small = namedtuple("Small", "table layers apart x y ahead")
"""Where each Layer is written down, how many there are, whether `is_apart`, a minibatch as Matrices; and the address of
what is fetched `ahead`, or 0."""

N_OUT, SLICES, SLICE_LENGTH, ARRAYS = range(4)  # of a Layer, in its line of the table; ARRAYS and further on, addresses


@helper
def small_size(sizes, samples, itemsize):
    """Elements of memory for a network, `sizes` a Vector, laid out for so many samples, all by one thread."""
    return fixed_size(sizes, itemsize) + samples_size(sizes, samples, itemsize)


@helper
def fixed_size(sizes, itemsize):
    """For the weights, and for two tables."""
    size = (2 * sizes.size + 1) * CACHE_LINE // itemsize
    for layer in range(1, sizes.size):
        WT, b, W = weight_extents(layer, sizes.data[layer - 1], sizes.data[layer], VECTOR_BYTES // itemsize)
        size += WT + b + W
    return padded(size)


@helper
def samples_size(sizes, samples, itemsize):
    """For so many samples."""
    lanes, apart = VECTOR_BYTES // itemsize, is_apart(sizes, samples)
    size = rows_size(apart, samples, sizes.data[0], lanes)
    if apart:
        size += rows_size(apart, samples, sizes.data[sizes.size - 1], lanes)
    for layer in range(1, sizes.size):
        g, delta = sample_extents(apart, layer, sizes.data[layer - 1], sizes.data[layer], samples, lanes)
        size += g + delta
    return padded(size)


@helper
def lanes_of(data):
    """Elements of a vector, a constant: dividing by a number that is read would take as long as a small layer."""
    return VECTOR_BYTES // itemsize(data)


@helper
def whole(n, lanes):
    """n rounded up to whole vectors."""
    return (n + lanes - 1) // lanes * lanes


@helper
def is_apart(sizes, samples):
    """Whether rows of activations lie apart, and each sample goes through a layer by itself."""
    return samples == 1 or (samples <= APART_SAMPLES and parameters_size(sizes) <= APART_PARAMETERS)


@helper
def row_length(apart, columns, lanes):
    """From one row to the next."""
    return whole(columns, lanes) if apart else columns


@helper
def rows_size(apart, rows, columns, lanes):
    """Elements of so many rows, of which the last ends with a whole vector."""
    return whole((rows - 1) * row_length(apart, columns, lanes) + whole(columns, lanes), lanes)


@helper
def weight_extents(layer, n_in, n_out, lanes):
    """Elements of Wᵀ, b and W of a layer."""
    stride = whole(n_out, lanes)
    return (
        n_in * stride if n_out > 1 else 0,
        stride,
        n_out * whole(n_in, lanes) if layer > 1 or n_out == 1 else 0,
    )


@helper
def sample_extents(apart, layer, n_in, n_out, samples, lanes):
    """Elements of g and δ of a layer; behind δ of a single output is the transpose of x, if it is needed.

    The transpose of the layer below's g takes the place of its δ.
    """
    rows = rows_size(apart, samples, n_out, lanes)
    across = layer == 1 and n_out == 1 and n_in >= ACROSS and not apart
    return rows, rows + (rows_size(False, n_in, samples, lanes) if across else 0)


@helper
def gradient_size(sizes, itemsize):
    """Elements of memory for a gradient: of layer after layer Wᵀ and b, or b and W of a single output."""
    size = 0
    for layer in range(1, sizes.size):
        size += layer_gradient_size(sizes.data[layer - 1], sizes.data[layer], VECTOR_BYTES // itemsize)
    return padded(size)


@helper
def layer_gradient_size(n_in, n_out, lanes):
    WT, b, W = weight_extents(1, n_in, n_out, lanes)
    return WT + b + W


@helper
def places(workspace, sizes):
    """Pointers to memory of `fixed_size`, where two tables and the weights are, and to what is behind it."""
    start, item = address(workspace.data), itemsize(workspace.data)
    tables = pointer_at((start + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE, workspace.data)
    weights = advance(tables, 2 * sizes.size * CACHE_LINE // item)
    return tables, weights, advance(tables, fixed_size(sizes, item) - CACHE_LINE // item)


@outlined
def lay_out(table, weights, memory, sizes, samples, ahead):
    """A Small for so many samples, written down in `table`, whose weights are at one pointer, all else at another."""
    table, lanes, apart = address(table), lanes_of(memory), is_apart(sizes, samples)
    n_in, outputs = sizes.data[0], sizes.data[sizes.size - 1]
    x = Matrix(memory, samples, n_in, row_length(apart, n_in, lanes), 1)
    memory, y = advance(memory, rows_size(apart, samples, n_in, lanes)), memory
    if apart:
        memory, y = advance(memory, rows_size(apart, samples, outputs, lanes)), memory
    for layer in range(1, sizes.size):
        n_in, n_out = sizes.data[layer - 1], sizes.data[layer]
        write(table, layer, N_OUT, n_out)
        kc = slice_length(n_in, n_out)
        write(table, layer, SLICES, (n_in + kc - 1) // kc)
        write(table, layer, SLICE_LENGTH, kc)
        number = ARRAYS
        for elements in weight_extents(layer, n_in, n_out, lanes):
            write(table, layer, number, address(weights))
            weights = advance(weights, elements)
            number += 1
        for elements in sample_extents(apart, layer, n_in, n_out, samples, lanes):
            write(table, layer, number, address(memory))
            if not apart:
                y = memory  # in the end that of the last δ, which will take its place
            memory = advance(memory, elements)
            number += 1
    y = Matrix(y, samples, outputs, row_length(apart, outputs, lanes), 1)
    return Small(table, sizes.size - 1, apart, x, y, ahead)


@helper
def layer_of(net, layer):
    n_out, samples = read(net.table, layer, N_OUT), net.x.rows
    n_in = net.x.columns if layer == 1 else read(net.table, layer - 1, N_OUT)
    lanes = lanes_of(net.x.data)
    length = row_length(net.apart, n_out, lanes)
    return Layer(
        read(net.table, layer, SLICES),
        read(net.table, layer, SLICE_LENGTH),
        pointer_at(read(net.table, layer, ARRAYS), net.x.data),
        pointer_at(read(net.table, layer, ARRAYS + 1), net.x.data),
        pointer_at(read(net.table, layer, ARRAYS + 2), net.x.data),
        whole(n_out, lanes),
        whole(n_in, lanes),
        Matrix(pointer_at(read(net.table, layer, ARRAYS + 3), net.x.data), samples, n_out, length, 1),
        Matrix(pointer_at(read(net.table, layer, ARRAYS + 4), net.x.data), samples, n_out, length, 1),
    )


@helper
def row_of(m, s):
    """Pointer to the row of a sample."""
    return advance(m.data, s * m.row_stride)


@outlined
def exchange(net, parameters, back):
    """Copy the parameters to all layers' arrays, or `back`."""
    below = net.x
    for layer in range(1, net.layers + 1):
        at = layer_of(net, layer)
        n_in, n_out = below.columns, at.g.columns
        W, b = layer_parameters(parameters, n_in, n_out)
        WT = Matrix(W.data, n_in, n_out, W.column_stride, W.row_stride)
        own_WT, own_W = Matrix(at.WT, n_in, n_out, at.stride, 1), Matrix(at.W, n_out, n_in, at.width, 1)
        own_b = Matrix(at.b, 1, n_out, at.stride, 1)
        if back:
            if n_out > 1 and W.column_stride != 1:
                copy(WT, own_WT)
            elif n_out > 1:
                copy(W, Matrix(at.WT, n_out, n_in, 1, at.stride))
            else:
                copy(W, own_W)
            copy(b, own_b)
        else:
            if n_out > 1:
                copy(own_WT, WT)
            if layer > 1 or n_out == 1:
                copy(own_W, W)
            copy(own_b, b)
        parameters = advance(parameters, layer_size(n_in, n_out))
        below = at.g


@outlined
def weights_finite(net):
    """Whether all parameters are."""
    finite, n_in = True, net.x.columns
    for layer in range(1, net.layers + 1):
        at = layer_of(net, layer)
        n_out = at.g.columns
        W = Matrix(at.WT, n_in, n_out, at.stride, 1) if n_out > 1 else Matrix(at.W, n_out, n_in, at.width, 1)
        finite &= all_finite(W) and all_finite(Matrix(at.b, 1, n_out, at.stride, 1))
        n_in = n_out
    return finite
