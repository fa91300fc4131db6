"""Training a network whose first layer is wide by two threads, each of which keeps one half of that layer's weights.

These are many, and to move them from core to core takes longer than to compute with them. So each thread gathers the
columns of x that its weights are for, and hands the other what they add to its half of the minibatch. With the sums it
takes its half through the layers above, with weights of its own, and hands over its δ and its gradient: the layers
above are trained as in `together`, the first with a whole minibatch's δ.
"""

import numpy as np

from .ahead import BYTES_OF_LINES, expect_rows, worth_fetching
from .blocking import APART, KC, RUN, SHARE
from .compiling import helper, internal
from .cuts import REST_HALVED, is_halved
from .epilogue import SGD, STORE, activate_sum
from .gemm import fused_product, one_way_size
from .loss import rows_of_part, squared_errors, sum_of
from .matrix import (
    Vector,
    advance,
    as_float64,
    block,
    itemsize,
    padded,
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
    products_size,
    promised,
    target_of,
)
from .optimizer import step_against_sum
from .pair import both_come, meet, memory_of, other_letter, own_letter, pair_size, train_by_two
from .panel import copy, copy_rows, gather
from .parallel import Crew
from .parameters import layer_parameters, parameters_size
from .tasks import address, outlined
from .train import train_in_turn
from .wide import is_wide, slice_length


def is_divided(sizes, batch_size, samples, threads):
    """Whether threads train so, in a run of minibatches, with about the memory that is promised."""
    return (
        threads > 1
        and samples >= RUN * batch_size
        and is_halved(Vector(sizes, len(sizes)), batch_size)
        and is_wide(*sizes[:2], batch_size)
        and divided_size(sizes, batch_size, 4) <= promised(sizes, batch_size) + 3 * APART // 4
    )


