"""The passes through a small network that is laid out in rows, and the step: each by one thread.

Every sum has the order that it has elsewhere: so the bits are the same.
"""

from .ahead import fetch_more
from .blocking import FEW_OUTPUTS, INPUTS_FETCHING, KC, RECOPIED, SAMPLES_FETCHING
from .compiling import helper, jit
from .dot import dot_rows
from .layout import has_fewer_by_outputs, lanes_of, layer_of, letter_of, row_of
from .loss import part_errors
from .matrix import advance, rows, scalar
from .panel import copy_transposed
from .parallel import wait_until
from .plan import whole
from .rowwise import (
    STEP,
    STEP_WITH,
    STORE,
    activate,
    delta_rows,
    errors_of_rows,
    output_delta,
    sums_rows,
    update_one,
    update_output,
    update_rows,
)
from .tasks import outlined, reference


@helper
def rows_at_once(net, rows, fetching):
    """All rows; or so many, where in between the next minibatch is fetched."""
    return rows if net.ahead == 0 else fetching


@outlined
def forward_rows(net, batch, line, number):
    """g of all layers, of many samples.

    Another thread writes the weights of layer ℓ until the number in the cache line `line`, if that is not 0, is
    `number` + ℓ or more.
    """
    below = net.x
    for layer in range(1, net.layers + 1):
        at = layer_of(net, layer)
        if line != 0:
            wait_until(line, number + layer)
        n_in, n_out = below.columns, at.g.columns
        g, x, x_stride = at.g.data, below.data, below.row_stride
        if n_out > 1:
            some = rows_at_once(net, batch, SAMPLES_FETCHING)
            for s in range(0, batch, some):
                if net.ahead != 0:
                    fetch_more(net.ahead)
                of_s, x_of_s, count = advance(g, s * n_out), advance(x, s * x_stride), min(some, batch - s)
                sums_rows(of_s, n_out, at.b, 0, x_of_s, x_stride, at.WT, at.stride, count, n_in, n_out, at.kc)
        else:
            dot_rows(g, at.b, at.W, x, x_stride, batch, n_in)
        activate(g, batch * n_out)
        below = at.g


@helper
def errors_of_outputs(net, first, end):
    """Σ (g - y)², in float64, of some of many samples, in the order of `loss.mse`."""
    g, y = layer_of(net, net.layers).g, net.y
    if g.columns <= FEW_OUTPUTS:
        return part_errors(rows(g, first, end - first), rows(y, first, end - first), end - first)
    return errors_of_rows(row_of(g, first), row_of(y, first), g.row_stride, end - first, g.columns)


@helper
def delta_of_outputs(net, batch, scale):
    """δ of the last layer, of many samples, in place of y."""
    at = layer_of(net, net.layers)
    output_delta(at.delta.data, at.g.data, net.y.data, scale, batch * net.y.columns)


@outlined
def delta_below(net, layer, batch):
    """δ of the layer below."""
    at, lower = layer_of(net, layer), layer_of(net, layer - 1)
    n_in, n_out, some = lower.g.columns, at.g.columns, rows_at_once(net, batch, SAMPLES_FETCHING)
    for s in range(0, batch, some):
        if net.ahead != 0:
            fetch_more(net.ahead)
        (c, rsc), (e, rse), (a, rsa) = rows_of(lower.delta), rows_of(lower.g), rows_of(at.delta)
        c, e, a = advance(c, s * rsc), advance(e, s * rse), advance(a, s * rsa)
        delta_rows(c, rsc, e, rse, a, rsa, at.W, at.width, min(some, batch - s), n_out, n_in, KC)


