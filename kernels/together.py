"""Training by two threads, each of which takes one half of every minibatch forward and back, with weights of its own.

For products that are too small to be shared one by one. Both threads take the same steps, against the sum of the two
halves' gradients, so that they meet once in a minibatch and hand each other nothing but a copy of a gradient. Every sum
has the order that it has for one thread.
"""

import math

import numpy as np

from .ahead import BYTES_OF_LINES, expect_rows, worth_fetching
from .blocking import LITTLE, RUN, SHARE
from .compiling import helper, internal
from .epilogue import STORE
from .loss import rows_of_part, squared_errors, sum_of
from .matrix import Vector, advance, as_float64, itemsize, padded, scalar, spaced
from .network import (
    backward,
    delta_of,
    divide,
    forward_layers,
    is_halved,
    is_wide,
    parameters_size,
    whole_size,
)
from .optimizer import step_against_sum
from .pair import both_come, meet, memory_of, other_letter, own_letter, pair_size, train_by_two
from .panel import copy_rows, gather
from .parallel import Crew
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
    rows, parameters = rows_of_part(0, 2, batch_size)[1], parameters_size(Vector(sizes, len(sizes)))
    half = BYTES_OF_LINES // itemsize + padded(parameters) + whole_size(sizes, rows, itemsize, 1, gathered=True)
    return pair_size(half, parameters, parameters, itemsize)


@internal
def train_together(arguments, end, memory):
    train_by_two(_train_half, arguments, end, memory)


@internal
def _train_half(arguments, half, _):
    given, end = arguments[0]
    result, parameters, X, Y, order, batch_size, rate, sizes, workspace, _ = given[0]
    if not both_come(address(workspace.data)):
        return
    count, item = parameters_size(sizes), itemsize(workspace.data)
    pair, memory, weights = memory_of(workspace, half, count, count)
    if half == 1:
        copy_rows(weights, 0, parameters, 0, 1, count)
    else:
        weights = parameters
    fetched = address(memory) if worth_fetching(X, Y, batch_size) else 0
    gradient, samples = advance(memory, BYTES_OF_LINES // item), (X, Y, order)
    space = advance(gradient, padded(count))
    (loss, first), meeting = result[0], 0
    while first < end:
        batch = min(batch_size, end - first)
        if not is_halved(sizes, batch):
            break
        meeting += 1
        errors = half_gradient(gradient, weights, samples, first, batch, half, sizes, space, fetched)
        copy_rows(own_letter(pair, meeting), 0, gradient, 0, 1, count)
        of_batch = meet(pair, meeting, errors) / (batch * Y.columns)
        if not np.isfinite(of_batch):
            break
        step_against_sum(weights, gradient, other_letter(pair, meeting), scalar(rate, X), count)
        loss += of_batch * (batch / X.rows)
        first += batch
    if half == 0:
        result[0] = (loss, first)


@outlined
def half_gradient(gradient, weights, samples, first, batch, half, sizes, memory, fetched):
    """The sum of the squared errors of one half of a minibatch, whose gradient is left; NaN if not all is finite."""
    X, Y, order = samples
    start, end = rows_of_part(half, 2, batch)
    count = end - start
    space, alone = divide(memory, sizes, count), Crew(1, SHARE, 0, fetched)
    x, y = spaced(space.x, count, X.columns), spaced(space.y, count, Y.columns)
    numbers = advance(order.data, first + start)
    x_finite, y_finite = gather(x, X, numbers), gather(y, Y, numbers)
    if not (x_finite and y_finite):
        return np.nan
    if fetched != 0:
        expect_rows(fetched, X, Y, order, first + batch + start, first + batch + end)
    g = forward_layers(weights, x, sizes, space, alone, 1)
    errors = half_errors(g, y, batch, space)
    backward(STORE, gradient, 0.0, x, False, weights, x, sizes, space, alone, 1, count)
    return errors


@helper
def half_errors(g, y, batch, space):
    """The sum of the squared errors of some samples of a minibatch; δ⁽ᴸ⁾ is left in the workspace."""
    sums = as_float64(space.panels)
    squared_errors(sums, delta_of(g, space), g, y, scalar(2.0 / (batch * y.columns), g))
    return sum_of(sums, y.columns)