def divided_size(sizes, batch_size, itemsize):
    """Elements of workspace."""
    sizes = [int(size) for size in sizes]
    (n_in, n_out), above, count = sizes[:2], [1, *sizes[1:]], above_size(Vector(sizes, len(sizes)))
    columns, of_half = rows_of_part(0, 2, n_in)[1], rows_of_part(0, 2, batch_size)[1]
    activations, _ = extents(Vector(sizes, len(sizes)), of_half, itemsize)
    panels = max(
        one_way_size(columns, n_out, batch_size, itemsize, 1),
        one_way_size(batch_size, n_out, columns, itemsize, 1),
        products_size(above, of_half, itemsize, 1),  # and the sums for the biases below
    )
    vectors = row_stride(columns, itemsize), row_stride(n_out, itemsize), row_stride(n_out, itemsize)
    half = BYTES_OF_LINES // itemsize + padded(count) + sum(padded(batch_size * stride) for stride in vectors)
    half += padded(2 * activations + panels)
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
    result, _, _, _, _, _, _, _, _, workspace, _ = arguments[0]
    train_by_two(_train_half, train_in_turn, result, address(workspace.data), arguments, end, memory)


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    result, parameters, X, Y, order, batch_size, rate, sizes, cuts, workspace, team = given[0]
    if not both_come(address(workspace.data)):
        return
    n_in, n_out, count, item = sizes.data[0], sizes.data[1], above_size(sizes), itemsize(workspace.data)
    divided, samples = n_in * n_out, rows_of_part(0, 2, batch_size)[1]
    pair, letters, memory, above = memory_of(workspace, half, letter_size(samples, n_out, count), count)
    if half == 1:
        copy_rows(above, 0, advance(parameters, divided), 0, 1, count)
    else:
        above = advance(parameters, divided)
    begin, past = rows_of_part(half, 2, n_in)
    columns = past - begin
    W = rows(transposed(layer_parameters(parameters, n_in, n_out)[0]), begin, columns)
    of_X = block(X, 0, begin, X.rows, columns)
    fetched = address(memory) if worth_fetching(of_X, Y, batch_size) else 0
    alone = Crew(1, SHARE, 0, fetched, team.stream)
    gradient = advance(memory, BYTES_OF_LINES // item)
    x_start = advance(gradient, padded(count))
    sums_start = advance(x_start, padded(batch_size * row_stride(columns, item)))
    delta_start = advance(sums_start, padded(batch_size * row_stride(n_out, item)))
    space_start = advance(delta_start, padded(batch_size * row_stride(n_out, item)))
    panels = divide_above(space_start, sizes, samples).panels
    (loss, first), meeting, pending = result[0], 0, 0  # the samples of the minibatch before, whose step is to be taken
    while True:
        x, delta = spaced(x_start, pending, columns), spaced(delta_start, pending, n_out)
        batch = min(batch_size, end - first)
        if pending > 0:
            fused_product(SGD, W, W, transposed(x), delta, rate, KC, panels, alone)
        if batch == 0 or (batch < batch_size and cuts[REST_HALVED] == 0):
            break

        # What this half of the inputs adds to the sums of all samples.
        x, delta = spaced(x_start, batch, columns), spaced(delta_start, batch, n_out)
        finite = gather(x, of_X, advance(order.data, first))
        if fetched != 0:
            expect_rows(fetched, of_X, Y, order, first + batch, first + 2 * batch)
        sums = spaced(sums_start, batch, n_out)
        fused_product(STORE, sums, sums, x, W, 0.0, slice_length(n_in, n_out), panels, alone)
        other, past = rows_of_part(1 - half, 2, batch)
        others = past - other
        copy(row_major(own_letter(pair, letters, meeting + 1), others, n_out), rows(sums, other, others))
        meeting += 2
        meet(pair, meeting - 1, 0.0)

        # This half of the samples through the layers above.
        start, past = rows_of_part(half, 2, batch)
        own = past - start
        space = divide_above(space_start, sizes, own)
        added = row_major(other_letter(pair, letters, meeting - 1), own, n_out)
        y_finite = gather(target_of(space, own, Y.columns), Y, advance(order.data, first + start))
        errors = above_gradient(gradient, above, rows(sums, start, own), added, batch, sizes, space, alone)
        errors = errors if finite and y_finite else np.nan
        of_half = delta_of(spaced(space.activations, own, n_out), space)
        letter = own_letter(pair, letters, meeting)
        copy(rows(delta, start, own), of_half)
        copy(row_major(letter, own, n_out), of_half)
        copy_rows(advance(letter, padded(samples * n_out)), 0, gradient, 0, 1, count)
        of_batch = meet(pair, meeting, errors) / (batch * Y.columns)
        if not np.isfinite(of_batch):
            break

        # The step above, and what the one of the weights here waits for.
        letter = other_letter(pair, letters, meeting)
        copy(rows(delta, other, others), row_major(letter, others, n_out))
        step_against_sum(above, gradient, advance(letter, padded(samples * n_out)), scalar(rate, X), count)
        loss += of_batch * (batch / X.rows)
        first += batch
        pending = batch
    if half == 0:
        result[0] = (loss, first)


@outlined
def above_gradient(gradient, above, sums, added, batch, sizes, space, team):
    """The sum of the squared errors of a half of a minibatch, from both halves of the first layer's sums.

    The gradient of the first layer's biases and of the layers above is left, which begin at the pointer `above`.
    """
    divided = sizes.data[0] * sizes.data[1]
    parameters, target = advance(above, -divided), advance(gradient, -divided)
    g = spaced(space.activations, sums.rows, sums.columns)
    activate_sum(g, sums, added, row_major(above, 1, sums.columns))
    output = forward_layers(parameters, g, sizes, space, team, 2)
    errors = half_errors(output, target_of(space, sums.rows, output.columns), batch, space)
    backward(STORE, target, 0.0, g, False, parameters, g, sizes, space, team, 2, sums.rows)
    return errors


@helper
def half_errors(g, y, batch, space):
    """The sum of the squared errors of some samples of a minibatch; δ⁽ᴸ⁾ is left in the workspace."""
    sums = as_float64(space.panels)
    squared_errors(sums, delta_of(g, space), g, y, scalar(2.0 / (batch * y.columns), g))
    return sum_of(sums, y.columns)
