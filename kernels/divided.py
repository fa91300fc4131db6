"""Training a network whose first layer is wide by two threads, each of which keeps one half of that layer's weights.

These are many, and to move them from core to core takes longer than to compute with them. So each thread gathers the
columns of x that its weights are for, and hands the other what they add to its half of the minibatch. With the sums it
takes its half through the layers above, with weights of its own, and hands over its δ and its gradient: the layers
above are trained as in `together`, the first with a whole minibatch's δ.
"""

from collections import namedtuple

import numpy as np

from .ahead import BYTES_OF_LINES, expect_rows, worth_fetching
from .blocking import APART, KC, MANY_THREADS, RUN, SHARE
from .compiling import helper, internal
from .cuts import is_halved, larger_half, range_of_part
from .epilogue import BIAS_SIGMOID, SGD, STORE
from .gemm import fused_product
from .loss import squared_errors, sum_of
from .matrix import (
    Matrix,
    Vector,
    advance,
    as_float64,
    block,
    get,
    itemsize,
    padded,
    put,
    row_major,
    row_stride,
    rows,
    scalar,
    spaced,
    transposed,
)
from .network import (
    backward,
    delta_of,
    divide_above,
    extents,
    forward_layers,
    of_outputs,
    products_size,
    promised,
)
from .optimizer import step_against_sum
from .packing import one_way_size
from .pair import (
    both_come,
    both_errors,
    meet,
    memory_of,
    other_letter,
    own_letter,
    pair_size,
    tell_errors,
    train_by_two,
)
from .panel import copy, copy_rows, gather
from .parallel import Crew, product_work, sharers
from .parameters import is_dotted, layer_parameters, parameters_size
from .tasks import ZERO, address, outlined, references
from .wide import inputs_of_half, is_wide, slice_length

Half = namedtuple("Half", "pair letters W of_X fetched above gradient x sums delta space panels")
"""What one half of the inputs, and of every minibatch, is trained with: its Pair and letters; its weights of the first
layer, and columns of X; pointers to its weights `above`, to a gradient of them, and to memory."""


def is_dividable(sizes, batch_size, samples, threads):
    """Whether threads gain from dividing the first layer, in a run of minibatches."""
    halved = is_halved(Vector(sizes, len(sizes)), batch_size) and is_wide(*sizes[:2], batch_size)
    many = min(threads, sharers(product_work(batch_size, *sizes[:2]), SHARE)) >= MANY_THREADS
    return threads > 1 and samples >= RUN * batch_size and halved and not many


def is_divided(sizes, batch_size, samples, threads):
    """Whether they train so, with about the memory that is promised."""
    fits = divided_size(sizes, batch_size, 4) <= promised(sizes, batch_size) + 3 * APART // 4
    return not is_dotted(1, *sizes[:2]) and is_dividable(sizes, batch_size, samples, threads) and fits


def divided_size(sizes, batch_size, itemsize):
    """Elements of workspace."""
    sizes = [int(size) for size in sizes]
    (n_in, n_out), above, count = sizes[:2], [1, *sizes[1:]], above_size(Vector(sizes, len(sizes)))
    columns, of_half = larger_half(n_in), larger_half(batch_size)
    activations, outputs, _ = extents(Vector(sizes, len(sizes)), of_half, itemsize)
    panels = max(
        one_way_size(columns, n_out, batch_size, itemsize, 1),
        one_way_size(batch_size, n_out, columns, itemsize, 1),
        # And the sums for the biases below. A single row need not be streamed here.
        products_size(above, max(2, of_half), itemsize, 1),
    )
    vectors = row_stride(columns, itemsize), row_stride(n_out, itemsize), row_stride(n_out, itemsize)
    half = BYTES_OF_LINES // itemsize + padded(count) + sum(padded(batch_size * stride) for stride in vectors)
    half += padded(activations + outputs + panels)
    return pair_size(half, letter_size(of_half, n_out, count), count, itemsize)


@helper
def above_size(sizes):
    """Parameters but the weights of the first layer."""
    return parameters_size(sizes) - sizes.data[0] * sizes.data[1]


