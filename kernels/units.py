"""Training a network of one hidden layer by two threads, each of which has one half of its units.

A thread has the weights into and out of its units, of all samples g and δ of these, and all inputs and outputs. What
its units add to the sums of the outputs it hands to the other thread: once in a step, and it is little. With the sums
of both, both compute the same outputs, errors and δ. So each trains a network of its own, which is laid out as one
thread that trains all of it `online` has it, and every sum has the order that it has there.
"""

import numpy as np

from .ahead import expect_rows
from .blocking import MANY_THREADS, MOST_BY_UNITS, ONLINE, ONLINE_BY_ALL, RUN, TOGETHER, UNITS_EMPTY
from .compiling import helper, internal
from .cuts import has_few_outputs, larger_half
from .elementwise import activate, add_sums
from .host import HOST
from .layout import layer_of, small_network
from .matrix import Matrix, Vector, advance, pointer_at, rows, scalar
from .online import mean_error, pays_online, train_online
from .pair import both_come, meet, other_letter, own_letter, train_by_two
from .panel import copy_either, copy_rows, gather
from .parallel import read
from .parameters import is_dotted, parameters_size
from .plan import (
    FIRST_LENGTH,
    HANDED,
    LAST_FIRST_LENGTH,
    LAST_LENGTH,
    LENGTH,
    OTHER,
    SUMS,
    by_units_size,
    is_apart,
    whole,
)
from .small import add_up, delta_of_outputs, forward_rows, put_zeros, step_rows
from .tasks import outlined
from .together import fit_two, of_half, told_by
from .wide import is_sliced, is_wide

TAKEN, HANDED_BACK = map(np.intp, range(2))  # which way `copy_units` goes


def is_by_units(sizes, batch_size, samples, threads):
    """Whether threads train so, in a run of minibatches, in the memory that is promised.

    A half of the units must not be so few that their sums would be dot products, in an order of their own.
    """
    if len(sizes) != 3 or threads == 1 or samples < RUN * batch_size or is_apart(sizes, batch_size):
        return False
    if is_dotted(1, sizes[0], larger_half(sizes[1])):
        return False
    parameters = parameters_size(Vector(sizes, len(sizes)))
    small = is_sliced(*sizes[1:]) and pays_online(sizes, batch_size, MOST_BY_UNITS)
    enough = 3 * batch_size * parameters >= TOGETHER
    of_all = parameters <= ONLINE_BY_ALL and batch_size * parameters <= ONLINE
    by_two = of_all or threads < MANY_THREADS
    fits = fit_two(by_units_size(sizes, batch_size, 4), sizes, batch_size)
    return small and enough and by_two and fits and pays_by_units(*sizes, batch_size)


def pays_by_units(n_in, units, n_out, batch_size):
    """Whether less goes from core to core than other ways, and few vectors of a half's units are partly empty."""
    if is_wide(n_in, units, batch_size):
        two = 2 * HOST.lanes(4)
        return 2 * whole(larger_half(units), two) <= units + units // UNITS_EMPTY
    return has_few_outputs(Vector((n_in, units, n_out), 3), batch_size)


@internal
def train_by_units(arguments, end, memory):
    result, _, _, _, _, _, _, plan, _, _ = arguments[0]
    train_by_two(_train_units, train_online, result, told_by(plan), arguments, end, memory)


@internal
def _train_units(arguments, half, _):
    given, end = arguments[0]
    result, _, X, Y, order, batch_size, rate, plan, workspace, _ = given[0]
    if not both_come(told_by(plan)):
        return
    like = workspace.data
    net, pair = of_half(plan, half, like, X, Y, batch_size, batch_size)
    table = net.table
    sums = pointer_at(read(table, 3, SUMS), like)
    letters = pointer_at(read(table, 3, HANDED), like), read(table, 1, OTHER)
    network, at, n_out = small_network(plan, like, batch_size, False, 0), layer_of(net, 2), Y.columns
    copy_units(net, network, half, TAKEN)
    put_zeros(net, 2)
    rate, length, first_length = scalar(rate, X), read(table, 1, LENGTH), read(table, 1, FIRST_LENGTH)
    (loss, first), meeting = result[0], 0
    while first < end:
        batch = min(batch_size, end - first)
        if batch < batch_size:
            length, first_length = read(table, 1, LAST_LENGTH), read(table, 1, LAST_FIRST_LENGTH)
        numbers = advance(order.data, first)
        finite = gather(rows(net.x, 0, batch), X, numbers)
        if net.ahead != 0:
            expect_rows(net.ahead, X, Y, order, first + batch, first + 2 * batch)
        forward_rows(net, batch, 1, 1)
        add_up(net, 2, sums, batch)
        meeting += 1
        copy_rows(own_letter(pair, letters, meeting), 0, sums, 0, 1, batch * n_out)
        meet(pair, meeting)
        finite &= gather(rows(net.y, 0, batch), Y, numbers)
        add_sums(at.g.data, sums, other_letter(pair, letters, meeting), at.b, batch, n_out)
        activate(at.g.data, batch * n_out)
        of_batch = mean_error(net, batch)
        if not (finite and np.isfinite(of_batch)):
            break
        delta_of_outputs(net, batch, scalar(2.0 / (batch * n_out), X))
        step_rows(net, batch, length, first_length, rate)
        loss += of_batch * (batch / X.rows)
        first += batch
    copy_units(net, network, half, HANDED_BACK)
    if half == 0:
        result[0] = (loss, first)


@outlined
def copy_units(net, network, half, how) -> None:
    """Copy the weights of a half's units from the whole network's, or back; and the outputs' biases, back from one."""
    (hidden, outputs), (all_hidden, all_outputs) = both_layers(net), both_layers(network)
    n_in, units, n_out = net.x.columns, hidden.g.columns, outputs.g.columns
    first = half * (all_hidden.g.columns - units)
    copy_block(how, hidden.WT, hidden.stride, advance(all_hidden.WT, first), all_hidden.stride, n_in, units)
    copy_block(how, hidden.b, hidden.stride, advance(all_hidden.b, first), all_hidden.stride, 1, units)
    of_units = advance(all_outputs.WT, first * all_outputs.stride)
    copy_block(how, outputs.WT, outputs.stride, of_units, all_outputs.stride, units, n_out)
    copy_block(how, outputs.W, outputs.width, advance(all_outputs.W, first), all_outputs.width, n_out, units)
    if how == TAKEN or half == 0:
        copy_block(how, outputs.b, outputs.stride, all_outputs.b, all_outputs.stride, 1, n_out)


@helper
def both_layers(net):
    return layer_of(net, 1), layer_of(net, 2)


@helper
def copy_block(how, own, stride, of_all, all_stride, m, n):
    """Copy m rows of n, which lie so far apart, from the whole network's to one's own, or back."""
    copy_either(Matrix(own, m, n, stride, 1), Matrix(of_all, m, n, all_stride, 1), how)
