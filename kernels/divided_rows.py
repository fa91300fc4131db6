"""`divided` for small networks: the same steps, with the weights laid out in rows of whole vectors.

Nothing of tiles is compiled then. The first layer's weights are those that one thread trains `online`, but of dot
products the second thread has columns of W of its own while it trains; of the layers above each thread has its own, and
hands over gradients as in `together`.
"""

import numpy as np

from .ahead import expect_rows
from .blocking import KC, PADDING
from .compiling import helper, internal
from .cuts import range_of_part
from .divided import is_dividable
from .elementwise import activate, add_sums
from .layout import lanes_of, layer_of, letter_of, others, table_of
from .matrix import Matrix, advance, block, pointer_at, rows, scalar
from .network import promised
from .online import pays_online, train_online
from .optimizer import step_against_sum
from .pair import both_come, both_errors, meet, other_letter, own_letter, tell_errors, train_by_two
from .panel import copy_either, copy_rows, gather
from .parallel import read
from .plan import DELTAS, HANDED, INPUTS, LAST_HALVED, OTHER, SUMS, by_two_size, plan_size, weights_stride
from .rowwise import STEP, STORE
from .small import (
    add_up,
    delta_below,
    forward_rows,
    is_by_outputs,
    put_zeros,
    rows_of,
    step_by_letters,
    update,
    update_weights,
    write_letter,
)
from .tasks import outlined, reference
from .together import copy_weights, half_errors, of_half, told_by


def is_divided_rows(sizes, batch_size, samples, threads):
    """Whether threads train so, in the memory that is promised."""
    pays = pays_online(sizes, batch_size, alone=False)
    size = by_two_size(sizes, batch_size, 4, divided=True) + plan_size(sizes, 4, together=True)
    fits = size <= promised(sizes, batch_size, copies=0) + PADDING
    return is_dividable(sizes, batch_size, samples, threads) and pays and fits


@internal
def train_divided_rows(arguments, end, memory):
    result, _, _, _, _, _, _, plan, _, _ = arguments[0]
    train_by_two(_train_half, train_online, result, told_by(plan), arguments, end, memory)


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    result, _, X, Y, order, batch_size, rate, plan, workspace, _ = given[0]
    if not both_come(told_by(plan)):
        return
    inputs = read(table_of(plan, 1 + half), 0, INPUTS)
    of_X = block(X, 0, half * (X.columns - inputs), X.rows, inputs)
    net, pair = of_half(plan, half, workspace.data, of_X, Y, batch_size, batch_size)
    table, at, rate = net.table, layer_of(net, 1), scalar(rate, X)
    n_out, distance = at.g.columns, read(table, 1, OTHER)
    letters = pointer_at(read(table, 3, HANDED), workspace.data), -distance if half == 1 else distance
    sums = Matrix(pointer_at(read(table, 3, SUMS), workspace.data), batch_size, n_out, n_out, 1)
    delta = Matrix(pointer_at(read(table, 3, DELTAS), workspace.data), batch_size, n_out, n_out, 1)
    put_zeros(net, 1)
    if half == 1:
        copy_weights(net, at.b)
        copy_columns(net, X.columns, 0)
    (loss, first), meeting, pending = result[0], 0, 0  # the samples of the minibatch before, whose step is to be taken
    while True:
        batch = min(batch_size, end - first)
        if pending > 0:
            step_inputs(net, delta, pending, rate)
        if batch == 0 or (batch < batch_size and read(table, 1, LAST_HALVED) == 0):
            break

        # What this half of the inputs adds to the sums of all samples.
        x_finite = gather(rows(net.x, 0, batch), of_X, advance(order.data, first))
        if net.ahead != 0:
            expect_rows(net.ahead, of_X, Y, order, first + batch, first + 2 * batch)
        add_up(net, 1, sums.data, batch)
        start, past = range_of_part(half, 2, batch)
        other, past_other = range_of_part(1 - half, 2, batch)
        own, of_other = past - start, past_other - other
        meeting += 1
        copy_rows(own_letter(pair, letters, meeting), 0, advance(sums.data, other * n_out), 0, 1, of_other * n_out)
        meet(pair, meeting)

        # This half of the samples through the layers above.
        y_finite = gather(rows(net.y, 0, own), Y, advance(order.data, first + start))
        added = other_letter(pair, letters, meeting)
        add_sums(at.g.data, advance(sums.data, start * n_out), added, at.b, own, n_out)
        activate(at.g.data, own * n_out)
        forward_rows(net, own, 2, net.layers)
        errors = half_errors(net, own, batch)
        meeting += 1
        tell_errors(pair, meeting, errors if x_finite and y_finite else np.nan)
        for layer in range(net.layers, 1, -1):
            delta_below(net, layer, own)
        copy_rows(own_letter(pair, letters, meeting), 0, at.delta.data, 0, 1, own * n_out)
        copy_rows(advance(delta.data, start * n_out), 0, at.delta.data, 0, 1, own * n_out)
        number = meeting // 2 % 2
        for layer in range(net.layers, 1, -1):
            write_letter(net, layer, own, number)
        _, of_b = letter_of(net, 1, number)
        sum_biases(net, of_b, own)
        meet(pair, meeting)
        of_batch = both_errors(pair, meeting) / (batch * Y.columns)
        if not np.isfinite(of_batch):
            break

        # The step above, and what the one of the first layer's weights waits for.
        copy_rows(advance(delta.data, other * n_out), 0, other_letter(pair, letters, meeting), 0, 1, of_other * n_out)
        for layer in range(2, net.layers + 1):
            step_by_letters(net, layer, rate)
        _, of_b = letter_of(net, 1, 0)
        step_against_sum(at.b, of_b, others(net, of_b), rate, at.stride)
        loss += of_batch * (batch / X.rows)
        first += batch
        pending = batch
    if half == 0:
        result[0] = (loss, first)
    else:
        copy_columns(net, X.columns, 1)


@outlined
def copy_columns(net, inputs, back) -> None:
    """The second half's own columns of W are those of one who trains alone, or these are the former, if `back`.

    Else each thread would fetch the rest of the rows that it has a part of, which the other is about to write.
    """
    at, n_in = layer_of(net, 1), net.x.columns
    if is_by_outputs(net, 1):
        own = Matrix(at.W, at.g.columns, n_in, at.width, 1)
        alone = Matrix(at.WT, at.g.columns, n_in, weights_stride(inputs, lanes_of(at.W)), 1)
        copy_either(own, alone, back)


@outlined
def step_inputs(net, delta, batch, rate) -> None:
    """A step of gradient descent of a half's weights of the first layer."""
    at = layer_of(net, 1)
    by_outputs = is_by_outputs(net, 1)
    update_weights(net, at, net.x, rows_of(delta), by_outputs, at.W if by_outputs else at.WT, batch, KC, rate, STEP)


@helper
def sum_biases(net, target, samples):
    """What these samples add to the gradient of the first layer's biases."""
    delta, one, zero = layer_of(net, 1).delta, reference(scalar(1, net.x)), scalar(0, net.x)
    update(target, 0, (one, 0), rows_of(delta), 1, delta.columns, samples, samples, zero, STORE)
