"""A small network laid out in rows of whole vectors, so that calls and edges take little of a step's time.

There is no tile and no panel. For that the weights are copied before a run and back after it, twice: Wᵀ, whose rows
give the sums of the next layer, and of layers whose δ goes further down W, whose rows give those of the layer below. A
layer of a single output has W alone. Rows of activations follow each other without a gap, so that σ of a narrow layer
is one of several samples at a time; those of a few samples lie apart, and no pass waits for what another has just
stored in other pieces. Every sum has the order that it has elsewhere: so the bits are the same.
"""

from collections import namedtuple

import numpy as np

from .ahead import fetch_some
from .blocking import ACROSS, APART_PARAMETERS, APART_SAMPLES, CACHE_LINE, HOST, KC, RECOPIED
from .compiling import helper, jit
from .matrix import Matrix, advance, itemsize, padded, pointer_at, scalar
from .network import layer_parameters, layer_size, parameters_size
from .panel import all_finite, copy, copy_transposed
from .parallel import read, wait_until, write
from .rowwise import (
    STEP,
    STEP_WITH,
    STORE,
    activate,
    delta_by,
    delta_rows,
    layer_one,
    layer_row,
    output_delta,
    step_one_by,
    step_row_by,
    step_rows_by,
    sums_across,
    sums_one,
    sums_rows,
    update_one,
    update_rows,
)
from .tasks import address, outlined, reference
from .wide import is_wide, slice_length

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


@outlined
def fetch_more(ahead):
    """`fetch_some`, out of the way where nothing is fetched."""
    fetch_some(ahead)


@helper
def row_of(m, s):
    """Pointer to the row of a sample."""
    return advance(m.data, s * m.row_stride)


@jit(inline=True)
def forward_apart(net, batch, scale):
    """g of all layers and δ of the last, of a few samples; δ of the last one is returned if it is a number."""
    below, delta = net.x, scalar(0, net.x)
    for layer in range(1, net.layers + 1):
        at, is_last = layer_of(net, layer), np.intp(layer == net.layers)
        n_in, n_out = below.columns, at.g.columns
        for s in range(batch):
            g, x, y, of_last = row_of(at.g, s), row_of(below, s), row_of(net.y, s), row_of(at.delta, s)
            if n_out > 1:
                layer_row(g, at.b, x, at.WT, at.stride, n_in, n_out, at.slices, at.kc, is_last, of_last, y, scale)
            else:
                delta = layer_one(g, at.b, x, at.W, 1, n_in, 1, at.slices, at.kc, is_last, of_last, y, scale)
                of_last[0] = delta
        below = at.g
    return delta


@outlined
def forward_rows(net, batch, line, number):
    """g of all layers, of many samples.

    Another thread writes the weights of layer ℓ until the number in the cache line `line`, if that is not 0, is
    `number` - ℓ or more.
    """
    below = net.x
    for layer in range(1, net.layers + 1):
        at = layer_of(net, layer)
        if line != 0:
            wait_until(line, number - layer)
        if net.ahead != 0:
            fetch_more(net.ahead)
        n_in, n_out = below.columns, at.g.columns
        g, x, x_stride = at.g.data, below.data, below.row_stride
        if n_out > 1:
            sums_rows(g, n_out, at.b, 0, x, x_stride, at.WT, at.stride, batch, n_in, n_out, at.kc)
        elif n_in < ACROSS:
            sums_one(g, 1, at.b, 0, x, x_stride, at.W, 1, batch, n_in, 1, at.kc)
        else:
            transpose = advance(at.delta.data, rows_size(False, net.x.rows, 1, lanes_of(net.x.data)))
            if layer > 1:
                transpose = layer_of(net, layer - 1).delta.data
            copy_transposed(transpose, batch, x, x_stride, n_in, batch)
            sums_across(g, at.b, at.W, transpose, batch, n_in, batch, at.slices, at.kc)
        activate(g, batch * n_out)
        below = at.g


@helper
def delta_of_outputs(net, batch, scale):
    """δ of the last layer, of many samples, in place of y."""
    at = layer_of(net, net.layers)
    output_delta(at.delta.data, at.g.data, net.y.data, scale, batch * net.y.columns)


@outlined
def delta_below(net, layer, batch):
    """δ of the layer below."""
    at, lower = layer_of(net, layer), layer_of(net, layer - 1)
    if net.ahead != 0:
        fetch_more(net.ahead)
    delta, target, g = at.delta, lower.delta, lower.g
    n_in, n_out = g.columns, delta.columns
    c, rsc, e, rse = target.data, target.row_stride, g.data, g.row_stride
    delta_rows(c, rsc, e, rse, delta.data, delta.row_stride, at.W, at.width, batch, n_out, n_in, KC)