@helper
def letter_size(samples, n_out, above):
    """Elements of what one half adds to the sums of the other, or of its δ and the gradient above, which come later."""
    return padded(samples * n_out) + above


@internal
def train_divided(arguments, end, memory):
    """A program for minibatches of which each `is_halved`."""
    result, _, _, _, _, _, _, _, _, workspace, _ = arguments[0]
    train_by_two(_train_half, train_both_halves, result, address(workspace.data), arguments, end, memory)


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    _, _, _, _, _, _, _, _, _, workspace, _ = given[0]
    if both_come(address(workspace.data)):
        train_halves(given, end, half, half + 1)


@internal
def train_both_halves(arguments, end, _):
    """A program for one thread: `train_divided` without anybody to meet, which is less to compile than another one."""
    train_halves(arguments, end, ZERO, ZERO + 2)


@outlined
def half_of(arguments, half):
    """The Half of what a program is given."""
    _, parameters, X, Y, _, batch_size, _, sizes, _, workspace, _ = arguments[0]
    n_in, n_out, count, item = sizes.data[0], sizes.data[1], above_size(sizes), itemsize(workspace.data)
    samples = larger_half(batch_size)
    pair, letters, memory, above = memory_of(workspace, half, letter_size(samples, n_out, count), count)
    if half == 0:
        above = advance(parameters, n_in * n_out)
    begin, past = inputs_of_half(half, n_in, n_out)
    columns = past - begin
    W = rows(transposed(layer_parameters(parameters, n_in, n_out)[0]), begin, columns)
    of_X = block(X, 0, begin, X.rows, columns)
    fetched = address(memory) if worth_fetching(of_X, Y, batch_size) else 0
    gradient = advance(memory, BYTES_OF_LINES // item)
    x = advance(gradient, padded(count))
    sums = advance(x, padded(batch_size * row_stride(columns, item)))
    delta = advance(sums, padded(batch_size * row_stride(n_out, item)))
    space = advance(delta, padded(batch_size * row_stride(n_out, item)))
    panels = divide_above(space, sizes, samples).panels
    return Half(pair, letters, W, of_X, fetched, above, gradient, x, sums, delta, space, panels)


@outlined
def train_halves(arguments, end, begin, past) -> None:
    """Train up to the sample `end` by the halves begin ... past-1: by one that meets the other, or by both in turn."""
    result, _, X, Y, order, batch_size, rate, sizes, _, _, team = arguments[0]
    n_out, count = sizes.data[1], above_size(sizes)
    samples, both = larger_half(batch_size), past - begin == 2
    halves = references((half_of(arguments, 0), half_of(arguments, 1)))
    if past == 2:
        copy_rows(halves[1].above, 0, halves[0].above, 0, 1, count)
    (loss, first), meeting, pending = result[0], 0, 0  # the samples of the minibatch before, whose step is to be taken
    while True:
        batch = min(batch_size, end - first)
        if pending > 0:
            for half in range(begin, past):
                at = halves[half]
                x, delta = spaced(at.x, pending, at.of_X.columns), spaced(at.delta, pending, n_out)
                crew = Crew(1, SHARE, 0, at.fetched, 0, team.otherwise)
                fused_product(SGD, at.W, at.W, transposed(x), delta, rate, KC, at.panels, crew)
        if batch == 0:
            break

        # What each half of the inputs adds to the sums of all samples.
        for half in range(begin, past):
            at = halves[half]
            x, sums = spaced(at.x, batch, at.of_X.columns), spaced(at.sums, batch, n_out)
            finite = gather(x, at.of_X, advance(order.data, first))
            if at.fetched != 0:
                expect_rows(at.fetched, at.of_X, Y, order, first + batch, first + 2 * batch)
            crew = Crew(1, SHARE, 0, at.fetched, 0, team.otherwise)
            fused_product(STORE, sums, sums, x, at.W, 0.0, slice_length(sizes.data[0], n_out), at.panels, crew)
            other, past_other = range_of_part(1 - half, 2, batch)
            letter = own_letter(at.pair, at.letters, meeting + 1)
            copy(row_major(letter, past_other - other, n_out), rows(sums, other, past_other - other))
            at.gradient[0] = scalar(0 if finite else np.nan, X)  # told with the errors, later
        meeting += 1
        if not both:
            meet(halves[begin].pair, meeting)

        # Each half of the samples through the layers above.
        for half in range(begin, past):
            at = halves[half]
            start, end_of_half = range_of_part(half, 2, batch)
            own = end_of_half - start
            space = divide_above(at.space, sizes, own)
            added = row_major(other_letter(at.pair, at.letters, meeting), own, n_out)
            y_finite = gather(of_outputs(space, own, Y.columns), Y, advance(order.data, first + start))
            sums = rows(spaced(at.sums, batch, n_out), start, own)
            crew, known = Crew(1, SHARE, 0, at.fetched, 0, team.otherwise), at.gradient[0]
            errors = known + above_gradient(at.gradient, at.above, sums, added, batch, sizes, space, crew)
            of_half = delta_of(spaced(space.activations, own, n_out), space)
            letter = own_letter(at.pair, at.letters, meeting + 1)
            copy(rows(spaced(at.delta, batch, n_out), start, own), of_half)
            copy(row_major(letter, own, n_out), of_half)
            copy_rows(advance(letter, padded(samples * n_out)), 0, at.gradient, 0, 1, count)
            tell_errors(at.pair, meeting + 1, errors if y_finite else np.nan)
        meeting += 1
        if not both:
            meet(halves[begin].pair, meeting)
        of_batch = both_errors(halves[begin].pair, meeting) / (batch * Y.columns)
        if not np.isfinite(of_batch):
            break

        # The step above, and what the one of the first layer's weights waits for.
        for half in range(begin, past):
            at = halves[half]
            other, past_other = range_of_part(1 - half, 2, batch)
            letter = other_letter(at.pair, at.letters, meeting)
            delta = rows(spaced(at.delta, batch, n_out), other, past_other - other)
            copy(delta, row_major(letter, past_other - other, n_out))
            of_above = advance(letter, padded(samples * n_out))
            step_against_sum(at.above, at.gradient, of_above, scalar(rate, X), count)
        loss += of_batch * (batch / X.rows)
        first += batch
        pending = batch
    if begin == 0:
        result[0] = (loss, first)


@outlined
def above_gradient(gradient, above, sums, added, batch, sizes, space, team):
    """The sum of the squared errors of a half of a minibatch, from both halves of the first layer's sums.

    The gradient of the first layer's biases and of the layers above is left, which begin at the pointer `above`.
    """
    divided = sizes.data[0] * sizes.data[1]
    parameters, target = advance(above, -divided), advance(gradient, -divided)
    g = spaced(space.activations, sums.rows, sums.columns)
    activate_sums(g, sums, added, row_major(above, 1, sums.columns), space, team)
    output = forward_layers(parameters, g, sizes, space, team, 2)
    errors = half_errors(output, of_outputs(space, sums.rows, output.columns), batch, space)
    backward(STORE, target, 0.0, g, False, parameters, g, sizes, space, team, 2, sums.rows)
    return errors


@helper
def activate_sums(g, sums, added, b, space, team):
    """g = σ(sums + added + b), by a product of nothing, whose epilogue takes what is added up here, in `sums`."""
    for i in range(sums.rows):
        for j in range(sums.columns):
            put(sums, i, j, (get(sums, i, j) + get(added, i, j)) + get(b, 0, j))
    no_inputs, no_weights = Matrix(g.data, g.rows, 0, 0, 1), Matrix(g.data, 0, g.columns, 0, 1)
    fused_product(BIAS_SIGMOID, g, sums, no_inputs, no_weights, 0.0, KC, space.panels, team)


@helper
def half_errors(g, y, batch, space):
    """The sum of the squared errors of some samples of a minibatch; δ⁽ᴸ⁾ is left in the workspace."""
    sums = as_float64(space.panels)
    squared_errors(sums, delta_of(g, space), g, y, scalar(2.0 / (batch * y.columns), g))
    return sum_of(sums, y.columns)
