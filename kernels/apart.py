"""Training by one or two samples at a time: each goes through all layers by itself, its rows apart from the others."""

import numpy as np

from .ahead import are_far
from .blocking import CACHE_LINE, KC, MANY_OUTPUTS, ROWS_AHEAD
from .compiling import helper, internal, jit
from .layout import input_of, layer_of, row_of, small_network, whole_vectors
from .loss import part_errors
from .matrix import advance, get, itemsize, rows, scalar
from .network import input_finite
from .parameters import is_dotted
from .simd import prefetch_far
from .single import copy_row, delta_by, layer_one, layer_row, step_one_by, step_row_by, step_rows_by
from .small import delta_below, errors_of_outputs, step_rows
from .tasks import address, reference


@internal
def train_apart(arguments, end, _):
    """A program for samples of an `order`, with the weights that are laid out in the workspace, as `laid_out` says."""
    result, _, X, Y, order, batch_size, rate, plan, workspace, _ = arguments[0]
    loss, first = result[0]
    net, ahead = small_network(plan, workspace.data, batch_size, True, 0), are_far(X, Y)
    rate = scalar(rate, X)
    while first < end:
        batch = min(batch_size, end - first)
        x, g = rows(net.x, 0, batch), layer_of(net, net.layers).g
        for s in range(batch):
            number = order.data[first + s]
            take_row(row_of(x, s), X, number)
            take_row(row_of(net.y, s), Y, number)
            if ahead:
                later = order.data[min(first + s + ROWS_AHEAD, end - 1)]
                fetch_row(X, later)
                fetch_row(Y, later)
        delta = forward_apart(net, batch, scalar(2.0 / (batch * Y.columns), X))
        errors = 0.0
        for s in range(batch):
            if Y.columns >= MANY_OUTPUTS:
                errors += errors_of_outputs(net, s, s + 1)
            else:
                errors += part_errors(rows(g, s, 1), rows(net.y, s, 1), 1)
        of_batch = errors / (batch * Y.columns)
        if not (input_finite(x, layer_of(net, 1).g) and np.isfinite(of_batch)):
            break
        if batch == 1:
            step_single(net, rate, delta)
        else:
            step_rows(net, batch, KC, KC, rate)
        loss += of_batch * (batch / X.rows)
        first += batch
    result[0] = (loss, first)


@helper
def take_row(target, m, i):
    """target = m[i], up to a whole vector."""
    if m.column_stride == 1:
        copy_row(target, advance(m.data, i * m.row_stride), m.columns)
    else:
        for j in range(m.columns):
            target[j] = get(m, i, j)


@helper
def fetch_row(m, i):
    """Begin to fetch m[i] up to a whole vector: to load but a part of one takes as long as if all of it were wanted.

    Else a step by 1 from a million samples takes 1.5 times as long on 20-30-1, 1.2 times on 32-30-1.
    """
    first, size = address(advance(m.data, i * m.row_stride)), whole_vectors(m.columns, m.data) * itemsize(m.data)
    for byte in range(0, size, CACHE_LINE):
        prefetch_far(first + byte)
    prefetch_far(first + size - 1)


@jit(inline=True)
def forward_apart(net, batch, scale):
    """g of all layers and δ of the last, of a few samples; δ of the last one is returned if it is a number."""
    below, delta = net.x, scalar(0, net.x)
    for layer in range(1, net.layers + 1):
        at, is_last = layer_of(net, layer), np.intp(layer == net.layers)
        n_in, n_out = below.columns, at.g.columns
        for s in range(batch):
            g, x, y, of_last = row_of(at.g, s), row_of(below, s), row_of(net.y, s), row_of(at.delta, s)
            if not is_dotted(layer, n_in, n_out):
                layer_row(g, at.b, x, at.WT, at.stride, n_in, n_out, at.slices, at.kc, is_last, of_last, y, scale)
            else:
                for j in range(n_out):
                    b, W = advance(at.b, j), advance(at.W, j * at.width)
                    delta = layer_one(advance(g, j), b, x, W, n_in, at.kc, is_last, advance(y, j), scale)
                    of_last[j] = delta
        below = at.g
    return delta


@jit(inline=True)
def step_single(net, rate, last_delta):
    """A step of gradient descent against the gradient of one sample; `last_delta` is what `forward_apart` returned."""
    one, top = reference(scalar(1, net.x)), net.layers
    if net.y.columns == 1:
        at, x = layer_of(net, top), net.x
        if top > 1:
            lower = layer_of(net, top - 1)
            x = lower.g
            delta_by(lower.delta.data, x.data, last_delta, at.W, x.columns)
        step_row_by(at.W, last_delta, x.data, x.columns, rate)
        step_one_by(at.b, last_delta, one, 1, rate)
        top -= 1
    for layer in range(top, 0, -1):
        if layer > 1:
            delta_below(net, layer, 1)
        at, below = layer_of(net, layer), input_of(net, layer)
        n_in, x, n_out, delta = below.columns, below.data, at.delta.columns, at.delta.data
        dotted = is_dotted(layer, n_in, n_out)
        if not dotted:
            step_rows_by(at.WT, at.stride, x, delta, n_in, n_out, rate)
        if n_out > 1:
            step_rows_by(at.b, 0, one, delta, 1, n_out, rate)
        else:
            step_one_by(at.b, delta[0], one, 1, rate)
        if layer > 1 or dotted:
            step_rows_by(at.W, at.width, delta, x, n_out, n_in, rate)
