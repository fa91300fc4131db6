"""Training by two threads, each of which takes one half of every minibatch forward and back, with weights of its own.

For products that are too small to be shared one by one. Each thread writes down what its samples add to the gradient,
a letter that the other reads while it writes its own; then both take the same step, against the sum of the two. Letters
and steps both go from the last layer to the first, so that what one writes is asked for later; with letters that are
written when all δ are known, from the first on, a step of 2-32-32-1 by 32 takes 1.025 times as long. And of a hidden
layer of whole vectors δ takes the place of g, which the letter of the layer above was the last to need.
The network is laid out as one thread that trains it `online` has it; every sum has the order that it has there. A
letter is written over the one that the other thread wrote before, for the reason in `pair`.
"""

import numpy as np

from .ahead import expect_rows, fetch_all_in, worth_fetching
from .blocking import LETTERS, MANY_THREADS, PADDING, RUN, SHARE
from .compiling import helper, internal
from .cuts import is_halved, larger_half, range_of_part, threads_for
from .layout import layer_of, letter_of, others, small_network, table_of
from .matrix import Vector, advance, itemsize, pointer_at, rows, scalar
from .network import promised
from .online import train_online
from .pair import Pair, both_come, both_errors, come_to, other_line, tell_errors, train_by_two
from .panel import copy_rows, gather
from .parallel import read, wait_until
from .parameters import parameters_size
from .plan import AHEAD, LAST_HALVED, TOLD, TURNS, by_two_size, plan_size
from .small import delta_below, delta_of_outputs, errors_of_outputs, forward_rows, step_by_letters, write_letter
from .tasks import address, outlined
from .wide import is_wide


def is_together(sizes, batch_size, samples, threads):
    """Whether threads train so, in a run of minibatches, with not much more memory than is promised."""
    vector = Vector(sizes, len(sizes))
    return (
        threads > 1
        and min(threads, threads_for(vector, batch_size, SHARE)) < MANY_THREADS
        and samples >= RUN * batch_size
        and is_halved(vector, batch_size)
        and not is_wide(*sizes[:2], batch_size)
        and fit_two(by_two_size(sizes, batch_size, 4, divided=False), sizes, batch_size)
    )


def fit_two(size, sizes, batch_size):
    """Whether so many elements, and a plan, are not too many for two threads with weights and letters of their own."""
    most = promised(sizes, batch_size, copies=0) + LETTERS * parameters_size(Vector(sizes, len(sizes))) + PADDING
    return size + plan_size(sizes, 4, together=True) <= most


@internal
def train_together(arguments, end, memory):
    result, _, _, _, _, _, _, plan, _, _ = arguments[0]
    train_by_two(_train_half, train_online, result, told_by(plan), arguments, end, memory)


@helper
def told_by(plan):
    """Address of what two threads tell each other, in the plan of both."""
    return read(table_of(plan, 1), 1, TOLD)


@helper
def of_half(plan, half, like, X, Y, batch_size, samples):
    """The Small and the Pair of a half, which takes up to so many samples of X from each minibatch."""
    table = table_of(plan, 1 + half)
    fetched = read(table, 1, AHEAD) if worth_fetching(X, Y, batch_size) else 0
    if fetched != 0:
        fetch_all_in(fetched, read(table, 0, TURNS), samples, X)
    return small_network(table, like, samples, False, fetched), Pair(pointer_at(told_by(plan), like), half)


@helper
def copy_weights(net, first):
    """One's own weights, from the pointer `first` on, are those of the other thread."""
    letter, _ = letter_of(net, 1, 0)  # which lies behind them
    copy_rows(first, 0, others(net, first), 0, 1, (address(letter) - address(first)) // itemsize(first))


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    result, _, X, Y, order, batch_size, rate, plan, workspace, _ = given[0]
    if not both_come(told_by(plan)):
        return
    net, pair = of_half(plan, half, workspace.data, X, Y, batch_size, larger_half(batch_size))
    samples, line, layers, rate = (X, Y, order), other_line(pair), net.layers, scalar(rate, X)
    (loss, first), number, done = result[0], 0, 1
    if half == 1:
        copy_weights(net, layer_of(net, 1).WT)
    come_to(pair, done)
    while first < end:
        batch = min(batch_size, end - first)
        if batch < batch_size and read(net.table, 1, LAST_HALVED) == 0:
            break
        start, past = range_of_part(half, 2, batch)
        own = past - start
        finite = take_half(net, samples, first + start, own, batch)
        forward_rows(net, own, 1, net.layers)
        tell_errors(pair, number, half_errors(net, own, batch) if finite else np.nan)
        wait_until(line, done)  # until both have read the letters before
        for layer in range(layers, 0, -1):
            write_letter(net, layer, own, number % 2)
            come_to(pair, done + 1 + layers - layer)
            if layer > 1:
                delta_below(net, layer, own)
        wait_until(line, done + 1)
        of_batch = both_errors(pair, number) / (batch * Y.columns)
        if not np.isfinite(of_batch):
            break
        for layer in range(layers, 0, -1):
            wait_until(line, done + 1 + layers - layer)
            step_by_letters(net, layer, rate)
        done += layers + 1
        come_to(pair, done)
        number += 1
        loss += of_batch * (batch / X.rows)
        first += batch
    if half == 0:
        result[0] = (loss, first)


@outlined
def take_half(net, samples, first, own, batch):
    """Gather so many samples from `first` on, one's own of a minibatch; whether all are finite."""
    X, Y, order = samples
    numbers = advance(order.data, first)
    x_finite, y_finite = gather(rows(net.x, 0, own), X, numbers), gather(rows(net.y, 0, own), Y, numbers)
    if net.ahead != 0:
        expect_rows(net.ahead, X, Y, order, first + batch, first + batch + own)
    return x_finite and y_finite


@outlined
def half_errors(net, own, batch):
    """The sum of the squared errors of one's own samples of a minibatch; δ of the last layer is left."""
    errors = errors_of_outputs(net, 0, own)
    delta_of_outputs(net, own, scalar(2.0 / (batch * net.y.columns), net.x))
    return errors
