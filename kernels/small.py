"""The passes through a small network that is laid out in rows, and the step: each by one thread.

Every sum has the order that it has elsewhere: so the bits are the same.
"""

from .ahead import fetch_more
from .blocking import (
    BYTES_NEAR,
    FEW_OUTPUTS,
    FEW_SUMS,
    INPUTS_FETCHING,
    INPUTS_OF_FEW,
    KC,
    NARROW,
    RECOPIED,
    ROWS_AFAR,
    SAMPLES_FETCHING,
)
from .compiling import helper
from .dot import dot_rows
from .elementwise import activate, errors_of_rows, output_delta, transpose_rows
from .few import few_sums
from .layout import has_fewer_by_outputs, input_of, lanes_of, layer_of, letter_of, others, row_of, whole_vectors
from .loss import part_errors
from .matrix import advance, pointer_at, rows, scalar
from .optimizer import step_against_sum
from .panel import copy_transposed
from .parallel import read
from .parameters import is_dotted
from .plan import VECTOR_BYTES, ZEROS
from .rowwise import (
    BIAS,
    SLOPE,
    STEP,
    STORE,
    sum_far_rows,
    sum_rows,
    update_one,
    update_output,
    update_rows,
)
from .tasks import address, outlined, reference

SUMS = (0,) * (NARROW * VECTOR_BYTES // 8)  # for memory on the stack


@helper
def rows_at_once(net, rows, fetching):
    """All rows; or so many, where in between the next minibatch is fetched."""
    return rows if net.ahead == 0 else fetching


@outlined
def forward_rows(net, batch, lowest, highest) -> None:
    """g of the layers from the `lowest` to the `highest`, of many samples."""
    below = input_of(net, lowest)
    for layer in range(lowest, highest + 1):
        at = layer_of(net, layer)
        n_in, n_out = below.columns, at.g.columns
        g, x, x_stride = at.g.data, below.data, below.row_stride
        if not is_dotted(layer, n_in, n_out):
            some = rows_at_once(net, batch, SAMPLES_FETCHING)
            for s in range(0, batch, some):
                if net.ahead != 0:
                    fetch_more(net.ahead)
                of_s, x_of_s, count = advance(g, s * n_out), advance(x, s * x_stride), min(some, batch - s)
                if has_few_sums(net, count, n_in, n_out):
                    few_sums(of_s, at.b, x_of_s, x_stride, at.WT, count, n_out, n_in, at.kc)
                else:
                    sum_rows(of_s, n_out, at.b, 0, x_of_s, x_stride, at.WT, at.stride, count, n_in, n_out, at.kc, BIAS)
        else:
            dot_products(g, at.b, at, x, x_stride, batch, n_in, n_out, net.far and layer == 1)
        activate(g, batch * n_out)
        below = at.g


@helper
def dot_products(g, b, at, x, x_stride, batch, n_in, n_out, far):
    """The sums of a layer that `is_dotted`; of several outputs for a vector of samples at a time: so x stays near."""
    if n_out == 1:
        dot_rows(g, 0, b, at.W, 0, x, x_stride, batch, 1, n_in, at.kc, far)
        return
    lanes, sums = lanes_of(g), pointer_at(address(reference(SUMS)), g)
    for s in range(0, batch, lanes):
        of_s, count = advance(x, s * x_stride), min(lanes, batch - s)
        dot_rows(sums, lanes, b, at.W, at.width, of_s, x_stride, count, n_out, n_in, at.kc, far)
        copy_transposed(advance(g, s * n_out), n_out, sums, lanes, count, n_out)


@helper
def has_few_sums(net, samples, n_in, n_out):
    """Whether a layer is quicker with vectors of samples."""
    lanes = lanes_of(net.x.data)
    narrow = n_out <= min(FEW_SUMS, lanes) and n_in >= max(lanes, INPUTS_OF_FEW * n_out)
    return narrow and samples >= lanes


@helper
def comes_from_afar(net, x_bytes):
    """Whether x, which is rows of a matrix of so many bytes, is better fetched by `first_from_afar`."""
    x, n_out = net.x, layer_of(net, 1).g.columns
    adjacent = x.row_stride == x.columns
    dotted = is_dotted(1, x.columns, n_out)
    return x_bytes > BYTES_NEAR and adjacent and not dotted and not has_few_sums(net, x.rows, x.columns, n_out)


@helper
def first_from_afar(net, batch):
    """g of the first layer, of many samples, while what lies behind these is fetched."""
    x, at = net.x, layer_of(net, 1)
    n_in, n_out = x.columns, at.g.columns
    for s in range(0, batch, ROWS_AFAR):
        of_s, x_of_s, count = advance(at.g.data, s * n_out), advance(x.data, s * n_in), min(ROWS_AFAR, batch - s)
        sum_far_rows(of_s, n_out, at.b, x_of_s, at.WT, at.stride, count, n_in, n_out, at.kc)
    activate(at.g.data, batch * n_out)


@outlined
def add_up(net, layer, sums, batch) -> None:
    """A layer's sums of many samples, for one of two threads that each have half of its inputs: no bias, and no σ."""
    at, below, zeros = layer_of(net, layer), input_of(net, layer), zeros_of(net)
    n_in, n_out, stride = below.columns, at.g.columns, below.row_stride
    if layer == 1 and is_by_outputs(net, 1):
        dot_products(sums, zeros, at, below.data, stride, batch, n_in, n_out, False)
        return
    some = rows_at_once(net, batch, SAMPLES_FETCHING)
    for s in range(0, batch, some):
        if net.ahead != 0:
            fetch_more(net.ahead)
        of_s, x_of_s, count = advance(sums, s * n_out), advance(below.data, s * stride), min(some, batch - s)
        sum_rows(of_s, n_out, zeros, 0, x_of_s, stride, at.WT, at.stride, count, n_in, n_out, n_in, BIAS)


@helper
def zeros_of(net):
    return pointer_at(read(net.table, 3, ZEROS), net.x.data)


@helper
def put_zeros(net, layer):
    """Zeros for `add_up`, where one thread may have had samples."""
    zeros = zeros_of(net)
    for j in range(whole_vectors(layer_of(net, layer).g.columns, zeros)):
        zeros[j] = 0


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
def delta_below(net, layer, batch) -> None:
    """δ of the layer below."""
    at, lower = layer_of(net, layer), layer_of(net, layer - 1)
    n_in, n_out, some = lower.g.columns, at.g.columns, rows_at_once(net, batch, SAMPLES_FETCHING)
    for s in range(0, batch, some):
        if net.ahead != 0:
            fetch_more(net.ahead)
        (c, rsc), (e, rse), (a, rsa) = rows_of(lower.delta), rows_of(lower.g), rows_of(at.delta)
        c, e, a = advance(c, s * rsc), advance(e, s * rse), advance(a, s * rsa)
        sum_rows(c, rsc, e, rse, a, rsa, at.W, at.width, min(some, batch - s), n_out, n_in, KC, SLOPE)


@outlined
def step_rows(net, batch, kc, first_kc, rate) -> None:
    """A step of gradient descent, sums over the batch in slices of `kc`, for the first layer's weights `first_kc`."""
    for layer in range(net.layers, 0, -1):
        if layer > 1:
            delta_below(net, layer, batch)
        at, below = layer_of(net, layer), input_of(net, layer)
        n_in, n_out = below.columns, at.delta.columns
        of_slice = first_kc if layer == 1 else kc
        if n_out == 1 and n_in <= lanes_of(below.data):
            update_output(at.W, at.b, *rows_of(at.delta), *rows_of(below), batch, kc, rate)
            continue
        by_outputs = is_by_outputs(net, layer, batch)
        stepped = at.W if by_outputs else at.WT
        update_layer(net, at, below, by_outputs, stepped, at.b, batch, of_slice, kc, rate, STEP)
        if batch >= RECOPIED:
            copy_stepped(at, layer, n_in, by_outputs)
        elif layer > 1 and not is_dotted(layer, n_in, n_out):
            update(at.W, at.width, rows_of(at.delta), rows_of(below), n_out, n_in, batch, of_slice, rate, STEP)


@helper
def update_layer(net, at, below, by_outputs, W, b, batch, kc, kc_of_biases, rate, how):
    """Of a layer Wᵀ or, if `by_outputs`, W at the pointer W, and biases."""
    n_in, n_out, delta, one = below.columns, at.delta.columns, rows_of(at.delta), reference(scalar(1, net.x))
    if n_out == 1:
        update_single(b, (one, 0), delta, batch, kc_of_biases, rate, how)
        update(W, at.width, delta, rows_of(below), 1, n_in, batch, kc, rate, how)
        return
    update_weights(net, at, below, delta, by_outputs, W, batch, kc, rate, how)
    update(b, 0, (one, 0), delta, 1, n_out, batch, kc_of_biases, rate, how)


@helper
def update_weights(net, at, below, delta, by_outputs, W, batch, kc, rate, how):
    """The weights of `update_layer`, of several outputs, with the rows `delta`."""
    n_in, n_out = below.columns, at.g.columns
    some = rows_at_once(net, n_in, INPUTS_FETCHING)
    for i in range(0, n_in, some):
        if net.ahead != 0:
            fetch_more(net.ahead)
        of_i, count = (advance(below.data, i), below.row_stride), min(some, n_in - i)
        if by_outputs:
            update(advance(W, i), at.width, delta, of_i, n_out, count, batch, kc, rate, how)
        else:
            update(advance(W, i * at.stride), at.stride, of_i, delta, count, n_out, batch, kc, rate, how)


@helper
def copy_stepped(at, layer, n_in, by_outputs):
    """Wᵀ from W, or W from Wᵀ, where a layer has both."""
    n_out = at.g.columns
    if layer > 1 and not is_dotted(layer, n_in, n_out):
        if by_outputs:
            transpose_rows(at.WT, at.stride, at.W, at.width, n_in, n_out)
        else:
            transpose_rows(at.W, at.width, at.WT, at.stride, n_out, n_in)


@helper
def is_by_outputs(net, layer, batch=RECOPIED):
    """Whether W is stepped, not Wᵀ: that of dot products, which have no other, or, by many samples, of fewer vectors.

    Of letters always as by many: two threads may have different numbers of samples.
    """
    dotted = is_dotted(layer, input_of(net, layer).columns, layer_of(net, layer).g.columns)
    return dotted or (batch >= RECOPIED and has_fewer_by_outputs(net, layer))


@helper
def rows_of(m):
    """(pointer, from row to row) of a Matrix."""
    return m.data, m.row_stride


@outlined
def update(c, rsc, a, b, m, n, samples, kc, rate, how) -> None:
    """C -= η Aᵀ B, or C = Aᵀ B, the sum over so many samples in slices of kc: `update_rows`, once for all."""
    update_rows(c, rsc, a[0], a[1], b[0], b[1], m, n, samples, kc, rate, how)


@outlined
def update_single(c, a, b, samples, kc, rate, how) -> None:
    """`update` of a single element."""
    update_one(c, 0, a[0], a[1], b[0], b[1], 1, 1, samples, kc, rate, how)


@outlined
def write_letter(net, layer, batch, swapped) -> None:
    """What these samples add to a layer's gradient, in one slice, for the other of two threads."""
    (of_W, of_b), zero, by_outputs = letter_of(net, layer, swapped), scalar(0, net.x), is_by_outputs(net, layer)
    at, below = layer_of(net, layer), input_of(net, layer)
    update_layer(net, at, below, by_outputs, of_W, of_b, batch, batch, batch, zero, STORE)


@outlined
def step_by_letters(net, layer, rate) -> None:
    """A step of gradient descent of a layer, against the sum of two threads' gradients."""
    at, n_in, by_outputs = layer_of(net, layer), input_of(net, layer).columns, is_by_outputs(net, layer)
    of_W, of_b = letter_of(net, layer, 0)
    stepped, size = (at.W, at.g.columns * at.width) if by_outputs else (at.WT, n_in * at.stride)
    step_against_sum(stepped, of_W, others(net, of_W), rate, size)
    step_against_sum(at.b, of_b, others(net, of_b), rate, at.stride)
    copy_stepped(at, layer, n_in, by_outputs)
