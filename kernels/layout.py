"""A small network laid out in rows of whole vectors, so that calls and edges take little of a step's time.

There is no tile and no panel. For that the weights are copied before an epoch and back after it, twice: Wᵀ, whose rows
give the sums of the next layer, and of layers whose δ goes further down W, whose rows give those of the layer below. A
layer of dot products has W alone. Rows of activations follow each other without a gap, so that σ of a narrow layer
is one of several samples at a time; those of a few samples lie apart, and no pass waits for what another has just
stored in other pieces. Where everything lies, a plan says.
"""

from collections import namedtuple

import numpy as np

from .blocking import CACHE_LINE
from .compiling import helper
from .matrix import Matrix, advance, itemsize, pointer_at, transposed
from .panel import all_finite, copy
from .parallel import read
from .parameters import is_dotted, layer_parameters, layer_size
from .plan import (
    BIAS_LETTER,
    BY_OUTPUTS,
    DELTA,
    INPUTS,
    LAYERS,
    LETTER,
    OTHER,
    OUTPUTS,
    SLICE_LENGTH,
    SLICES,
    VECTOR_BYTES,
    WIDTH,
    WT,
    X_STRIDE,
    Y_STRIDE,
    B,
    G,
    W,
    X,
    Y,
    weights_stride,
)
from .tasks import address, outlined

ALL, FORWARD, BACK = map(np.intp, range(3))  # what `exchange` copies

Small = namedtuple("Small", "table layers apart x y ahead far")
"""Where the table of a plan is, how many layers there are, whether rows of activations lie `apart`, a minibatch as
Matrices; the address of what is fetched `ahead`, or 0; and whether x is the rows of a matrix in `far` memory."""

Layer = namedtuple("Layer", "slices kc WT b W stride width g delta")
"""Into how many slices of how many inputs a sum is cut; pointers to Wᵀ, b, W, and from row to row of Wᵀ and of W; the
Matrices g and δ, a row a sample."""


@helper
def table_of(plan, number):
    """A table of a plan: addresses, both."""
    return plan + number * 2 * (read(plan, 0, LAYERS) + 1) * CACHE_LINE


@helper
def small_network(table, like, samples, apart, ahead):
    """The Small of up to so many samples, of the dtype behind the pointer `like`."""
    layers = read(table, 0, LAYERS)
    x = Matrix(pointer_at(read(table, 0, X), like), samples, read(table, 0, INPUTS), read(table, 0, X_STRIDE), 1)
    outputs = read(table, 2 * layers, OUTPUTS)
    y = Matrix(pointer_at(read(table, 0, Y), like), samples, outputs, read(table, 0, Y_STRIDE), 1)
    return Small(table, layers, apart, x, y, ahead, False)


@helper
def layer_of(net, layer):
    line, like, samples = 2 * layer, net.x.data, net.x.rows
    n_out = read(net.table, line, OUTPUTS)
    stride, width = weights_stride(n_out, lanes_of(like)), read(net.table, line + 1, WIDTH)
    length = whole_vectors(n_out, like) if net.apart else n_out
    return Layer(
        read(net.table, line, SLICES),
        read(net.table, line, SLICE_LENGTH),
        pointer_at(read(net.table, line, WT), like),
        pointer_at(read(net.table, line, B), like),
        pointer_at(read(net.table, line, W), like),
        stride,
        width,
        Matrix(pointer_at(read(net.table, line, G), like), samples, n_out, length, 1),
        Matrix(pointer_at(read(net.table, line, DELTA), like), samples, n_out, length, 1),
    )


@helper
def input_of(net, layer):
    """What a layer's sums are of: x, or g of the layer below."""
    return layer_of(net, layer - 1).g if layer > 1 else net.x


@helper
def others(net, own):
    """Pointer to where the other of two threads has what this one has at `own`, among weights and letters."""
    return advance(own, read(net.table, 1, OTHER))


@helper
def letter_of(net, layer, swapped):
    """Pointers to a layer's gradient in a letter, of Wᵀ or W and of b: in one's place or, `swapped`, the other's."""
    line, like = 2 * layer + 1, net.x.data
    of_W, of_b = pointer_at(read(net.table, line, LETTER), like), pointer_at(read(net.table, line, BIAS_LETTER), like)
    return (others(net, of_W), others(net, of_b)) if swapped != 0 else (of_W, of_b)


@helper
def has_fewer_by_outputs(net, layer):
    """Whether W is of fewer vectors than Wᵀ, or there is no Wᵀ: of dot products, or half of a first layer of those."""
    return read(net.table, 2 * layer + 1, BY_OUTPUTS) != 0


@helper
def lanes_of(data):
    """Elements of a vector, a constant: dividing by a number that is read would take as long as a small layer."""
    return VECTOR_BYTES // itemsize(data)


@helper
def whole_vectors(n, like):
    """`plan.whole` by a number that the compiler knows: else a step of 7-1 by 1 takes 1.3 times as long."""
    lanes = lanes_of(like)
    return (n + lanes - 1) // lanes * lanes


@helper
def row_of(m, s):
    """Pointer to the row of a sample."""
    return advance(m.data, s * m.row_stride)


@helper
def lay_out(net, parameters, how, past):
    """`exchange`, with 0 in all other memory from the weights up to the pointer `past`: behind the rows' ends."""
    start = layer_of(net, 1).WT
    for i in range((address(past) - address(start)) // itemsize(start)):
        start[i] = 0
    exchange(net, parameters, how)


@outlined
def exchange(net, parameters, how) -> None:
    """Copy the parameters to all layers' arrays, or to those alone that the way FORWARD needs, or BACK."""
    below = net.x
    for layer in range(1, net.layers + 1):
        at = layer_of(net, layer)
        n_in, n_out = below.columns, at.g.columns
        W, b = layer_parameters(parameters, n_in, n_out)
        own_WT, own_W = Matrix(at.WT, n_in, n_out, at.stride, 1), Matrix(at.W, n_out, n_in, at.width, 1)
        own_b = Matrix(at.b, 1, n_out, at.stride, 1)
        dotted = is_dotted(layer, n_in, n_out)
        if how == BACK:
            copy(W, own_W if dotted else transposed(own_WT))
            copy(b, own_b)
        else:
            if not dotted:
                copy(own_WT, transposed(W))
            if dotted or (layer > 1 and how == ALL):
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
        WT, W = Matrix(at.WT, n_in, n_out, at.stride, 1), Matrix(at.W, n_out, n_in, at.width, 1)
        stepped, b = W if is_dotted(layer, n_in, n_out) else WT, Matrix(at.b, 1, n_out, at.stride, 1)
        finite &= all_finite(stepped) and all_finite(b)
        n_in = n_out
    return finite