@jit(inline=True)
def step_rows(net, batch, kc, rate, last_delta):
    """A step of gradient descent, the sums over the batch in slices of `kc`.

    `last_delta` is what `forward_apart` returned: δ of the last layer for a single sample and output, in a register.
    """
    one, top = reference(scalar(1, net.x)), net.layers
    if net.apart and batch == 1 and net.y.columns == 1:
        at, x = layer_of(net, top), net.x
        if top > 1:
            lower = layer_of(net, top - 1)
            x = lower.g
            delta_by(lower.delta.data, x.data, last_delta, at.W, x.columns)
        step_row_by(at.W, last_delta, x.data, x.columns, rate)
        step_one_by(at.b, last_delta, one, 1, rate)
        top -= 1
    for layer in range(top, 0, -1):
        at, below = layer_of(net, layer), net.x
        if layer > 1:
            delta_below(net, layer, batch)
            below = layer_of(net, layer - 1).g
        n_in, x, n_out, delta = below.columns, below.data, at.delta.columns, at.delta.data
        if batch == 1:
            if n_out > 1:
                step_rows_by(at.WT, at.stride, x, delta, n_in, n_out, rate)
                step_rows_by(at.b, 0, one, delta, 1, n_out, rate)
            else:
                step_one_by(at.b, delta[0], one, 1, rate)
            if layer > 1 or n_out == 1:
                step_rows_by(at.W, at.width, delta, x, n_out, n_in, rate)
            continue
        of_slice = KC if layer == 1 and is_wide(n_in, n_out, batch) else kc
        if n_out > 1:
            update(at.WT, at.stride, rows_of(below), rows_of(at.delta), n_in, n_out, batch, of_slice, rate)
            update(at.b, 0, (one, 0), rows_of(at.delta), 1, n_out, batch, kc, rate)
        else:
            update_single(at.b, at.b, (one, 0), rows_of(at.delta), batch, kc, rate, STEP)
        if n_out > 1 and batch >= RECOPIED:
            if layer > 1:
                copy_transposed(at.W, at.width, at.WT, at.stride, n_out, n_in)
        elif layer > 1 or n_out == 1:
            update(at.W, at.width, rows_of(at.delta), rows_of(below), n_out, n_in, batch, of_slice, rate)


@helper
def rows_of(m):
    """(pointer, from row to row) of a Matrix."""
    return m.data, m.row_stride


@helper
def update(c, rsc, a, b, m, n, samples, kc, rate):
    """C -= η Aᵀ B, the sum over so many samples in slices of kc."""
    update_with(c, rsc, c, a, b, m, n, samples, kc, rate, STEP)


@outlined
def update_with(c, rsc, gradient, a, b, m, n, samples, kc, rate, how):
    """`update_rows`, once for all."""
    update_rows(c, rsc, gradient, a[0], a[1], b[0], b[1], m, n, samples, kc, rate, how)


@outlined
def update_single(c, gradient, a, b, samples, kc, rate, how):
    """`update_with` of a single element."""
    update_one(c, 0, gradient, a[0], a[1], b[0], b[1], 1, 1, samples, kc, rate, how)


@outlined
def step_share(net, layer, gradient, batch, share, rate, stored):
    """Of one of two shares of a layer's weights, the gradient from these samples alone, if it is `stored`.

    Else a step of gradient descent, against the sum of that and of what is stored: each in one slice.
    """
    one, below, lanes = reference(scalar(1, net.x)), net.x, lanes_of(net.x.data)
    if layer > 1:
        below = layer_of(net, layer - 1).g
    at = layer_of(net, layer)
    n_in, n_out = below.columns, at.g.columns
    begin, end, with_biases = inputs_of(share, layer, n_in, lanes if layer > 1 or n_out == 1 else 1)
    x, delta = (advance(below.data, begin), below.row_stride), rows_of(at.delta)
    if n_out > 1:
        WT, of_WT = advance(at.WT, begin * at.stride), advance(gradient, begin * at.stride)
        if begin < end:
            update_part(WT, at.stride, of_WT, x, delta, end - begin, n_out, batch, rate, stored)
        if with_biases:
            of_biases = advance(gradient, n_in * at.stride)
            update_part(at.b, 0, of_biases, (one, 0), delta, 1, n_out, batch, rate, stored)
        if layer > 1 and stored == 0:
            copy_transposed(advance(at.W, begin), at.width, WT, at.stride, n_out, end - begin)
    else:
        of_W = advance(gradient, at.stride + begin)
        update_part(advance(at.W, begin), 0, of_W, delta, x, 1, end - begin, batch, rate, stored)
        if with_biases:
            c, how = (gradient, STORE) if stored != 0 else (at.b, STEP_WITH)
            update_single(c, gradient, (one, 0), delta, batch, batch, rate, how)


@helper
def inputs_of(share, layer, n_in, unit):
    """Where a layer's inputs begin and end whose weights are in a share, and whether its biases are.

    Rows of W are cut between whole vectors, a `unit`: of a narrow layer one share has all, of the next the other.
    """
    half = min(n_in, whole(n_in // 2, unit))
    return (0, half, False) if (share + layer) % 2 == 0 else (half, n_in, True)


@helper
def update_part(c, rsc, gradient, a, b, m, n, samples, rate, stored):
    """`update` of C by the sum of what these samples add and a gradient that is there; or that is `stored` there."""
    c, how = (gradient, STORE) if stored != 0 else (c, STEP_WITH)
    update_with(c, rsc, gradient, a, b, m, n, samples, samples, rate, how)
