"""`divided` for small networks: the same steps, with the weights laid out in rows of whole vectors.

Nothing of tiles is compiled then. The first layer's weights are those that one thread trains `online`; of the layers
above each thread has its own, and hands over gradients as in `together`.
"""

import numpy as np

from .ahead import expect_rows, fetch_all_in, fetch_more, worth_fetching
from .blocking import INPUTS_FETCHING, KC, MR, PADDING, SAMPLES_FETCHING, TERMS_TRANSPOSED
from .compiling import helper, internal
from .divided import is_dividable
from .layout import layer_of, letter_of, others, small_network, table_of
from .loss import rows_of_part
from .matrix import Matrix, advance, block, itemsize, pointer_at, rows, scalar
from .network import promised
from .online import pays_online, train_online
from .optimizer import step_against_sum
from .pair import Pair, both_come, both_errors, meet, other_letter, own_letter, tell_errors, train_by_two
from .panel import copy_rows, gather
from .parallel import read
from .plan import (
    AHEAD,
    DELTAS,
    HANDED,
    LAST_HALVED,
    OTHER,
    SUMS,
    TOLD,
    TURNS,
    ZEROS,
    divided_rows_size,
    plan_size,
)
from .rowwise import STEP, STORE, activate, add_sums, sums_rows
from .small import delta_below, forward_rows, rows_at_once, step_by_letters, update, write_letter
from .tasks import address, outlined, reference
from .together import half_errors


def is_divided_rows(sizes, batch_size, samples, threads):
    """Whether threads train so, in the memory that is promised.

    Not where tiles compute a narrow gradient transposed: a step of 784-10 by 40 takes 1.2 times as long in rows.
    """
    pays = pays_online(sizes, batch_size) and not (sizes[1] <= MR and batch_size >= TERMS_TRANSPOSED)
    size = divided_rows_size(sizes, batch_size, 4) + plan_size(sizes, 4, together=True)
    fits = size <= promised(sizes, batch_size, copies=0) + PADDING
    return is_dividable(sizes, batch_size, samples, threads) and pays and fits


@internal
def train_divided_rows(arguments, end, memory):
    result, _, _, _, _, _, _, plan, _, _ = arguments[0]
    told = read(table_of(plan, 1), 1, TOLD)
    train_by_two(_train_half, train_online, result, told, arguments, end, memory)


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    result, _, X, Y, order, batch_size, rate, plan, workspace, _ = given[0]
    table = table_of(plan, 1 + half)
    told = read(table, 1, TOLD)
    if not both_come(told):
        return
    left, right = rows_of_part(half, 2, X.columns)
    of_X = block(X, 0, left, X.rows, right - left)
    fetched = read(table, 1, AHEAD) if worth_fetching(of_X, Y, batch_size) else 0
    if fetched != 0:
        fetch_all_in(fetched, read(table, 0, TURNS), batch_size, of_X)
    net = small_network(table, workspace.data, batch_size, False, fetched)
    at, pair, rate = layer_of(net, 1), Pair(pointer_at(told, workspace.data), half), scalar(rate, X)
    n_out, distance = at.g.columns, read(table, 1, OTHER)
    letters = pointer_at(read(table, 3, HANDED), workspace.data), -distance if half == 1 else distance
    sums = Matrix(pointer_at(read(table, 3, SUMS), workspace.data), batch_size, n_out, n_out, 1)
    delta = Matrix(pointer_at(read(table, 3, DELTAS), workspace.data), batch_size, n_out, n_out, 1)
    zeros = pointer_at(read(table, 3, ZEROS), workspace.data)
    for j in range(at.stride):
        zeros[j] = 0  # where one thread may have had samples
    if half == 1:
        letter, _ = letter_of(net, 1, 0)  # which lies behind the weights
        copy_rows(at.b, 0, others(net, at.b), 0, 1, (address(letter) - address(at.b)) // itemsize(at.b))
    (loss, first), meeting, pending = result[0], 0, 0  # the samples of the minibatch before, whose step is to be taken
    while True:
        batch = min(batch_size, end - first)
        if pending > 0:
            step_inputs(net, delta, pending, rate)
        if batch == 0 or (batch < batch_size and read(table, 1, LAST_HALVED) == 0):
            break

        # What this half of the inputs adds to the sums of all samples.
        x_finite = gather(rows(net.x, 0, batch), of_X, advance(order.data, first))
        if fetched != 0:
            expect_rows(fetched, of_X, Y, order, first + batch, first + 2 * batch)
        sum_inputs(net, sums, batch)
        start, past = rows_of_part(half, 2, batch)
        other, past_other = rows_of_part(1 - half, 2, batch)
        own, of_other = past - start, past_other - other
        meeting += 1
        copy_rows(own_letter(pair, letters, meeting), 0, advance(sums.data, other * n_out), 0, 1, of_other * n_out)
        meet(pair, meeting)

        # This half of the samples through the layers above.
        y_finite = gather(rows(net.y, 0, own), Y, advance(order.data, first + start))
        added = other_letter(pair, letters, meeting)
        add_sums(at.g.data, advance(sums.data, start * n_out), added, at.b, own, n_out)
        activate(at.g.data, own * n_out)
        forward_rows(net, own, 2)
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


@outlined
def sum_inputs(net, sums, batch):
    """What the inputs of a half add to the first layer's sums."""
    at, zeros = layer_of(net, 1), pointer_at(read(net.table, 3, ZEROS), net.x.data)
    n_in, n_out, some = net.x.columns, at.g.columns, rows_at_once(net, batch, SAMPLES_FETCHING)
    for s in range(0, batch, some):
        if net.ahead != 0:
            fetch_more(net.ahead)
        of_s, count, stride = advance(sums.data, s * n_out), min(some, batch - s), net.x.row_stride
        x_of_s = advance(net.x.data, s * stride)
        sums_rows(of_s, n_out, zeros, 0, x_of_s, stride, at.WT, at.stride, count, n_in, n_out, n_in)


@outlined
def step_inputs(net, delta, batch, rate):
    """A step of gradient descent of a half's weights of the first layer."""
    at, n_in, of_all = layer_of(net, 1), net.x.columns, (delta.data, delta.row_stride)
    some = rows_at_once(net, n_in, INPUTS_FETCHING)
    for i in range(0, n_in, some):
        if net.ahead != 0:
            fetch_more(net.ahead)
        WT, x, count = advance(at.WT, i * at.stride), (advance(net.x.data, i), net.x.row_stride), min(some, n_in - i)
        update(WT, at.stride, x, of_all, count, at.g.columns, batch, KC, rate, STEP)


@helper
def sum_biases(net, target, samples):
    """What these samples add to the gradient of the first layer's biases."""
    delta, one, zero = layer_of(net, 1).delta, reference(scalar(1, net.x)), scalar(0, net.x)
    update(target, 0, (one, 0), (delta.data, delta.row_stride), 1, delta.columns, samples, samples, zero, STORE)