@jit(inline=True)
def step_rows(net, batch, kc, first_kc, rate):
    """A step of gradient descent, sums over the batch in slices of `kc`, for the first layer's weights `first_kc`."""
    one = reference(scalar(1, net.x))
    for layer in range(net.layers, 0, -1):
        at, below = layer_of(net, layer), net.x
        if layer > 1:
            delta_below(net, layer, batch)
            below = layer_of(net, layer - 1).g
        n_in, n_out, delta = below.columns, at.delta.columns, rows_of(at.delta)
        of_slice = first_kc if layer == 1 else kc
        if n_out == 1 and n_in <= lanes_of(below.data):
            update_output(at.W, at.b, *delta, *rows_of(below), batch, kc, rate)
            continue
        by_outputs = is_by_outputs(net, layer, batch)
        if n_out > 1:
            some = rows_at_once(net, n_in, INPUTS_FETCHING)
            for i in range(0, n_in, some):
                if net.ahead != 0:
                    fetch_more(net.ahead)
                of_i, count = (advance(below.data, i), below.row_stride), min(some, n_in - i)
                if by_outputs:
                    update(advance(at.W, i), at.width, delta, of_i, n_out, count, batch, of_slice, rate)
                else:
                    WT = advance(at.WT, i * at.stride)
                    update(WT, at.stride, of_i, delta, count, n_out, batch, of_slice, rate)
            update(at.b, 0, (one, 0), delta, 1, n_out, batch, kc, rate)
        else:
            update_single(at.b, at.b, (one, 0), delta, batch, kc, rate, STEP)
        if by_outputs:
            copy_transposed(at.WT, at.stride, at.W, at.width, n_in, n_out)
        elif n_out > 1 and batch >= RECOPIED:
            if layer > 1:
                copy_transposed(at.W, at.width, at.WT, at.stride, n_out, n_in)
        elif layer > 1 or n_out == 1:
            update(at.W, at.width, delta, rows_of(below), n_out, n_in, batch, of_slice, rate)


@helper
def is_by_outputs(net, layer, batch):
    """Whether W is updated, and Wᵀ copied from it."""
    return batch >= RECOPIED and has_fewer_by_outputs(net, layer)


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
def step_share(net, layer, batch, share, rate, stored):
    """Of one of two shares of a layer's weights, the gradient from these samples alone, if it is `stored`.

    Else a step of gradient descent, against the sum of that and of what is stored: each in one slice.
    """
    one, below, lanes = reference(scalar(1, net.x)), net.x, lanes_of(net.x.data)
    if layer > 1:
        below = layer_of(net, layer - 1).g
    at, gradient = layer_of(net, layer), letter_of(net, layer)
    n_in, n_out = below.columns, at.g.columns
    begin, end, with_biases = inputs_of(share, layer, n_in, lanes if layer > 1 or n_out == 1 else 1)
    delta = rows_of(at.delta)
    if n_out > 1:
        by_outputs = is_by_outputs(net, layer, batch)
        some = max(1, rows_at_once(net, end - begin, INPUTS_FETCHING))
        for i in range(begin, end, some):
            if net.ahead != 0:
                fetch_more(net.ahead)
            of_i, count = (advance(below.data, i), below.row_stride), min(some, end - i)
            if by_outputs:
                W, of_W = advance(at.W, i), advance(gradient, i)
                update_part(W, at.width, of_W, delta, of_i, n_out, count, batch, rate, stored)
            else:
                WT, of_WT = advance(at.WT, i * at.stride), advance(gradient, i * at.stride)
                update_part(WT, at.stride, of_WT, of_i, delta, count, n_out, batch, rate, stored)
        if with_biases:
            of_biases = advance(gradient, n_in * at.stride)
            update_part(at.b, 0, of_biases, (one, 0), delta, 1, n_out, batch, rate, stored)
        if layer > 1 and stored == 0:
            W, WT, count = advance(at.W, begin), advance(at.WT, begin * at.stride), end - begin
            if by_outputs:
                copy_transposed(WT, at.stride, W, at.width, count, n_out)
            else:
                copy_transposed(W, at.width, WT, at.stride, n_out, count)
    else:
        of_W = advance(gradient, at.stride + begin)
        x = advance(below.data, begin), below.row_stride
        update_part(advance(at.W, begin), 0, of_W, delta, x, 1, end - begin, batch, rate, stored)
        if with_biases:
            c, how = destination(at.b, gradient, stored)
            update_single(c, gradient, (one, 0), delta, batch, batch, rate, how)


@helper
def inputs_of(share, layer, n_in, unit):
    """Where a layer's inputs begin and end whose weights are in a share, and whether its biases are.

    Biases count as one more input. Rows of W are cut between whole vectors, a `unit`: of a narrow layer one share has
    all, of the next the other.
    """
    half = min(n_in, whole((n_in + 1) // 2, unit))
    return (0, half, False) if (share + layer) % 2 == 0 else (half, n_in, True)


@helper
def destination(c, gradient, stored):
    """Where sums go, and how, as `step_share` says."""
    return (gradient, STORE) if stored != 0 else (c, STEP_WITH)


@helper
def update_part(c, rsc, gradient, a, b, m, n, samples, rate, stored):
    """`update` of C by the sum of what these samples add and a gradient that is there; or that is `stored` there."""
    c, how = destination(c, gradient, stored)
    update_with(c, rsc, gradient, a, b, m, n, samples, samples, rate, how)
