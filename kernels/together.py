"""Training by two threads, each of which takes one half of every minibatch forward and back, with weights of its own.

For products that are too small to be shared one by one. Both threads take the same steps, against the sum of the two
halves' gradients, so that they meet once in a minibatch and hand each other nothing but a copy of a gradient. Each has
the network laid out as one thread that trains it `online`; every sum has the order that it has there.
"""

import math

import numpy as np

from .ahead import BYTES_OF_LINES, expect_rows, worth_fetching
from .blocking import LITTLE, RUN
from .compiling import internal
from .loss import part_errors, rows_of_part
from .matrix import Vector, advance, itemsize, rows, scalar
from .network import is_halved, is_wide, parameters_size
from .pair import both_come, meet, memory_of, other_letter, own_letter, pair_size, train_by_two
from .panel import copy_rows, gather
from .small import (
    exchange,
    forward_rows,
    gradient_of_rows,
    gradient_size,
    lay_out,
    layer_of,
    small_size,
    step_against,
)
from .tasks import address, outlined


def is_together(sizes, batch_size, samples, threads):
    """Whether threads train so, in a run of minibatches, with about the memory that is promised."""
    return (
        threads > 1
        and samples >= RUN * batch_size
        and is_halved(Vector(sizes, len(sizes)), batch_size)
        and not is_wide(*sizes[:2], batch_size)
        and fits(_size(sizes, batch_size, 4), sizes, batch_size)
    )


def fits(size, sizes, batch_size):
    """Whether a workspace is no more, or little more, than is promised."""
    parameters = parameters_size(Vector(sizes, len(sizes)))
    return size <= 2 * parameters + 2 * batch_size * sum(sizes) + LITTLE


def together_size(sizes, batch_size, itemsize, threads):
    """Elements of workspace; 0 if threads do not train so."""
    return _size(sizes, batch_size, itemsize) if is_together(sizes, batch_size, math.inf, threads) else 0


def _size(sizes, batch_size, itemsize):
    vector, rows = Vector(sizes, len(sizes)), rows_of_part(0, 2, batch_size)[1]
    gradient = gradient_size(vector, itemsize)
    half = BYTES_OF_LINES // itemsize + gradient + small_size(vector, rows, itemsize)
    return pair_size(half, gradient, 0, itemsize)


@internal
def train_together(arguments, end, memory):
    train_by_two(_train_half, arguments, end, memory)


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    result, parameters, X, Y, order, batch_size, rate, sizes, workspace, _ = given[0]
    if not both_come(address(workspace.data)):
        return
    item = itemsize(workspace.data)
    count = gradient_size(sizes, item)
    pair, memory, _ = memory_of(workspace, half, count, 0)
    fetched = address(memory) if worth_fetching(X, Y, batch_size) else 0
    gradient, samples = advance(memory, BYTES_OF_LINES // item), (X, Y, order)
    most = rows_of_part(0, 2, batch_size)[1]
    net = lay_out(advance(gradient, count), parameters, sizes, most, fetched)
    (loss, first), meeting = result[0], 0
    while first < end:
        batch = min(batch_size, end - first)
        if batch < batch_size and not is_halved(sizes, batch):
            break
        meeting += 1
        errors = half_gradient(gradient, net, samples, first, batch, half)
        copy_rows(own_letter(pair, meeting), 0, gradient, 0, 1, count)
        of_batch = meet(pair, meeting, errors) / (batch * Y.columns)
        if not np.isfinite(of_batch):
            break
        step_against(net, gradient, other_letter(pair, meeting), scalar(rate, X))
        loss += of_batch * (batch / X.rows)
        first += batch
    if half == 0:
        exchange(net, parameters, True)
        result[0] = (loss, first)


@outlined
def half_gradient(gradient, net, samples, first, batch, half):
    """The sum of the squared errors of one half of a minibatch, whose gradient is left; NaN if not all is finite."""
    X, Y, order = samples
    start, end = rows_of_part(half, 2, batch)
    x, y, numbers = rows(net.x, 0, end - start), rows(net.y, 0, end - start), advance(order.data, first + start)
    x_finite, y_finite = gather(x, X, numbers), gather(y, Y, numbers)
    if not (x_finite and y_finite):
        return np.nan
    if net.ahead != 0:
        expect_rows(net.ahead, X, Y, order, first + batch + start, first + batch + end)
    forward_rows(net, end - start, scalar(2.0 / (batch * Y.columns), X))
    gradient_of_rows(gradient, net, end - start)
    return part_errors(layer_of(net, net.layers).g, y, end - start)
